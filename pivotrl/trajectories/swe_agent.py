"""SWE-agent: a `.traj` document, of which the `history` is what the model saw and did.

Tool schemas are not in the file: give them with `data.tools`; nor is success. A shown
demonstration is context. Source: SWE-agent's trajectory documentation.
"""

from __future__ import annotations

from typing import Any

from pivotrl.trajectories.draft import Draft
from pivotrl.types import JSON

NAME = "swe_agent"


def recognises(row: JSON) -> bool:
    history = row.get("history") if isinstance(row, dict) else None
    return (
        isinstance(history, list)
        and bool(history)
        and all(isinstance(entry, dict) and "role" in entry for entry in history)
        and any("agent" in entry or "message_type" in entry for entry in history)
    )


def parse(row: JSON) -> list[Draft]:
    history = row["history"]
    replay = row.get("replay_config")
    problem = _at(replay, "problem_statement", "id")
    return [
        Draft(
            messages=[_message(entry) for entry in history],
            domain=None if any(entry.get("tool_calls") for entry in history) else "software",
            task=problem if isinstance(problem, str) else None,
            not_actions={i for i, entry in enumerate(history) if entry.get("is_demo")},
        )
    ]


def _message(entry: dict[str, Any]) -> dict[str, JSON]:
    ids = entry.get("tool_call_ids") or [None]
    message = {"role": entry["role"], "content": entry.get("content")}
    if entry["role"] == "tool":
        return message | {"tool_call_id": ids[0]}
    return message | {
        "tool_calls": entry.get("tool_calls"),
        "reasoning": entry.get("reasoning_content"),
    }


def _at(value: JSON, *path: str) -> JSON:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
