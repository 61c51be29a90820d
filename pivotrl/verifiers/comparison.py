"""What comparing an action with one reference gives; shared by every verifier.

It must never know a domain: only why two actions differ and how far apart they are.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from pivotrl.types import JSON

ACCEPTED = "accepted"
EXCERPT_CHARACTERS = 160
MAX_CALLS = 32
"""Of a reference: every call of an action may be compared with every one of them."""


class Undecidable(ValueError):
    """The reference or the tool's schema is broken: no action can be judged against it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """An action against one reference."""

    category: str
    """`accepted`, or why not, as one stable word or two."""
    closeness: float = 0.0
    """In [0, 1]; 1 is accepted. Only used to name the closest reference."""
    details: Mapping[str, JSON] = field(default_factory=dict)
    is_unsure: bool = False
    """Rejected for want of shared words alone, nothing contradicts: a judge may know better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What texts are compared in."""

    state: Sequence[str] = ()
    """Every text that the policy saw."""
    told: Sequence[str] = ()
    """Those of them that the user has read."""
    beside: Sequence[str] = ()
    """The call's other arguments, for a text that is an argument."""
    tool: str = ""
    """What the call's tool says of itself."""
    makes: bool = False
    """The tool puts what it is given somewhere: its titles and texts are the caller's own."""


NO_CONTEXT = Context()
MATCH = Comparison(category=ACCEPTED, closeness=1.0)


def table(name: str) -> dict[str, Any]:
    """The data of `name`.toml beside this module."""
    return tomllib.loads(Path(__file__).with_name(f"{name}.toml").read_text("utf-8"))


def excerpt(value: JSON) -> str:
    """The start of a value for a report: bounded, and always encodable, however odd it is."""
    if isinstance(value, str):
        return value[:EXCERPT_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
    try:
        return orjson.dumps(value)[:EXCERPT_CHARACTERS].decode("utf-8", "ignore")
    except (TypeError, ValueError, RecursionError):
        return f"<{type(value).__name__}>"


def rejected(category: str, closeness: float, **details: JSON) -> Comparison:
    return Comparison(category=category, closeness=closeness, details=details)


def matching(rows: int, columns: int, same: Callable[[int, int], bool]) -> dict[int, int]:
    """A largest one-to-one matching, column -> row (augmenting paths); `same` is asked once a pair.

    At most `rows` × `columns` comparisons; callers bound both.
    """
    edges = [[c for c in range(columns) if same(r, c)] for r in range(rows)]
    owner: dict[int, int] = {}

    def augment(row: int, seen: set[int]) -> bool:
        for column in edges[row]:
            if column not in seen:
                seen.add(column)
                if column not in owner or augment(owner[column], seen):
                    owner[column] = row
                    return True
        return False

    for row in range(rows):
        augment(row, set())
    return owner
