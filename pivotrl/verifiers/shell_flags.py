"""What is known of the flags of shell commands: which take a value, are the same, or only show.

This module must never know a command line's grammar.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

VALUES = {
    "grep": "emABCdf",
    "head": "nc",
    "tail": "nc",
    "pytest": "kmnpcor",
    "mkdir": "m",
    "sort": "kto",
    "cut": "dfc",
    "curl": "XHdoFuAbe",
    "git": "Cc",
    "wc": "",
    "ls": "",
    "cat": "",
    "rm": "",
    "cp": "t",
    "mv": "t",
    "touch": "dr",
    "chmod": "",
    "diff": "U",
    "tree": "LIP",
    "pip": "rc",
    "uniq": "",
    "sed": "ef",
    "which": "",
    "ps": "",
    "du": "d",
    "df": "",
    "tar": "fC",
    "nl": "b",
    "unzip": "d",
}
"""Commands whose flags are known: single letters that take a value."""
LONG = {
    "grep": {"recursive": "r", "line-number": "n", "ignore-case": "i", "word-regexp": "w",
             "files-with-matches": "l", "count": "c", "invert-match": "v", "extended-regexp": "E",
             "fixed-strings": "F", "only-matching": "o", "max-count": "m", "with-filename": "H",
             "dereference-recursive": "r"},
    "ls": {"all": "a", "almost-all": "a", "human-readable": "h", "recursive": "R", "reverse": "r"},
    "head": {"lines": "n", "bytes": "c"},
    "tail": {"lines": "n", "bytes": "c", "follow": "f"},
    "rm": {"recursive": "r", "force": "f"},
    "cp": {"recursive": "r", "archive": "a", "force": "f"},
    "mkdir": {"parents": "p"},
    "wc": {"lines": "l", "words": "w", "bytes": "c"},
    "sort": {"reverse": "r", "numeric-sort": "n", "unique": "u"},
    "pip": {"requirement": "r", "quiet": "q", "upgrade": "U"},
    "curl": {"request": "X", "header": "H", "data": "d", "output": "o", "silent": "s",
             "location": "L"},
    "diff": {"recursive": "r", "unified": "u"},
    "du": {"human-readable": "h", "summarize": "s", "max-depth": "d"},
    "tar": {"extract": "x", "create": "c", "gzip": "z", "file": "f", "directory": "C", "list": "t"},
}  # fmt: skip
SAME_FLAG = {("grep", "R"): "r", ("rm", "R"): "r", ("cp", "R"): "r"}
SHOWS_ONLY = {
    "ls": "laAhF1trSGgo",
    "grep": "nHIs",
    "cat": "nAv",
    "pytest": "vqsl",
    "curl": "sS",
    "pip": "qv",
    "mkdir": "v",
    "cp": "v",
    "mv": "v",
    "rm": "vf",
    "tar": "v",
    "nl": "b",
    "du": "h",
    "df": "h",
}
"""Flags that change how much is shown, not what is done or found."""
SHOWS_ONLY_LONG = {
    "pytest": ("tb", "no-header", "no-summary", "color", "disable-warnings", "verbose", "quiet"),
    "ls": ("color",),
    "grep": ("color", "colour"),
    "git": ("no-pager",),
    "pip": ("no-input", "disable-pip-version-check", "progress-bar"),
}
_SIGNAL = re.compile(r"-(?:SIG)?([A-Z]+)")


def older(name: str, words: list[str]) -> list[str]:
    """The arguments as an older way to write the same command has them."""
    if name == "tar" and words and not words[0].startswith("-"):
        return [f"-{words[0]}", *words[1:]]
    if name == "git" and words[:1] == ["switch"]:
        return ["checkout", *("-b" if w in ("-c", "--create") else w for w in words[1:])]
    if name == "git" and words[:1] == ["log"] and "-n" in words[:-1]:
        place = words.index("-n")
        return [*words[:place], f"-{words[place + 1]}", *words[place + 2 :]]
    if name == "kill" and words and (found := _SIGNAL.fullmatch(words[0])):
        known = signal.Signals.__members__.get(f"SIG{found[1]}")
        return [f"-{known.value}" if known else words[0], *words[1:]]
    return words


def flags_of(name: str, words: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Flags with their values, and the other words in order."""
    values, long = VALUES.get(name), LONG.get(name, {})
    if values is None:
        return [], list(words)  # unknown: every word counts, in its place
    flags: list[tuple[str, str]] = []
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            rest += queue
            break
        if word.startswith("--"):
            key, _, value = word[2:].partition("=")
            if key in long:
                letter = long[key]
                if letter in values and not value and queue:
                    value = queue.pop(0)
                flags.append((letter, value))
            else:
                flags.append((key, value))
        elif name in ("head", "tail") and re.fullmatch(r"-\d+", word):
            flags.append(("n", word[1:]))
        elif word.startswith("-") and len(word) > 1 and not re.fullmatch(r"-\d+", word):
            letters = word[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                if letter in values:
                    value = letters or (queue.pop(0) if queue else "")
                    flags.append((letter, value))
                    break
                flags.append((letter, ""))
        else:
            rest.append(word)
    flags = [(SAME_FLAG.get((name, flag), flag), value) for flag, value in flags]
    shows, shows_long = SHOWS_ONLY.get(name, ""), SHOWS_ONLY_LONG.get(name, ())
    kept = [
        (flag, value)
        for flag, value in flags
        if not (len(flag) == 1 and flag in shows) and flag not in shows_long
    ]
    return sorted(set(kept)), rest
