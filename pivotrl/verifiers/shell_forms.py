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
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, takewhile
from typing import Any

import bashlex

from pivotrl.verifiers.shell_flags import Spec, read, renamed, spec_of
from pivotrl.verifiers.shell_scripts import normal_script

MAX_CHARACTERS = 20_000
MAX_NESTING = 20
MAX_PARSED, MAX_WORDS, MAX_COMMANDS, MAX_HEREDOCS = 6_000, 300, 60, 4
"""Longer lines (here-documents aside) are compared word by word: the grammar is slow."""
_WORD, _COMMAND = re.compile(r"\S+"), re.compile(r"[;|&()<>\n]")
_HEREDOC = re.compile(r"(<<-?)\s*(['\"])(\w+)\2")
_NEXT_LINE = re.compile(r"[ \t]*\n\s*(do|then)\b")
_SED_LINES = re.compile(r"(\d+)(?:,(\d+|\$))?p")
_PAGE = 10
"""A trailing `head` or `tail` of at least so many lines is a page, not a choice."""

VIEW = "<view>"
"""The name of what `cat`, `head` and their like become; no command line can have it."""
FINDS = ("grep", "find", "rg", "ls", "git", "tree", "ack")
"""Their output may be cut to a page."""
PAGERS = ("head", "tail", "cat", "less", "more")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_COUNT = re.compile(r"[0-9]{1,9}")
_AWK_LINES = re.compile(r"NR>=([0-9]{1,9})&&NR<=([0-9]{1,9})(?:{print(?: ?\$0)?})?")
_LOOKS_LIKE_PATH = re.compile(r"(?!-)(?!\w*://)[\w@%+=~.*?-]*[./][\w@%+=~.*?/-]*")
_QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.", re.DOTALL)
_PIECE = re.compile(r"'([^']*)'|\"((?:\\.|[^\"\\])*)\"|\\(.)|([^'\"\\]+)", re.DOTALL)
_BRACES = re.compile(r"\{([^{}]*,[^{}]*|\d{1,4}\.\.\d{1,4})\}")
_UNKNOWN = re.compile(r"(?<!\0)[*?]|\$\(|`|\$P?WD")
"""In a word whose value depends on the directory."""
MAX_BRACES = 200
QUIETENS = {("2>", "/dev/null"), ("2>&", "1"), ("&>", "/dev/null"), (">", "/dev/stdout")}


class Unreadable(ValueError):
    """No form can be made: too long, or nested too deeply."""


@dataclass(frozen=True, slots=True)
class Command:
    """One simple command."""

    name: str
    flags: tuple[tuple[str, str], ...]
    """(flag, value or empty), sorted where the command's flags are known."""
    arguments: tuple[str, ...]
    redirects: tuple[tuple[str, str], ...]
    assignments: tuple[str, ...]
    directory: str | None
    """Where it runs; None where that does not matter or is not known."""


Form = tuple[Any, ...]
"""(kind, parts...): `command`, `pipe`, `not`, `background`, `raw` (words: nothing more is known),
`compound` (reserved words, words and forms), `literal` (form whose here-document is not expanded),
`directory` (a line that ends by moving there), `nothing`, or a `sequence` of (`and` or `or`, form).
"""


@lru_cache(maxsize=256)
def normal_form(line: str, directory: str | None = None, home: str | None = None) -> Form:
    """The form of a command line that runs in `directory` (absolute; None where unknown).

    `home` is the user's; whose is /root needs no sudo.

    Raises Unreadable. Linear in the line, which is bounded.
    """
    if len(line) > MAX_CHARACTERS:
        raise Unreadable(f"{len(line)} characters")
    if _nesting(line) > MAX_NESTING:
        raise Unreadable("nested too deeply")
    text = _HEREDOC.sub(r"\1\3", line.strip())
    if _is_long(text):
        return ("raw", *_words(text))
    try:
        trees = _trees(text)
        if trees is None and "<<" not in text:  # `while a` and `do` on the next line
            text = _NEXT_LINE.sub(r"; \1", text)
            trees = _trees(text)
    except RecursionError:
        raise Unreadable("nested too deeply") from None
    if trees is None:
        return ("raw", *_words(text))
    reader = _Reader(text, directory, home)
    parts: list[tuple[str, Form]] = []
    for tree in trees:
        parts += reader.sequence(tree)
    parts = _without_noise(parts)
    if reader.moved:  # a shell stays there: that is what the line did
        parts.append(("then", ("directory", reader.directory)))
    form = _joined(parts)
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
    head = text.partition("<<")[0]
    return (
        len(head) > MAX_PARSED
        or len(_WORD.findall(head)) > MAX_WORDS
        or len(_COMMAND.findall(head)) > MAX_COMMANDS
        or text.count("<<") > MAX_HEREDOCS
    )


def _nesting(line: str) -> int:
    """The deepest bracket, and more for every backquote, which nests without saying so."""
    depth = deepest = 0
    for character in line:
        depth += (character in "({") - (character in ")}")
        deepest = max(deepest, depth)
    return deepest + line.count("`") // 2


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
            form = _pipeline([p for p in parts if p])
            return ("not", form) if negated else form
        if node.kind == "command":
            return self.command(node, into)
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
                files = {w for w in words if _LOOKS_LIKE_PATH.fullmatch(w) or _UNKNOWN.search(w)}
                out += [self.path(w) if w in files else w for w in words]
            elif part.kind in ("for", "while", "until", "if", "function", "compound"):
                out.append(self.compound(part))
            else:
                out.append(_joined(_without_noise(self.sequence(part))))
        del self.variables[loops:]
        if out[:1] == ["("]:  # a shell of its own
            self.directory = start
        self.moved = False
        return ("compound", *out, *map(self.redirect, getattr(node, "redirects", ())))

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
        to_file |= into is not None and getattr(into.parts[0], "word", "") not in PAGERS
        quiet = QUIETENS - {("2>&", "1")} if to_file else QUIETENS
        kept = tuple(sorted(r for r in redirects if r not in quiet))
        if words[:1] == ["cd"] and len(words) <= 2 and not kept:
            return self.move(words[1] if len(words) == 2 else "~")
        self.moved = False
        if not words:
            return ("command", Command("", (), (), kept, tuple(assignments), self.directory))
        return ("command", self.simple(words, kept, tuple(assignments)))

    def move(self, target: str) -> Form | None:
        if target == "~" and self.home:
            self.directory = self.home
        elif target.startswith(("/", "~", "$")):
            self.directory = posixpath.normpath(target)
        elif self.directory is not None:
            self.directory = posixpath.normpath(posixpath.join(self.directory, target))
        else:
            self.directory = "./" + posixpath.normpath(target)
        self.moved = True
        return None

    def redirect(self, node: Any) -> tuple[str, str]:
        word = getattr(node.output, "word", None)
        # a number, or - which closes
        target = str(node.output) if word is None else self.words(node.output)[0]
        if node.heredoc is not None:
            return ("<<", node.heredoc.value.rpartition("\n")[0])  # without the closing word
        operator = f"{node.input if node.input not in (None, 1) else ''}{node.type}"
        path = operator in (">", ">>", "<", "2>", "&>")
        return operator, self.path(target) if path else target

    def path(self, word: str, slash: bool = False) -> str:
        """Absolute where the directory is known."""
        end = "/" if slash and word.endswith("/") else ""
        if word.startswith("/"):
            return posixpath.normpath(word) + end
        if self.directory is None or not word or word.startswith(("-", "$", "~", "\\")):
            return word
        return posixpath.normpath(posixpath.join(self.directory, word)) + end

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
        name, *rest = renamed([self.path(name) if "/" in name else name, *rest])
        name, spec, flags, arguments = read(name, rest)
        spec = spec or Spec(raw=True)
        if spec.prefix >= 0 and len(arguments) > spec.prefix:
            inner = self.simple(arguments[spec.prefix :], redirects, assigned)
            if name == "sudo" and not flags and self.home == "/root":
                return inner
            own = [name, *(f"-{flag} {value}" for flag, value in flags), *arguments[: spec.prefix]]
            return replace(inner, name=" ".join([*own, inner.name]))
        if name == "python" and arguments and spec_of(script := posixpath.basename(arguments[0])):
            name, spec, more, rest = read(script, arguments[1:])
            arguments, spec = [arguments[0], *rest], replace(spec or Spec(), paths="first")
            name, flags = f"python {name}", [*flags, *more]
        if (said := _said(name, arguments)) is not None:
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
        start = _start(spec, flags)
        held = [value for flag, value in flags if flag == spec.first]
        if len(held) == 1:
            flags, arguments = [f for f in flags if f[0] != spec.first], [*held, *arguments]
            start = int(spec.paths == "rest")
        if command.name == "find":
            arguments = _find(arguments, spec)
        recursive = not spec.recursive or (spec.recursive, "") in flags
        if spec.default and recursive and len(arguments) <= start and command.name != "find":
            arguments += [spec.default] if len(arguments) == start else []
        if spec.script and arguments and start:
            arguments[0] = normal_script(spec.script, arguments[0].replace("\0", ""))
        languages = dict(pair.split(":") for pair in spec.script_values.split())
        located = spec.path_values.split()
        for index, (flag, value) in enumerate(flags):
            value = self.path(value) if flag in located else value.replace("\0", "")
            flags[index] = (flag, normal_script(languages.get(flag, ""), value))
        before = self.directory
        if moved := [value for flag, value in flags if flag == spec.moves]:
            flags = [f for f in flags if f[0] != spec.moves]
            self.directory = self.path(moved[-1])
        files = _file_places(command.name, spec, arguments, start)
        slash = spec.paths == "slash"
        resolved = [self.path(a, slash) if i in files else a for i, a in enumerate(arguments)]
        if spec.paths == "bare":
            resolved = [posixpath.normpath(a) for a in arguments]
        if spec.suffix:
            resolved = [a.removesuffix(spec.suffix) for a in resolved]
        if spec.paths == "first" and languages.get("cmd") and len(resolved) == 2:
            resolved[1] = normal_script(languages["cmd"], resolved[1].replace("\0", ""))
        if spec.set:
            resolved.sort()
        flags = [(f, v.removesuffix(spec.suffix)) for f, v in flags] if spec.suffix else flags
        command = replace(command, flags=tuple(flags), arguments=tuple(resolved),
                          directory=self.directory)  # fmt: skip
        self.directory = before
        return _written(_settled(_viewed(command), spec, files))


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


def _start(spec: Spec, flags: Sequence[tuple[str, str]]) -> int:
    """How many operands come before the paths."""
    given = any(flag in (spec.first or "f", "f") for flag, _ in flags)
    return int(spec.paths == "rest" and not (given and (spec.first or spec.script)))


def _said(name: str, words: Sequence[str]) -> str | None:
    """What `echo` or `printf` writes, without the line end; None where that is not sure."""
    if name == "echo" and words[:1] == ["-e"] and not any(w.startswith("-") for w in words[1:]):
        text = _unescaped(" ".join(words[1:]))
        return text if text is not None else None
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


def _written(command: Command) -> Command:
    """`echo x > f`, `cat > f <<E` and `tee f <<E` are one."""
    goes = dict(command.redirects)
    quiet = command.name == "tee" and goes.get(">", "/dev/null") == "/dev/null"
    plain = len(command.arguments) == 1 and set(command.flags) <= {("a", "")}
    if quiet and plain and "<<" in goes:
        to = (">>" if command.flags else ">", command.arguments[0])
        return replace(command, name="cat", flags=(), arguments=(), directory=None,
                           redirects=tuple(sorted([to, ("<<", goes["<<"])])))  # fmt: skip
    if command.name == "cat" and "<<" in goes and not command.arguments:
        return replace(command, directory=None)
    if command.name != "echo" or len(goes) != 1 or not goes.keys() & {">", ">>"}:
        return command
    text = "".join(command.arguments)
    if len(command.arguments) != 1 or not text or re.search(r"[$`\\]|(?<!\0)[*?]", text):
        return command
    redirects = sorted([*command.redirects, ("<<", text.replace("\0", ""))])
    return replace(command, name="cat", arguments=(), redirects=tuple(redirects))


def _find(arguments: list[str], spec: Spec) -> list[str]:
    """`find` with the tests that come first in one order: all of them must hold."""
    start = next((i for i, a in enumerate(arguments) if a.startswith(("-", "!", "("))), None)
    if start is None:
        return arguments or [spec.default]
    valued = {f"-{test}" for test in spec.tests.split()}
    bare = {f"-{test}" for test in spec.bare_tests.split()}
    tests: list[list[str]] = []
    end = start
    while end < len(arguments):
        negated = arguments[end] in ("!", "-not")
        word = arguments[end + negated] if end + negated < len(arguments) else ""
        size = 2 if word in valued else 1
        if word not in valued | bare or end + negated + size > len(arguments):
            break
        test = arguments[end + negated : end + negated + size]
        tests.append(["!", *test] if negated else test)
        end += negated + size
    act = arguments[end:]
    if act[:1] == ["-exec"] and act[-1] in (";", "\\;") and act[1] in spec.together.split():
        act[-1] = "+"
    if act[:3] == ["-exec", "rm", "-f"]:
        del act[2]
    plain = [["-type", "f"] in tests, act[:2] == ["-exec", "rm"], act[-2:] == ["{}", "+"]]
    if all(plain) and len(act) == 4:
        act = ["-delete"]
    act = [] if act == ["-print"] else act
    return [*(arguments[:start] or [spec.default]), *chain(*sorted(tests)), *act]


def _file_places(name: str, spec: Spec, arguments: Sequence[str], start: int) -> set[int]:
    """Which arguments are paths."""
    count = len(arguments)
    if spec.paths == "start":
        first = next((i for i, a in enumerate(arguments) if a.startswith(("-", "(", "!"))), count)
        return set(range(first))
    if spec.paths in ("all", "rest", "slash"):
        return {i for i in range(start, count) if ":" not in arguments[i] or spec.paths != "slash"}
    if spec.paths in ("first", "last"):
        return {0 if spec.paths == "first" else count - 1} if count else set()
    if spec.paths in ("none", "bare"):
        return set()
    return {i for i, a in enumerate(arguments) if _LOOKS_LIKE_PATH.fullmatch(a)}


def _viewed(command: Command) -> Command:
    """`cat`, `head`, `tail -n +K` and `sed -n a,bp` of one file as a view of its lines."""
    if command.redirects or command.assignments:
        return command
    flags, arguments = dict(command.flags), command.arguments
    lines: tuple[str, str] | None = None
    if command.name in ("cat", "nl") and not flags and len(arguments) == 1:
        lines = ("1", "$")
    elif command.name == "head" and set(flags) <= {"n"} and len(arguments) == 1:
        count = flags.get("n", "10")
        lines = ("1", count) if _COUNT.fullmatch(count) else None
    elif command.name == "tail" and set(flags) == {"n"} and len(arguments) == 1:
        lines = (flags["n"][1:], "$") if flags["n"].startswith("+") else None
    elif command.name == "sed" and set(flags) == {"n"} and len(arguments) == 2:
        found = _SED_LINES.fullmatch(arguments[0])
        lines = (found[1], found[2] or found[1]) if found else None
        arguments = arguments[1:]
    elif command.name == "awk" and not flags and len(arguments) == 2:
        found = _AWK_LINES.fullmatch(arguments[0])
        lines, arguments = (found[1], found[2]) if found else None, arguments[1:]
    if lines is None:
        return command
    return replace(command, name=VIEW, flags=(("lines", "-".join(lines)),), arguments=arguments)


def _settled(command: Command, spec: Spec, files: set[int]) -> Command:
    """Without the directory where it does not matter: all paths are absolute."""
    paths = [a for i, a in enumerate(command.arguments) if i in files or command.name == VIEW]
    located = [value for flag, value in command.flags if flag in spec.path_values.split()]
    others = [a for a in command.arguments[bool(spec.script) :] if a not in paths]
    loose = any(map(_UNKNOWN.search, others)) or (command.name in ("xargs", "find") and not paths)
    if spec.anywhere and not loose and all(a.startswith(("/", "~")) for a in [*paths, *located]):
        return replace(command, directory=None)
    return command


def _narrowed(lines: str, into: Command) -> str | None:
    """The lines of a view that `head` or `tail` leaves; None if it is not known."""
    first, last = lines.split("-")
    count = dict(into.flags).get("n", "10")
    if into.arguments or into.redirects or any(flag != "n" for flag, _ in into.flags):
        return None
    if not (_COUNT.fullmatch(first) and _COUNT.fullmatch(count)):
        return None
    if into.name == "head":
        end = int(first) + int(count) - 1
        return f"{first}-{min(end, int(last)) if _COUNT.fullmatch(last) else end}"
    if into.name == "tail" and _COUNT.fullmatch(last):
        return f"{max(int(first), int(last) - int(count) + 1)}-{last}"
    return None


def _pipeline(parts: list[Form]) -> Form:
    """Pipelines without a `cat` that only feeds, and without a page at the end."""
    for index in range(len(parts) - 1, 0, -1):
        one, two = parts[index - 1], parts[index]
        names = [p[1].name for p in (one, two) if p[0] == "command"]
        if names == ["sort", "uniq"] and not (one[1].redirects or two[1].flags or two[1].arguments):
            flags = tuple(sorted({*one[1].flags, ("u", "")}))
            both = replace(one[1], flags=flags, redirects=two[1].redirects)
            parts[index - 1 : index + 1] = [("command", both)]
    while len(parts) > 1:
        first, second = parts[0], parts[1]
        if first[0] != "command" or second[0] != "command":
            break
        if first[1].arguments[-1:] == ("-print0",) and second[1].name.startswith("xargs -0  "):
            name = second[1].name.replace("xargs -0  ", "xargs ", 1)
            parts[:2] = [("command", replace(first[1], arguments=first[1].arguments[:-1])),
                         ("command", replace(second[1], name=name))]  # fmt: skip
            continue
        view, into = first[1], second[1]
        removes = into.name == "xargs rm" and not (into.flags or into.arguments or into.redirects)
        if view.name == "find" and removes and (of_find := spec_of("find")):
            words = _find([*view.arguments, "-exec", "rm", "{}", "+"], of_find)
            parts[:2] = [("command", replace(view, arguments=tuple(words)))]
            continue
        if view.name == VIEW and (lines := _narrowed(view.flags[0][1], into)):
            parts[:2] = [("command", replace(view, flags=(("lines", lines),)))]
            continue
        feeds = view.name == VIEW and view.flags == (("lines", "1-$"),)
        takes = spec_of(into.name)
        if not feeds or any(operator.startswith("<") for operator, _ in into.redirects):
            break
        if not (takes and takes.feeds):
            redirects = tuple(sorted([*into.redirects, ("<", view.arguments[0])]))
            parts[:2] = [("command", replace(into, redirects=redirects))]
            break
        if len(into.arguments) > _start(takes, into.flags):
            break
        arguments = (*into.arguments, *view.arguments)
        merged = replace(into, arguments=arguments, directory=view.directory)
        parts[:2] = [("command", _viewed(merged))]
    while len(parts) > 1 and parts[-1][0] == "command":
        last, before = parts[-1][1], parts[-2]
        page = last.name in ("head", "tail") and set(dict(last.flags)) <= {"n"}
        count = dict(last.flags).get("n", "10") if page else ""
        finds = before[0] == "command" and before[1].name.partition(" ")[0] in FINDS
        long = _COUNT.fullmatch(count) and int(count) >= _PAGE
        if (page and finds and long and not last.arguments) or (
            last.name == "cat" and not last.arguments and not last.redirects
        ):
            parts = parts[:-1]
        else:
            break
    if len(parts) > 1 and parts[-1][0] == parts[-2][0] == "command":
        last, before = parts[-1][1], parts[-2][1]
        quiet = last.redirects == ((">", "/dev/null"),)
        known = not last.redirects and (before.name == "echo" or "<<" in dict(before.redirects))
        plain = not dict(before.redirects).keys() & {">", ">>"} and set(last.flags) <= {("a", "")}
        if last.name == "tee" and len(last.arguments) == 1 and (quiet or known) and plain:
            to = (">>" if last.flags else ">", last.arguments[0])
            both = replace(before, redirects=tuple(sorted([*before.redirects, to])))
            parts = [*parts[:-2], ("command", _written(both))]
    return parts[0] if len(parts) == 1 else ("pipe", *parts)


def _without_noise(parts: list[tuple[str, Form]]) -> list[tuple[str, Form]]:
    """Without `|| true` and a closing `true`."""

    def is_true(form: Form) -> bool:
        return form[0] == "command" and form[1].name in ("true", ":") and not form[1].arguments

    while len(parts) > 1 and is_true(parts[-1][1]):
        parts = parts[:-1]
    return parts


def _joined(parts: list[tuple[str, Form]]) -> Form:
    if not parts:
        return ("nothing",)
    # `a && b` and `a; b` differ only where a fails: an agent's lines mean the same by both.
    flat: list[tuple[str, Form]] = []
    for operator, form in (("and" if op == "then" else op, form) for op, form in parts):
        if flat and operator == "and" and (both := _both(flat[-1][1], form)):
            flat[-1] = (flat[-1][0], both)
        else:
            flat.append((operator, form))
    return flat[0][1] if len(flat) == 1 and flat[0][0] == "and" else ("sequence", *flat)


def _both(one: Form, two: Form) -> Form | None:
    """Two calls in a row as the one that does what they do: `mkdir a; mkdir b`; None if none."""
    if one[0] != "command" or two[0] != "command":
        return None
    first, second = one[1], two[1]
    spec = spec_of(first.name)
    alike = replace(first, arguments=()) == replace(second, arguments=())
    values = (*first.arguments, *second.arguments)
    if not (spec and spec.set and alike and first.arguments and second.arguments):
        return None
    if first.redirects or (first.name == "export" and "$" in "".join(values)):
        return None
    return ("command", replace(first, arguments=tuple(sorted(values))))
