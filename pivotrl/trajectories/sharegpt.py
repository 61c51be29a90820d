"""ShareGPT: `conversations` of `{from, value}`; calls as roles of their own or as Hermes text.

Source: LLaMA-Factory's data README, NousResearch's function-calling data.
"""

from __future__ import annotations

from typing import Any

import orjson

from pivotrl.trajectories.draft import Draft, beside
from pivotrl.trajectories.hermes import read_text
from pivotrl.types import JSON

NAME = "sharegpt"
ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "function_call",
}


def recognises(row: JSON) -> bool:
    turns = _turns(row) if isinstance(row, dict) else None
    return (
        isinstance(turns, list)
        and bool(turns)
        and all(isinstance(t, dict) and "from" in t and "value" in t for t in turns)
    )


def _turns(row: dict[str, Any]) -> JSON:
    return row.get("conversations") or row.get("conversation")


def parse(row: JSON) -> list[Draft]:
    system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    messages, tools = read_text([*system, *map(_message, _turns(row))])
    return [
        Draft(
            messages=messages,
            tools=row.get("tools") or tools,
            **beside(row),
        )
    ]


def _message(turn: dict[str, Any]) -> dict[str, JSON]:
    role = ROLES.get(str(turn["from"]), str(turn["from"]))
    value = turn["value"]
    if role == "function_call":
        calls = _several(value)
        text = "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)
        return {"role": "assistant", "content": text}
    return {"role": role, "content": value}


def _several(value: JSON) -> list[JSON]:
    """The calls that one text holds: LLaMA-Factory writes those at once as a JSON list."""
    try:
        calls = orjson.loads(value)
    except (orjson.JSONDecodeError, TypeError):
        return [value]
    return [orjson.dumps(call).decode() for call in calls] if isinstance(calls, list) else [value]
