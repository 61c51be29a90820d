"""Searches for text and for files: what a tool searches, as a command, and when two find the same.

This module must never know a state.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, pairwise

from pivotrl.types import JSON
from pivotrl.verifiers.outcome import AGENTS, first_of
from pivotrl.verifiers.shell_commands import Command, Form

MAX_PATTERN, MAX_CHARACTERS = 300, 20_000
_GLOB = re.compile(r"(/?(?:[\w.-]+/)*)(?:\*\*/)?([\w.*?{},-]*)")
_SPECIAL = re.compile(r"(?<!\\)[(){}|+?]|\\\\")
"""What a basic expression writes otherwise."""
_SYMBOL = re.compile(
    rf"\^?(?:\\b|\\s\*| )*(?:(?P<kind>{AGENTS['defines']})(?: |\\s)[+*]?)?"
    r"(?:(?P<of>[\w.]+)#)?(?P<name>\w+)"
    r"(?P<end>\\b|\\?\(|:| |\\s\*)*"
)
"""`of`: the class or module of one that a tool looks for, before a `#`."""

_FUNCTION = re.compile("async def|func|function|fn")
_CODE = re.compile(rf"\*\.(?:{'|'.join(AGENTS['code'])})")
_PLAIN = re.compile("[a-z]+")
_ANCHORS = re.compile(r"^\^?(?:\\s[*+]?|\\b| )*|(?:\\b|\\s[*+]?)*(?:\\?\$)?$")
_SWITCHED, _ESCAPED = re.compile(r"(\\?)([(){}|+?])"), re.compile(r"\\([^\w\\(){}|+?*\[\]^$])")
_ANYWHERE = "\0*\0*/"
_FILE = re.compile(r"\w[\w-]*\.\w+")
_CHANGES = re.compile("-(?:delete|exec|execdir|ok|okdir|fls|fprint.*)")
"""What a `find` does with its files besides to name them."""


def as_command(name: str, arguments: Mapping[str, JSON], opened: str) -> str:
    """The command line that a tool for finding is; empty for others."""
    code = arguments.get("code")
    if isinstance(code, str) and re.fullmatch(AGENTS["cell"], name) and ".write" in code:
        return f"python - <<'EOF_'\n{code}\nEOF_"
    kind = next((kind for kind, names in AGENTS["finders"].items() if name in names), "")
    if name in AGENTS["commands"]:
        told = [arguments[key] for key in AGENTS["operands"] if key in arguments]
        words = [*chain(*(word if isinstance(word, list) else [word] for word in told))]
        plain = arguments.keys() <= {*AGENTS["operands"], *AGENTS["how_long"]}
        plain = plain and all(isinstance(word, str) for word in words)
        return shlex.join([*AGENTS["commands"][name].split(), *map(str, words)]) if plain else ""
    wanted = "symbol" if kind == "symbol" else "pattern"
    keys = [AGENTS[key] for key in (wanted, "where", "include", "output", "fold")]
    if kind == "symbol":
        keys[1] = [*keys[1], "file_name"]
    given = {key for key, value in arguments.items() if value not in ("", False)}
    if not kind or not given <= {*chain(*keys), *AGENTS["how_long"], *AGENTS["layout"]}:
        return ""
    if any(isinstance(word, str) and len(word) > MAX_CHARACTERS for word in arguments.values()):
        return ""
    what, where, include, output, fold = (first_of(arguments, names) for names in keys)
    where = where or (opened if name == "search_file" else ".")
    if name.endswith("_in_file") and isinstance(where, str):
        where = f"**/{where}"  # which the tool looks for
    if not all(isinstance(text, str) for text in (where, what or "", include or "", output or "")):
        return ""
    glob = _GLOB.fullmatch(str((what if kind == "find" else include) or ""))
    where, text, how = str(where), str(what), "n" * (kind == "lines")
    if arguments.get("is_regexp", arguments.get("is_regex")) is False:
        how += "F"
    elif name not in ("search_dir", "search_file"):  # as other programs read it
        how += "E" * (_SPECIAL.search(text) is not None)
        text = text if "E" in how else re.sub(r"\\([(){}|+?])", r"\1", text)
    if kind == "symbol":
        named = next(key for key in (*keys[0], "") if key in arguments or not key)
        text = "#".join(text.replace("/", ".").strip(".").rsplit(".", 1))
        text = f"{AGENTS['kinds'].get(named, '')} {text}".strip()
    text = shlex.quote(text)
    if not where or not glob or (what is None) != (kind == "list") or (include and kind == "list"):
        return ""
    where = shlex.quote(posixpath.join(where, glob[1]))
    if kind in ("list", "find"):
        return f"find {where} -name '{glob[2]}'" if kind == "find" else f"ls {where}"
    shows = AGENTS["outputs"].get(output or kind, "") + "i" * (fold is True)
    end = "" if re.search(r"[*.]", glob[2]) else "*."
    files = f"--include={end}{glob[2]}" if glob[2] else ""
    return f"grep -{how}{'r' * (name != 'search_file')}{shows} {files} -e {text} {where}"


def command_of(form: Form) -> Command | None:
    """The one command that a form is."""
    bare = form[1] if form[:1] == ("literal",) else form
    return bare[1] if bare[:1] == ("command",) else None


def same_search(one: Form, other: Form) -> bool:
    """Whether two commands search the same place for the same, or for the same files.

    Who looks for `def total` and who looks for `total` look for one thing.
    """
    forms = [searched(form) for form in (one, other)]
    commands = [_listing(form) or command_of(form) for form in forms]
    if any(command is None or not command.arguments for command in commands):
        return False
    left, right = (_finding(c) for c in commands if c is not None)
    if left.name == right.name == "find":
        return _files(left) == _files(right)
    if left.name != "grep" or right.name != "grep":
        return False
    (first, *rest), (second, *others) = left.arguments, right.arguments
    asked = [[value for flag, value in c.flags if flag == "include"] for c in (left, right)]
    # What is no plain word stands in code alone.
    if not all(asked) and all(map(_CODE.fullmatch, chain(*asked))) and not _PLAIN.fullmatch(first):
        left, right = (_without(c, "include") for c in (left, right))
    if replace(left, arguments=()) != replace(right, arguments=()) or len(rest) != len(others):
        return False
    if not all(map(_same_place, rest, others)):
        return False
    if first == second:
        return True
    if {flag for flag, _ in left.flags} & {"c", "l", "L", "v", "f", "o", "e"}:
        return False
    if len(first) + len(second) <= MAX_PATTERN and _bare(first) == _bare(second) != "":
        return True
    symbols = [found for text in (first, second) if (found := _SYMBOL.fullmatch(text))]
    if len(symbols) < 2 or symbols[0]["name"] != symbols[1]["name"]:
        return False
    if len({found["of"] for found in symbols} - {None}) > 1:
        return False
    kinds = [_FUNCTION.sub("def", found["kind"] or "") for found in symbols]
    # A bracket after a bare name asks for calls.
    bare = any(not found["kind"] and (found["end"] or "").endswith("(") for found in symbols)
    return kinds[0] == kinds[1] if all(kinds) else any(kinds) and not bare


def searched(form: Form) -> Form:
    """A search without what sorts, cuts or thins out what it shows."""
    if form[0] != "pipe" or form[1][0] != "command" or form[1][1].name not in AGENTS["searches"]:
        return form
    kept = [part for part in form[2:] if part[0] != "command" or not _thins(part[1])]
    return ("pipe", form[1], *kept) if kept else form[1]


def _thins(command: Command) -> bool:
    """Whether what it lets through is what there was, or the beginning or the end of much."""
    flags, words = dict(command.flags), command.arguments
    if command.name in ("head", "tail"):
        return not (words or command.redirects) and len(flags.pop("n", "10")) > 1 and not flags
    left_out = command.name == "grep" and flags == {"v": ""} and len(words) == 1
    left_out = left_out and _left_out(words[0].replace("\\", "").strip("$"))
    sorts = command.name == "sort" and flags.keys() <= {"u"} and not words
    return (left_out or sorts) and not command.redirects


def _same_place(one: str, other: str) -> bool:
    """Whether two paths are one; of a file that a tool looks for the end is enough."""
    ends = [path.rpartition(_ANYWHERE)[2] for path in (one, other)]
    short, long = sorted(ends, key=len)
    return one == other or (ends != [one, other] and f"/{long}".endswith(f"/{short}"))


def _bare(pattern: str) -> str:
    """An expression without anchors, spaces at its ends, and backslashes that say little."""
    return _ESCAPED.sub(r"\1", _ANCHORS.sub("", pattern)).strip()


def _without(command: Command, *flags: str) -> Command:
    return replace(command, flags=tuple(flag for flag in command.flags if flag[0] not in flags))


def _finding(command: Command) -> Command:
    """A search for an extended expression, without what only says how: a symbol is a whole word."""
    names, words = {flag for flag, _ in command.flags}, command.arguments
    if command.name == "grep" and not names & set("eEFPf"):
        text = _SWITCHED.sub(lambda m: m[2] if m[1] else f"\\{m[2]}", words[0])
        words = (text, *words[1:])
    flags = tuple(
        (flag, value)
        for flag, value in command.flags
        if not (flag in ("A", "B", "C") and value in AGENTS["few"])
        and not (flag == "exclude-dir" and _left_out(value))
    )
    found = replace(command, flags=flags, arguments=words)
    return found if "e" in names else _without(found, "w", "E", "P")


def _left_out(word: str) -> bool:
    return word.replace("\0", "").strip("*/.") in AGENTS["noise"]


def _listing(form: Form) -> Command | None:
    """`git ls-files | grep a.py` as `find . -name a.py`."""
    if form[0] != "pipe" or len(form) != 3 or {form[1][0], form[2][0]} != {"command"}:
        return None
    lists, into = form[1][1], form[2][1]
    words = [word for word in lists.arguments if word not in ("-type", "f")]
    if lists.name not in AGENTS["lists_files"] or len(words) > 1 or len(into.arguments) != 1:
        return None
    name = _bare(into.arguments[0][:MAX_PATTERN])
    flags = {flag for flag, _ in lists.flags} | {flag for flag, _ in into.flags}
    if into.name != "grep" or not name or not flags <= {"i", "E", "files"} or lists.redirects:
        return None
    alone = _FILE.fullmatch(name.removeprefix("/"))
    name = alone[0] if alone else f"*{name}{'*' * ('.' not in name)}"
    words = [*(words or [lists.directory or "."]), "-path" if "/" in name else "-name", name]
    return replace(into, name="find", flags=(), arguments=tuple(words), directory=None)


def _files(command: Command) -> Command:
    """What has a name with an end is a file; great letters or small do not matter.

    Of one that changes files every word counts.
    """
    if any(map(_CHANGES.fullmatch, command.arguments)):
        return command
    words = ["-name" if word == "-iname" else word.replace("\0", "") for word in command.arguments]
    for at in [at for at, word in enumerate(words[:-1]) if word == "-path"][::-1]:
        if words[at - 1] == "!" and _left_out(words[at + 1]):
            del words[at - 1 : at + 2]
    tests = dict(pairwise(words))
    if "." in tests.get("-name", "").strip(".") and tests.get("-type") == "f":
        at = words.index("-type")
        del words[at : at + 2]
    return replace(command, arguments=tuple(words))
