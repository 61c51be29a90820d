"""NeMo-Gym rows: Responses items under `responses_create_params`, and what the verifier needs.

A rollout goes on in `response.output`; a pivot row has one `expected_action`, `expected_answer` or
`expected_answers`, which is its only action: the turns before it are context. Source: NeMo-Gym.
"""

from __future__ import annotations

from typing import Any

from pivotrl.trajectories.draft import Draft
from pivotrl.trajectories.responses import given_items, messages_of
from pivotrl.trajectories.rows import RowError
from pivotrl.types import JSON

NAME = "nemo_gym"


def recognises(row: JSON) -> bool:
    parameters = row.get("responses_create_params") if isinstance(row, dict) else None
    return isinstance(parameters, dict) and isinstance(parameters.get("input"), list | str)


def parse(row: JSON) -> list[Draft]:
    parameters = row["responses_create_params"]
    given = given_items(parameters["input"])
    response = row.get("response")
    output = response.get("output") if isinstance(response, dict) else None
    if output:  # a turn may begin in the input and go on in the output
        messages, context = messages_of([*given, *output]), 0
    else:
        shown = messages_of(given)
        messages, context = [*shown, *messages_of(_expected(row))], len(shown)
    return [
        Draft(
            messages=messages,
            tools=parameters.get("tools") or row.get("declared_tools"),
            task=_task(row),
            domain="terminal" if _is_terminus(row) else None,
            reward=row.get("reward"),
            not_actions=frozenset(range(context)),
        )
    ]


def _task(row: dict[str, Any]) -> JSON:
    """What all rows of a task share: `uuid` and `id` name the row alone."""
    beside = row.get("metadata")
    told = beside.get("task") if isinstance(beside, dict) else None
    return next(
        (t for t in (row.get("task_id"), told, row.get("_ng_task_index")) if t is not None), None
    )


def _is_terminus(row: dict[str, Any]) -> bool:
    """Whether commands are typed as text, which says nothing of tools."""
    beside = row.get("metadata")
    return isinstance(beside, dict) and str(beside.get("harness")).startswith("terminus")


def _expected(row: dict[str, Any]) -> list[JSON]:
    """The demonstrated action as Responses items."""
    action = row.get("expected_action")
    if isinstance(action, dict):
        if action.get("type") == "function_call_batch":
            return list(action.get("calls") or [])
        return [action | {"role": "assistant"} if action.get("type") == "message" else action]
    if isinstance(row.get("expected_answer"), str):
        return [{"role": "assistant", "content": row["expected_answer"]}]
    if isinstance(row.get("expected_answers"), list):
        return [
            {"type": "function_call", "name": call["name"], "arguments": call.get("arguments")}
            for call in row["expected_answers"]
            if isinstance(call, dict) and "name" in call
        ]
    raise RowError(
        "no assistant turn", "the row is a task without a rollout and without an expected action"
    )
