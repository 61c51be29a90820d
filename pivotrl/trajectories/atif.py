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
    return [_draft(row), *map(_draft, row.get("subagent_trajectories") or [])]


def _draft(row: dict[str, Any]) -> Draft:
    messages: list[JSON] = []
    context: set[int] = set()
    for step in row["steps"]:
        if step["source"] != "agent":
            messages.append({"role": step["source"], "content": step["message"]})
            messages += [
                {"role": "user", "content": result.get("content")} for result in _results(step)
            ]
            continue
        if step.get("is_copied_context") or step.get("llm_call_count") not in (None, 1):
            context.add(len(messages))
        messages += _turn(step)
    agent, extra = row["agent"], row.get("extra") or {}
    return Draft(
        messages=messages,
        tools=agent.get("tool_definitions"),
        task=extra.get("task"),
        domain=extra.get("domain"),
        reward=extra.get("reward"),
        not_actions=context,
    )


def _check(row: dict[str, Any]) -> None:
    from atif import Trajectory
    from pydantic import ValidationError

    try:
        Trajectory.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RowError("breaks its schema", f"{place}: {first['msg']}") from None


def _results(step: dict[str, Any]) -> list[Any]:
    return (step.get("observation") or {}).get("results") or []


def _turn(step: dict[str, Any]) -> list[JSON]:
    calls = step.get("tool_calls") or []
    results = _results(step)
    named = any(result.get("source_call_id") for result in results)
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
                # Without a call's id it is from the surroundings, unless none of them has one.
                "role": "tool" if calls and (result.get("source_call_id") or not named) else "user",
                "content": result.get("content"),
                "tool_call_id": result.get("source_call_id"),
            }
            for result in results
        ),
    ]
