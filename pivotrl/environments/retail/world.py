"""The live retail domain (as tau2-Bench): database, tools, scripted user, score.

The agent sees messages and tools alone. A task is solved when the final database is right, the
user was told the right thing for each request, and nothing was done or said before the look-ups
that the policy asks for. This module must never know who the agent is or how it speaks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from jsonschema import Draft202012Validator

from pivotrl.environments.retail.language import POLICY, TOOLS
from pivotrl.environments.retail.tasks import Resolution, resolve
from pivotrl.environments.turns import ONE_CALL, spoken
from pivotrl.types import JSON, Action, EnvironmentState, Message, Role, ToolCall, ToolSpec

MAX_TEXT = 2000
"""Characters of agent text that are looked at; the rest is ignored."""
MAX_ARGUMENT = 100
"""Characters of a string argument; a longer one is bad."""
STATUS_AFTER = {
    "cancel_order": "cancelled",
    "return_order": "returned",
    "exchange_item": "exchanged",
}
_VALIDATORS = {t.name: Draft202012Validator(dict(t.parameters)) for t in TOOLS}
_FACT = re.compile(r"(?<![A-Za-z])[A-Za-z]{0,20}-?(?:[A-Za-z]{1,20}-)?\d+")
_NEGATION = re.compile(r"\b(?:not|cannot|no|never)\b|n't\b")
_COURTESY = re.compile(r"[^.?!]{0,60}\belse\?")  # "Anything else?" asks for nothing
_STEMS = {"cancel": "cancel", "return": "return", "exchange": "exchange"}


class Retail:
    """The retail environment; stateless, `step` is pure."""

    domain = "retail"
    tools: tuple[ToolSpec, ...] = TOOLS

    def reset(self, task: JSON) -> EnvironmentState:
        """The first state: policy and the user's first request."""
        text = f"{task['hello']} {task['requests'][0]['text']}"
        return EnvironmentState(
            task=task,
            messages=(
                Message(role=Role.SYSTEM, content=POLICY),
                Message(role=Role.USER, content=text),
            ),
            done=False,
            world={
                "orders": task["orders"],
                "request": 0,
                "turns": 0,
                "user_known": task["user_said"],
                "user_seen": False,
                "orders_seen": [],
                "products_seen": [],
                "reason_known": task["requests"][0].get("reason_said", True),
                "wrote": None,
                "told": True,
                "in_order": True,
            },
        )

    def step(self, state: EnvironmentState, action: Action) -> EnvironmentState:
        """The state after the agent's turn and the answer of a tool or of the user.

        A malformed call, or several in one turn, is answered by an error result and costs the
        turn. A finished episode does not change any more.
        """
        if state.done:
            return state
        world = dict(state.world, turns=state.world["turns"] + 1)
        messages = spoken(
            action,
            world["turns"],
            lambda call: json.dumps(_use_tool(state.task, world, call)),
            refusal=json.dumps({"error": ONE_CALL}),
        )
        done = False
        if not action.tool_calls:
            answer = "I do not understand." if action.malformed else _hear(state, world, action)
            done = answer is None
            if answer is not None:
                messages.append(Message(role=Role.USER, content=answer))
        return EnvironmentState(
            task=state.task,
            messages=state.messages + tuple(messages),
            done=done or world["turns"] >= max_turns(state.task),
            world=world,
        )

    def score(self, state: EnvironmentState) -> float:
        """1.0 if all requests were dealt with and database and statements are right, else 0.0."""
        world, task = state.world, state.task
        finished = state.done and world["request"] == len(task["requests"])
        if not (finished and world["told"] and world["in_order"]):
            return 0.0
        goal = dict(task["orders"])
        for request in task["requests"]:
            call = resolve(task, request).call
            if call is not None:
                order_id = request["order"]
                goal[order_id] = written(task, goal[order_id], call)
        return float(world["orders"] == goal)


def max_turns(task: JSON) -> int:
    """Agent turns after which an episode ends unsolved."""
    return 5 + 7 * len(task["requests"])


def current(state: EnvironmentState) -> Resolution:
    """What is right for the request that the user is waiting for."""
    return resolve(state.task, state.task["requests"][state.world["request"]])


def missing(state: EnvironmentState) -> list[str]:
    """What must still be found out before the current request may be acted on or answered.

    Any of `user_id`, `user`, `order`, `product`, `reason`.
    """
    return _missing(state.task, state.world)


def _missing(task: JSON, world: JSON) -> list[str]:
    request = task["requests"][world["request"]]
    resolution = resolve(task, request)
    product = task["orders"][request["order"]]["product"]
    open_needs = {
        "user_id": not world["user_known"],
        "user": not world["user_seen"],
        "order": request["order"] not in world["orders_seen"],
        "product": resolution.needs_product and product not in world["products_seen"],
        "reason": resolution.needs_reason and not world["reason_known"],
    }
    return [need for need, is_open in open_needs.items() if is_open]


def written(task: JSON, order: JSON, call: ToolCall) -> JSON:
    """The order's record after a write."""
    arguments = call.arguments
    record = dict(order)
    if call.name in STATUS_AFTER:
        record["status"] = STATUS_AFTER[call.name]
    if call.name == "cancel_order":
        record["reason"] = arguments["reason"]
    if call.name in ("cancel_order", "return_order"):
        record["refund_to"] = arguments.get("refund_to", "original")
    if call.name == "exchange_item":
        record["item_id"] = arguments["new_item_id"]
    for change in ("address", "quantity"):
        if call.name == "change_order" and change in arguments:
            record[change] = arguments[change]
    return record


def _use_tool(task: JSON, world: dict[str, JSON], call: ToolCall) -> JSON:
    """The tool's result; `world` is updated in place (it belongs to the new state)."""
    arguments = call.arguments
    validator = _VALIDATORS.get(call.name) if isinstance(call.name, str) else None
    if validator is None:
        return {"error": "unknown tool"}
    if not isinstance(arguments, Mapping):
        return {"error": "bad arguments"}
    arguments = {k: _integer(v) if k == "quantity" else v for k, v in arguments.items()}
    known = set(arguments) <= set(validator.schema["properties"])
    if (
        not known
        or not validator.is_valid(arguments)
        or not all(map(_is_short, arguments.values()))
    ):
        return {"error": "bad arguments"}
    call = ToolCall(name=call.name, arguments=arguments)
    if call.name == "get_user":
        return _get_user(task, world, arguments["user_id"])
    if call.name == "get_product":
        product = arguments["product"]
        world["products_seen"] = [*world["products_seen"], product]
        items = task["products"].get(product)
        return {"items": items} if items else {"error": "not found"}
    order_id = arguments["order_id"]
    order = world["orders"].get(order_id)
    if order is None:
        return {"error": "not found"}
    if call.name == "get_order":
        world["orders_seen"] = [*world["orders_seen"], order_id]
        return order
    world["in_order"] = world["in_order"] and not _missing(task, world)
    record = written(task, order, call)
    world["orders"] = world["orders"] | {order_id: record}
    world["wrote"] = {"name": call.name, "arguments": dict(arguments)}
    if call.name in ("cancel_order", "return_order"):
        return {"status": record["status"], "refund": record["total"]}
    if call.name == "exchange_item":
        return {"status": record["status"], "item_id": record["item_id"]}
    return {"status": "changed"} | {k: v for k, v in arguments.items() if k != "order_id"}


def _is_short(value: JSON) -> bool:
    """Results repeat arguments, so their size is bounded."""
    return len(value) <= MAX_ARGUMENT if isinstance(value, str) else abs(value) < 10**6


def _integer(value: JSON) -> JSON:
    """5 for 5, 5.0 and "5"; other values unchanged."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _get_user(task: JSON, world: dict[str, JSON], user_id: str) -> JSON:
    if user_id != task["user"]:
        return {"error": "not found"}
    # An id read off an order is no proof: the look-up counts once the user has said it.
    world["user_seen"] = world["user_seen"] or world["user_known"]
    own = [
        {"product": order["product"], "order_id": order_id}
        for order_id, order in world["orders"].items()
        if order["user_id"] == user_id
    ]
    return {"user_id": user_id, "orders": own}


def _hear(state: EnvironmentState, world: dict[str, JSON], action: Action) -> str | None:
    """What the user answers; None when the user has nothing more to ask for."""
    task, text = state.task, _COURTESY.sub("", action.text[:MAX_TEXT])
    request = task["requests"][world["request"]]
    words = set(re.findall(r"[a-z]+", text.lower()))
    if not words:
        return "I do not understand."
    if "?" in text:
        if "id" in words:
            world["user_known"] = True
            return f"My user id is {task['user']}."
        if words & {"reason", "why"}:
            world["reason_known"] = True
            because = request.get("because", "no reason")
            return f"{because[0].upper()}{because[1:]}."
        return "I do not understand."
    world["in_order"] = world["in_order"] and not _missing(task, world)
    world["told"] = world["told"] and _tells(text, resolve(task, request))
    world["request"] += 1
    world["wrote"] = None
    if world["request"] == len(task["requests"]):
        return None
    following = task["requests"][world["request"]]
    world["reason_known"] = following.get("reason_said", True)
    return f"Thanks. {following['text']}"


def _tells(text: str, resolution: Resolution) -> bool:
    """Whether a statement says exactly the facts that the user must be told."""
    lowered = text.lower()
    stem = _STEMS.get(resolution.tell, "")
    return (
        set(_FACT.findall(text)) == set(resolution.facts.values())
        and bool(_NEGATION.search(lowered)) == (resolution.tell == "refuse")
        and stem in lowered
    )
