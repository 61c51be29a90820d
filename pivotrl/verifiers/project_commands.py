"""Commands as a project means them: scripts and targets as what they run, tests by one name.

A program that is written to be run once is the program. What files say is asked of the state.
Nothing is executed. This module must never judge.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from pivotrl.verifiers import shell_commands
from pivotrl.verifiers.outcome import AGENTS
from pivotrl.verifiers.shell_commands import Command, Form
from pivotrl.verifiers.shell_forms import Unreadable, normal_form
from pivotrl.verifiers.shell_sequences import joined

Lines = Callable[[str], Mapping[int, str]]
"""The lines of a file that are known, by their numbers."""
MAX_DEPTH, MAX_NAMES, MAX_LINES, MAX_READ = 3, 8, 500, 6_000
_SCRATCH, _PLACED, _NODE, _SIMPLE = (
    re.compile(AGENTS[key]) for key in ("scratch", "placed", "node_tools", "simple_line")
)
_FILES = {"make": ("Makefile", r"(?m)^NAME:[ ]*\n\t[@-]?(.+)\n(?!\t)")} | dict.fromkeys(
    ("npm run", "yarn run", "pnpm run", "yarn", "pnpm"),
    ("package.json", r'"scripts"\s*:\s*\{[^{}]*"NAME"\s*:\s*"([^"\\]*)"'),
)
"""Of a command: the file that says what it runs, and where."""
_LIMITED = re.compile(r"timeout (?:-\S+ )*\d+ ")
_LONG = re.compile(r"timeout (?:-\S+ )*\d{3,} ")
"""How long what ends by itself may take is no part of it, nor minutes of anything."""
_ENDING = re.compile(
    r"(?!.*watch)(?:.*(?<![^\W_])(?:py|unit|doc|nose|run|c)?tests?(?![^\W_])|.*\b(?:vitest|jest|mocha|ava"
    r"|karma|rspec|phpunit|tox|nox|tsc|build|compile|package|verify|check|lint|ninja|cmake|gcc"
    r"|javac|rustc|setup\.py)\b(?!\.)|(?:.* )?make $)"
)
"""Of a program and its first word: a run of tests, or a build."""
_OTHERS = {"rspec": ["rb"], "phpunit": ["php"]}
"""Files that other runners run than scripts: a tool that ran one is told apart by that."""
INSIDE = ":" * 2
"""Parts a test from its class, and that from its file."""
_CLASS = re.compile(rf"{INSIDE}[A-Z]")
_TEST = re.compile(r"(\s*)(?:async )?(?:def|class)\s+(\w+)")


def meant(form: Form, lines: Lines, depth: int = 0) -> Form:
    """A form with its commands as the project means them."""
    if form[0] == "literal":
        return ("literal", meant(form[1], lines, depth))
    if form[0] == "sequence":
        parts = [(operator, meant(part, lines, depth)) for operator, part in form[1:]]
        return joined(_run_once(parts))
    if form[0] != "command" or depth > MAX_DEPTH:
        return form
    command: Command = form[1]
    freed = replace(command, name=_LIMITED.sub("", command.name))
    first = posixpath.basename("".join(freed.arguments[:1]))
    if _LONG.match(command.name) or _ENDING.match(f"{freed.name} {first}"):
        command = freed
    if not (line := _runs(command, lines)):
        return ("command", _test(command, lines))
    try:
        return meant(normal_form(line, command.directory), lines, depth + 1)
    except Unreadable:
        return form


def _run_once(parts: Sequence[tuple[str, Form]]) -> list[tuple[str, Form]]:
    """`cat > a.py <<X`, `python a.py` and perhaps `rm a.py` as `python -c`."""
    for index, ((operator, made), (then, run)) in enumerate(pairwise(parts)):
        if made[0] != "command" or run[0] != "command" or then == "or":
            continue
        goes, command, after = dict(made[1].redirects), run[1], parts[index + 2 :]
        path, text = goes.get(">", ""), goes.get("<<", "")
        written = made[1].name == "cat" and made[1].redirects == (("<<", text), (">", path))
        plain = (command.arguments, command.flags, command.redirects) == ((path,), (), ())
        here = posixpath.dirname(path) == (command.directory or "")
        gone = [part[1].name for _, part in after[:1] if part[0] == "command"] == ["rm"]
        gone = gone and after[0][1][1].arguments == (path,)
        once = gone or _SCRATCH.fullmatch(posixpath.basename(path))
        fed = shell_commands.plain(replace(command, arguments=(), redirects=(("<<", text),)))
        sure = written and plain and here and not fed.redirects
        if sure and once and not _PLACED.search(text):
            return [*parts[:index], (operator, ("command", fed)), *after[gone:]]
    return list(parts)


def _runs(command: Command, lines: Lines) -> str:
    """The line that a script or a target is, by what the project's file says; else empty."""
    file, told = _FILES.get(command.name, ("", ""))
    name, *given = [word.replace("\0", "") for word in command.arguments if word != "--"] or [""]
    if not file or command.flags or command.redirects:
        return ""
    known = lines(posixpath.join(command.directory or "", file))
    text = "".join(f"{known[number]}\n" for number in sorted(known)[:MAX_LINES])
    found = re.search(told.replace("NAME", re.escape(name)), text[:MAX_READ])
    if not found or not _SIMPLE.fullmatch(found[1]) or (given and command.name == "make"):
        return ""
    return f"{'npx ' * bool(_NODE.match(found[1]))}{found[1]} {shlex.join(given)}".strip()


def _test(command: Command, lines: Lines) -> Command:
    """A run of tests by the full name of the test that `-k` or unittest chooses."""
    words, asked = command.arguments, [value for flag, value in command.flags if flag == "k"]
    if command.name == "python -m unittest" and len(words) == 1 and not asked:
        words = _module(words[0], command.directory or "", lines)
        command = replace(command, name="pytest", arguments=words) if words else command
    if command.name != "pytest" or len(words) != 1 or [t.isidentifier() for t in asked] != [True]:
        return command
    part, names = asked[0].lower(), _names(lines(words[0]))
    hits = [name for name in names if part in name.lower() and part not in words[0].lower()]
    if not hits or not all(name.startswith(f"{hits[0]}::") for name in hits[1:]):
        return command
    if hits[0].startswith(INSIDE):  # of a class that is not known
        return command
    kept = tuple(flag for flag in command.flags if flag[0] not in ("k", "x"))
    return replace(command, flags=kept, arguments=(f"{words[0]}::{hits[0]}",))


def same_tests(runs: Sequence[Command], lines: Lines, lost: Callable[[str], bool]) -> bool:
    """Whether one names a test of a file in full and the other by `-k`, or as unittest does.

    Of a file that is known `meant` tells what `-k` chooses.
    """
    kinds, programs = {"pytest", "python -m unittest"}, {run.name for run in runs}
    if "pytest" in programs and programs & {*AGENTS["runners"]}:
        files = [[word for word in run.arguments if word not in AGENTS["runs"]] for run in runs]
        alone = not any(run.flags + run.redirects + run.assignments for run in runs)
        runner = re.split("[ /]", min(programs - {"pytest"}))[-1]
        ends = _OTHERS.get(runner, AGENTS["languages"]["script"])
        told = alone and len(files[0]) == 1 and files[0][0].rpartition(".")[2] in ends
        return told and files[0] == files[1]
    runs = [c for c in runs if c.name in kinds and len(c.arguments) == 1 and not c.redirects]
    places = {run.directory for run in runs}
    if len(runs) != 2 or len(places) > 1 or any(run.assignments for run in runs):
        return False
    one, other = sorted(runs, key=lambda run: len(run.flags))
    file, _, names = one.arguments[0].partition(INSIDE)
    if one.name == other.name == "pytest":
        test = names.rpartition(INSIDE)[2]
        chosen = {name for name in _names(lines(file)) if test.lower() in name.lower()}
        sure = test and not lost(file) and chosen <= {names}
        same = (one.flags, other.flags, other.arguments) == ((), (("k", test),), (file,))
        return bool(sure) and same
    words = [run.arguments[0].removeprefix(f"{run.directory}/") for run in runs]
    words = [word.replace(".py", "") for word in words]
    if (
        one.flags
        or other.flags
        or any(INSIDE in word and not _CLASS.search(word) for word in words)
    ):
        return False
    short, long = sorted((re.sub("::|/", ".", word) for word in words), key=len)
    return long == short or ("." in short and long.endswith(f".{short}"))


def _names(lines: Mapping[int, str]) -> list[str]:
    """The tests and classes of a file, `Class::test` in one."""
    names, outer = list[str](), ""
    for found in filter(None, (_TEST.match(lines[number]) for number in sorted(lines))):
        outer = outer if found[1] else found[2]
        names.append(f"{outer}::{found[2]}" if found[1] else outer)
    return names


def _module(dotted: str, directory: str, lines: Lines) -> tuple[str, ...]:
    """The path and name of `tests.test_a.Case.test` of unittest; empty where it is not known."""
    names = dotted.removesuffix(".py").replace("/", ".").split(".")
    for count in range(min(len(names), MAX_NAMES), 0, -1):
        path = posixpath.join(directory, *names[:count]) + ".py"
        if any("unittest" in line or "TestCase" in line for line in lines(path).values()):
            return (path + "".join(f"::{name}" for name in names[count:]),)
    return ()
