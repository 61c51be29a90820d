"""A trajectory as a row of the `trajectories` table, and back."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from pivotrl.trajectories.messages import tie_calls
from pivotrl.trajectories.tool_specs import load_tools, store_tools
from pivotrl.types import JSON, Role, Trajectory, message_from_json, message_to_json


def to_row(trajectory: Trajectory) -> dict[str, JSON]:
    """The row, calls numbered as `build` numbers them; `turns` counts assistant messages."""
    messages = [message_to_json(m) for m in trajectory.messages]
    tie_calls(messages)
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
        "tools": store_tools(trajectory.tools),
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
        tools=load_tools(row["tools"]),
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
