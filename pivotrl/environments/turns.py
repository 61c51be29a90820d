"""What the worlds share: how a turn is written down, how an expert varies, a tool of one text.

This module must never know a world.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pivotrl.types import JSON, Action, Message, Role, ToolCall, ToolSpec

T = TypeVar("T")

ONE_CALL = "make one call a turn"
OTHER_WAY = 0.15
"""How often an agent leaves its order for another of the right ways."""


def spoken(
    action: Action,
    number: int,
    use_tool: Callable[[ToolCall], str],
    refusal: str = f"error: {ONE_CALL}",
) -> list[Message]:
    """The agent's message in turn `number`, and a result for each of its calls.

    A malformed call, or several at once, is answered by `refusal` and uses no tool.
    """
    calls = tuple(
        ToolCall(name=call.name, arguments=call.arguments, id=f"call_{number}_{n}")
        for n, call in enumerate(action.tool_calls)
    )
    said = Message(
        role=Role.ASSISTANT, content=action.text, reasoning=action.reasoning, tool_calls=calls
    )
    return [
        said,
        *(
            Message(
                role=Role.TOOL,
                content=use_tool(call) if len(calls) == 1 and not action.malformed else refusal,
                tool_call_id=call.id,
                name=call.name if isinstance(call.name, str) else None,
            )
            for call in calls
        ),
    ]


def varied(ways: Sequence[Sequence[T]], rng: random.Random | None) -> list[T]:
    """All of groups of equivalent actions, the demonstrated one first.

    With `rng` the demonstration varies: one of a group's first two, sometimes another group.
    """
    ways = list(ways)
    if rng is None:
        return [action for way in ways for action in way]
    if rng.random() < OTHER_WAY:
        rng.shuffle(ways)
    first, *others = ways
    chosen = rng.randrange(min(2, len(first)))  # the first two are in the expert's style
    rest = (*first[:chosen], *first[chosen + 1 :])
    return [first[chosen], *rest, *(action for way in others for action in way)]


def decider(
    chances: Mapping[str, float], rng: random.Random, skill: float
) -> Callable[[str], bool]:
    """Whether a noisy agent gets a decision right; `skill` 1 makes each of `chances` certain."""
    return lambda decision: rng.random() < chances[decision] + (1 - chances[decision]) * skill


def call_action(tool: str, /, **arguments: JSON) -> Action:
    return Action(tool_calls=(ToolCall(name=tool, arguments=arguments),))


def text_tool(name: str, description: str, *arguments: str) -> ToolSpec:
    """A tool whose arguments are required texts."""
    return ToolSpec(
        name=name,
        description=description,
        parameters={
            "type": "object",
            "properties": {argument: {"type": "string"} for argument in arguments},
            "required": list(arguments),
        },
    )
