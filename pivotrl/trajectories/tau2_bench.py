"""τ²-bench: one document with `info`, `tasks` and `simulations`, a trajectory each.

Or, since 1.0, a folder: `results.json` with an index, and a file for each simulation below it.

The system prompt is not stored; it is put together again from the policy, as τ²'s own agent does.
Tool schemas are null in public files: give them with `data.tools`. What the simulated user's tools
say is not the agent's to see. Source: sierra-research/tau2-bench, `agent/llm_agent.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from pivotrl.trajectories.draft import Draft
from pivotrl.trajectories.rows import RowError
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
    if not isinstance(row, dict):
        return False
    whole = isinstance(row.get("simulations"), list) or "simulation_index" in row
    return (whole and isinstance(row.get("info"), dict)) or _is_simulation(row)


def _is_simulation(row: dict[str, Any]) -> bool:
    return {"task_id", "messages", "termination_reason", "reward_info"} <= row.keys()


def joined(row: dict[str, Any], path: Path) -> dict[str, Any]:
    """The whole document of a part that lies in `path`; a simulation alone has no policy.

    Raises RowError where the rest is missing.
    """
    try:
        if _is_simulation(row):
            above = path.parents[1] / "results.json"
            run = orjson.loads(above.read_bytes()) if above.is_file() else {"info": {}}
            return {"info": run["info"], "simulations": [row]}
        if "simulations" not in row:
            files = sorted((path.parent / "simulations").glob("*.json"))
            row = row | {"simulations": [orjson.loads(file.read_bytes()) for file in files]}
    except (OSError, LookupError, TypeError, orjson.JSONDecodeError) as error:
        remedy = f"keep results.json above the folder simulations: {error}"
        raise RowError("incomplete run", remedy) from None
    return row


def parse(row: JSON) -> list[Draft]:
    environment = row["info"].get("environment_info") or {}
    name = str(environment.get("domain_name"))
    return [
        Draft(
            messages=_messages(simulation, simulation.get("policy") or environment.get("policy")),
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


def _messages(simulation: dict[str, Any], policy: JSON) -> JSON:
    system = [{"role": "system", "content": SYSTEM.format(policy=policy)}] if policy else []
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
