"""The closed language of the retail domain: identifiers, policy text, tools and wordings.

Everything that is ever said in the domain is spelled here, so that a model of a few million
parameters can learn it. It must never know a task, a world or who speaks.
"""

from __future__ import annotations

from collections.abc import Mapping

from pivotrl.types import JSON, ToolSpec

ORDERS = tuple(f"W{n}" for n in range(100, 180))
USERS = tuple(f"U{n}" for n in range(100, 140))
ITEMS = tuple(f"I{n}" for n in range(100, 180))
AMOUNTS = tuple(f"USD{n}" for n in range(10, 50))
DAYS = tuple(f"May-{n:02}" for n in range(1, 29))
_STREETS = (
    *("Oak", "Elm", "Ash", "Fir", "Bay", "Mill", "Lake", "Hill"),
    *("Park", "Rose", "King", "Queen", "West", "East", "North", "Main"),
)
ADDRESSES = tuple(f"{name}-Street-{n}" for n, name in enumerate(_STREETS, start=10))

SINGLE_TOKENS: tuple[str, ...] = (*ORDERS, *USERS, *ITEMS, *AMOUNTS, *DAYS, *ADDRESSES)
"""Identifiers that a tokenizer should hold as one token each: two are copied wrongly.

For the rest, a BPE that splits text at spaces alone makes an episode 400 tokens, GPT-2's
splitting (at punctuation too) 910: most of an episode is JSON.
"""

PRODUCTS = ("mug", "lamp", "chair", "shirt", "bag", "clock")
COLORS = ("red", "blue", "green", "black", "white")
REASONS: Mapping[str, tuple[str, ...]] = {
    "not_needed": ("I do not need it any more", "I have no use for it"),
    "mistake": ("I ordered it by mistake", "I clicked on the wrong thing"),
    "too_late": ("it comes too late", "I cannot wait so long"),
    "cheaper": ("I found it cheaper", "it costs less in another shop"),
}
REFUNDS: Mapping[str, tuple[str, ...]] = {
    "original": ("",),
    "gift_card": (" Refund it to my gift card.", " I want the money on a gift card."),
    "other_card": (" Refund it to my other card.", " I want the money on a new card."),
}

POLICY = """You serve users of a shop. One call a turn. Look up user and order before you act \
or answer, before an exchange the product. Refuse by the first rule that forbids:
Rule 1: own orders only.
Rule 2: cancel or change only pending orders.
Rule 3: return or exchange only delivered orders.
Rule 4: exchange for items in stock.
Rule 5: refund to original or gift_card."""


def _tool(name: str, description: str, required: int = 1, **properties: JSON) -> ToolSpec:
    return ToolSpec(
        name=name,
        description=description,
        parameters={
            "type": "object",
            "properties": properties,
            "required": list(properties)[:required],
        },
    )


_NAME: JSON = {"type": "string"}
_REFUND: JSON = {"type": "string", "enum": ["original", "gift_card"], "default": "original"}

TOOLS: tuple[ToolSpec, ...] = (
    _tool("get_user", "Look up a user.", user_id=_NAME),
    _tool("get_order", "Look up an order.", order_id=_NAME),
    _tool("get_product", "List its items.", product=_NAME),
    _tool(
        "cancel_order",
        "Cancel an order.",
        2,
        order_id=_NAME,
        reason={"type": "string", "enum": list(REASONS)},
        refund_to=_REFUND,
    ),
    _tool("return_order", "Return an order.", 1, order_id=_NAME, refund_to=_REFUND),
    _tool("exchange_item", "Exchange the item.", 2, order_id=_NAME, new_item_id=_NAME),
    _tool(
        "change_order",
        "Change an order.",
        1,
        order_id=_NAME,
        address=_NAME,
        quantity={"type": "integer"},
    ),
)

EXPERT_WORDINGS: Mapping[str, tuple[str, ...]] = {
    "ask_user": ("May I have your user id?", "May I ask for your user id, please?"),
    "ask_reason": ("May I have the reason?", "May I ask for the reason, please?"),
    "cancel": (
        "Done: order {order} is cancelled and {amount} is refunded.",
        "Order {order} has been cancelled, {amount} will be refunded.",
    ),
    "return": (
        "Done: order {order} is returned and {amount} is refunded.",
        "Order {order} has been returned, {amount} will be refunded.",
    ),
    "exchange": (
        "Done: order {order} is exchanged for {item}.",
        "Order {order} has been exchanged, the new item is {item}.",
    ),
    "change_address": (
        "Done: order {order} is sent to {address}.",
        "Order {order} has been changed, the address is {address}.",
    ),
    "change_quantity": (
        "Done: order {order} has {quantity} pieces.",
        "Order {order} has been changed, the quantity is {quantity}.",
    ),
    "total": ("The total of order {order} is {amount}.", "Order {order} costs {amount} in total."),
    "arrives": ("The day of order {order} is {day}.", "Order {order} arrives on {day}."),
    "address": (
        "The address of order {order} is {address}.",
        "Order {order} is sent to {address}.",
    ),
    "refuse": (
        "I am sorry, I cannot do that for order {order} because of rule {rule}.",
        "I am sorry, rule {rule} says that I cannot do that for order {order}.",
    ),
}

PLAIN_WORDINGS: Mapping[str, tuple[str, ...]] = {
    "ask_user": ("What is your user id?", "Your user id?"),
    "ask_reason": ("What is the reason?", "Your reason?"),
    "cancel": ("{order} cancelled, refund {amount}.", "I cancelled {order}, you get {amount}."),
    "return": ("{order} returned, refund {amount}.", "I returned {order}, you get {amount}."),
    "exchange": ("{order} exchanged, now {item}.", "I exchanged {order}, you get {item}."),
    "change_address": ("{order} goes to {address} now.", "I changed {order} to {address}."),
    "change_quantity": ("{order} has {quantity} now.", "I changed {order} to {quantity}."),
    "total": ("{order} is {amount}.", "You pay {amount} for {order}."),
    "arrives": ("{order} comes {day}.", "You get {order} on {day}."),
    "address": ("{order} goes to {address}.", "It is {address} for {order}."),
    "refuse": ("Cannot do {order}, rule {rule}.", "Rule {rule}, {order} cannot be done."),
}
"""The same statements in the wording of the noisy policy."""

FORGETFUL_WORDINGS: Mapping[str, tuple[str, ...]] = {
    "cancel": ("{order} cancelled.", "I cancelled {order}."),
    "return": ("{order} returned.", "I returned {order}."),
}
"""Statements that leave out the refund that the user must be told."""
