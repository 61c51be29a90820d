"""Writes expert episodes of a live domain as ordinary OpenAI-chat JSONL.

`python -m pivotrl.environments.demonstrations retail OUT.jsonl --n 300 --seed 0`. Each row says,
turn by turn, what else would be right (`accepted_actions`). This module must never know how the
rows are read or judged.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import orjson

from pivotrl.environments import ENVIRONMENTS, live_domain
from pivotrl.environments.domain import LiveDomain, TaskSplit
from pivotrl.types import JSON, Action, Message, Role, message_to_json, seed_of, tool_to_json


def write_demonstrations(
    domain: LiveDomain,
    path: Path,
    n: int,
    seed: int,
    split: TaskSplit = "train",
    horizon: int | None = None,
) -> None:
    """Write `n` rows, one solved task each; the same arguments give the same bytes.

    Raises `OSError` where the file cannot be written; half a file never has its name.
    """
    rows = [_row(domain, task, seed) for task in domain.make_tasks(split, n, seed, horizon)]
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    unfinished.replace(path)


def _row(domain: LiveDomain, task: JSON, seed: int) -> JSON:
    environment = domain.environment
    rng = random.Random(seed_of("demonstration", task["id"], seed))
    state, right_actions = domain.demonstration(task, rng)
    turns = [i for i, m in enumerate(state.messages) if m.role is Role.ASSISTANT]
    return {
        "task": task["id"],
        "domain": environment.domain,
        "reward": environment.score(state),
        "tools": [tool_to_json(tool) for tool in environment.tools],
        "messages": [_message(m) for m in state.messages],
        "accepted_actions": {
            str(turn): [_message(_as_message(action)) for action in actions[1:]]
            for turn, actions in zip(turns, right_actions, strict=True)
            if len(actions) > 1
        },
    }


def _as_message(action: Action) -> Message:
    return Message(role=Role.ASSISTANT, content=action.text, tool_calls=action.tool_calls)


def _message(message: Message) -> JSON:
    """OpenAI's own form: arguments as a JSON string."""
    row = message_to_json(message)
    for call in row.get("tool_calls", ()):
        call["function"]["arguments"] = orjson.dumps(call["function"]["arguments"]).decode()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description="Write miniature demonstrations (JSONL).")
    parser.add_argument("domain", choices=ENVIRONMENTS)
    parser.add_argument("path", type=Path, metavar="OUT.jsonl")
    parser.add_argument("--n", type=int, default=300, help="episodes (default 300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=("train", "validation", "test"), default="train")
    parser.add_argument("--horizon", type=int, help="longer or shorter tasks")
    options = parser.parse_args()
    write_demonstrations(
        live_domain(options.domain),
        options.path,
        options.n,
        options.seed,
        options.split,
        options.horizon,
    )
    print(f"{options.n} demonstrations -> {options.path}")


if __name__ == "__main__":
    main()
