"""Which columns name a row of each table. Light: the store needs it where no frame is checked."""

from __future__ import annotations

from pivotrl.types import PivotRLError

VERSION = 8
"""Of `schema.sql`, raised with it: stages know tables by the code, and SQL is none."""
KEYS: dict[str, tuple[str, ...]] = {
    "trajectories": ("trajectory_id",),
    "candidates": ("candidate_id",),
    "occurrences": ("candidate_id", "trajectory_id", "turn"),
    "quarantine": ("source_file", "source_row", "reason", "excerpt"),
    "policies": ("policy",),
    "rollouts": ("rollout_id",),
    "verdicts": ("rollout_id", "verifier", "verifier_version"),
    "judgements": ("judgement_id",),
    "marks": ("mark_id",),
    "selections": ("selection_id",),
    "pivots": ("selection_id", "candidate_id"),
    "train_steps": ("training_id", "round", "step", "metric"),
    "train_rollouts": ("training_id", "round", "step", "candidate_id", "sample_index"),
    "evaluations": ("evaluation_id",),
    "evaluation_items": ("evaluation_id", "item_id", "repeat"),
    "promotions": ("promotion_id",),
    "runs": ("run_id",),
}
"""The columns that name a row: the store holds each key once."""

SHARED = {"rollouts": "candidate_id", "verdicts": "candidate_id"}
"""A column that is equal wherever the key is, and in runs: a tenth of the time to look through."""


def known(table: str) -> str:
    """The name itself. Raises PivotRLError if there is no such table."""
    if table not in KEYS:
        raise PivotRLError(f"no table {table!r}; the tables are {', '.join(KEYS)}")
    return table
