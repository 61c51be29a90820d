"""Regular expressions of grep, matched in one pass whatever the pattern (no backtracking).

A pattern is a set of alternatives, each a row of characters that may be optional or repeated; an
automaton of bits runs over the line. Groups, counts and back references are refused. This module
must never know a file or a command line.
"""

from __future__ import annotations

import string
from collections.abc import Sequence, Set
from dataclasses import dataclass

MAX_PATTERN = 100
"""Characters of one pattern."""
ASCII = frozenset(map(chr, range(128)))
CLASSES = {
    "alpha": frozenset(string.ascii_letters),
    "digit": frozenset(string.digits),
    "alnum": frozenset(string.ascii_letters + string.digits),
    "upper": frozenset(string.ascii_uppercase),
    "lower": frozenset(string.ascii_lowercase),
    "punct": frozenset(string.punctuation),
    "blank": frozenset(" \t"),
    "space": frozenset(string.whitespace),
}
_WORD = CLASSES["alnum"] | {"_"}
_ESCAPED = {"w": _WORD, "W": ASCII - _WORD, "s": CLASSES["space"], "S": ASCII - CLASSES["space"]}


class BadPattern(ValueError):
    """A pattern that is wrong or that this grep does not support, as grep would say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    characters: frozenset[str]
    optional: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    steps: dict[str, int]
    """Character -> bits of the items that it fits."""
    optional: int
    repeated: int
    end: int
    """The bit that is set once all items are met."""
    at_start: bool
    at_end: bool


def compiled(
    patterns: Sequence[str], *, extended: bool = False, fixed: bool = False, fold: bool = False
) -> list[Alternative]:
    """The alternatives of all patterns. Raises BadPattern."""
    if any(len(pattern) > MAX_PATTERN for pattern in patterns):
        raise BadPattern("pattern too long")
    alternatives = []
    for pattern in patterns:
        for line in pattern.split("\n"):
            alternatives += _fixed(line) if fixed else _parsed(line, extended)
    return [_automaton(items, start, end, fold) for items, start, end in alternatives]


def matches(
    alternatives: Sequence[Alternative], line: str, *, word: bool = False, whole: bool = False
) -> bool:
    """Whether a part of the line (a word, the whole line) fits one of the alternatives."""
    return any(_fits(alternative, line, word, whole) for alternative in alternatives)


def _fits(alternative: Alternative, line: str, word: bool, whole: bool) -> bool:
    bits, at_start, at_end = 0, alternative.at_start or whole, alternative.at_end or whole
    for place in range(len(line) + 1):
        before, after = line[place - 1 : place], line[place : place + 1]
        if (place == 0 or not at_start) and not (word and before in _WORD and before):
            bits |= 1
        while (more := bits | (bits & alternative.optional) << 1) != bits:
            bits = more
        ends = (not after or not at_end) and not (word and after in _WORD and after)
        if bits & alternative.end and ends:
            return True
        here = bits & alternative.steps.get(after, 0)
        bits = here << 1 | here & alternative.repeated
    return False


def _automaton(items: Sequence[Item], start: bool, end: bool, fold: bool) -> Alternative:
    steps: dict[str, int] = {}
    for index, item in enumerate(items):
        found = item.characters
        if fold:
            found |= {c.swapcase() for c in found}
        for character in found:
            steps[character] = steps.get(character, 0) | 1 << index
    return Alternative(
        steps=steps,
        optional=sum(item.optional << index for index, item in enumerate(items)),
        repeated=sum(item.repeated << index for index, item in enumerate(items)),
        end=1 << len(items),
        at_start=start,
        at_end=end,
    )


def _fixed(line: str) -> list[tuple[list[Item], bool, bool]]:
    return [([Item(characters=frozenset(c)) for c in line], False, False)]


def _parsed(text: str, extended: bool) -> list[tuple[list[Item], bool, bool]]:
    """(items, anchored at the start, at the end) of each alternative."""
    done: list[tuple[list[Item], bool, bool]] = []
    items: list[Item] = []
    start = end = False
    index = 0
    while index < len(text):
        sign, index = text[index], index + 1
        escaped = sign == "\\"
        if escaped:
            if index == len(text):
                raise BadPattern("Trailing backslash")
            sign, index = text[index], index + 1
        special = escaped != extended
        if end and not (special and sign == "|"):
            raise BadPattern("not supported: $ inside a pattern")
        if special and sign == "|":
            done.append((items, start, end))
            items, start, end = [], False, False
        elif special and sign in "(){}":
            raise BadPattern(f"not supported: {sign} in a pattern")
        elif (special and sign in "+?" and items) or (not escaped and sign == "*" and items):
            items[-1] = Item(
                characters=items[-1].characters,
                optional=items[-1].optional or sign in "*?",
                repeated=items[-1].repeated or sign in "*+",
            )
        elif escaped and sign.isalnum():
            if sign not in _ESCAPED:
                raise BadPattern(f"not supported: \\{sign} in a pattern")
            items.append(Item(characters=_ESCAPED[sign]))
        elif not escaped and sign == "^" and (extended or not items):
            if items:
                raise BadPattern("not supported: ^ inside a pattern")
            start = True
        elif not escaped and sign == "$" and (extended or _is_last(text[index:])):
            end = True
        elif not escaped and sign == "[":
            found, index = bracket(text, index)
            items.append(Item(characters=found))
        else:
            any_ = not escaped and sign == "."
            items.append(Item(characters=ASCII if any_ else frozenset(sign)))
    return [*done, (items, start, end)]


def _is_last(rest: str) -> bool:
    return not rest or rest.startswith("\\|")


def bracket(text: str, index: int) -> tuple[frozenset[str], int]:
    """The characters of a bracket whose `[` is before `index`, and the place after its `]`."""
    negated = text[index : index + 1] == "^"
    index += negated
    found: Set[str] = set()
    first = index
    while index < len(text) and (text[index] != "]" or index == first):
        if text.startswith("[:", index) and (close := text.find(":]", index + 2)) > 0:
            name = text[index + 2 : close]
            if name not in CLASSES:
                raise BadPattern("Invalid character class name")
            found, index = found | CLASSES[name], close + 2
        elif text[index + 1 : index + 2] == "-" and text[index + 2 : index + 3] not in ("", "]"):
            low, high = ord(text[index]), ord(text[index + 2])
            if high < low:
                raise BadPattern("Invalid range end")
            found, index = found | set(map(chr, range(low, high + 1))), index + 3
        else:
            found, index = found | {text[index]}, index + 1
    if index >= len(text):
        raise BadPattern("Unmatched [, [^, [:, [., or [=")
    return frozenset(ASCII - found if negated else found), index + 1
