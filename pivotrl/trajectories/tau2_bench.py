"""τ²-bench: one document with `info`, `tasks` and `simulations`, a trajectory each.

The system prompt is not stored; it is put together again from the policy, as τ²'s own agent does.
Tool schemas are null in public files: give them with `data.tools`. What the simulated user's tools
say is not the agent's to see. Source: sierra-research/tau2-bench, `agent/llm_agent.py`.
"""

from __future__ import annotations

from typing import Any

from pivotrl.trajectories.draft import Draft
from pivotrl.types import JSON

NAME = "tau2_bench"

DOMAINS = ("retail", "airline", "telecom")
"""Of τ²; the others are conversations with tools like any."""
SYSTEM = """<instructions>
You are a customer service agent that helps the user according to the <policy> provided below.
In each turn you can either:
- Send a message to the user.
- Make a tool call.
You cannot do both at the same time.

Try to be helpful and always follow the policy. Always make sure you generate valid JSON only.
</instructions>
<policy>
{policy}
</policy>"""


def recognises(row: JSON) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("simulations"), list)
        and isinstance(row.get("info"), dict)
    )


def parse(row: JSON) -> list[Draft]:
    environment = row["info"].get("environment_info") or {}
    policy, name = environment.get("policy"), str(environment.get("domain_name"))
    system = [{"role": "system", "content": SYSTEM.format(policy=policy)}] if policy else []
    return [
        Draft(
            messages=_messages(simulation, system),
            tools=environment.get("tool_defs"),
            task=simulation.get("task_id"),
            domain=next((known for known in DOMAINS if name.startswith(known)), "tool_use"),
            reward=_reward(simulation),
        )
        for simulation in (s if isinstance(s, dict) else {} for s in row["simulations"])
    ]


def _reward(simulation: dict[str, Any]) -> JSON:
    told = simulation.get("reward_info")
    return told.get("reward") if isinstance(told, dict) else None


def _messages(simulation: dict[str, Any], system: list[JSON]) -> JSON:
    stored = simulation.get("messages")
    if not isinstance(stored, list):
        return stored
    return [*system, *(_message(m) for m in stored if not _is_users_own(m))]


def _is_users_own(message: JSON) -> bool:
    """A call of the simulated user's own tools, or its result."""
    if not isinstance(message, dict):
        return False
    if message.get("role") == "tool":
        return message.get("requestor") == "user"
    return message.get("role") == "user" and not message.get("content")


def _message(message: JSON) -> JSON:
    if not isinstance(message, dict):
        return message
    role = message.get("role")
    if role == "tool":
        return {
            "role": role,
            "content": message.get("content"),
            "tool_call_id": message.get("id"),
        }
    plain = {"role": role, "content": message.get("content")}
    if role == "assistant":
        calls = message.get("tool_calls") or []
        plain["tool_calls"] = [{"id": _id(call), "function": call} for call in calls]
        plain["reasoning"] = message.get("reasoning")
    return plain


def _id(call: JSON) -> JSON:
    return call.get("id") if isinstance(call, dict) else None
