"""Judging actions that are read as steps: one step a call, each against its counterpart.

What a step is and when two are the same belongs to a domain; this module must never know one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from pivotrl.types import Message, ToolCall, Verdict
from pivotrl.verifiers.comparison import MAX_CALLS, excerpt
from pivotrl.verifiers.outcome import acceptance, rejection

Step = TypeVar("Step")


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
) -> Verdict | None:
    """The verdict on `given`, in the references' order; None where none has as many steps.

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
        if not any(reasons):
            return acceptance({"reference": index})
        category = next(filter(None, reasons))
    if category is None:
        return None
    names = ", ".join(call.name for call in references[0].tool_calls)
    return rejection(category, {"expected": excerpt(names)})
