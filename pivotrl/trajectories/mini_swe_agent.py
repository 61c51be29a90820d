"""mini-swe-agent: a bare list of messages (v1), or an object with `trajectory_format` (v2).

An action is a shell command in a block of the assistant's text, or a tool call; the run's end is no
message of the model. Source: SWE-agent/mini-swe-agent.
"""

from __future__ import annotations

from typing import Any

from pivotrl.trajectories.draft import Draft
from pivotrl.trajectories.openai_chat import are_messages
from pivotrl.types import JSON

NAME = "mini_swe_agent"
FENCE = "```mswea_bash_command"


def recognises(row: JSON) -> bool:
    if isinstance(row, dict):
        return str(row.get("trajectory_format", "")).startswith("mini-swe-agent")
    return are_messages(row) and any(FENCE in str(m.get("content")) for m in row)


def parse(row: JSON) -> list[Draft]:
    messages = row["messages"] if isinstance(row, dict) else row
    kept = messages
    if isinstance(messages, list):
        kept = [_message(m) for m in messages if not _is_exit(m)]
    calls = isinstance(kept, list) and any(
        isinstance(m, dict) and m.get("tool_calls") for m in kept
    )
    return [
        Draft(
            messages=kept,
            domain=None if calls else "terminal",
            task=row.get("instance_id") if isinstance(row, dict) else None,
        )
    ]


def _is_exit(message: JSON) -> bool:
    return isinstance(message, dict) and message.get("role") == "exit"


def _message(message: Any) -> JSON:
    """Without what is beside the conversation: costs, timestamps, parsed commands."""
    if not isinstance(message, dict):
        return message
    return {key: value for key, value in message.items() if key != "extra"}
