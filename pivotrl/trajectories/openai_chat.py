"""OpenAI chat: a row with `messages`, and beside them what else is known of the trajectory.

A bare list of messages is a row too. Source: OpenAI's chat completions reference. Legacy
`functions` / `function_call` are understood.
"""

from __future__ import annotations

from pivotrl.trajectories.draft import Draft, beside
from pivotrl.types import JSON

NAME = "openai_chat"


def recognises(row: JSON) -> bool:
    if isinstance(row, dict):
        return are_messages(row.get("messages"))
    return bool(row) and are_messages(row)


def are_messages(value: JSON) -> bool:
    return isinstance(value, list) and all(isinstance(m, dict) and "role" in m for m in value)


def parse(row: JSON) -> list[Draft]:
    if isinstance(row, list):
        return [Draft(messages=row)]
    return [
        Draft(
            messages=row["messages"],
            tools=row.get("tools") or row.get("functions"),
            **beside(row),
            accepted_actions=row.get("accepted_actions"),
            files=row.get("files"),
        )
    ]
