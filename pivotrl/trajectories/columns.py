"""A trajectory as a row of the `trajectories` table, and back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import orjson

from pivotrl.types import (
    JSON,
    Role,
    ToolSpec,
    Trajectory,
    message_from_json,
    message_to_json,
    tool_from_json,
    tool_to_json,
)


def to_row(trajectory: Trajectory) -> dict[str, JSON]:
    """The row; `turns` counts assistant messages.

    JSON columns keep the order of keys: templates render it, so it is part of what the model sees.
    """
    messages = [message_to_json(m) for m in trajectory.messages]
    accepted = {
        str(turn): [message_to_json(m) for m in actions]
        for turn, actions in trajectory.accepted_actions.items()
    }
    return {
        "trajectory_id": trajectory.id,
        "domain": trajectory.domain,
        "task": trajectory.task,
        "reward": trajectory.reward,
        "turns": sum(m.role == Role.ASSISTANT for m in trajectory.messages),
        "messages": orjson.dumps(messages).decode(),
        "tools": orjson.dumps([tool_to_json(t) for t in trajectory.tools]).decode(),
        "tools_declared": trajectory.tools_declared,
        "accepted_actions": orjson.dumps(accepted).decode(),
        "files": orjson.dumps(trajectory.files, option=orjson.OPT_NON_STR_KEYS).decode(),
        "not_actions": orjson.dumps(sorted(trajectory.not_actions)).decode(),
        "source_file": trajectory.source_file,
        "source_row": trajectory.source_row,
    }


def from_row(row: Mapping[str, JSON]) -> Trajectory:
    """The inverse of `to_row`; trusts its input."""
    return Trajectory(
        id=row["trajectory_id"],
        messages=tuple(message_from_json(m) for m in orjson.loads(row["messages"])),
        tools=_tools(row["tools"]),
        tools_declared=row["tools_declared"],
        domain=row["domain"],
        task=row["task"],
        reward=row["reward"],
        accepted_actions={
            int(turn): tuple(message_from_json(m) for m in actions)
            for turn, actions in orjson.loads(row["accepted_actions"]).items()
        },
        files={int(turn): files for turn, files in orjson.loads(row["files"]).items()},
        not_actions=frozenset(orjson.loads(row["not_actions"])),
        source_file=row["source_file"],
        source_row=row["source_row"],
    )


@lru_cache(maxsize=64)
def _tools(text: str) -> tuple[ToolSpec, ...]:
    """Shared between the trajectories of one domain, which all carry the same tools."""
    return tuple(tool_from_json(t) for t in orjson.loads(text))
