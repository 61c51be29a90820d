"""A constraint's check: what must hold of a text, and which arguments a row gives for it.

This module must never know a single constraint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import UnionType

from pivotrl.types import JSON, PivotRLError

Argument = int | type[str] | UnionType
"""A whole number from this one on, or a string; `str | None` may be missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    follows: Callable[..., bool]
    """Of a text that is not blank, and the arguments in their order."""
    arguments: Mapping[str, Argument]

    def read(self, given: Mapping[str, JSON]) -> tuple[JSON, ...]:
        """The arguments out of a row's `kwargs`, where `null` is a missing one.

        Raises `PivotRLError` that names the argument when it is missing or of another kind.
        """
        return tuple(_read(name, kind, given.get(name)) for name, kind in self.arguments.items())


def check(follows: Callable[..., bool], **arguments: Argument) -> Check:
    return Check(follows=follows, arguments=arguments)


def _read(name: str, kind: Argument, value: JSON) -> JSON:
    if not isinstance(kind, int):
        if isinstance(value, kind):
            return value
        raise PivotRLError(f"argument {name!r} is no text")
    # The published rows write whole numbers as 2.0.
    if isinstance(value, int | float) and value >= kind and value == int(value):
        return int(value)
    raise PivotRLError(f"argument {name!r} is no whole number from {kind} on")
