"""What a verifier answers, and what holds for all: cut and malformed actions, bugs of our own,
and that actions come in groups.

It must never know a domain.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Generic, TypeVar

from pivotrl.types import JSON, Action, Candidate, FinishReason, Trajectory, Verdict, VerdictStatus
from pivotrl.verifiers.comparison import ACCEPTED, excerpt

Prepared = TypeVar("Prepared")


class Prepare(Generic[Prepared]):
    """Remembers what was made of the last candidate: actions come in groups, one candidate each."""

    def __init__(self, make: Callable[[Candidate], Prepared]) -> None:
        self._make = make
        # By identity, and thus held: an equal trajectory would take as long to compare.
        self._last: tuple[Trajectory, int, Prepared] | None = None

    def __call__(self, candidate: Candidate) -> Prepared:
        last = self._last
        if last and last[0] is candidate.trajectory and last[1] == candidate.turn:
            return last[2]
        made = self._make(candidate)
        self._last = (candidate.trajectory, candidate.turn, made)
        return made


def acceptance(details: dict[str, JSON]) -> Verdict:
    return Verdict(status=VerdictStatus.OK, reward=1.0, category=ACCEPTED, details=details)


def rejection(category: str, details: dict[str, JSON]) -> Verdict:
    return Verdict(status=VerdictStatus.OK, reward=0.0, category=category, details=details)


def unfinished(action: Action) -> Verdict | None:
    """The verdict on an action that was cut or whose tool markup cannot be read, else None."""
    if action.finish_reason == FinishReason.LENGTH:
        return rejection("truncated", {})
    if action.malformed:
        return rejection("malformed", {"reason": excerpt(action.malformed[0])})
    return None


def never_raises(
    verify: Callable[[Any, Candidate, Action], Verdict],
) -> Callable[[Any, Candidate, Action], Verdict]:
    """A verifier's `verify` whose exceptions are verdicts: a defect of ours is never a reward."""

    @wraps(verify)
    def guarded(self: Any, candidate: Candidate, action: Action) -> Verdict:
        try:
            return verify(self, candidate, action)
        except Exception as error:
            return Verdict(
                status=VerdictStatus.ERROR,
                reward=None,
                category="error",
                details={"reason": excerpt(f"{type(error).__name__}: {error}")},
            )

    return guarded
