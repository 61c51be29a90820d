"""OpenHands: a `history` of events, each an action or an observation.

With function calling an event names the model's own call (`tool_call_metadata`); without it, an
action's name and arguments are the call. Events of the harness alone are left out. Source:
All-Hands-AI/OpenHands, `events/`.
"""

from __future__ import annotations

from typing import Any

from pivotrl.trajectories.draft import Draft
from pivotrl.types import JSON

NAME = "openhands"
ARGUMENTS = {
    "run": ("command",),
    "run_ipython": ("code",),
    "read": ("path", "start", "end"),
    "write": ("path", "content", "start", "end"),
    "edit": ("path", "command", "file_text", "old_str", "new_str", "insert_line", "view_range"),
    "browse": ("url",),
    "browse_interactive": ("browser_actions",),
    "delegate": ("agent", "inputs"),
}
"""What the model decides of each action; the rest of an event is the harness's."""
HARNESS = {
    *("change_agent_state", "agent_state_changed", "null", "recall", "system"),
    *("condensation", "condensation_request", "loop_recovery"),
}


def recognises(row: JSON) -> bool:
    history: JSON = row.get("history") if isinstance(row, dict) else row
    return (
        isinstance(history, list)
        and bool(history)
        and all(
            isinstance(event, dict) and ("action" in event or "observation" in event)
            for event in history
        )
        and not any("role" in event for event in history)
    )


def parse(row: JSON) -> list[Draft]:
    history: list[Any] = row["history"] if isinstance(row, dict) else row
    messages: list[dict[str, JSON]] = []
    answers: list[JSON] = []
    tools: JSON = None
    for event in history:
        if event.get("action") == "system":
            told = event.get("args") or {}
            messages.append({"role": "system", "content": told.get("content")})
            tools = told.get("tools")
        else:
            _add(messages, event, answers)
    beside = row if isinstance(row, dict) else {}
    success = beside.get("success", (beside.get("test_result") or {}).get("resolved"))
    return [
        Draft(
            messages=messages,
            tools=tools,
            task=beside.get("instance_id"),
            reward=success if isinstance(success, bool) else None,
        )
    ]


def _add(messages: list[dict[str, JSON]], event: dict[str, Any], answers: list[JSON]) -> None:
    """Adds an event's message; `answers` are the model's own that have one."""
    metadata = event.get("tool_call_metadata") or {}
    arguments = event.get("args") or event  # old files have the arguments in the event itself
    action = event.get("action")
    if "observation" in event:
        if event["observation"] not in HARNESS and event.get("content") is not None:
            called = bool(messages) and messages[-1].get("tool_calls")
            messages.append(
                {
                    "role": "tool" if metadata or called else "user",
                    "content": event["content"],
                    "tool_call_id": metadata.get("tool_call_id"),
                }
            )
    elif metadata:
        message = _at(metadata, "model_response", "choices", 0, "message") or {}
        answer = [_at(metadata, "model_response", "id"), message.get("tool_calls")]
        if answer in answers[-1:]:  # with several calls it is several events, results between
            return
        answers.append(answer)
        messages.append(
            {
                "role": "assistant",
                "content": message.get("content") or arguments.get("thought"),
                "tool_calls": message.get("tool_calls"),
            }
        )
    elif action == "message":
        source = event.get("source", "agent" if messages else "user")
        role = "user" if source == "user" else "assistant"
        messages.append({"role": role, "content": arguments.get("content")})
    elif action == "finish":
        said = arguments.get("final_thought") or arguments.get("thought")
        messages.append({"role": "assistant", "content": said})
    elif action not in HARNESS:
        known = ARGUMENTS.get(str(action), ())
        call = {"name": action, "arguments": {k: arguments[k] for k in known if k in arguments}}
        messages.append(
            {
                "role": "assistant",
                "content": arguments.get("thought"),
                "tool_calls": [{"function": call}],
            }
        )


def _at(value: Any, *path: str | int) -> Any:
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value
