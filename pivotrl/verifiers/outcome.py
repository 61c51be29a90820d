"""What a verifier answers, and what holds for all: cut and malformed actions, bugs of our own,
that actions come in groups, and that of actions read as steps each has its counterpart.

What a step is and when two are the same belongs to a domain; this module must never know one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Generic, TypeVar

from pivotrl.types import (
    JSON,
    Action,
    Candidate,
    FinishReason,
    Message,
    ToolCall,
    Trajectory,
    Verdict,
    VerdictStatus,
)
from pivotrl.verifiers.comparison import ACCEPTED, MAX_CALLS, excerpt, matching, table

Prepared = TypeVar("Prepared")
Step = TypeVar("Step")
AGENTS = table("agents")
"""Names that agents' tools and their arguments have."""


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


def undecided(category: str, details: Mapping[str, JSON]) -> Verdict:
    return Verdict(status=VerdictStatus.UNDECIDED, reward=None, category=category, details=details)


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


def first_of(arguments: Mapping[str, JSON], keys: Sequence[str]) -> JSON:
    """The first of these arguments that is given, else None."""
    return next((arguments[key] for key in keys if key in arguments), None)


def steps_of(
    calls: Sequence[ToolCall], read: Callable[[ToolCall], Step | None]
) -> list[Step] | None:
    """A step a call; None where there is no call, or one that is no step."""
    steps = [step for call in calls if (step := read(call)) is not None]
    return steps if steps and len(steps) == len(calls) else None


def judge_steps(
    references: Sequence[Message],
    given: Sequence[ToolCall],
    read: Callable[[ToolCall], Step | None],
    difference: Callable[[Step, Step], str | None],
    together: int = 0,
) -> Verdict | None:
    """The verdict on `given`, in the references' order; None where none has as many steps.

    Up to `together` steps may stand in another order.

    `difference` of (wanted, given) is the category of a rejection, None for the same step.
    """
    few = len(given) <= MAX_CALLS
    alike = [i for i, r in enumerate(references) if few and len(r.tool_calls) == len(given)]
    steps = steps_of(given, read) if alike else None  # thousands of calls are not read
    if steps is None:
        return None
    category = None
    for index in alike:
        these = steps_of(references[index].tool_calls, read)
        if these is None:
            continue
        reasons = [difference(w, g) for w, g in zip(these, steps, strict=True)]
        few = len(steps) <= together
        if not any(reasons) or (few and _in_some_order(these, steps, difference)):
            return acceptance({"reference": index})
        category = next(filter(None, reasons))
    if category is None:
        return None
    names = ", ".join(call.name for call in references[0].tool_calls)
    return rejection(category, {"expected": excerpt(names)})


def _in_some_order(
    wanted: Sequence[Step], given: Sequence[Step], difference: Callable[[Step, Step], str | None]
) -> bool:
    whole = matching(len(wanted), len(given), lambda w, g: not difference(wanted[w], given[g]))
    return len(whole) == len(wanted)
