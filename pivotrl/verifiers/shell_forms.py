"""A shell command line in normal form: two lines of one form do the same and show the same.

Parsed by bash's own grammar (`bashlex`); what it cannot parse is compared word by word. Nothing is
executed. What is taken as the same: quoting, the order and bundling of flags, long and short names
of flags, a leading `cd`, absolute and relative paths, `cat f | grep x`, ways to view lines of a
file or to write text to one, redirections that only quieten, flags and pages that only change how
much is shown, and how loops and small programs are laid out. This module must never know an action
or a candidate.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, takewhile
from typing import Any

import bashlex

from pivotrl.verifiers import shell_commands as commands
from pivotrl.verifiers.shell_commands import Command, Form
from pivotrl.verifiers.shell_flags import Spec, known_of, read, renamed, spec_of, tables
from pivotrl.verifiers.shell_scripts import normal_script

MAX_CHARACTERS, MAX_PATH = 20_000, 4_096
MAX_NESTING = 20
MAX_PARSED, MAX_WORDS, MAX_COMMANDS, MAX_HEREDOCS = 4_000, 300, 60, 4
"""Longer lines (here-documents aside) are compared word by word: the grammar is slow."""
_WORD, _COMMAND = re.compile(r"\S+"), re.compile(r"[;|&()<>\n]")
_HEREDOC = re.compile(r"(<<-?)\s*(['\"])(\w+)\2")
_OPENS = re.compile(r"<<-?\s*(\w+)")
_SEQ = re.compile(r"\$\(seq (?:(\d{1,4}) )?(\d{1,4})\)")
_TEST = re.compile(r"\[\[( [^&|<>=~()\[\]]+ )\]\]")
_NEXT_LINE = re.compile(r"[ \t]*\n\s*(do|then)\b")

MAX_BRACES = 200
_PIECE = re.compile(r"'([^']*)'|\"((?:\\.|[^\"\\])*)\"|\\(.)|([^'\"\\]+)", re.DOTALL)
_BRACES = re.compile(r"\{([^{}]*,[^{}]*|\d{1,4}\.\.\d{1,4})\}")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.", re.DOTALL)
_QUIET = {"DEBIAN_FRONTEND=noninteractive", "PYTHONUNBUFFERED=1", "PAGER=cat", "GIT_PAGER=cat"}
_PAGERS = ("head", "tail", "cat", "less", "more")
QUIETENS = {("2>", "/dev/null"), ("2>&", "1"), ("&>", "/dev/null"), (">", "/dev/stdout")}


class Unreadable(ValueError):
    """No form can be made: too long, nested too deeply, or an operator alone."""


@lru_cache(maxsize=256)
def normal_form(line: str, directory: str | None = None, home: str | None = None) -> Form:
    """The form of a command line that runs in `directory` (absolute; None where unknown).

    `home` is the user's; whose is /root needs no sudo.

    Raises Unreadable. Linear in the line, which is bounded.
    """
    if len(line) > MAX_CHARACTERS or len(directory or "") > MAX_PATH:
        raise Unreadable(f"{len(line)} characters")
    if _nesting(line) > MAX_NESTING:
        raise Unreadable("nested too deeply")
    text = _HEREDOC.sub(r"\1\3", line.strip())
    if _is_long(text) or not set(commands.MARKS).isdisjoint(text):
        return ("raw", *_words(text))
    try:
        trees = _trees(text)
        if trees is None and "<<" not in text:  # `while a` and `do` on the next line
            text = _TEST.sub(r"[\1]", _NEXT_LINE.sub(r"; \1", text))
            trees = _trees(text)
    except RecursionError:
        raise Unreadable("nested too deeply") from None
    if trees is None:
        return ("raw", *_words(text))
    reader = _Reader(text, directory, home)
    parts: list[tuple[str, Form]] = []
    for tree in trees:
        parts += reader.sequence(tree)
    parts = commands.without_noise(parts)
    if reader.moved:  # a shell stays there: that is what the line did
        parts.append(("then", ("directory", reader.directory)))
    form = commands.joined(parts)
    # A quoted closing word keeps bash from expanding the text: it matters where there is some.
    literal = _HEREDOC.search(line) and re.search(r"[$`]", line.partition("<<")[2])
    return ("literal", form) if literal else form


def _trees(text: str) -> list[Any] | None:
    """By bash's grammar; None where it cannot be parsed."""
    try:
        return list(bashlex.parse(text)) if text else []
    except (bashlex.errors.ParsingError, NotImplementedError, ValueError, TypeError, AttributeError,
            AssertionError, IndexError, KeyError):  # fmt: skip
        return None


def _is_long(text: str) -> bool:
    if text.count("<<") > MAX_HEREDOCS:
        return True
    typed = _typed(text)
    return (
        len(typed) > MAX_PARSED
        or len(_WORD.findall(typed)) > MAX_WORDS
        or len(_COMMAND.findall(typed)) > MAX_COMMANDS
    )


def _typed(text: str) -> str:
    """A text without the bodies of its here-documents."""
    kept: list[str] = []
    closing: list[str] = []
    for line in text.split("\n"):
        if closing and line.strip() == closing[0]:
            closing = closing[1:]
        elif not closing:
            kept.append(line)
            closing = _OPENS.findall(line)
    return "\n".join(kept)


def _nesting(line: str) -> int:
    """The deepest bracket, and more for every backquote, which nests without saying so."""
    depths = accumulate((character in "({") - (character in ")}") for character in line)
    return max(depths, default=0) + line.count("`") // 2


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text) if len(text) <= MAX_PARSED else text.split()
    except ValueError:
        return text.split()


class _Reader:
    """Walks one line's trees; a `cd` moves the directory of what follows."""

    def __init__(self, text: str, directory: str | None, home: str | None) -> None:
        self.text, self.directory, self.home = text, directory, home
        self.variables: list[str] = []
        """Of the loops that are open: their names say nothing."""
        self.moved = False
        """Whether a `cd` was the last command."""

    def sequence(self, node: Any) -> list[tuple[str, Form]]:
        """(operator before it, form) of the commands that run one after the other."""
        if node.kind != "list":
            return [("then", form)] if (form := self.one(node)) else []
        out: list[tuple[str, Form]] = []
        operator = "then"
        for part in node.parts:
            if part.kind == "operator":
                operator = {"&&": "and", "||": "or", "&": "background"}.get(part.op, "then")
                if operator == "background" and out:
                    out[-1] = (out[-1][0], ("background", out[-1][1]))
                    operator = "then"
            elif form := self.one(part):
                out.append((operator, form))
        return out

    def one(self, node: Any, into: Any = None) -> Form | None:
        """The form of a pipeline, or of a command piped `into` another; None for a mere `cd`."""
        if node.kind == "pipeline":
            negated = any(p.kind == "reservedword" for p in node.parts)
            nodes = [p for p in node.parts if p.kind not in ("pipe", "reservedword")]
            parts = [self.one(p, then) for p, then in zip(nodes, [*nodes[1:], None], strict=True)]
            form = commands.pipeline([p for p in parts if p])
            return ("not", form) if negated else form
        if node.kind == "command":
            return self.command(node, into)
        if node.kind == "operator":  # "!;", as bashlex reads it
            raise Unreadable("an operator without a command")
        return self.compound(node)

    def compound(self, node: Any) -> Form:
        """A loop, condition, function or group, by the forms of its parts."""
        start, loops, out = self.directory, len(self.variables), list[Any]()
        for part in node.list if node.kind == "compound" else node.parts:
            if part.kind == "reservedword":
                out += [part.word] if part.word not in (";", "\n", "function") else []
            elif part.kind == "word" and node.kind == "for" and out == ["for"]:
                self.variables.append(part.word)
                out.append("")
            elif part.kind == "word":
                words = self.words(part)
                files = {
                    w
                    for w in words
                    if commands.LOOKS_LIKE_PATH.fullmatch(w) or commands.UNKNOWN.search(w)
                }
                out += [self.path(w) if w in files else w for w in words]
            elif part.kind in ("for", "while", "until", "if", "function", "compound"):
                out.append(self.compound(part))
            else:
                out.append(commands.joined(commands.without_noise(self.sequence(part))))
        del self.variables[loops:]
        if out[:1] == ["("]:  # a shell of its own
            self.directory = start
        self.moved = False
        if out[::2] in (["if", "then", "fi"], ["if", "then", "else", "fi"]):
            both = zip(("then", "and", "or"), out[1::2], strict=False)
            return commands.joined([(operator, form) for operator, form in both])
        out += map(self.redirect, getattr(node, "redirects", ()))
        return ("compound", *out) if len(out) > 1 else out[0]

    def words(self, node: Any) -> list[str]:
        """A word without its quotes, its braces expanded; one that expands nothing is marked."""
        source = self.text[slice(*node.pos)]
        word = _unquoted(source, node)
        bare = _QUOTED.sub("", source)
        if bare == source and _BRACES.search(word) and "$" not in word:
            return _expanded(word)
        if bare != source and not word.startswith("-") and not re.search("[*?]", bare):
            word = re.sub("[*?]", "\0\\g<0>", word)  # no pattern of file names
        if word.startswith("~"):
            live = any(part.kind == "tilde" for part in node.parts)
            if live and self.home and word[1:2] in ("", "/"):
                return [self.home + word[1:]]
            return [word if live else "\\" + word]
        if source == word and (counted := _SEQ.fullmatch(word)):
            return _expanded(f"{{{counted[1] or 1}..{counted[2]}}}")
        if "$" in word and not node.parts:
            return [word.replace("$", "\\$")]
        return [self.variable(word)] if node.parts else [word]

    def variable(self, word: str) -> str:
        """Variables in one spelling; those that are known by their value."""
        word = re.sub(r"\$\{(\w+)\}(?!\w)", r"$\1", word)
        word = re.sub(r"`([^`]*)`", r"$(\1)", word)
        if self.directory is not None and self.directory.startswith("/"):
            word = re.sub(r"\$PWD\b|\$\(pwd\)", lambda _: str(self.directory), word)
        if self.home:
            word = re.sub(r"\$HOME\b", lambda _: str(self.home), word)
        for depth, name in enumerate(self.variables):
            word = re.sub(rf"(\$\{{?){re.escape(name)}\b", rf"\g<1>\0{depth}", word)
        return word

    def command(self, node: Any, into: Any) -> Form | None:
        words, redirects, assignments = [], [], []
        for part in node.parts:
            if part.kind == "word":
                words += self.words(part)
            elif part.kind == "assignment":
                assignments.append(self.variable(part.word))
            elif part.kind == "redirect":
                redirects.append(self.redirect(part))
        if len(redirects) == 1 and redirects[0][0] == "&>":  # short for `> f 2>&1`
            redirects = [(">", redirects[0][1]), ("2>&", "1")]
        to_file = any(operator in (">", ">>") for operator, _ in redirects)
        if redirects[:1] == [("2>&", "1")]:  # to where the output then went: it is only shown
            redirects = redirects[1:] if to_file else redirects
        # What goes on to another program is not only shown.
        first = getattr(into, "parts", [into])[0]
        to_file |= into is not None and getattr(first, "word", "") not in _PAGERS
        quiet = QUIETENS - {("2>&", "1")} if to_file else QUIETENS
        kept = tuple(sorted(r for r in redirects if r not in quiet))
        if words[:1] == ["cd"] and len(words) <= 2 and not kept:
            return self.move(words[1] if len(words) == 2 else "~")
        self.moved = False
        if not words:
            bare = Command("", (), (), kept, tuple(assignments), self.directory)
            return ("command", commands.plain(bare))
        command = self.simple(words, kept, tuple(a for a in assignments if a not in _QUIET))
        if command.name == "test" and command.arguments[:1] == ("!",):
            return ("not", ("command", replace(command, arguments=command.arguments[1:])))
        return ("command", command)

    def move(self, target: str) -> Form | None:
        start = "" if target.startswith(("/", "~", "$")) else self.directory or ""
        home = self.home if target == "~" else None
        self.directory = home or posixpath.normpath(posixpath.join(start, target))
        self.moved = True
        return None

    def redirect(self, node: Any) -> tuple[str, str]:
        word = getattr(node.output, "word", None)
        # a number, or - which closes
        target = str(node.output) if word is None else self.words(node.output)[0]
        if node.heredoc is not None:
            return ("<<", node.heredoc.value.rpartition("\n")[0])  # without the closing word
        if node.type == "<<<" and not re.search(r"[$`\\]", target):
            return ("<<", target.replace("\0", ""))
        operator = f"{node.input if node.input not in (None, 1) else ''}{node.type}"
        path = operator in (">", ">>", "<", "2>", "&>")
        return operator, self.path(target) if path else target

    def path(self, word: str, slash: bool = False) -> str:
        """Absolute where the directory is known."""
        end = "/" if slash and word.endswith("/") else ""
        if word.startswith("/"):
            return posixpath.normpath(word) + end
        if not word or "://" in word or word.startswith(("-", "$", "~", "\\")):
            return word
        return posixpath.normpath(posixpath.join(self.directory or "", word)) + end

    def simple(
        self,
        words: Sequence[str],
        redirects: tuple[tuple[str, str], ...],
        assigned: tuple[str, ...],
    ) -> Command:
        name, *rest = words
        for folder in ("/usr/bin/", "/bin/", "/usr/local/bin/", "/usr/sbin/", "/sbin/"):
            name = name.removeprefix(folder) or name
        given = list(takewhile(_ASSIGNMENT.match, rest)) if name == "env" else []
        if given and len(rest) > len(given):
            return self.simple(rest[len(given) :], redirects, (*assigned, *given))
        if name == "[" and rest[-1:] == ["]"]:
            name, rest = "test", rest[:-1]
        if "/" in name and name not in tables()["names"]:
            name = self.path(name)
            name = name if "/" in name else f"./{name}"  # none that is looked for
        name, *rest = renamed([name, *rest])
        name, spec, flags, arguments = read(name, rest)
        spec = spec or known_of(name)
        if spec.prefix >= 0 and len(arguments) > spec.prefix:
            inner = self.simple(arguments[spec.prefix :], redirects, assigned)
            if name == "sudo" and not flags and self.home == "/root":
                return inner
            own = [name, *(f"-{flag} {value}" for flag, value in flags), *arguments[: spec.prefix]]
            return replace(inner, name=" ".join([*own, inner.name]))
        if name == "python" and arguments and spec_of(script := posixpath.basename(arguments[0])):
            name, spec, more, rest = read(script, arguments[1:])
            arguments, spec = [arguments[0], *rest], (spec or known_of(name)).but(paths="first")
            name, flags = f"python {name}", [*flags, *more]
        if (said := _said_by(name, arguments)) is not None:
            name, arguments = "echo", [said]
        inputs = [target for operator, target in redirects if operator == "<"]
        if spec.feeds and inputs:
            arguments = [*arguments, *inputs]
            redirects = tuple(r for r in redirects if r[0] != "<")
        return self.placed(Command(name, tuple(flags), tuple(arguments), redirects, assigned, None),
                           spec)  # fmt: skip

    def placed(self, command: Command, spec: Spec) -> Command:
        """A command with its paths absolute, its programs in one form and its defaults said."""
        flags, arguments = list(command.flags), list(command.arguments)
        start = commands.start_of(spec, flags)
        if command.name in ("cp", "mv", "ln") and arguments:
            if command.name == "ln" and ("s", "") not in flags:
                spec = spec.but(paths="all")
            whole = command.name == "mv" and "." not in posixpath.basename(arguments[0])
            arguments = commands.targeted(arguments, whole or any(f in "raR" for f, _ in flags))
        held = [value for flag, value in flags if flag == spec.first]
        if spec.script == "sed" and len(held) > 1:
            held = ["\n".join(held)]
        if len(held) == 1:
            flags, arguments = [f for f in flags if f[0] != spec.first], [*held, *arguments]
            start = int(spec.paths == "rest")
        if command.name == "find":
            arguments = commands.find_words(arguments, spec)
        recursive = not spec.recursive or (spec.recursive, "") in flags
        if spec.default and recursive and len(arguments) <= start and command.name != "find":
            arguments += [spec.default] if len(arguments) == start else []
        if spec.script and arguments and start:
            # Variables that flags give to awk keep their names.
            named = spec.script == "awk" and any(flag == "v" for flag, _ in flags)
            language = "jq" if named else spec.script
            arguments[0] = normal_script(language, arguments[0].replace("\0", ""))
            if spec.script == "sed" and not re.search(r"[+?(){}|\\]", arguments[0]):
                flags = [f for f in flags if f[0] != "E"]
        languages = dict(pair.split(":") for pair in spec.script_values.split())
        located = spec.path_values.split()
        for index, (flag, value) in enumerate(flags):
            value = self.path(value) if flag in located else value.replace("\0", "")
            flags[index] = (flag, normal_script(languages.get(flag, ""), value))
        before = self.directory
        moved = [value for flag, value in flags if flag == spec.moves]
        if moved and spec.moves_file:  # by the file that is the default there
            folder, file = posixpath.split(moved[-1])
            whole = len(moved) == 1 and file in spec.moves_file.split()
            moved = [folder or "."] if whole else []
        if moved:
            flags = [f for f in flags if f[0] != spec.moves]
            to = self.path(moved[-1])
            self.directory = to if to != "." else None
        command = replace(command, flags=tuple(flags), arguments=tuple(arguments))
        files = commands.file_places(command, spec)
        slash = spec.paths == "slash"
        resolved = [self.path(a, slash) if i in files else a for i, a in enumerate(arguments)]
        if spec.paths == "bare":
            resolved = [posixpath.normpath(a) for a in arguments]
        if spec.paths == "first" and languages.get("cmd") and len(resolved) == 2:
            resolved[1] = normal_script(languages["cmd"], resolved[1].replace("\0", ""))
        if spec.set:
            resolved.sort()
        command = replace(command, flags=tuple(flags), arguments=tuple(resolved),
                          directory=self.directory)  # fmt: skip
        self.directory = before
        return commands.plain(command, spec)


def _unquoted(source: str, node: Any) -> str:
    """The word as bash has it: its parser drops backslashes that double quotes keep."""
    word: str = node.word
    if "\\" not in source or "`" in source or "$(" in source or "$'" in source:
        return word
    parts = _PIECE.findall(source)
    own = "".join(a or re.sub(r'\\([$`"\\]|\n)', r"\1", b) or c or d for a, b, c, d in parts)
    return own if own.replace("\\", "") == word.replace("\\", "") else word


def _expanded(word: str) -> list[str]:
    """By braces, as bash does; those inside others, or too many, are left."""
    done, open_ = list[str](), [word]
    while open_ and len(done) + len(open_) <= MAX_BRACES:
        word = open_.pop(0)
        if (found := _BRACES.search(word)) is None:
            done.append(word)
            continue
        if "," in found[1]:
            parts = found[1].split(",")
        else:
            first, last = map(int, found[1].split(".."))
            if found[1] != f"{first}..{last}" or not 0 <= last - first < MAX_BRACES:
                return [*done, word, *open_]
            parts = [str(number) for number in range(first, last + 1)]
        open_[:0] = [f"{word[: found.start()]}{part}{word[found.end() :]}" for part in parts]
    return [*done, *open_]


def _said_by(name: str, words: Sequence[str]) -> str | None:
    """What `echo` or `printf` writes, without the line end; None where that is not sure."""
    if name == "echo" and words[:1] == ["-e"] and not any(w.startswith("-") for w in words[1:]):
        return _unescaped(" ".join(words[1:]))
    if name == "echo" and words and not words[0].startswith("-"):
        return " ".join(words)
    if name == "printf" and words and words[0] == "%s\\n":
        return "\n".join(words[1:]) if len(words) > 1 else None
    if name == "printf" and len(words) == 1 and "%" not in words[0]:
        text = _unescaped(words[0])
        return text[:-1] if text is not None and text.endswith("\n") else None
    return None


def _unescaped(text: str) -> str | None:
    text = text.replace("\\n", "\n").replace("\\t", "\t")
    return None if "\\" in text else text
