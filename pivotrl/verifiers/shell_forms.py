"""A shell command line in normal form: two lines of one form do the same and show the same.

Parsed by bash's own grammar (`bashlex`); what it cannot parse is compared word by word. Nothing is
executed. What is taken as the same: quoting, the order and bundling of flags, long and short names
of flags, a leading `cd`, absolute and relative paths, `cat f | grep x`, ways to view lines of a
file, redirections that only quieten, flags and pages that only change how much is shown. This
module must never know an action or a candidate.
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

from pivotrl.verifiers.shell_flags import flags_of, older

MAX_CHARACTERS = 20_000
MAX_NESTING = 20
MAX_PARSED, MAX_WORDS, MAX_COMMANDS, MAX_HEREDOCS = 6_000, 300, 60, 4
"""Longer lines (here-documents aside) are compared word by word: the grammar is slow."""
_WORD, _COMMAND = re.compile(r"\S+"), re.compile(r"[;|&()<>\n]")
_HEREDOC = re.compile(r"(<<-?)\s*(['\"])(\w+)\2")
_SED_LINES = re.compile(r"(\d+)(?:,(\d+|\$))?p")
_PAGE = 10
"""A trailing `head` or `tail` of at least so many lines is a page, not a choice."""

VIEW = "<view>"
"""The name of what `cat`, `head` and their like become; no command line can have it."""
FINDS = ("grep", "find", "rg", "ls", "git", "tree", "ack")
"""Their output may be cut to a page."""
ANYWHERE = ("cat", "head", "tail", "grep", "sed", "ls", "wc", "diff", "rm", "cp", "mv", "mkdir",
            "touch", VIEW, "find", "chmod", "file", "stat", "tree", "du")  # fmt: skip
"""With absolute paths alone, the working directory does not matter to them."""
FIND_TESTS = ("-name", "-iname", "-path", "-type", "-size", "-mtime", "-newer", "-maxdepth")
PAGERS = ("head", "tail", "cat", "less", "more")
_SUBSTITUTE = re.compile(r"s([|#,@!:])([^/\\]*)\1([^/\\]*)\1(\w*)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_COUNT = re.compile(r"[0-9]{1,9}")
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
`literal` (form whose here-document is not expanded),
`directory` (a line that ends by moving there), `nothing`, or a `sequence` of (`and` or `or`, form).
"""


@lru_cache(maxsize=256)
def normal_form(line: str, directory: str | None = None) -> Form:
    """The form of a command line that runs in `directory` (absolute; None where unknown).

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
        trees = bashlex.parse(text) if text else []
    except (bashlex.errors.ParsingError, NotImplementedError, ValueError, TypeError, AttributeError,
            AssertionError, IndexError, KeyError):  # fmt: skip
        return ("raw", *_words(text))
    except RecursionError:
        raise Unreadable("nested too deeply") from None
    reader = _Reader(text, directory)
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

    def __init__(self, text: str, directory: str | None) -> None:
        self.text, self.directory = text, directory
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
        start, end = node.pos
        self.moved = False
        return ("raw", self.directory, *_words(self.text[start:end]))

    def command(self, node: Any, into: Any) -> Form | None:
        words, redirects, assignments = [], [], []
        for part in node.parts:
            if part.kind == "word":
                words.append(_word(part))
            elif part.kind == "assignment":
                assignments.append(part.word)
            elif part.kind == "redirect":
                redirects.append(self.redirect(part))
        if len(redirects) == 1 and redirects[0][0] == "&>":  # short for `> f 2>&1`
            redirects = [(">", redirects[0][1]), ("2>&", "1")]
        to_file = any(operator in (">", ">>") for operator, _ in redirects)
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
        if target.startswith(("/", "~", "$")):
            self.directory = posixpath.normpath(target)
        elif self.directory is not None:
            self.directory = posixpath.normpath(posixpath.join(self.directory, target))
        else:
            self.directory = "./" + posixpath.normpath(target)
        self.moved = True
        return None

    def redirect(self, node: Any) -> tuple[str, str]:
        target = getattr(node.output, "word", str(node.output))  # a number, or - which closes
        if node.heredoc is not None:
            return ("<<", node.heredoc.value.rpartition("\n")[0])  # without the closing word
        operator = f"{node.input if node.input not in (None, 1) else ''}{node.type}"
        path = operator in (">", ">>", "<", "2>", "&>")
        return operator, self.path(target) if path else target

    def path(self, word: str) -> str:
        """Absolute where the directory is known."""
        if word.startswith("/"):
            return posixpath.normpath(word)
        if self.directory is None or not word or word.startswith(("-", "$", "~")):
            return word
        return posixpath.normpath(posixpath.join(self.directory, word))

    def simple(
        self,
        words: Sequence[str],
        redirects: tuple[tuple[str, str], ...],
        assigned: tuple[str, ...],
    ) -> Command:
        name, *rest = words
        name = name.removeprefix("/usr/bin/").removeprefix("/bin/")
        given = list(takewhile(_ASSIGNMENT.match, rest)) if name == "env" else []
        if given and len(rest) > len(given):
            assigned, (name, *rest) = (*assigned, *given), rest[len(given) :]
        rest = older(name, rest)
        if name == "printf" and len(rest) == 1 and re.fullmatch(r"[^%\\]+\\n", rest[0]):
            name, rest = "echo", [rest[0][:-2]]
        if name in ("python", "python3") and rest[:2] == ["-m", "pytest"]:
            name, rest = "pytest", rest[2:]
        if name in ("python3", "pip3", "egrep", "fgrep"):
            extra = {"egrep": ["-E"], "fgrep": ["-F"]}.get(name, [])
            name = {"python3": "python", "pip3": "pip"}.get(name, "grep")
            rest = [*extra, *rest]
        flags, arguments = flags_of(name, rest)
        inputs = [target for operator, target in redirects if operator == "<"]
        if name in ("grep", "cat", "head", "tail", "sed", "wc", "sort") and inputs:
            arguments = [*arguments, *inputs]
            redirects = tuple(r for r in redirects if r[0] != "<")
        patterns = [value for flag, value in flags if name == "grep" and flag == "e"]
        if len(patterns) == 1:
            flags, arguments = [f for f in flags if f[0] != "e"], [*patterns, *arguments]
        if name == "sed" and arguments and (found := _SUBSTITUTE.fullmatch(arguments[0])):
            arguments = [f"s/{found[2]}/{found[3]}/{found[4]}", *arguments[1:]]
        if name == "find":
            arguments = _find(arguments)
        files = _file_places(name, flags, arguments)
        resolved = [self.path(a) if i in files else a for i, a in enumerate(arguments)]
        if name in ("rm", "mkdir", "touch"):
            resolved.sort()
        command = Command(name, tuple(flags), tuple(resolved), redirects, assigned, self.directory)
        return _settled(_viewed(command), files)


def _find(arguments: list[str]) -> list[str]:
    """`find` with the tests that come first in one order: all of them must hold."""
    start = next((i for i, a in enumerate(arguments) if a.startswith(("-", "!", "("))), None)
    if start is None:
        return arguments
    tests: list[list[str]] = []
    end = start
    while end < len(arguments):
        negated = arguments[end] in ("!", "-not")
        test = arguments[end + negated : end + negated + 2]
        if len(test) < 2 or test[0] not in FIND_TESTS:
            break
        tests.append(["!", *test] if negated else test)
        end += negated + 2
    return [*arguments[:start], *chain(*sorted(tests)), *arguments[end:]]


def _word(node: Any) -> str:
    """The word without its quotes; one that expands nothing is told from one that does."""
    word: str = node.word
    return word if node.parts or "$" not in word else word.replace("$", "\\$")


def _file_places(name: str, flags: Sequence[tuple[str, str]], arguments: Sequence[str]) -> set[int]:
    """Which arguments are paths."""
    if name in ("grep", "sed", "rg", "chmod"):
        given = any(flag in ("e", "f") for flag, _ in flags)
        return set(range(0 if given else 1, len(arguments)))
    if name == "find":
        first = next((i for i, a in enumerate(arguments) if a.startswith(("-", "(", "!"))), None)
        return set(range(len(arguments) if first is None else first))
    if name in ("python", "bash", "sh", "node"):
        first = next((i for i, a in enumerate(arguments) if a.startswith("-") or "." in a), None)
        script = first is not None and not arguments[first].startswith("-")
        return {first} if script and first is not None else set()
    if name in ANYWHERE or name in ("pytest", "sort"):
        return set(range(len(arguments)))
    return {i for i, a in enumerate(arguments) if a.startswith(("/", "./", "../"))}


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
    if lines is None:
        return command
    return replace(command, name=VIEW, flags=(("lines", "-".join(lines)),), arguments=arguments)


def _settled(command: Command, files: set[int]) -> Command:
    """Without the directory where it does not matter: all paths are absolute."""
    paths = [a for i, a in enumerate(command.arguments) if i in files or command.name == VIEW]
    free = command.name in ANYWHERE and paths and all(a.startswith("/") for a in paths)
    if not free:
        return command
    return replace(command, directory=None)


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
        view, into = first[1], second[1]
        if view.name == VIEW and (lines := _narrowed(view.flags[0][1], into)):
            parts[:2] = [("command", replace(view, flags=(("lines", lines),)))]
            continue
        feeds = view.name == VIEW and view.flags == (("lines", "1-$"),)
        if not feeds or into.name not in ("grep", "head", "tail", "sed", "wc", "sort", "cut"):
            break
        arguments = (*into.arguments, *view.arguments)
        merged = replace(into, arguments=arguments, directory=view.directory)
        parts[:2] = [("command", _viewed(merged))]
    while len(parts) > 1 and parts[-1][0] == "command":
        last, before = parts[-1][1], parts[-2]
        page = last.name in ("head", "tail") and set(dict(last.flags)) <= {"n"}
        count = dict(last.flags).get("n", "10") if page else ""
        finds = before[0] == "command" and before[1].name in FINDS
        long = _COUNT.fullmatch(count) and int(count) >= _PAGE
        if (page and finds and long and not last.arguments) or (
            last.name == "cat" and not last.arguments and not last.redirects
        ):
            parts = parts[:-1]
        else:
            break
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
    flat = tuple(("and" if op == "then" else op, form) for op, form in parts)
    return flat[0][1] if len(flat) == 1 and flat[0][0] == "and" else ("sequence", *flat)
