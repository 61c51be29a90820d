"""What a format hands over: one trajectory in OpenAI-chat JSON, not yet checked.

A format is one short module with `NAME`, `recognises(row)` and `parse(row)`; everything that all
formats share (checks, ties, ids) happens later, in `build`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Protocol

from pivotrl.types import JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    messages: JSON
    """A list of OpenAI-chat messages."""
    tools: JSON = None
    """A list of OpenAI tools, nested or flat, or its JSON text; None where none is declared."""
    task: JSON = None
    domain: JSON = None
    reward: JSON = None
    accepted_actions: JSON = None
    """`{"<message index>": [assistant message, ...]}`."""
    files: JSON = None
    """`{"<message index>": {"<relative path>": "<text>"}}`."""
    not_actions: Set[int] = frozenset()
    """Indices of assistant messages that are context alone: a shown example, a copied turn."""


class Format(Protocol):
    NAME: str

    def recognises(self, row: JSON) -> bool:
        """True if the row has this format's shape, whatever the file is called."""
        ...

    def parse(self, row: JSON) -> Iterable[Draft]:
        """The row's trajectories; nearly always one. Raises RowError."""
        ...


def beside(row: Mapping[str, JSON], task_key: str = "task_id") -> dict[str, JSON]:
    """What most formats say beside the messages: `task` (or `task_key`), `domain`, `reward`."""
    task = row["task"] if row.get("task") is not None else row.get(task_key)
    return {"task": task, "domain": row.get("domain"), "reward": row.get("reward")}
