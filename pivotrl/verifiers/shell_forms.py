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
from itertools import accumulate
from typing import Any

import bashlex

from pivotrl.verifiers import shell_commands as commands
from pivotrl.verifiers import shell_runs as runs
from pivotrl.verifiers.shell_commands import Command, Form
from pivotrl.verifiers.shell_sequences import changes_shell, grouped, joined, without_noise
from pivotrl.verifiers.shell_simple import Place
from pivotrl.verifiers.shell_words import (
    BRACES,
    common_ending,
    cut,
    expanded,
    readable,
    turns_of,
    unquoted,
)

MAX_CHARACTERS, MAX_PATH = 20_000, 4_096
MAX_NESTING, MAX_SCRIPTS, MAX_TURNS = 20, 3, 12
MAX_PARSED, MAX_WORDS, MAX_COMMANDS, MAX_HEREDOCS = 4_000, 300, 60, 4
"""Longer lines (here-documents aside) are compared word by word: the grammar is slow."""
_WORD, _COMMAND = re.compile(r"\S+"), re.compile(r"[;|&()<>\n]")
_HEREDOC = re.compile(r"(<<-?)\s*(['\"])(\w+)\2")
_OPENS = re.compile(r"<<-?\s*(\w+)")
_SEQ = re.compile(r"\$\(seq (?:(\d{1,4}) )?(\d{1,4})\)")
_QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.", re.DOTALL)
_QUIET = {"DEBIAN_FRONTEND=noninteractive", "PYTHONUNBUFFERED=1", "PAGER=cat", "GIT_PAGER=cat"}
_QUIET |= {"RUST_BACKTRACE=1", "PYTHONDONTWRITEBYTECODE=1", "NO_COLOR=1"}
_ACTIVATE = "/bin/activate"
_SUBSTITUTIONS = ("commandsubstitution", "processsubstitution")
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
            text = readable(text)
            trees = _trees(text)
    except RecursionError:
        raise Unreadable("nested too deeply") from None
    if trees is None:
        return ("raw", *_words(text))
    reader = _Reader(text, directory, home)
    form = reader.whole(trees)
    # A quoted closing word keeps bash from expanding the text: it matters where there is some.
    literal = _HEREDOC.search(line) and re.search(r"[$`]", line.partition("<<")[2])
    return ("literal", form) if literal else form


def _expanded(parser: Any, word: str, start: int) -> Any:
    if word.startswith("${", start) and "}" not in word[start:]:
        raise bashlex.errors.ParsingError("no closing brace", word, start)
    return _EXPAND(parser, word, start)


_EXPAND = bashlex.subst._paramexpand
bashlex.subst._paramexpand = _expanded  # else `'a${x'y` is read again and again, without an end


@lru_cache(maxsize=16)  # a verdict asks for one line's in several directories
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


def _flat(operator: str, form: Form) -> list[tuple[str, Form]]:
    """`a && (b && c)` as `a && b && c`."""
    steps = form[1:] if form[0] == "sequence" and operator != "or" else ()
    if not steps or any(how == "or" for how, _ in steps):
        return [(operator, form)]
    return [(operator, steps[0][1]), *steps[1:]]


class _Reader(Place):
    """Walks one line's trees; a `cd` moves the directory of what follows."""

    def __init__(self, text: str, directory: str | None, home: str | None, depth: int = 0) -> None:
        super().__init__(directory, home)
        self.text, self.depth = text, depth
        self.variables: list[tuple[str, str]] = []
        """Of the loops that are open: their names, which say nothing, and how the values end."""
        self.captured: dict[str, Form] = {}
        """What runs in `$(...)`, by the word that stands for it."""
        self.moved = False
        """Whether a `cd` was the last command."""

    def whole(self, trees: Sequence[Any]) -> Form:
        """The form of all that runs."""
        parts = without_noise([part for tree in trees for part in self.sequence(tree)])
        if self.moved or self.idle:  # a shell stays there: that is what the line did
            parts.append(("then", ("directory", self.directory, self.idle and self.environment)))
        return joined(parts)

    def sequence(self, node: Any) -> list[tuple[str, Form]]:
        """(operator before it, form) of the commands that run one after the other."""
        if node.kind != "list":
            return _flat("then", form) if (form := self.one(node)) else []
        out: list[tuple[str, Form]] = []
        operator = "then"
        for part in node.parts:
            if part.kind == "operator":
                operator = {"&&": "and", "||": "or", "&": "background"}.get(part.op, "then")
                if operator == "background" and out:
                    out[-1] = (out[-1][0], ("background", out[-1][1]))
                    operator = "then"
            elif form := self.one(part):
                out += _flat(operator, form)
        return out

    def one(self, node: Any, into: Any = None) -> Form | None:
        """The form of a pipeline, or of a command piped `into` another; None for a mere `cd`."""
        if node.kind == "pipeline":
            negated = any(p.kind == "reservedword" for p in node.parts)
            nodes = [p for p in node.parts if p.kind not in ("pipe", "reservedword")]
            parts = [self.one(p, then) for p, then in zip(nodes, [*nodes[1:], None], strict=True)]
            flat = [q for p in parts if p for q in (p[1:] if p[0] == "pipe" else [p])]
            if not flat:  # `! cd x`
                return None
            form = commands.pipeline(flat)
            return ("not", form) if negated else form
        if node.kind == "command":
            return self.command(node, into)
        if node.kind == "operator":  # "!;", as bashlex reads it
            raise Unreadable("an operator without a command")
        return self.compound(node)

    def compound(self, node: Any) -> Form:
        """A loop, condition, function or group, by the forms of its parts."""
        if node.kind == "for" and (form := self.unrolled(node)):
            return form
        start, loops, out = (self.directory, self.environment), len(self.variables), list[Any]()
        nodes = node.list if node.kind == "compound" else node.parts
        for part in nodes:
            if part.kind == "reservedword":
                out += [part.word] if part.word not in (";", "\n", "function") else []
            elif part.kind == "word" and node.kind == "for" and out == ["for"]:
                values = [p.word for p in nodes if p.kind == "word"][1:]
                self.variables.append((part.word, common_ending(values)))
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
                out.append(joined(without_noise(self.sequence(part))))
        del self.variables[loops:]
        if out[:1] == ["("]:  # a shell of its own
            self.directory, self.environment = start
        self.moved = False
        if out[::2] in (["if", "then", "fi"], ["if", "then", "else", "fi"]):
            both = zip(("then", "and", "or"), out[1::2], strict=False)
            return joined([(operator, form) for operator, form in both])
        redirects = [self.redirect(r) for r in getattr(node, "redirects", ())]
        group = out[1] if out[:1] in (["{"], ["("]) and len(out) == 3 else None
        if len(out) == 1 and redirects:  # a loop that is unrolled
            group = out[0]
        if out[0] == "(" and changes_shell(group):
            group = None
        if group and (form := grouped(group, redirects)):
            return form
        out += redirects
        return ("compound", *out) if len(out) > 1 else out[0]

    def unrolled(self, node: Any) -> Form | None:
        """A loop over a few plain words as what it does one by one; None where it is not that."""
        name, *given = [part for part in node.parts if part.kind == "word"]
        values = [word for part in given for word in self.words(part)]
        bodies = [p for p in node.parts if p.kind not in ("word", "reservedword")]
        if len(bodies) != 1 or not 0 < len(values) <= MAX_TURNS or self.depth >= MAX_SCRIPTS:
            return None
        text = turns_of(self.text[slice(*bodies[0].pos)], name.word, values)
        if text is None or _is_long(text) or self.variables or self.environment:
            return None
        if (trees := _trees(text)) is None:
            return None
        inner = _Reader(text, self.directory, self.home, self.depth + 1)
        form = inner.whole(trees)
        stays = inner.directory == self.directory and not inner.moved and not inner.environment
        return form if stays else None

    def words(self, node: Any) -> list[str]:
        """A word without its quotes, its braces expanded; one that expands nothing is marked."""
        source = self.text[slice(*node.pos)]
        word = unquoted(source, node)
        bare = _QUOTED.sub("", source)
        if bare == source and BRACES.search(word) and "$" not in word:
            return expanded(word)
        if bare != source and not word.startswith("-") and not re.search("[*?]", bare):
            word = re.sub("[*?]", "\0\\g<0>", word)  # no pattern of file names
        if word.startswith("~"):
            live = any(part.kind == "tilde" for part in node.parts)
            if live and self.home and word[1:2] in ("", "/"):
                return [self.home + word[1:]]
            return [word if live else "\\" + word]
        if source == word and (counted := _SEQ.fullmatch(word)):
            return expanded(f"{{{counted[1] or 1}..{counted[2]}}}")
        if "$" in word and not node.parts:
            return [word.replace("$", "\\$")]
        if not node.parts:
            return [word]
        word = self.captures(self.variable(word), node)
        shown = self.captured.get(word) if bare == source else None
        if shown and shown[0] == "command" and (listed := runs.listed(shown[1])):
            return listed
        return [word]

    def captures(self, word: str, node: Any) -> str:
        """A word with what runs in `$(...)` in normal form."""
        for part in node.parts:
            source = self.variable(self.text[slice(*part.pos)])
            if part.kind not in _SUBSTITUTIONS or source[1:2] != "(" or "`" in source:
                continue
            place = self.directory, self.moved, self.environment
            form = joined(without_noise(self.sequence(part.command)))
            self.directory, self.moved, self.environment = place
            token = source[0] + runs.token(form)[1:]
            self.captured[token] = form
            marked = re.sub("[*?]", "\0\\g<0>", source)  # where it is quoted
            word = word.replace(source, token).replace(marked, token)
        return word

    def variable(self, word: str) -> str:
        """Variables in one spelling; those that are known by their value."""
        word = re.sub(r"\$\{(\w+)\}(?!\w)", r"$\1", word)
        word = re.sub(r"`([^`]*)`", r"$(\1)", word)
        word = word.replace("$(pwd)", "$PWD")
        if self.directory is not None and self.directory.startswith("/"):
            word = re.sub(r"\$PWD\b", lambda _: str(self.directory), word)
        if self.home:
            word = re.sub(r"\$HOME\b", lambda _: str(self.home), word)
        for depth, (name, ending) in enumerate(self.variables):
            word = cut(word, name, ending) if ending else word
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
        if words[:-1] in (["source"], ["."]) and words[-1].endswith(_ACTIVATE):
            self.environment, self.idle = self.path(words[-1].removesuffix(_ACTIVATE)), True
            return None
        if words[:2] == ["conda", "activate"] and len(words) == 3:
            self.environment, self.idle = words[2], True
            return None
        if words in (["deactivate"], ["conda", "deactivate"]) and self.environment:
            self.environment, self.idle = "", False
            return None
        self.moved = False
        if not words:
            bare = Command("", (), (), kept, tuple(assignments), self.directory)
            return ("command", commands.plain(bare))
        assigned = tuple(a for a in assignments if a not in _QUIET)
        if not kept and not assigned and (form := self.script(node, words)):
            return form
        if (inner := self.captured.get(words[-1])) and runs.takes_words(words[:-1]) and not kept:
            # `kill $(pgrep x)` is `pgrep x | xargs kill`
            words = [*words[: words[0] == "sudo"], "xargs", *words[words[0] == "sudo" : -1]]
            parts = [*(inner[1:] if inner[0] == "pipe" else [inner])]
            return commands.pipeline([*parts, ("command", self.simple(words, (), assigned))])
        command = self.simple(words, kept, assigned)
        if found := runs.found_and_run(command):
            each, ran = found
            run = self.simple(ran, kept, ())
            return commands.pipeline([("command", replace(each, redirects=())), ("command", run)])
        if command.name == "test" and command.arguments[:1] == ("!",):
            return ("not", ("command", replace(command, arguments=command.arguments[1:])))
        return ("command", command)

    def script(self, node: Any, words: Sequence[str]) -> Form | None:
        """What `bash -c` or `sudo sh -c` runs, as if it were typed; None where it is not that."""
        found = runs.shell_of(words, self.home == "/root")
        nodes = [part for part in node.parts if part.kind == "word"]
        if found is None or len(nodes) != len(words) or nodes[found[1]].parts:
            return None
        who, at, at_home = found
        text = unquoted(self.text[slice(*nodes[at].pos)], nodes[at])
        if self.depth >= MAX_SCRIPTS or _is_long(text) or self.environment:
            return None
        if "<<" in text or (trees := _trees(text)) is None:
            return None
        user = who.removeprefix("sudo -u ") if " " in who else "root" if who else ""
        start = f"~{user}" if at_home else self.directory
        home = self.home if user in ("", "root") else None
        inner = _Reader(text, start, home, self.depth + 1)
        form = inner.whole(trees)
        own = not who or (self.home == "/root" and user == "root")
        if inner.moved or inner.idle or changes_shell(form):
            return None
        return form if own else runs.run_as(form, who)

    def elsewhere(self, words: list[str], line: bool) -> list[str]:
        """A command for another machine or container in one word; as it is where that is unsure."""
        words = words[words[0] == "--" :]
        given = [word.replace("\\$", "").replace("\0", "") for word in words]
        if self.depth >= MAX_SCRIPTS or not words or re.search(r"[$`]", "".join(given)):
            return words
        words = [word.replace("\\$", "$").replace("\0", "") for word in words]
        text = " ".join(words if line else map(shlex.quote, words))
        if _is_long(text) or "<<" in text or (trees := _trees(text)) is None:
            return words
        return [runs.token(_Reader(text, None, None, self.depth + 1).whole(trees))]

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
