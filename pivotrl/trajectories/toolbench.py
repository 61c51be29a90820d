"""ToolBench: `answer_generation` with its functions; the last of `train_messages` is the whole run.

Source: OpenBMB/ToolBench.
"""

from __future__ import annotations

from pivotrl.trajectories.draft import Draft
from pivotrl.types import JSON

NAME = "toolbench"


def recognises(row: JSON) -> bool:
    run = row.get("answer_generation") if isinstance(row, dict) else None
    return isinstance(run, dict) and isinstance(run.get("train_messages"), list)


def parse(row: JSON) -> list[Draft]:
    run = row["answer_generation"]
    won = row.get("win")
    return [
        Draft(
            messages=run["train_messages"][-1] if run["train_messages"] else [],
            tools=run.get("function"),
            reward=won if isinstance(won, bool) else None,
        )
    ]
