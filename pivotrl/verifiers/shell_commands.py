"""Commands in normal form, and pipelines of them with as few as do the same.

Of programs that do the same one is taken. Nothing is executed. This module must never know how a
line is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Any

from pivotrl.verifiers import python_code
from pivotrl.verifiers.comparison import table
from pivotrl.verifiers.layout import bare, language_of
from pivotrl.verifiers.shell_flags import Spec, known_of, spec_of
from pivotrl.verifiers.shell_scripts import normal_script

MAX_TIMES = 8
"""That a rule is applied to one command."""
MARKS = "␞␟␝␜␗␘"
"""Of the parts of a command in `shell_rewrites.toml`."""
VIEW = "<view>"
"""The name of what `cat`, `head` and their like become; no command line can have it."""
COUNT = re.compile(r"[0-9]{1,9}")
_AS = re.compile(r"sudo (?:-\S+ \S* )*")
_NEXT_NUMBER = re.compile(r"(\d{1,9})([⁺⁻])")
_BASIC, _EXTENDED = re.compile(r"(?:[^\\+?(){}|]|\\\|)+"), re.compile(r"[^\\+?(){}]+")
_FIXED = re.compile(r"[^\\.^$*\[\]]+")
LOOKS_LIKE_PATH = re.compile(
    r"(?!-|\w*://|[\w/~^@-]+\.{2,3}[\w-])[\w@%+=~.*?-]*[./][\w@%+=~.*?/-]*"
)
_BLOCKS = re.compile(r"(?m)^[^#\n{]*\{$")
"""Of a configuration in braces, whose lines may stand further in."""
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
    if (who := _AS.match(command.name)) and not command.name.endswith(" tee"):
        same = plain(replace(command, name=command.name[who.end() :]))
        return replace(same, name=who[0] + same.name)
    command = _fed(command, spec or known_of(command.name))
    same = rewritten([command])[0]
    if spec is None or same.name != command.name:
        spec = known_of(same.name)
    for step in (_sent, _searched):
        same = step(same, spec)
    return _settled(same, spec)


@lru_cache(maxsize=2)
def _rules(kind: str) -> list[tuple[re.Pattern[str], str]]:
    rules = table("shell_rewrites")[kind]
    return [
        (re.compile(rule.replace("□", "(?:␝>>? •+)?").replace("•", "[^␞␟␝␜␗␘]"), re.DOTALL), to)
        for rule, to in rules
    ]


@lru_cache(maxsize=8)
def named(kind: str) -> frozenset[str]:
    """A list of names in `shell_rewrites.toml`."""
    return frozenset(name.strip() for name in table("shell_rewrites")[kind].split(","))


def rewritten(
    commands: Sequence[Command], is_last: bool = True, kind: str = "rules", mark: str = "␜"
) -> list[Command]:
    """Commands of one pipeline, or parted by another mark, by the table of those that do the same.

    What all are run as, by `sudo`, does not matter to the rules.
    """
    roots = [command.name.startswith("sudo ") for command in commands]
    if all(roots) and not any(command.name.startswith("sudo tee") for command in commands):
        bare = [replace(c, name=c.name.removeprefix("sudo ")) for c in commands]
        made = rewritten(bare, is_last, kind, mark)
        return [replace(c, name=f"sudo {c.name}") for c in made]
    if any(command.assignments for command in commands):
        return list(commands)
    whole = mark.join(map(_text, commands)) + "␜" * (not is_last)
    text = _by_rules(whole, kind)
    if text == whole:
        return list(commands)
    parts = text.removesuffix("␜").split("␜")
    places = [command.directory for command in commands]
    if len(parts) != len(places):
        places = [next((place for place in places if place is not None), None)] * len(parts)
    return [_read(part, place) for part, place in zip(parts, places, strict=True)]


@lru_cache(maxsize=64)
def _by_rules(text: str, kind: str) -> str:
    for rule, to in _rules(kind):
        for _ in range(MAX_TIMES):
            if (found := rule.fullmatch(text)) is None:
                break
            text = _NEXT_NUMBER.sub(
                lambda m: str(int(m[1]) + (1 if m[2] == "⁺" else -1)), found.expand(to)
            )
    return text


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
    arguments = sorted(arguments) if known_of(name).set else arguments
    return Command(name, tuple(dict.fromkeys(pairs)), tuple(arguments), tuple(sorted(goes)), (),
                   directory)  # fmt: skip


def _sent(command: Command, spec: Spec) -> Command:
    """A file that a flag names for the output is `> file`, unless it is an input too.

    One that a flag names for the input is `< file`.
    """
    for named_by, operator in ((spec.output, ">"), (spec.reads, "<")):
        files = [value for flag, value in command.flags if flag == named_by]
        used = [*command.arguments, *(file for _, file in command.redirects)]
        if not named_by or len(files) != 1 or files[0] in used:
            continue
        to = [(operator, files[0])] if files[0] != "-" else []
        if to and any(goes.startswith(operator) for goes, _ in command.redirects):
            continue
        kept = tuple(flag for flag in command.flags if flag[0] != named_by)
        redirects = tuple(sorted([*command.redirects, *to]))
        command = replace(command, flags=kept, redirects=redirects)
    return command


def _fed(command: Command, spec: Spec) -> Command:
    """A program that comes by the input is the one that a flag or an operand holds."""
    text = dict(command.redirects).get("<<")
    arguments = tuple(a for a in command.arguments if a != "-")
    if not spec.input or text is None or len(arguments) > (not spec.stops):
        return command
    language = dict(pair.split(":") for pair in spec.script_values.split()).get(spec.input, "")
    program, flags = normal_script(language, text, command.directory), command.flags
    if spec.input == "cmd":
        arguments = (*arguments, program)
    else:
        flags = tuple(sorted([*flags, (spec.input, program)], key=lambda f: f[0]))
    kept = tuple(r for r in command.redirects if r[0] != "<<")
    return replace(command, flags=flags, arguments=arguments, redirects=kept)


def laid_out(form: Any) -> Any:
    """A form whose texts that become files of a known language are read apart from their layout."""
    if isinstance(form, tuple):
        return tuple(map(laid_out, form))
    return _written(form) if isinstance(form, Command) else form


def _written(command: Command) -> Command:
    goes, words = dict(command.redirects), (command.name.rpartition(" ")[2], *command.arguments)
    path = goes.get(">", "") if words == ("cat",) else ""
    path = words[1] if words[0] == "tee" and len(words) == 2 and not command.flags else path
    text, language = goes.get("<<"), language_of(path)
    if text is None or not path:
        return command
    said = python_code.dumped(text) if language == "python" else bare(text, language)
    if language in ("conf", "nginx") and ";\n" in text and _BLOCKS.search(text):
        said = [line.strip() for line in text.split("\n") if line.strip()]
    if said in (None, text):
        return command
    kept = [r for r in command.redirects if r[0] != "<<"]
    runs_by = text.partition("\n")[0] * text.startswith("#!")
    text = f"{runs_by} {language} {said!r}"
    return replace(command, redirects=tuple(sorted([*kept, ("<<", text)])))


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
    places, words = arguments[:start] or [spec.default], arguments[start:]
    if "-o" in words and not {"(", "-exec", "-delete", "-prune", "-print0"} & {*words}:
        words = ["(", *words, ")"]  # alternatives alone are a group
    return [*places, *_tests(words, spec)]


def _tests(arguments: list[str], spec: Spec) -> list[str]:
    valued = {f"-{test}" for test in spec.tests.split()}
    bare = {f"-{test}" for test in spec.bare_tests.split()}
    tests: list[list[str]] = []
    end = 0
    while end < len(arguments):
        if arguments[end] == "(" and ")" in arguments[end:]:
            close = arguments.index(")", end)
            group = arguments[end + 1 : close]
            if "(" in group or "-o" not in group:
                break
            either = sorted(_tests(part, spec) for part in _parted(group, "-o"))
            tests.append(["(", *[*chain(*(["-o", *part] for part in either))][1:], ")"])
            end = close + 1
            continue
        negated = arguments[end] in ("!", "-not")
        word = arguments[end + negated] if end + negated < len(arguments) else ""
        size = 2 if word in valued else 1
        if word not in valued | bare or end + negated + size > len(arguments):
            break
        test = arguments[end + negated : end + negated + size]
        tests.append(["!", *test] if negated else test)
        end += negated + size
    return [*chain(*sorted(tests)), *arguments[end:]]


def _parted(words: list[str], at: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == at:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


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
    programs = len(command.arguments) if spec.input == "cmd" else int(bool(spec.script))
    others = [a for a in command.arguments[programs:] if a not in paths]
    loose = any(flag in spec.local.split() or "@" in value for flag, value in command.flags)
    loose |= any(map(UNKNOWN.search, others)) or (command.name in ("xargs", "find") and not paths)
    if spec.anywhere and not loose and all(a.startswith(("/", "~")) for a in [*paths, *located]):
        return replace(command, directory=None)
    return command


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


def _whole(view: Command) -> bool:
    """Whether a command shows all of a file."""
    return view.name == VIEW and view.flags == (("lines", "1-$"),) and not view.redirects


def _piped(one: Command, two: Command, is_last: bool) -> list[Command]:
    """A command that goes into another as what does the same."""
    takes = spec_of(two.name)
    whole = one.name == "cat" and not (one.flags or one.redirects)
    alone = takes and len(two.arguments) <= start_of(takes, two.flags)
    if whole and alone and two.name in ("sort", "sed"):  # which read all files as one
        return [plain(replace(two, arguments=(*two.arguments, *one.arguments)))]
    if one.name == VIEW and not one.redirects:
        if two.name in ("head", "tail") and (view := _narrowed(one, two)):
            return [view]
        if _whole(one) and not any(o.startswith("<") for o, _ in two.redirects):
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
        if two[0] == "compound" and one[0] == "command" and _whole(one[1]):
            # `cat f | while read a; do` is `while read a; do ... done < f`
            loop = two if isinstance(two[1], tuple) else ("compound", two)
            parts[index : index + 2] = [(*loop, ("<", one[1].arguments[0]))]
            continue
        if made and made != [one[1], two[1]]:
            parts[index : index + 2] = [("command", command) for command in made]
            index = max(index - 1, 0)
        else:
            index += 1
    return parts[0] if len(parts) == 1 else ("pipe", *parts)
