"""JSON as hostile text may hold it: one value at a place, strict and bounded.

Everything that two readers could take for different values is refused: duplicate keys, NaN,
numbers beyond what canonical JSON holds, lone surrogates, deep nesting. This module must never
know what the value is for.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from pivotrl.types import JSON

MAX_DEPTH = 32
INTEGER_RANGE = range(-(2**63), 2**64)
"""What canonical JSON (orjson) can hold."""


def decode(text: str, start: int) -> tuple[JSON, int]:
    """One JSON value at character `start` and where it ends.

    Raises ValueError with the reason, or RecursionError.
    """
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos}") from None
    _check(value)
    return value, end


def skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found is not None else position


def _check(value: JSON) -> None:
    """Refuses depth beyond `MAX_DEPTH` and strings that are not Unicode text."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        following: list[JSON] = []
        for item in level:
            if isinstance(item, str):
                item.encode("utf-8")
            elif isinstance(item, list):
                following += item
            elif isinstance(item, dict):
                following += item.keys()
                following += item.values()
        level = following


def _number(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"number {digits[:20]} out of range")
    return value


def _integer(digits: str) -> int:
    if len(digits) > 20 or int(digits) not in INTEGER_RANGE:
        raise ValueError(f"integer {digits[:20]} out of range")
    return int(digits)


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def _unique(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key occurs twice")
    return value


_SPACE = re.compile(r"\s*")
_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_float=_number,
    parse_int=_integer,
    parse_constant=_refuse_constant,
    strict=True,
)
