"""The expert of the retail domain: all that is right at a state.

This module must never be used for rewards: those judge from the trajectory row alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from pivotrl.environments.retail.language import EXPERT_WORDINGS, PLAIN_WORDINGS
from pivotrl.environments.retail.world import current, missing, written
from pivotrl.environments.turns import call_action, varied
from pivotrl.types import Action, EnvironmentState, ToolCall

LOOK_UP_ORDER = ("user_id", "user", "order", "product", "reason")


def expert_actions(state: EnvironmentState, rng: random.Random | None = None) -> list[Action]:
    """All right actions at an unfinished state, the demonstrated one first.

    With `rng` the demonstration varies: another wording, sometimes another of the right ways.
    """
    return varied(_right_ways(state), rng)


def _right_ways(state: EnvironmentState) -> list[list[Action]]:
    """Groups of equivalent actions; each group meets another need."""
    needs = missing(state)
    ready = [need for need in LOOK_UP_ORDER if need in needs and is_ready(state, need, needs)]
    if ready:
        return [look_up(state, need) for need in ready]
    resolution = current(state)
    if resolution.call is not None:
        order_id = resolution.call.arguments["order_id"]
        goal = written(state.task, state.task["orders"][order_id], resolution.call)
        if state.world["orders"][order_id] != goal:
            return [with_and_without_default(resolution.call)]
    return [say(EXPERT_WORDINGS, resolution.tell, resolution.facts, PLAIN_WORDINGS)]


def is_ready(state: EnvironmentState, need: str, needs: list[str]) -> bool:
    """Whether what a look-up takes is already known."""
    if need == "user":
        return "user_id" not in needs
    if need == "order":
        request = state.task["requests"][state.world["request"]]
        return request["order_said"] or state.world["user_seen"]
    return True


def look_up(state: EnvironmentState, need: str) -> list[Action]:
    """The equivalent actions that meet one need."""
    request = state.task["requests"][state.world["request"]]
    match need:
        case "user_id":
            return say(EXPERT_WORDINGS, "ask_user", {}, PLAIN_WORDINGS)
        case "reason":
            return say(EXPERT_WORDINGS, "ask_reason", {}, PLAIN_WORDINGS)
        case "user":
            return [call_action("get_user", user_id=state.task["user"])]
        case "order":
            return [call_action("get_order", order_id=request["order"])]
        case _:
            product = state.task["orders"][request["order"]]["product"]
            return [call_action("get_product", product=product)]


def say(
    style: Mapping[str, tuple[str, ...]],
    key: str,
    facts: Mapping[str, str],
    *other_styles: Mapping[str, tuple[str, ...]],
) -> list[Action]:
    """The wordings of a statement or question, `style` first."""
    wordings = [wording for words in (style, *other_styles) for wording in words[key]]
    return [Action(text=wording.format(**facts)) for wording in wordings]


def with_and_without_default(call: ToolCall) -> list[Action]:
    """The call spelled out, then with the optional refund left out where it is the default."""
    calls = [call]
    if call.arguments.get("refund_to") == "original":
        arguments = {k: v for k, v in call.arguments.items() if k != "refund_to"}
        calls.append(ToolCall(name=call.name, arguments=arguments))
    return [Action(tool_calls=(c,)) for c in calls]
