"""A noisy retail agent, whose episodes the miniature base model is pretrained on.

It is sure of routine turns (who is it, look-ups) and errs at decisions, where it takes a
plausible but wrong alternative. So a model that imitates it half-knows the domain, as a real
base model does. This module must never be used to make demonstrations.
"""

from __future__ import annotations

import random
from typing import Any

from pivotrl.environments.retail.expert import (
    LOOK_UP_ORDER,
    is_ready,
    look_up,
    say,
)
from pivotrl.environments.retail.language import FORGETFUL_WORDINGS, PLAIN_WORDINGS, REASONS
from pivotrl.environments.retail.tasks import call_for, question_facts
from pivotrl.environments.retail.world import current, missing
from pivotrl.environments.turns import OTHER_WAY, call_action, decider
from pivotrl.types import Action, EnvironmentState, ToolCall

RIGHT: dict[str, float] = {
    "ask_reason": 0.3,
    "rule 1": 0.2,
    "rule 2": 0.35,
    "rule 3": 0.3,
    "rule 4": 0.3,
    "rule 5": 0.2,
    "allowed": 0.93,
    "branch": 0.5,
    "reason": 0.5,
    "gift_card": 0.4,
    "item": 0.4,
    "quantity": 0.5,
    "address": 0.55,
    "question": 0.4,
    "tell_refund": 0.55,
    "tell": 0.9,
}
"""How often each decision is right at skill 0; every other turn is always right."""


def noisy_action(state: EnvironmentState, rng: random.Random, skill: float = 0.0) -> Action:
    """The noisy policy's turn; `skill` in [0, 1] moves each decision from `RIGHT` to certainty."""

    right = decider(RIGHT, rng, skill)
    needs = missing(state)
    ready = [n for n in LOOK_UP_ORDER if n in needs and n != "reason" and is_ready(state, n, needs)]
    if ready:
        need = rng.choice(ready) if rng.random() < OTHER_WAY else ready[0]
        return look_up(state, need)[-1 - rng.randrange(2) if need == "user_id" else 0]
    if state.world["wrote"] is not None:
        return _tell_write(state, rng, right)
    resolution = current(state)
    order = state.task["orders"][resolution.facts["order"]]
    if resolution.rule is not None:
        if right(f"rule {resolution.rule}"):
            return rng.choice(say(PLAIN_WORDINGS, "refuse", resolution.facts))
        if rng.random() < 0.3:
            return _refuse(order, rng, resolution.rule)
    elif not right("allowed"):
        return _refuse(order, rng, None)
    if resolution.action == "question":
        field = resolution.tell if resolution.rule is None else None
        field = field or state.task["requests"][state.world["request"]]["field"]
        if not right("question"):
            field = rng.choice([f for f in ("total", "arrives", "address") if f != field])
        return rng.choice(say(PLAIN_WORDINGS, field, question_facts(order, field)))
    if "reason" in needs and right("ask_reason"):
        return rng.choice(say(PLAIN_WORDINGS, "ask_reason", {}))
    return _write(state, rng, right, resolution.action, order)


def _refuse(order: Any, rng: random.Random, but: int | None) -> Action:
    rule = rng.choice([r for r in range(1, 6) if r != but])
    facts = {"order": order["order_id"], "rule": str(rule)}
    return rng.choice(say(PLAIN_WORDINGS, "refuse", facts))


def _write(
    state: EnvironmentState, rng: random.Random, right: Any, action: str, order: Any
) -> Action:
    """The write that the user wants, with each argument right or plausibly wrong."""
    request = dict(state.task["requests"][state.world["request"]])
    items = state.task["products"][order["product"]]
    item_id = next((i["item_id"] for i in items if i["color"] == request.get("color")), "")
    if action == "exchange" and order["product"] not in state.world["products_seen"]:
        return call_action("get_product", product=order["product"])
    if request["kind"] == "cancel_or_return" and not right("branch"):
        action = "return" if action == "cancel" else "cancel"
    if action == "cancel" and not right("reason"):
        request["reason"] = rng.choice([r for r in REASONS if r != request["reason"]])
    if request.get("refund_to") == "gift_card" and not right("gift_card"):
        request["refund_to"] = "original"
    if action == "exchange" and not right("item"):
        item_id = rng.choice([i["item_id"] for i in items if i["item_id"] != item_id])
    if action == "change_quantity" and not right("quantity"):
        request["quantity"] = rng.choice([q for q in range(1, 10) if q != request["quantity"]])
    if action == "change_address" and not right("address"):
        request["address"] = order["address"]
    call = call_for(action, request, item_id)
    arguments = {k: v for k, v in call.arguments.items() if (k, v) != ("refund_to", "original")}
    return Action(tool_calls=(ToolCall(name=call.name, arguments=arguments),))


def _tell_write(state: EnvironmentState, rng: random.Random, right: Any) -> Action:
    """The statement about what was just written, right or not."""
    wrote = state.world["wrote"]
    name, arguments = wrote["name"], wrote["arguments"]
    order = state.world["orders"][arguments["order_id"]]
    facts = {
        "order": order["order_id"],
        "amount": order["total"],
        "item": order["item_id"],
        "address": order["address"],
        "quantity": str(order["quantity"]),
    }
    if name in ("cancel_order", "return_order"):
        key = name.removesuffix("_order")
        style = PLAIN_WORDINGS if right("tell_refund") else FORGETFUL_WORDINGS
        return rng.choice(say(style, key, facts))
    key = "exchange"
    if name == "change_order":
        key = "change_address" if "address" in arguments else "change_quantity"
    if not right("tell"):
        first = state.task["orders"][arguments["order_id"]]
        facts |= {
            "item": first["item_id"],
            "address": first["address"],
            "quantity": str(first["quantity"]),
        }
    return rng.choice(say(PLAIN_WORDINGS, key, facts))
