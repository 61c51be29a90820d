"""Retail tasks: a small database, a user and what the user wants, drawn from a seed.

A task is plain JSON and holds all that the world needs. `resolve` says what is right for one
request; it is the only place where the policy's rules are code. It must never know a
conversation.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from pivotrl.environments.retail.language import (
    ADDRESSES,
    AMOUNTS,
    COLORS,
    DAYS,
    ITEMS,
    ORDERS,
    PRODUCTS,
    REASONS,
    REFUNDS,
    USERS,
)
from pivotrl.types import JSON, ConfigError, ToolCall, digest

KINDS = {
    "cancel": 4,
    "return": 3,
    "exchange": 4,
    "change_address": 2,
    "change_quantity": 2,
    "question": 3,
    "cancel_or_return": 2,
}
"""Request kinds and how often they are drawn."""
ALLOWED_STATUS = {
    "cancel": "pending",
    "change_address": "pending",
    "change_quantity": "pending",
    "return": "delivered",
    "exchange": "delivered",
}
STATUSES = ("pending", "shipped", "delivered")
SECOND_REQUEST = 0.2
"""Share of tasks of the default horizon that have two requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What is right for one request: an action or the rule that forbids it, and what to tell."""

    action: str
    """`cancel`, `return`, `exchange`, `change_address`, `change_quantity` or `question`."""
    rule: int | None
    call: ToolCall | None
    needs_product: bool
    needs_reason: bool
    """The user has to be asked for the reason."""
    tell: str
    """Key of the wording."""
    facts: dict[str, str]
    """Fields of the wording; all of them must be told, and no others."""


def resolve(task: JSON, request: JSON) -> Resolution:
    """The policy's rules, applied to one request in the task's first database."""
    order = task["orders"][request["order"]]
    action = request["kind"]
    if action == "cancel_or_return":
        action = "cancel" if order["status"] == "pending" else "return"
    item = _item_of_color(task, order["product"], request.get("color"))
    rule: int | None = None
    if order["user_id"] != task["user"]:
        rule = 1
    elif order["status"] != ALLOWED_STATUS.get(action, order["status"]):
        rule = 2 if ALLOWED_STATUS[action] == "pending" else 3
    elif action == "exchange" and not item["stock"]:
        rule = 4
    elif request.get("refund_to") == "other_card":
        rule = 5
    facts = {"order": request["order"]}
    if rule is not None:
        tell, facts["rule"] = "refuse", str(rule)
    elif action == "question":
        tell = request["field"]
        facts |= _field(order, tell)
    else:
        tell = action
        facts |= {
            "cancel": {"amount": order["total"]},
            "return": {"amount": order["total"]},
            "exchange": {"item": item["item_id"]},
            "change_address": {"address": request.get("address", "")},
            "change_quantity": {"quantity": str(request.get("quantity"))},
        }[action]
    acts = rule is None and action != "question"
    return Resolution(
        action=action,
        rule=rule,
        call=call_for(action, request, item["item_id"]) if acts else None,
        needs_product=action == "exchange" and rule in (None, 4),
        needs_reason=acts and action == "cancel" and not request["reason_said"],
        tell=tell,
        facts=facts,
    )


def call_for(action: str, request: JSON, item_id: str) -> ToolCall:
    """The write that the request asks for, allowed or not."""
    order_id = {"order_id": request["order"]}
    refund_to = "gift_card" if request.get("refund_to") == "gift_card" else "original"
    match action:
        case "cancel":
            arguments = {"reason": request["reason"], "refund_to": refund_to}
            return ToolCall(name="cancel_order", arguments=order_id | arguments)
        case "return":
            return ToolCall(name="return_order", arguments=order_id | {"refund_to": refund_to})
        case "exchange":
            return ToolCall(name="exchange_item", arguments=order_id | {"new_item_id": item_id})
        case "change_address":
            change = {"address": request["address"]}
        case _:
            change = {"quantity": request["quantity"]}
    return ToolCall(name="change_order", arguments=order_id | change)


def _item_of_color(task: JSON, product: str, color: str | None) -> JSON:
    items = task["products"][product]
    return next((item for item in items if item["color"] == color), items[0])


def _field(order: JSON, field: str) -> dict[str, str]:
    match field:
        case "total":
            return {"amount": order["total"]}
        case "arrives":
            return {"day": order["arrives"]}
        case _:
            return {"address": order["address"]}


def question_facts(order: JSON, field: str) -> dict[str, str]:
    """What the answer to a question about one field of an order states."""
    return {"order": order["order_id"]} | _field(order, field)


def draw_task(rng: random.Random, horizon: int | None = None) -> JSON:
    """A task with `horizon` requests (each about three agent turns); without, one or two.

    Raises ConfigError for a horizon that the orders do not suffice for.
    """
    if horizon is not None and not 1 <= horizon < len(ORDERS):
        raise ConfigError(f"horizon = {horizon}: retail tasks have 1 to {len(ORDERS) - 1} requests")
    count = horizon or (2 if rng.random() < SECOND_REQUEST else 1)
    user, stranger = rng.sample(USERS, 2)
    kinds = rng.choices(list(KINDS), weights=list(KINDS.values()), k=count)
    products = [
        *rng.sample(PRODUCTS, min(count + 1, len(PRODUCTS))),
        *rng.choices(PRODUCTS, k=max(0, count + 1 - len(PRODUCTS))),
    ]
    items = iter(rng.sample(ITEMS, 6 * len(PRODUCTS)))
    stock = {p: _draw_items(rng, items) for p in sorted(set(products))}
    requests, orders = [], {}
    for order_id, kind, product in zip(
        sorted(rng.sample(ORDERS, count + 1), key=lambda _: rng.random()),
        [*kinds, "question"],
        products,
        strict=True,
    ):
        wanted = _allowed_statuses(kind)
        allowed = rng.random() < 0.75
        orders[order_id] = {
            "order_id": order_id,
            "user_id": user if rng.random() < 0.93 else stranger,
            "status": rng.choice(
                wanted if allowed else [s for s in STATUSES if s not in wanted] or wanted
            ),
            "product": product,
            "item_id": rng.choice([i["item_id"] for i in stock[product]]),
            "quantity": rng.randint(1, 9),
            "total": rng.choice(AMOUNTS),
            "arrives": rng.choice(DAYS),
            "address": rng.choice(ADDRESSES),
        }
        unique = products.count(product) == 1
        requests.append(_draw_request(rng, kind, orders[order_id], stock[product], user, unique))
    requests.pop()  # the last order is there so that the user has one that nobody asks about
    orders[order_id]["user_id"] = user
    says_user = rng.random() < 0.5
    task = {
        "user": user,
        "user_said": says_user,
        "hello": f"Hello, I am {user}." if says_user else "Hello.",
        "requests": requests,
        "orders": dict(sorted(orders.items())),
        "products": stock,
    }
    names = []
    for request in requests:
        rule = resolve(task, request).rule
        names.append(request["kind"] if rule is None else f"{request['kind']} refused")
    return {"id": digest(task), "kind": names[0] if count == 1 else f"{count} requests"} | task


def _allowed_statuses(kind: str) -> tuple[str, ...]:
    if kind == "question":
        return STATUSES
    if kind == "cancel_or_return":
        return ("pending", "delivered")
    return (ALLOWED_STATUS[kind],)


def _draw_items(rng: random.Random, items: Iterator[str]) -> list[JSON]:
    colors = rng.sample(COLORS, rng.randint(2, 4))
    return [
        {
            "color": color,
            "item_id": next(items),
            "stock": rng.randint(1, 9) if rng.random() < 0.8 else 0,
        }
        for color in colors
    ]


def _draw_request(
    rng: random.Random, kind: str, order: JSON, items: list[JSON], user: str, unique: bool
) -> JSON:
    named = order["user_id"] != user or not unique or rng.random() < 0.7
    product = order["product"]
    what = f"order {order['order_id']}" if named else f"my {product} order"
    request: JSON = {"kind": kind, "order": order["order_id"], "order_said": named}
    if kind in ("cancel", "return", "cancel_or_return"):
        refund_to = rng.choices(("original", "gift_card", "other_card"), weights=(5, 4, 2))[0]
        request["refund_to"] = refund_to
        refund = rng.choice(REFUNDS[refund_to])
    if kind in ("cancel", "cancel_or_return"):
        reason = rng.choice(list(REASONS))
        because = rng.choice(REASONS[reason])
        said = kind == "cancel_or_return" or rng.random() < 0.75
        request |= {"reason": reason, "because": because, "reason_said": said}
    match kind:
        case "cancel":
            ask = rng.choice(("Please cancel {}", "I want to cancel {}")).format(what)
            text = (f"{ask}, {because}." if said else f"{ask}.") + refund
        case "cancel_or_return":
            text = f"If {what} is pending cancel it, {because}, else return it.{refund}"
        case "return":
            text = rng.choice(("Please return {}.", "I want to send back {}.")).format(what)
            text += refund
        case "exchange":
            others = [i["color"] for i in items if i["item_id"] != order["item_id"]]
            request["color"] = rng.choice(others)
            text = rng.choice(
                ("Please exchange the {} of {} for a {} one.", "I want the {} of {} in {}.")
            ).format(product, what if named else "my order", request["color"])
        case "change_address":
            request["address"] = rng.choice([a for a in ADDRESSES if a != order["address"]])
            text = rng.choice(("Please send {} to {}.", "Change the address of {} to {}.")).format(
                what, request["address"]
            )
        case "change_quantity":
            request["quantity"] = rng.choice([q for q in range(1, 10) if q != order["quantity"]])
            text = rng.choice(("Please make {} {} pieces.", "Change {} to {} pieces.")).format(
                what, request["quantity"]
            )
        case _:
            request["field"] = rng.choice(("total", "arrives", "address"))
            text = {
                "total": "What do I pay for {}?",
                "arrives": "When does {} come?",
                "address": "Where does {} go?",
            }[request["field"]].format(what)
    return request | {"text": text}
