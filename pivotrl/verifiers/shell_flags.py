"""How words of a shell command become flags and operands, by what `shell_flags.toml` knows of it.

This module must never know a command line's grammar.
"""

from __future__ import annotations

import re
import signal
import tomllib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

Flags = list[tuple[str, str]]
_TEXTS = ("values", "long", "shows", "same", "words", "shows_long", "unordered", "path_values")
_NUMBER = re.compile(r"-\d+")
_HEAD = re.compile(r"(?:HEAD|@)(?:\^|~1?)")
_SIGNALS = {name[3:]: str(number.value) for name, number in signal.Signals.__members__.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What is known of a command: the fields are explained in `shell_flags.toml`."""

    values: str = ""
    long: str = ""
    same: str = ""
    words: str = ""
    single: bool = False
    number: str = ""
    shows: str = ""
    shows_long: str = ""
    set: bool = False
    unordered: str = ""
    stops: bool = False
    place: str = ""
    first: str = ""
    script: str = ""
    script_values: str = ""
    paths: str = "words"
    path_values: str = ""
    default: str = ""
    recursive: str = ""
    moves: str = ""
    anywhere: bool = False
    feeds: bool = False
    prefix: int = -1
    suffix: str = ""
    raw: bool = False
    signals: bool = False
    tests: str = ""
    bare_tests: str = ""
    together: str = ""


@lru_cache(maxsize=1)
def tables() -> dict[str, dict[str, Any]]:
    """The sections of `shell_flags.toml`, and `names`."""
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text())


@lru_cache(maxsize=1024)
def spec_of(name: str) -> Spec | None:
    """What is known of a command, or of a `command subcommand`; None where nothing is."""
    found = tables().get(name) if name != "names" else None
    return None if found is None else Spec(**_whole(found))


def _whole(section: dict[str, Any]) -> dict[str, Any]:
    """A section with what it takes over from another."""
    own = {key: value for key, value in section.items() if key != "like"}
    if "like" not in section:
        return own
    base = _whole(tables()[section["like"]])
    added = {key: f"{base[key]} {own[key]}" for key in own if key in _TEXTS and key in base}
    return base | own | added


def renamed(words: Sequence[str]) -> list[str]:
    """The words of a command with the names in the words of a newer or fuller way to write it."""
    words, names = list(words), tables()["names"]
    for _ in range(3):  # `pip3`, then `python3 -m pip`
        sizes = [n for n in (3, 2, 1) if len(words) >= n and " ".join(words[:n]) in names]
        if not sizes:
            break
        words[: sizes[0]] = names[" ".join(words[: sizes[0]])].split()
    if words[:2] == ["git", "restore"] and not any(w.startswith("-") for w in words[2:]):
        words[1] = "checkout"
    if words[0] == "tar" and len(words) > 1 and not words[1].startswith("-"):
        words[1] = f"-{words[1]}"
    return words


def read(name: str, words: Sequence[str]) -> tuple[str, Spec | None, Flags, list[str]]:
    """The name with its subcommands, what is known of it, flags with values, other words."""
    full, spec, words = _deepest(name, list(words))
    if spec is None or spec.raw:
        return full, spec, [], words  # every word counts, in its place
    flags, rest = _split(spec, words)
    flags = _settled(spec, _special(full, spec, flags, rest))
    if rest and _deepest(full, rest)[0] != full:  # after flags of the main command
        full, deeper, more, rest = read(full, rest)
        flags = [*flags, *more]
        spec = replace(deeper or spec, moves=spec.moves)
    return full, spec, flags, rest


def _deepest(name: str, words: list[str]) -> tuple[str, Spec | None, list[str]]:
    for count in (2, 1):
        full = " ".join([name, *words[:count]])
        if len(words) >= count and (spec := spec_of(full)):
            return full, spec, words[count:]
    return name, spec_of(name), words


def _split(spec: Spec, words: Sequence[str]) -> tuple[Flags, list[str]]:
    pairs = [word.partition(":") for word in spec.long.split()]
    long = {key: letter for key, colon, letter in pairs if colon}
    takes = {key[:-1] for key, colon, _ in pairs if not colon} | {*spec.values, *spec.words.split()}
    same = dict(pair.split(":") for pair in spec.same.split())
    flags: Flags = []
    rest: list[str] = []
    queue = deque(words)
    while queue:
        word = queue.popleft()
        if word == "--":
            rest += queue
            break
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            key = long.get(key, key)
            if key in takes and not equals and queue:
                value = queue.popleft()
            flags.append((key, value))
        elif _NUMBER.fullmatch(word):
            if spec.number:
                flags.append((spec.number, word[1:]))
            elif word[1:] in spec.shows or f":{word[1:]}" in spec.long:
                flags.append((word[1:], ""))
            else:
                rest.append(word)
        elif word.startswith("-") and len(word) > 1:
            letters = word[1:]
            if letters in takes and len(letters) > 1:
                flags.append((letters, queue.popleft() if queue else ""))
                continue
            if spec.single and letters[0] not in f"{spec.values}{spec.place}":
                key, _, value = letters.partition("=")
                flags.append((key, value))
                continue
            while letters:
                letter, letters = letters[0], letters[1:]
                if letter in spec.place:
                    rest.append(f"-{letter}{letters}")
                    break
                if letter in takes:
                    value = letters or (queue.popleft() if queue else "")
                    flags.append((letter, value))
                    break
                flags.append((letter, ""))
        else:
            rest.append(word)
            if spec.stops:
                rest += queue
                break
    return [(same.get(flag, flag), value) for flag, value in flags], rest


def _special(name: str, spec: Spec, flags: Flags, rest: list[str]) -> Flags:
    """Defaults that are said, and names of numbers."""
    given = {flag for flag, _ in flags}
    if spec.signals:
        named = [("s", f) if f.removeprefix("SIG") in _SIGNALS else (f, v) for f, v in flags]
        flags = [(f, _SIGNALS.get(v.removeprefix("SIG"), v)) if f == "s" else (f, v)
                 for f, v in named]  # fmt: skip
        flags = [flag for flag in flags if flag != ("s", "15")]
    elif name == "tar" and given & {"x", "t"}:  # it sees by itself how a file is compressed
        flags = [flag for flag in flags if flag[0] not in "zjJ"]
    elif name == "curl":
        method = "POST" if given & {"d", "F", "data-raw", "data-binary", "json"} else "GET"
        flags = [("d", v) if f == "data-raw" and not v.startswith("@") else (f, v)
                 for f, v in flags if (f, v) != ("X", method)]  # fmt: skip
    elif name == "pytest" and ("k" in given or any(w.endswith(".py") or "::" in w for w in rest)):
        flags = [flag for flag in flags if flag[0] != "x"]  # of few tests all are seen
    elif name in ("head", "tail"):
        flags = [flag for flag in flags if flag != ("n", "10")]
    elif name == "tmux send-keys":
        rest[:] = ["Enter" if word == "C-m" else word for word in rest]
    elif name == "git reset" and rest[:1] == ["HEAD"]:
        del rest[0]
    elif name.startswith("git "):
        rest[:] = ["HEAD~1" if _HEAD.fullmatch(word) else word for word in rest]
    return flags


def _settled(spec: Spec, flags: Flags) -> Flags:
    """Sorted, without those that only show; of one flag the values keep their order."""
    shows, shows_long = spec.shows, spec.shows_long.split()
    kept = [f for f in flags if not (len(f[0]) == 1 and f[0] in shows) and f[0] not in shows_long]
    free = spec.unordered.split()
    kept.sort(key=lambda f: (f[0], f[1] if f[0] in free else ""))
    bare = dict.fromkeys(f for f in kept if not f[1])
    valued = [f for f in kept if f[1]]
    return sorted([*bare, *valued], key=lambda f: f[0])
