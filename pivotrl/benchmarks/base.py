"""What a benchmark is: a prompt builder and a scorer over rows, and where the real rows are.

The same two functions serve the real data set and the miniature's rows (marked by
`"miniature": true`). This module must never know an engine, a tokenizer or a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pivotrl.types import JSON, Message, Role

Row = Mapping[str, JSON]


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
    configs: tuple[str, ...] = ()
    """Of the data set; a row is told its own as `config`."""
    revision: str | None = None


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
    read: Callable[[Row], Row | None] = same_row
    """A row as its publishers write it, in the form that `prompt` and `score` take; None drops
    it."""
    steps: Callable[[Row], tuple[Row, ...]] = single_step
    """The items that a row is: one, or sub-steps, each with an id of its own. A sub-step's prompt
    and score are given `earlier_outputs`, the responses to those before it."""
    beside: tuple[str, ...] = ()
    """Patterns of the files beside the rows' by which a row is judged too."""
    cluster: Callable[[str], str] = str
    """From an item's id to what it was drawn with: items of one cluster are not independent."""


def user_prompt(text: str) -> tuple[Message, ...]:
    return (Message(role=Role.USER, content=text),)
