"""ATIF 1.0 to 1.8, Harbor's Agent Trajectory Interchange Format, checked by its own package.

An agent step holds its observation; here that is tool messages behind the turn. Copied context and
steps without a call of the model are no actions. Reward is no part of ATIF: `extra.reward`, where a
file has it. Source: the `atif` package.
"""

from __future__ import annotations

from typing import Any

from pivotrl.trajectories.draft import Draft
from pivotrl.trajectories.rows import RowError
from pivotrl.types import JSON

NAME = "atif"


def recognises(row: JSON) -> bool:
    return isinstance(row, dict) and str(row.get("schema_version", "")).startswith("ATIF-v")


def parse(row: JSON) -> list[Draft]:
    _check(row)
    messages: list[JSON] = []
    context: set[int] = set()
    for step in row["steps"]:
        if step["source"] != "agent":
            messages.append({"role": step["source"], "content": step["message"]})
            continue
        if step.get("is_copied_context") or step.get("llm_call_count") not in (None, 1):
            context.add(len(messages))
        messages += _turn(step)
    agent, extra = row["agent"], row.get("extra") or {}
    return [
        Draft(
            messages=messages,
            tools=agent.get("tool_definitions"),
            task=extra.get("task") or row.get("session_id"),
            domain=extra.get("domain"),
            reward=extra.get("reward"),
            not_actions=context,
        )
    ]


def _check(row: dict[str, Any]) -> None:
    from atif import Trajectory
    from pydantic import ValidationError

    try:
        Trajectory.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RowError("breaks its schema", f"{place}: {first['msg']}") from None


def _turn(step: dict[str, Any]) -> list[JSON]:
    calls = step.get("tool_calls") or []
    results = (step.get("observation") or {}).get("results") or []
    turn = {
        "role": "assistant",
        "content": step["message"],
        "reasoning": step.get("reasoning_content"),
        "tool_calls": [
            {
                "id": call["tool_call_id"],
                "function": {"name": call["function_name"], "arguments": call["arguments"]},
            }
            for call in calls
        ],
    }
    return [
        turn,
        *(
            {
                "role": "tool" if calls else "user",
                "content": result.get("content"),
                "tool_call_id": result.get("source_call_id"),
            }
            for result in results
        ),
    ]
