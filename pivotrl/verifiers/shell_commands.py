"""One command in normal form: its files told from its other words, ways to view or write a file.

Nothing is executed. This module must never know the line that a command stands in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from pivotrl.verifiers.shell_flags import Spec

VIEW = "<view>"
"""The name of what `cat`, `head` and their like become; no command line can have it."""
COUNT = re.compile(r"[0-9]{1,9}")
_SED_LINES = re.compile(r"(\d+)(?:,(\d+|\$))?p")
_AWK_LINES = re.compile(r"NR>=([0-9]{1,9})&&NR<=([0-9]{1,9})(?:{print(?: ?\$0)?})?")
LOOKS_LIKE_PATH = re.compile(r"(?!-)(?!\w*://)[\w@%+=~.*?-]*[./][\w@%+=~.*?/-]*")
UNKNOWN = re.compile(r"(?<!\0)[*?]|\$\(|`|\$P?WD")
"""In a word whose value depends on the directory."""


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


def start_of(spec: Spec, flags: Sequence[tuple[str, str]]) -> int:
    """How many operands come before the paths."""
    given = any(flag in (spec.first or "f", "f") for flag, _ in flags)
    return int(spec.paths == "rest" and not (given and (spec.first or spec.script)))


def written(command: Command) -> Command:
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


def find_words(arguments: list[str], spec: Spec) -> list[str]:
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


def file_places(name: str, spec: Spec, arguments: Sequence[str], start: int) -> set[int]:
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
    return {i for i, a in enumerate(arguments) if LOOKS_LIKE_PATH.fullmatch(a)}


def viewed(command: Command) -> Command:
    """`cat`, `head`, `tail -n +K` and `sed -n a,bp` of one file as a view of its lines."""
    if command.redirects or command.assignments:
        return command
    flags, arguments = dict(command.flags), command.arguments
    lines: tuple[str, str] | None = None
    if command.name in ("cat", "nl") and not flags and len(arguments) == 1:
        lines = ("1", "$")
    elif command.name == "head" and set(flags) <= {"n"} and len(arguments) == 1:
        count = flags.get("n", "10")
        lines = ("1", count) if COUNT.fullmatch(count) else None
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


def settled(command: Command, spec: Spec, files: set[int]) -> Command:
    """Without the directory where it does not matter: all paths are absolute."""
    paths = [a for i, a in enumerate(command.arguments) if i in files or command.name == VIEW]
    located = [value for flag, value in command.flags if flag in spec.path_values.split()]
    others = [a for a in command.arguments[bool(spec.script) :] if a not in paths]
    loose = any(map(UNKNOWN.search, others)) or (command.name in ("xargs", "find") and not paths)
    if spec.anywhere and not loose and all(a.startswith(("/", "~")) for a in [*paths, *located]):
        return replace(command, directory=None)
    return command
