"""Searches for text and for files: what a tool searches, as a command, and when two find the same.

This module must never know a state.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, pairwise

from pivotrl.types import JSON
from pivotrl.verifiers.outcome import AGENTS, first_of
from pivotrl.verifiers.shell_commands import Command, Form

_GLOB = re.compile(r"((?:[\w.-]+/)*)(?:\*\*/)?([\w.*?{},-]*)")
_SPECIAL = re.compile(r"(?<!\\)[(){}|+?]|\\\\")
"""What a basic expression writes otherwise."""
_SYMBOL = re.compile(
    rf"\^?(?:\\b|\\s\*| )*(?:(?P<kind>{AGENTS['defines']})(?: |\\s)[+*]?)?(?P<name>\w+)"
    r"(?P<end>\\b|\\?\(|:| |\\s\*)*"
)


def as_command(name: str, arguments: Mapping[str, JSON], opened: str) -> str:
    """The command line that a tool for finding is; empty for others."""
    code = arguments.get("code")
    if isinstance(code, str) and re.fullmatch(AGENTS["cell"], name) and ".write" in code:
        return f"python - <<'EOF_'\n{code}\nEOF_"
    kind = next((kind for kind, names in AGENTS["finders"].items() if name in names), "")
    keys = [AGENTS[key] for key in ("pattern", "where", "include", "output", "fold")]
    given = {key for key, value in arguments.items() if value not in ("", False)}
    if not kind or not given <= {*chain(*keys), *AGENTS["how_long"], *AGENTS["layout"]}:
        return ""
    what, where, include, output, fold = (first_of(arguments, names) for names in keys)
    where = where or (opened if name == "search_file" else ".")
    if not all(isinstance(text, str) for text in (where, what or "", include or "", output or "")):
        return ""
    glob = _GLOB.fullmatch(str((what if kind == "find" else include) or ""))
    where, text, how = str(where), str(what), "n" * (kind == "lines")
    if name not in ("search_dir", "search_file"):  # as other programs read it
        how += "E" * (_SPECIAL.search(text) is not None)
        text = text if "E" in how else re.sub(r"\\([(){}|+?])", r"\1", text)
    text = shlex.quote(text)
    if not where or not glob or (what is None) != (kind == "list") or (include and kind == "list"):
        return ""
    where = shlex.quote(f"{where.rstrip('/')}/{glob[1]}" if glob[1] else where)
    if kind in ("list", "find"):
        return f"find {where} -name '{glob[2]}'" if kind == "find" else f"ls {where}"
    shows = AGENTS["outputs"].get(output or kind, "") + "i" * (fold is True)
    files = f"--include={glob[2]}" if glob[2] else ""
    return f"grep -{how}{'r' * (name != 'search_file')}{shows} {files} -e {text} {where}"


def command_of(form: Form) -> Command | None:
    """The one command that a form is."""
    bare = form[1] if form[:1] == ("literal",) else form
    return bare[1] if bare[:1] == ("command",) else None


def same_search(one: Form, other: Form) -> bool:
    """Whether two commands search the same place for the same symbol, or for the same files.

    Who looks for `def total` and who looks for `total` look for one thing.
    """
    commands = [command_of(form) for form in (one, other)]
    if any(command is None or not command.arguments for command in commands):
        return False
    left, right = (replace(c, flags=_finding(c)) for c in commands if c is not None)
    if left.name == right.name == "find":
        return _files(left) == _files(right)
    if left.name != "grep" or right.name != "grep":
        return False
    symbols = [_SYMBOL.fullmatch(c.arguments[0]) for c in (left, right)]
    if not all(symbols) or {flag for flag, _ in left.flags} & {"c", "l", "L", "v", "f", "o"}:
        return False
    (first, second), rest = symbols, [replace(c, arguments=c.arguments[1:]) for c in (left, right)]
    if rest[0] != rest[1] or not first or not second or first["name"] != second["name"]:
        return False
    kinds = [found["kind"] for found in (first, second)]
    # A bracket after a bare name asks for calls.
    bare = any(not f["kind"] and (f["end"] or "").endswith("(") for f in (first, second))
    return kinds[0] == kinds[1] if all(kinds) else any(kinds) and not bare


def _finding(command: Command) -> tuple[tuple[str, str], ...]:
    """The flags, but for whole words: a symbol is one."""
    return tuple(flag for flag in command.flags if flag[0] not in ("w", "E"))


def _files(command: Command) -> Command:
    """What has a name with an end is a file."""
    words = command.arguments
    tests = dict(pairwise(words))
    if "." not in tests.get("-name", "").strip(".") or tests.get("-type") != "f":
        return command
    at = words.index("-type")
    return replace(command, arguments=(*words[:at], *words[at + 2 :]))
