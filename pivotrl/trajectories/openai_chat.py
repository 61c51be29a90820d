"""OpenAI chat: a row with `messages`, and beside them what else is known of the trajectory.

Source: OpenAI's chat completions reference. Legacy `functions` / `function_call` are understood.
"""

from __future__ import annotations

from pivotrl.trajectories.draft import Draft
from pivotrl.types import JSON

NAME = "openai_chat"


def recognises(row: JSON) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("messages"), list)
        and all(isinstance(m, dict) and "role" in m for m in row["messages"])
    )


def parse(row: JSON) -> Draft:
    return Draft(
        messages=row["messages"],
        tools=row.get("tools") or row.get("functions"),
        task=row["task"] if row.get("task") is not None else row.get("task_id"),
        domain=row.get("domain"),
        reward=row.get("reward"),
        accepted_actions=row.get("accepted_actions"),
    )
