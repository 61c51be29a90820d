"""What a benchmark is: a prompt builder and a scorer over rows, plus the reader of local JSONL.

The same two functions serve the real data set and the miniature's rows (marked by
`"miniature": true`). This module must never know an engine, a tokenizer or a model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from pivotrl.types import JSON, Message, PivotRLError, Role, digest

Row = Mapping[str, JSON]

_ID_FIELDS = ("id", "key", "unique_id", "question_id", "problem_id")
_CODE_FENCE = re.compile(r"```(?:[pP]ython3?|py)?[ \t]*\n(.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    value: float
    """In [0, 1]."""
    extracted: str | None
    """What the scorer read out of the output; None when it found no answer to judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The real rows on a hub, read by the `datasets` library."""

    path: str
    split: str = "test"
    name: str | None = None
    """Of the configuration."""
    revision: str | None = None
    license: str = ""


def same_row(row: Row) -> Row:
    return row


def single_step(row: Row) -> tuple[Row, ...]:
    return (row,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    name: str
    prompt: Callable[[Row], tuple[Message, ...]]
    """Messages up to the model's turn."""
    score: Callable[[Row, str], Score]
    """Never raises or hangs on an output; raises `PivotRLError` for a row it cannot judge, whatever
    the output, so that `score(row, "")` tells before anything is sampled."""
    source: Source
    repeats: int
    """Responses to each real row, as NVIDIA's harness has it; a miniature row gets one."""
    read: Callable[[Row], Row] = same_row
    """A row as its publishers write it, in the form that `prompt` and `score` take."""
    steps: Callable[[Row], tuple[Row, ...]] = single_step
    """The items that a row is: one, or sub-steps, each with an id of its own. A sub-step's prompt
    and score are given `earlier_outputs`, the responses to those before it."""


def user_prompt(text: str) -> tuple[Message, ...]:
    return (Message(role=Role.USER, content=text),)


def last_code_block(text: str) -> str | None:
    """The content of the last closed code fence, or None."""
    blocks = _CODE_FENCE.findall(text)
    return blocks[-1] if blocks else None


def load_items(path: Path) -> list[dict[str, JSON]]:
    """Rows of a JSON Lines file, each with an `id` (its own, or a hash of its content).

    Raises `PivotRLError` that names file and row for a missing or empty file, a line that is not
    a JSON object, and an id that occurs twice.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise PivotRLError(
            f"{path}: cannot read benchmark items ({error.strerror}); give a JSON Lines file"
        ) from error
    items: list[dict[str, JSON]] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise PivotRLError(
                f"{path} row {number}: not JSON ({error}); write one object a line"
            ) from error
        if not isinstance(row, dict):
            raise PivotRLError(f"{path} row {number}: not an object; write one object a line")
        item_id = next((str(row[f]) for f in _ID_FIELDS if row.get(f) is not None), digest(row))
        if item_id in seen:
            raise PivotRLError(f"{path} row {number}: id {item_id!r} occurs twice; make ids unique")
        seen.add(item_id)
        items.append(row | {"id": item_id})
    if not items:
        raise PivotRLError(f"{path}: no benchmark items in it; give one JSON object a line")
    return items
