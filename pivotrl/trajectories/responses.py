"""OpenAI Responses: a row with `input`, a flat list of items, and perhaps an `output`.

One turn is a maximal run of reasoning, assistant messages and calls, in whatever order they lie.
Source: OpenAI's Responses reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pivotrl.trajectories.draft import Draft, beside
from pivotrl.trajectories.rows import RowError
from pivotrl.types import JSON

NAME = "responses"
ITEM_TYPES = ("message", "reasoning", "function_call", "function_call_output")


def recognises(row: JSON) -> bool:
    if isinstance(row, dict) and isinstance(row.get("input"), str):
        return are_items(row.get("output"))
    return are_items(row.get("input") if isinstance(row, dict) else row)


def are_items(value: JSON) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and ("type" in item or "role" in item) for item in value)
        and any(item.get("type") in ITEM_TYPES for item in value)
    )


def parse(row: JSON) -> list[Draft]:
    if isinstance(row, list):
        return [Draft(messages=messages_of(row))]
    items = [*_opening(row), *given_items(row["input"]), *(row.get("output") or [])]
    return [
        Draft(
            messages=messages_of(items),
            tools=row.get("tools"),
            **beside(row),
        )
    ]


def given_items(given: JSON) -> list[JSON]:
    """Of an input, which may be one user's text."""
    return [{"role": "user", "content": given}] if isinstance(given, str) else list(given)


def _opening(row: dict[str, Any]) -> list[JSON]:
    """`instructions` stand before the input, as a system message."""
    text = row.get("instructions")
    return [{"role": "system", "content": text}] if text else []


def messages_of(items: Iterable[JSON]) -> list[JSON]:
    """The items as OpenAI-chat messages. Raises RowError for an item that is none of the four."""
    messages: list[JSON] = []
    turn: dict[str, Any] | None = None
    for index, item in enumerate(items):
        kind = item.get("type") or "message" if isinstance(item, dict) else None
        if kind == "function_call_output":
            messages.append(
                {
                    "role": "tool",
                    "content": _output(item.get("output")),
                    "tool_call_id": item.get("call_id"),
                }
            )
            turn = None
        elif kind == "message" and item.get("role") != "assistant":
            messages.append({"role": item.get("role"), "content": item.get("content")})
            turn = None
        elif kind in ITEM_TYPES:
            if turn is None:
                turn = {"role": "assistant", "content": "", "tool_calls": []}
                messages.append(turn)
            _add(turn, kind, item)
        else:
            raise RowError("unreadable item", f"item {index} has the type {kind!r}")
    return messages


def _add(turn: dict[str, Any], kind: str, item: dict[str, Any]) -> None:
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        turn["tool_calls"].append({"id": item.get("call_id"), "function": function})
    elif kind == "reasoning":
        parts = item.get("summary") or item.get("content") or []
        text = "\n".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
        turn["reasoning"] = "\n".join(filter(None, (turn.get("reasoning"), text)))
    else:
        texts = filter(None, (turn["content"], _text(item.get("content"))))
        turn["content"] = "\n".join(texts)


def _text(content: JSON) -> JSON:
    if not isinstance(content, list):
        return content
    return "".join(
        str(part.get("text", part.get("refusal", ""))) for part in content if isinstance(part, dict)
    )


def _output(output: JSON) -> JSON:
    """Text, or the text of its parts."""
    return _text(output) if isinstance(output, list) else output
