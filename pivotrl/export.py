"""Pivots out, for teams that train elsewhere: NeMo-Gym pivot rows, TRL rows with a reward.

A pivot row of NeMo-Gym judges one expected action; a TRL row carries the prompt as this model's
template renders it and what our verifier needs. Source: NeMo-Gym's single-step tool use, NVIDIA's
conversion rules (`tool_choice` is auto, no null fields), TRL's GRPOTrainer. This module must never
know how pivots were chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from pivotrl.candidates import load_candidates
from pivotrl.chat import ChatFormat, TemplateError
from pivotrl.chat.format import without_equivalences
from pivotrl.rollouts import judge, prompts
from pivotrl.store import Store
from pivotrl.trajectories.columns import to_row
from pivotrl.types import (
    JSON,
    Candidate,
    FinishReason,
    Message,
    PivotRLError,
    Role,
    Sample,
    ToolCall,
)
from pivotrl.verifiers import Mode, verifier_for

AGENT = "single_step_tool_use_with_argument_comparison_agent"

_CALL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"const": "function_call"},
        "name": {"type": "string", "minLength": 1},
        "arguments": {"type": "string"},
    },
    "required": ["type", "name", "arguments"],
    "additionalProperties": False,
}
_TEXT = {
    "type": "object",
    "properties": {"type": {"const": "message"}, "content": {"type": "string", "minLength": 1}},
    "required": ["type", "content"],
    "additionalProperties": False,
}
_BATCH = {
    "type": "object",
    "properties": {
        "type": {"const": "function_call_batch"},
        "calls": {"type": "array", "items": _CALL, "minItems": 2},
    },
    "required": ["type", "calls"],
    "additionalProperties": False,
}
_ITEMS = [
    {
        "type": "object",
        "properties": {
            "type": {"const": "message"},
            "role": {"enum": ["system", "developer", "user", "assistant"]},
            "content": {"type": "string"},
        },
        "required": ["type", "role", "content"],
        "additionalProperties": False,
    },
    {
        "type": "object",
        "properties": _CALL["properties"] | {"call_id": {"type": "string"}},
        "required": ["type", "name", "arguments", "call_id"],
        "additionalProperties": False,
    },
    {
        "type": "object",
        "properties": {
            "type": {"const": "function_call_output"},
            "call_id": {"type": "string"},
            "output": {"type": "string"},
        },
        "required": ["type", "call_id", "output"],
        "additionalProperties": False,
    },
]
"""What NeMo-Gym's own types take; parts of an assistant's text would need an id."""
CONTRACT = {
    "type": "object",
    "properties": {
        "uuid": {"type": "string"},
        "responses_create_params": {
            "type": "object",
            "properties": {
                "input": {"type": "array", "items": {"anyOf": _ITEMS}, "minItems": 1},
                "tools": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "type": {"const": "function"},
                            "name": {"type": "string"},
                            "strict": {"type": "boolean"},
                        },
                        "required": ["type", "name", "parameters", "strict"],
                    },
                },
                "tool_choice": {"const": "auto"},
                "parallel_tool_calls": {"type": "boolean"},
            },
            "required": ["input", "tools", "tool_choice", "parallel_tool_calls"],
            "additionalProperties": False,
        },
        "expected_action": {"anyOf": [_CALL, _TEXT, _BATCH]},
        "agent_ref": {"type": "object"},
        "metadata": {"type": "object"},
    },
    "required": ["uuid", "responses_create_params", "expected_action", "agent_ref"],
    "additionalProperties": False,
}
"""JSON Schema of a NeMo-Gym pivot row, as its single-step tool use reads it."""
_VALIDATOR = Draft202012Validator(CONTRACT)


def pivots_of(store: Store) -> list[tuple[Candidate, float]]:
    """The pivots of the selection that was merged last, each with its mean; the hardest first.

    Raises PivotRLError where there is none.
    """
    _, found = store.query(
        "SELECT p.candidate_id, p.mean FROM pivots p JOIN current_selections s USING (selection_id)"
        " JOIN merged_shards m ON m.table_name = 'selections' AND m.sha256 = s.shard"
        " QUALIFY m.merged_at = max(m.merged_at) OVER () ORDER BY p.mean, p.candidate_id"
    )
    if not found:
        raise PivotRLError(f"{store.path}: no selection has a pivot; run the line up to select")
    means = dict(found)
    candidates = store.rows(
        "SELECT * FROM candidates WHERE list_contains(?, candidate_id)", [list(means)]
    )
    trajectories = store.rows(
        "SELECT * FROM trajectories WHERE list_contains(?, trajectory_id)",
        [sorted({row["trajectory_id"] for row in candidates})],
    )
    loaded = {c.id: c for c in load_candidates(candidates, trajectories)}
    return [(loaded[candidate_id], mean) for candidate_id, mean in means.items()]


def nemo_gym_rows(pivots: Iterable[tuple[Candidate, float]]) -> list[dict[str, JSON]]:
    """Pivot rows of NeMo-Gym; a pivot that its contract cannot hold is left out."""
    rows = (_nemo_gym_row(candidate, mean) for candidate, mean in pivots)
    return [row for row in rows if _VALIDATOR.is_valid(row)]


def _nemo_gym_row(candidate: Candidate, mean: float) -> dict[str, JSON]:
    tools = [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": without_equivalences(dict(tool.parameters)),
            "strict": False,
        }
        for tool in candidate.tools
    ]
    return {
        "uuid": candidate.id,
        "responses_create_params": {
            "input": _items(candidate.messages),
            "tools": tools,
            "tool_choice": "auto",
            "parallel_tool_calls": len(candidate.demonstration.tool_calls) > 1,
        },
        "expected_action": _expected(candidate.demonstration),
        "agent_ref": {"type": "responses_api_agents", "name": AGENT},
        "metadata": {
            "domain": candidate.domain,
            "task": candidate.trajectory.task,
            "mean_reward": mean,
            "turn": candidate.turn,
        },
    }


def _items(messages: Iterable[Message]) -> list[JSON]:
    """Responses items of a state, without reasoning, which templates leave out as well."""
    items: list[JSON] = []
    for message in messages:
        if message.role is Role.TOOL:
            items.append(
                {
                    "type": "function_call_output",
                    "call_id": message.tool_call_id,
                    "output": message.content,
                }
            )
            continue
        if message.content:
            role = str(message.role)
            items.append({"type": "message", "role": role, "content": message.content})
        items += [_call(call) | {"call_id": call.id} for call in message.tool_calls]
    return items


def _call(call: ToolCall) -> dict[str, JSON]:
    arguments = orjson.dumps(call.arguments).decode()
    return {"type": "function_call", "name": call.name, "arguments": arguments}


def _expected(demonstration: Message) -> JSON:
    calls = [_call(call) for call in demonstration.tool_calls]
    if len(calls) > 1:
        return {"type": "function_call_batch", "calls": calls}
    return calls[0] if calls else {"type": "message", "content": demonstration.content}


def trl_rows(candidates: Sequence[Candidate], chat: ChatFormat, longest: int) -> list[dict]:
    """Rows `{prompt, candidate}` for TRL's GRPOTrainer; `candidate` is for `reward_function`.

    Prompts are text that this model's tokenizer reads back to the same ids. A pivot over `longest`
    tokens, or one that the template or the tokenizer cannot express, is left out.
    """
    rows = []
    for item in prompts(candidates, chat, longest=longest)[0]:
        with suppress(TemplateError):
            text = chat.prompt_text(item.prompt_ids)
            rows.append({"prompt": text, "candidate": _stored(item.candidate)})
    return rows


def _stored(candidate: Candidate) -> str:
    row = {
        "candidate_id": candidate.id,
        "trajectory_id": candidate.trajectory.id,
        "turn": candidate.turn,
        "split": str(candidate.split),
    }
    return orjson.dumps([row, to_row(candidate.trajectory)]).decode()


def reward_function(chat: ChatFormat, mode: Mode = "functional") -> Any:
    """A `reward_funcs` of TRL: our verifier's rewards, None where there is no verdict."""
    known: dict[str, Candidate] = {}

    def pivot_reward(
        *, completion_ids: Sequence[Sequence[int]], candidate: Sequence[str], **_: Any
    ) -> list[float | None]:
        rewards: list[float | None] = []
        for ids, stored in zip(completion_ids, candidate, strict=True):
            if stored not in known:
                row, trajectory = orjson.loads(stored)
                (known[stored],) = load_candidates([row], [trajectory])
            stopped = bool(ids) and ids[-1] in chat.stop_ids
            one = Sample(
                token_ids=tuple(ids),
                logprobs=(),
                text=chat.decode(ids),
                finish_reason=FinishReason.STOP if stopped else FinishReason.LENGTH,
                seed=0,
            )
            verifier = verifier_for(known[stored].domain, mode)
            rewards.append(judge(known[stored], verifier, chat.parse, one).reward)
        return rewards

    return pivot_reward
