"""Both sides of recorded τ²-bench conversations, for an endpoint that answers turn by turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    task_id: str
    reward: float
    scenario: tuple[str, ...]
    """What the user's prompt says of it, without white space."""
    agent: Sequence[Message]
    """Its turns, without the canned greeting: here the user speaks first."""
    user: Sequence[Message]


def recordings(path: Path) -> list[Recording]:
    document = json.loads(path.read_bytes())
    scenarios = {task["id"]: task["user_scenario"]["instructions"] for task in document["tasks"]}
    found = []
    for simulation in document["simulations"]:
        told = scenarios[simulation["task_id"]]
        said = simulation["messages"]
        found.append(
            Recording(
                task_id=simulation["task_id"],
                reward=simulation["reward_info"]["reward"],
                scenario=(_bare(told["reason_for_call"]), _bare(told["task_instructions"])),
                agent=[m for m in said if m["role"] == "assistant"][1:],
                user=[m for m in said if m["role"] == "user"],
            )
        )
    return found


def replaying(recorded: Sequence[Recording]) -> Callable[[dict[str, Any]], Message]:
    """Answers as model `agent` or `user` what the recording says at that turn."""

    def reply(body: dict[str, Any]) -> Message:
        messages = body["messages"]
        turn = sum(message["role"] == "assistant" for message in messages)
        if body["model"] == "user":
            prompt = _bare(_text(messages[0]))
            (run,) = (r for r in recorded if all(part in prompt for part in r.scenario))
            return run.user[turn]
        first = next(_text(m) for m in messages if m["role"] == "user")
        (run,) = (r for r in recorded if r.user[0]["content"].strip() == first.strip())
        return run.agent[turn]

    return reply


def _text(message: Message) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _bare(text: str) -> str:
    return "".join(text.split())
