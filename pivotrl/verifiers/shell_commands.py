"""Commands in normal form, and several as one: pipelines, and what runs one after the other.

Of programs that do the same one is taken. Nothing is executed. This module must never know how a
line is parsed.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Any

from pivotrl.verifiers.comparison import table
from pivotrl.verifiers.shell_flags import Spec, known_of, spec_of
from pivotrl.verifiers.shell_scripts import normal_script

MAX_TIMES = 8
"""That a rule is applied to one command."""
MARKS = "␞␟␝␜"
"""Of the parts of a command in `shell_rewrites.toml`."""
VIEW = "<view>"
"""The name of what `cat`, `head` and their like become; no command line can have it."""
COUNT = re.compile(r"[0-9]{1,9}")
_NEXT_NUMBER = re.compile(r"(\d{1,9})([⁺⁻])")
_BASIC, _EXTENDED = re.compile(r"(?:[^\\+?(){}|]|\\\|)+"), re.compile(r"[^\\+?(){}]+")
_FIXED = re.compile(r"[^\\.^$*\[\]]+")
LOOKS_LIKE_PATH = re.compile(r"(?!-|\w*://|[\w/-]+\.{2,3}[\w-])[\w@%+=~.*?-]*[./][\w@%+=~.*?/-]*")
UNKNOWN = re.compile(r"(?<!\0)[*?]|\$\(|`|\$P?WD")
"""In a word whose value depends on the directory."""


Form = tuple[Any, ...]
"""(kind, parts...): `command`, `pipe`, `not`, `background`, `raw` (words: nothing more is known),
`compound` (reserved words, words and forms), `literal` (form whose here-document is not expanded),
`directory` (a line that ends by moving there), `nothing`, or a `sequence` of (`and` or `or`, form).
"""


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


def plain(command: Command, spec: Spec | None = None) -> Command:
    """Of the programs that do the same the plainest."""
    same = rewritten([command])[0]
    if spec is None or same.name != command.name:
        spec = known_of(same.name)
    for step in (_sent, _fed, _searched):
        same = step(same, spec)
    return _settled(same, spec)


@lru_cache(maxsize=1)
def _rules() -> list[tuple[re.Pattern[str], str]]:
    rules = table("shell_rewrites")["rules"]
    return [
        (re.compile(rule.replace("□", "(?:␝>>? •+)?").replace("•", "[^␞␟␝␜]"), re.DOTALL), to)
        for rule, to in rules
    ]


@lru_cache(maxsize=2)
def _named(kind: str) -> frozenset[str]:
    return frozenset(table("shell_rewrites")[kind].replace("\n", "").split(", "))


def rewritten(commands: Sequence[Command], is_last: bool = True) -> list[Command]:
    """Commands of one pipeline by the table of those that do the same."""
    whole = "␜".join(map(_text, commands)) + "␜" * (not is_last)
    text, first = whole, commands[0]
    if any(command.assignments for command in commands):
        return list(commands)
    for rule, to in _rules():
        for _ in range(MAX_TIMES):
            if (found := rule.fullmatch(text)) is None:
                break
            text = _NEXT_NUMBER.sub(
                lambda m: str(int(m[1]) + (1 if m[2] == "⁺" else -1)), found.expand(to)
            )
    made = [_read(part, first.directory) for part in text.removesuffix("␜").split("␜")]
    return list(commands) if text == whole else made


def _text(command: Command) -> str:
    flags = (f"␞{flag}={value}" if value else f"␞{flag}" for flag, value in command.flags)
    operands = (f"␟{operand}" for operand in command.arguments)
    redirects = (f"␝{operator} {target}" for operator, target in command.redirects)
    return "".join([command.name, *flags, *operands, *redirects])


def _read(text: str, directory: str | None) -> Command:
    text, *redirects = text.split("␝")
    text, *arguments = text.split("␟")
    name, *flags = text.split("␞")
    goes = [(to, where.replace("\0", "")) for to, _, where in (r.partition(" ") for r in redirects)]
    pairs = sorted((flag, value) for flag, _, value in (f.partition("=") for f in flags))
    arguments = find_words(arguments, known_of("find")) if name == "find" else arguments
    return Command(name, tuple(dict.fromkeys(pairs)), tuple(arguments), tuple(sorted(goes)), (),
                   directory)  # fmt: skip


def _sent(command: Command, spec: Spec) -> Command:
    """A file that a flag names for the output is `> file`, unless it is an input too."""
    files = [value for flag, value in command.flags if flag == spec.output]
    if not spec.output or len(files) != 1 or files[0] in command.arguments:
        return command
    to = [(">", files[0])] if files[0] != "-" else []
    if to and dict(command.redirects).keys() & {">", ">>"}:
        return command
    kept = tuple(flag for flag in command.flags if flag[0] != spec.output)
    return replace(command, flags=kept, redirects=tuple(sorted([*command.redirects, *to])))


def _fed(command: Command, spec: Spec) -> Command:
    """A program that comes by the input is the one that a flag or an operand holds."""
    text = dict(command.redirects).get("<<")
    arguments = tuple(a for a in command.arguments if a != "-")
    if not spec.input or text is None or len(arguments) > (not spec.stops):
        return command
    language = dict(pair.split(":") for pair in spec.script_values.split()).get(spec.input, "")
    program, flags = normal_script(language, text), command.flags
    if spec.input == "cmd":
        arguments = (*arguments, program)
    else:
        flags = tuple(sorted([*flags, (spec.input, program)], key=lambda f: f[0]))
    kept = tuple(r for r in command.redirects if r[0] != "<<")
    return replace(command, flags=flags, arguments=arguments, redirects=kept)


def _searched(command: Command, _: Spec) -> Command:
    """`grep -E 'a|b'`, `grep 'a\\|b'` and `grep -e a -e b` are one."""
    flags, arguments = command.flags, command.arguments
    if command.name != "grep" or not {f for f, _ in flags}.isdisjoint({"f", "z"}):
        return command
    kind = next((letter for letter in "FEP" if (letter, "") in flags), "")
    patterns = [value for flag, value in flags if flag == "e"]
    if not patterns:
        patterns, arguments = list(arguments[:1]), arguments[1:]
    patterns = [re.sub(r"\\\$$", "$", pattern).replace("\\/", "/") for pattern in patterns]
    fits, bar = (_FIXED, "\n") if kind == "F" else (_EXTENDED, "|") if kind else (_BASIC, "\\|")
    alternatives = sorted({part for pattern in patterns for part in pattern.split(bar)})
    whole = all(fits.fullmatch(p) and not ("[" in p and bar in p) for p in patterns)
    if not patterns or not whole or "" in alternatives:
        return command
    kept = [flag for flag in flags if flag[0] not in ("e", kind)]
    if len(alternatives) == 1:
        arguments = (alternatives[0], *arguments)
    else:
        kept += [("e", pattern) for pattern in alternatives]
    return replace(command, flags=tuple(sorted(kept)), arguments=arguments)


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
    return [*(arguments[:start] or [spec.default]), *chain(*sorted(tests)), *arguments[end:]]


def file_places(command: Command, spec: Spec) -> set[int]:
    """Which arguments are paths."""
    arguments, start = command.arguments, start_of(spec, command.flags)
    count = len(arguments)
    if spec.paths == "start":
        first = next((i for i, a in enumerate(arguments) if a.startswith(("-", "(", "!"))), count)
        return set(range(first))
    if spec.paths in ("all", "rest", "slash"):
        return {i for i in range(start, count) if ":" not in arguments[i] or spec.paths != "slash"}
    if spec.paths in ("first", "last"):
        return {0 if spec.paths == "first" else count - 1} if count else set()
    if spec.paths == "asked":  # by test
        return {count - 1} if count > 1 and re.fullmatch("-[defhLrsSwx]", arguments[-2]) else set()
    if spec.paths in ("none", "bare"):
        return set()
    return {i for i, a in enumerate(arguments) if LOOKS_LIKE_PATH.fullmatch(a)}


def _settled(command: Command, spec: Spec) -> Command:
    """Without the directory where it does not matter: all paths are absolute."""
    files = file_places(command, spec)
    paths = [a for i, a in enumerate(command.arguments) if i in files]
    located = [value for flag, value in command.flags if flag in spec.path_values.split()]
    others = [a for a in command.arguments[bool(spec.script) :] if a not in paths]
    loose = any(map(UNKNOWN.search, others)) or (command.name in ("xargs", "find") and not paths)
    if spec.anywhere and not loose and all(a.startswith(("/", "~")) for a in [*paths, *located]):
        return replace(command, directory=None)
    return command


def targeted(arguments: list[str], recursive: bool) -> list[str]:
    """Of a copy, a move or a link the name of what is made: `cp a.c b/` is `cp a.c b/a.c`."""
    if len(arguments) == 1:
        arguments = [*arguments, "."]
    name = posixpath.basename(arguments[0]) if len(arguments) == 2 and not recursive else ""
    into = arguments[-1] == "." or arguments[-1].endswith("/")
    if not into or not re.search(r"\w", name) or re.search(r"[*?$]", arguments[0]):
        return arguments
    return [arguments[0], posixpath.join(arguments[1], name)]


def _narrowed(view: Command, into: Command) -> Command | None:
    """The view that `head` or `tail` leaves of a view; None if it is not known."""
    first, last = view.flags[0][1].split("-")
    count = dict(into.flags).get("n", "10")
    if into.arguments or any(flag != "n" for flag, _ in into.flags) or not COUNT.fullmatch(first):
        return None
    ends = COUNT.fullmatch(last)
    if into.name == "head" and COUNT.fullmatch(count):
        end = int(first) + int(count) - 1
        lines = f"{first}-{min(end, int(last)) if ends else end}"
    elif into.name == "tail" and COUNT.fullmatch(count) and ends:
        lines = f"{max(int(first), int(last) - int(count) + 1)}-{last}"
    elif into.name == "tail" and count.startswith("+"):
        lines = f"{int(first) + int(count[1:]) - 1}-{last}"
    else:
        return None
    return replace(view, flags=(("lines", lines),), redirects=into.redirects)


def _piped(one: Command, two: Command, is_last: bool) -> list[Command]:
    """A command that goes into another as what does the same."""
    takes = spec_of(two.name)
    if one.name == VIEW and not one.redirects:
        if two.name in ("head", "tail") and (view := _narrowed(one, two)):
            return [view]
        if one.flags == (("lines", "1-$"),) and not any(
            o.startswith("<") for o, _ in two.redirects
        ):
            if not (takes and takes.feeds):
                redirects = sorted([*two.redirects, ("<", one.arguments[0])])
                return [replace(two, redirects=tuple(redirects))]
            if len(two.arguments) <= start_of(takes, two.flags):
                arguments = (*two.arguments, *one.arguments)
                return [plain(replace(two, arguments=arguments, directory=one.directory))]
    made = rewritten([one, two], is_last)
    return [plain(made[0])] if len(made) == 1 else made


def pipeline(parts: list[Form]) -> Form:
    """Pipelines with as few commands as do the same."""
    index = 0
    while index + 1 < len(parts):
        one, two = parts[index : index + 2]
        is_last = index + 2 == len(parts)
        alone = one[0] == two[0] == "command"
        made = _piped(one[1], two[1], is_last) if alone else []
        if made and made != [one[1], two[1]]:
            parts[index : index + 2] = [("command", command) for command in made]
            index = max(index - 1, 0)
        else:
            index += 1
    return parts[0] if len(parts) == 1 else ("pipe", *parts)


def without_noise(parts: list[tuple[str, Form]]) -> list[tuple[str, Form]]:
    """Without `|| true` and a closing `true`."""
    while len(parts) > 1 and parts[-1][1][0] == "command":
        last = parts[-1][1][1]
        if last.name not in ("true", ":") or last.arguments:
            break
        parts = parts[:-1]
    return parts


def joined(parts: list[tuple[str, Form]]) -> Form:
    if not parts:
        return ("nothing",)
    # `a && b` and `a; b` differ only where a fails: mostly b then only shows, or fails too.
    flat: list[tuple[str, Form]] = []
    asked, sure = False, True
    for operator, form in parts:
        if operator == "then" and not asked and (sure or _is(form, "follows")):
            operator = "and"
        asked |= form[0] == "not" or (form[0] == "command" and form[1].name == "test")
        sure &= _is(form, "sure")
        if flat and operator == "and" and (both := _both(flat[-1][1], form)):
            flat[-1] = (flat[-1][0], both)
        else:
            flat.append((operator, form))
    if len(flat) == 2 and flat[0][1][0] == "not" and flat[1][0] in ("and", "or"):
        flat = [("and", flat[0][1][1]), ("or" if flat[1][0] == "and" else "and", flat[1][1])]
    return flat[0][1] if len(flat) == 1 and flat[0][0] == "and" else ("sequence", *flat)


def _is(form: Form, kind: str) -> bool:
    """Whether all commands of a form are in that list of `shell_rewrites.toml`."""
    if form[0] in ("literal", "pipe"):
        return all(_is(part, kind) for part in form[1:])
    if form[0] != "command":
        return form[0] in ("directory", "background")
    command, names = form[1], _named(kind)
    words = command.name.removeprefix("sudo " if kind == "sure" else "").split()
    alone = kind == "sure" or not dict(command.redirects).keys() & {">", ">>"}
    known = any(" ".join(words[:size]) in names for size in (1, 2))
    return alone and (known or not command.name)


def _both(one: Form, two: Form) -> Form | None:
    """Two calls in a row as the one that does what they do: `mkdir a; mkdir b`; None if none."""
    if one[0] != "command" or two[0] != "command":
        return None
    first, second = one[1], two[1]
    if appended := _appended(first, second):
        return ("command", appended)
    spec = spec_of(first.name)
    alike = replace(first, arguments=()) == replace(second, arguments=())
    values = (*first.arguments, *second.arguments)
    if not (spec and spec.set and alike and first.arguments and second.arguments):
        return None
    if first.redirects or (first.name == "export" and "$" in "".join(values)):
        return None
    return ("command", replace(first, arguments=tuple(sorted(values))))


def _appended(first: Command, second: Command) -> Command | None:
    """`cat a > f; cat b >> f` is `cat a b > f`."""
    names = {first.name, second.name}
    whole = all(dict(c.flags) in ({}, {"lines": "1-$"}) for c in (first, second))
    goes, more = dict(first.redirects), dict(second.redirects)
    to = goes.get(">") or goes.get(">>")
    if not names <= {"cat", VIEW} or not whole or to is None or more.pop(">>", None) != to:
        return None
    if "<<" in goes and more.keys() == {"<<"} and not first.arguments:
        text = f"{goes['<<']}\n{more['<<']}"
        return replace(first, redirects=tuple(sorted((goes | {"<<": text}).items())))
    if "<<" in goes or more or to in second.arguments:
        return None
    return replace(first, name="cat", flags=(), arguments=(*first.arguments, *second.arguments))
