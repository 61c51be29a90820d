"""τ-bench v1: a list of `{task_id, trial, reward, info, traj}`; `traj` is OpenAI chat.

The files declare no tools: give them with `data.tools`. Source: sierra-research/tau-bench.
"""

from __future__ import annotations

from pivotrl.trajectories.draft import Draft, beside
from pivotrl.types import JSON

NAME = "tau_bench"


def recognises(row: JSON) -> bool:
    return isinstance(row, dict) and "task_id" in row and isinstance(row.get("traj"), list)


def parse(row: JSON) -> list[Draft]:
    return [
        Draft(
            messages=row["traj"],
            tools=row.get("tools"),
            **beside(row),
            accepted_actions=row.get("accepted_actions"),
        )
    ]
