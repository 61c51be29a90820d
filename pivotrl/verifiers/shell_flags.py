"""How words of a shell command become flags and operands, by what `shell_flags.toml` knows of it.

This module must never know a command line's grammar.
"""

from __future__ import annotations

import re
import signal
from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from pivotrl.verifiers.comparison import table

Flags = list[tuple[str, str]]
_TEXTS = ("values", "long", "shows", "same", "words", "shows_long", "unordered", "path_values",
          "ignore")  # fmt: skip
_OPTION = re.compile(r"-[A-Za-z]|--[A-Za-z][\w.-]*(?:=.*)?", re.DOTALL)
_SINGLE = re.compile("-[A-Za-z]{2}")
_SMALL = re.compile(r"(?=\.?\d)(\d{0,9}\.?\d{0,9})e([+-]?\d\d?)|\.\d{1,9}", re.IGNORECASE)
_NUMBER = re.compile(r"-\d+")
_SIGNALS = {name[3:]: str(number.value) for name, number in signal.Signals.__members__.items()}


class Spec(SimpleNamespace):
    """What is known of a command: `shell_flags.toml` explains the fields and has their defaults."""

    def but(self, **changes: Any) -> Spec:
        return Spec(**vars(self) | changes)


@lru_cache(maxsize=1)
def tables() -> dict[str, dict[str, Any]]:
    """The sections of `shell_flags.toml`, `names` and `defaults`."""
    found = table("shell_flags")
    alike = found.pop("like").items()
    found["names"] |= {f"python -m {name}": name for name in found.pop("modules").split()}
    return found | {name: {"like": other} for name, other in alike}


@lru_cache(maxsize=1024)
def spec_of(name: str) -> Spec | None:
    """What is known of a command, or of a `command subcommand`; None where nothing is."""
    found = tables().get(name) if name != "names" else None
    return None if found is None else Spec(**tables()["defaults"] | _whole(found))


def known_of(name: str) -> Spec:
    """What is known of a command, if only the defaults."""
    return spec_of(name) or Spec(**tables()["defaults"])


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
    if (tool := words[0].rpartition("node_modules/.bin/")) and tool[1]:
        words[:1] = ["npx", tool[2]]
    if words[0] in ("kubectl", "helm", "docker"):  # which take `-o=json`
        words = [re.sub(r"^(-[a-z])=", r"\1", word) for word in words]
    if words[:2] == ["git", "restore"]:
        told = [w for w in words[2:] if w not in ("--", "-W", "--worktree")]
        words = words if any(w.startswith("-") for w in told) else ["git", "checkout", *told]
    if words[0] == "tail" and (lines := re.fullmatch(r"-(\d+)f", (words[1:] or [""])[0])):
        words[1:2] = ["-n", lines[1], "-f"]
    if len(words) == 2 and words[0].startswith("/etc/init.d/"):
        words = ["systemctl", words[1], words[0].removeprefix("/etc/init.d/")]
    if words[0] == "service" and len(words) == 3:
        words = ["systemctl", words[2], words[1]]
    if words[0].endswith((".py", ".sh")) and "/" in words[0]:
        words.insert(0, "python" if words[0].endswith(".py") else "bash")
    if words[0] == "tar" and len(words) > 1 and not words[1].startswith("-"):
        words[1] = f"-{words[1]}"
    return words


def read(name: str, words: Sequence[str]) -> tuple[str, Spec | None, Flags, list[str]]:
    """The name with its subcommands, what is known of it, flags with values, other words."""
    full, spec, words = _deepest(name, list(words))
    if spec is None:
        return full, spec, [], options_first(words)
    if spec.raw:
        return full, spec, [], words  # every word counts, in its place
    flags, rest = _split(spec, words)
    flags = _settled(spec, _signals(flags) if spec.signals else flags)
    if name in ("cp", "mv", "ln", "install"):
        rest += [f"{value}/" for flag, value in flags if flag == "t"]
        flags = [flag for flag in flags if flag[0] != "t"]
    if rest and spec.stops and " " not in full:  # after flags of the main command
        again = renamed([full, *rest])
        rest = again[1:] if again[0] == full else rest
    if rest and _deepest(full, rest)[0] != full:
        full, deeper, more, rest = read(full, rest)
        flags = [*flags, *more]
        spec = (deeper or spec).but(moves=spec.moves, moves_file=spec.moves_file)
    return full, spec, flags, rest


def options_first(words: Sequence[str]) -> list[str]:
    """Words for a program that is not known with its options before the others, sorted.

    What follows an option is taken as its value: `--lr 1` is `--lr=1`, and so is `--lr=1e0`.
    """
    options: list[str] = []
    rest: list[str] = []
    queue = deque(words)
    single = any(map(_SINGLE.match, words))  # letters are no options of their own
    while queue and queue[0] != "--":
        word = queue.popleft()
        if not _OPTION.fullmatch(word) or (single and word[1] != "-"):
            rest.append(word)
        elif "=" in word or not queue or queue[0].startswith("-"):
            options.append(word)
        else:
            options.append(f"{word}={queue.popleft()}")
    options = [f"{name}{is_}{_plain(value)}" for name, is_, value in map(_halves, options)]
    return [*sorted(options, key=lambda option: option.partition("=")[0]), *rest, *queue]


def _halves(option: str) -> tuple[str, str, str]:
    return option.partition("=")


def _plain(value: str) -> str:
    """`1e-3` and `.001` as `0.001`."""
    return f"{Decimal(value):f}" if _SMALL.fullmatch(value) else value


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
            if letters in takes and (len(letters) > 1 or spec.single):
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
                if letter in spec.attached:
                    flags.append((letter, letters))
                    break
                if letter in takes:
                    value = letters or (queue.popleft() if queue else "")
                    flags.append((letter, value))
                    break
                flags.append((letter, ""))
        else:
            rest.append(word)
            if spec.stops and not (spec.late and len(rest) == 1 and queue and queue[0][:1] == "-"):
                rest += queue
                break
    return [(same.get(flag, flag), value) for flag, value in flags], rest


def _signals(flags: Flags) -> Flags:
    """Signals by their numbers; 15 is the default."""
    named = [("s", f) if f.removeprefix("SIG") in _SIGNALS else (f, v) for f, v in flags]
    numbered = [(f, _SIGNALS.get(v.removeprefix("SIG"), v) if f == "s" else v) for f, v in named]
    return [flag for flag in numbered if flag != ("s", "15")]


def _settled(spec: Spec, flags: Flags) -> Flags:
    """Sorted, without those that only show; of one flag the values keep their order."""
    shows, shows_long = spec.shows, spec.shows_long.split()
    kept = [f for f in flags if not (len(f[0]) == 1 and f[0] in shows) and f[0] not in shows_long]
    kept = [f for f in kept if f"{f[0]}={f[1]}" not in spec.ignore.split()]
    free = spec.unordered.split()
    kept.sort(key=lambda f: (f[0], f[1] if f[0] in free else ""))
    bare = dict.fromkeys(f for f in kept if not f[1])
    valued = [f for f in kept if f[1]]
    return sorted([*bare, *valued], key=lambda f: f[0])
