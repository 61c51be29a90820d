"""A comparison in MLflow: one parent run, every arm of every seed below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pivotrl.comparison import Outcome
from pivotrl.config import Config, flatten
from pivotrl.scores import ScoreRow
from pivotrl.tracking.runs import TrackedRun, log_run, metric_name, nest, parameter
from pivotrl.types import JSON, digest
from tasks.session import current
from tasks.track import trained_metrics


def log_comparison(
    config: Config,
    name: str,
    found: Sequence[tuple[int, Outcome]],
    models: Mapping[tuple[int, str], str],
    scores: Mapping[tuple[int, str], Sequence[ScoreRow]],
    arms: Mapping[str, JSON],
    page: Path,
) -> None:
    """`models`: the runs that (seed, arm) already has there; controls get one each.

    `scores`: of every (seed, arm).
    """
    home = current().home
    parameters = {key: parameter(value) for key, value in flatten(config).items()}
    runs = [{"seed": seed} | asdict(outcome) for seed, outcome in found]
    parent = log_run(
        home,
        TrackedRun(
            name=name,
            key=digest(["compare", runs, parameters]),
            parameters=parameters,
            metrics={
                metric_name(f"{arm}/{what}"): row[what][0]
                for arm, row in arms.items()
                for what in ("in_domain", "gain", "ood_mean")
                if row[what]
            },
            tables={"arms": [{"arm": arm} | row for arm, row in arms.items()]},
            files=[page],
        ),
    )
    children = [
        models.get((seed, outcome.arm))
        or log_run(home, _control(seed, outcome, scores, parameters, name)).run_id
        for seed, outcome in found
    ]
    nest(home, parent.run_id, children)


def _control(
    seed: int,
    outcome: Outcome,
    scores: Mapping[tuple[int, str], Sequence[ScoreRow]],
    parameters: Mapping[str, str | int | float | bool],
    name: str,
) -> TrackedRun:
    return TrackedRun(
        name=f"{name} {outcome.arm}, seed {seed}",
        key=digest(["control", seed, asdict(outcome), parameters]),
        parameters={**parameters, "run.seed": seed},
        metrics=trained_metrics(scores[seed, outcome.arm]),
        steps=[
            (int(step), {"validation/reward": reward, "turns": float(turns)})
            for step, turns, _, reward in outcome.curve
        ],
    )
