"""τ²-bench's airline, retail and telecom by inspect-evals: agent, user, tools over a database.

Offline, without Docker. The user is another model; the score is τ²'s own: the database is as it
should be, and all was said that had to be. Unlike inspect-evals, and like τ², a conversation that
the user did not end is worth 0. Sources: inspect_evals 0.26 `tau2/`; sierra-research/tau2-bench
`evaluator/evaluator.py`. This module must never know an engine, a configuration or a store.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pivotrl.environments.harnesses import checks, inspect_logs
from pivotrl.environments.harnesses.base import Endpoint, Harness, HarnessSettings
from pivotrl.environments.harnesses.files import format_of
from pivotrl.scores import EvaluationItem
from pivotrl.types import JSON, FinishReason, canonical

ENDS = ("###STOP###", "###TRANSFER###", "###OUT-OF-SCOPE###")
"""What the user says to end it, as its guidelines tell it."""
MOST_TURNS = 200
"""Of agent and user together, τ²'s own `max_steps`: else an agent calls tools for ever."""

_STORE = "StoredAgentState:"
_SCORES = {"C": 1.0, "I": 0.0}


def _missing(settings: HarnessSettings) -> list[str]:
    return [
        *checks.modules(settings.python, inspect_logs.PACKAGES),
        *checks.endpoint("agent", settings.agent),
        *checks.endpoint("user", settings.user),
    ]


def _commands(domain: str, settings: HarnessSettings) -> list[list[str]]:
    assert settings.user is not None  # `missing` says so before
    words = ["--model-role", f"user={inspect_logs.model('user', settings.user)}"]
    words += ["-T", "shuffle=false", "--turn-limit", str(MOST_TURNS)]
    return inspect_logs.commands(settings, f"inspect_evals/tau2_{domain}", words, _STORE)


def _variables(settings: HarnessSettings) -> dict[str, str]:
    roles: dict[str, Endpoint | None] = {"agent": settings.agent, "user": settings.user}
    return inspect_logs.variables(roles) | {"HF_HUB_OFFLINE": "1"}


def _read(folder: Path) -> list[EvaluationItem]:
    rows = inspect_logs.rows(folder)
    with format_of(folder / inspect_logs.ROWS, "rows of inspect_evals 0.26's tau2"):
        return [_item(row) for row in rows]


def _item(row: Mapping[str, JSON]) -> EvaluationItem:
    last = row["messages"][-1]
    said = _text(last["content"]) if last["role"] == "assistant" else ""
    ended = next((word for word in ENDS if word in said), None)
    (score,) = row["scores"].values()
    solved = _SCORES[score["value"]]
    return EvaluationItem(
        item_id=str(row["id"]),
        repeat=row["epoch"] - 1,
        prompt="",
        output=canonical(_conversation(row["store"])).decode(),
        extracted=ended,
        score=solved if ended else 0.0,
        finish_reason=FinishReason.LENGTH if inspect_logs.cut(row) else FinishReason.STOP,
    )


def _conversation(store: Mapping[str, JSON]) -> list[JSON]:
    """What was said and done on both sides, in order, as OpenAI's messages."""
    (turns,) = (held for key, held in store.items() if key.endswith(":trajectory"))
    return [_message(turn["role"], turn["message"]) for turn in turns]


def _message(speaker: str, message: Mapping[str, JSON]) -> dict[str, JSON]:
    role = "tool" if message["role"] == "tool" else speaker
    told = {"role": role, "content": _text(message["content"])}
    calls = [
        {"function": {"name": call["function"], "arguments": call["arguments"]}, "id": call["id"]}
        for call in message.get("tool_calls") or []
    ]
    return told | ({"tool_calls": calls} if calls else {})


def _text(content: JSON) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


TAU2_BENCH = tuple(
    Harness(
        name=f"tau2_{domain}",
        domain="tool_use",
        missing=_missing,
        commands=partial(_commands, domain),
        variables=_variables,
        read=_read,
    )
    for domain in ("airline", "retail", "telecom")
)
