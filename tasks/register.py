"""A checkpoint to a registered model in MLflow; idempotent by the content of what it logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import Task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE

from pivotrl.config import Config, flatten
from pivotrl.manifest import Manifest
from pivotrl.promotion import Decision
from pivotrl.scores import ScoreRow
from pivotrl.tracking import find_version, metric_name, parameter
from pivotrl.types import JSON, digest
from tasks.promote import GATE_TAG, PASSED, record
from tasks.session import current
from tasks.stage import read_table
from tasks.train import checkpoint_of, metrics_by_step

if TYPE_CHECKING:
    from pivotrl.tracking import Registered


def _log(name: str, home: Path, checkpoint: Manifest, run: Mapping[str, Any]) -> Registered:
    """Prefect draws the edge from `checkpoint`."""
    from pivotrl.tracking import TrackedRun, log_run

    return log_run(home, TrackedRun(name=name, **run))


_register: Task[..., Registered] = Task(
    fn=_log,
    name="register",
    task_run_name="register {name}",
    cache_policy=NO_CACHE,
    persist_result=False,
)


def register(
    config: Config,
    name: str,
    checkpoints: Sequence[Manifest],
    selection: Manifest,
    scores: Sequence[ScoreRow],
    decision: Decision,
    tags: Mapping[str, str],
) -> dict[str, JSON]:
    """`{"run_id", "version", "model_uri", "created", ...}` of the registered model.

    `checkpoints`: one a round; the last is registered, the steps of all are logged in a row.
    """
    home = current().home
    checkpoint = checkpoints[-1]
    rounds = [metrics_by_step(read_table(home, made, "train_steps")) for made in checkpoints]
    steps: list[tuple[int, dict[str, float]]] = []
    for of_round in rounds:
        before = steps[-1][0] if steps else 0
        steps += [(before + step, metrics) for step, metrics in of_round]
    table = [
        {
            "suite": row.suite,
            "model": model,
            "score": getattr(row, model),
            "standard_error": getattr(row, f"{model}_error"),
            "miniature": row.miniature,
        }
        for row in scores
        for model in ("base", "trained")
    ]
    metrics = {
        f"{row.kind}/{row.suite}/{what}": getattr(row, what)
        for row in scores
        for what in ("base", "trained", "difference")
    }
    parameters = {key: parameter(value) for key, value in flatten(config).items()}
    registered = _register(
        name=name,
        home=home,
        checkpoint=checkpoint,
        run={
            "key": digest([checkpoint.key, [asdict(row) for row in scores], parameters]),
            "parameters": parameters,
            "tags": {
                **tags,
                "training": checkpoint.key,
                GATE_TAG: PASSED if decision.passed else "failed",
                f"{GATE_TAG}.reasons": "\n".join(decision.reasons),
            },
            "steps": steps,
            "rounds": rounds if len(rounds) > 1 else [],
            "metrics": {metric_name(n): v for n, v in metrics.items()},
            "tables": {"selection": selection.counts["domains"], "scores": table},
            "checkpoint": checkpoint_of(home, checkpoint),
            "base_model": str(config.model.path),
            "registered_name": config.register_.model,
            "alias": config.register_.alias,
        },
    )
    if registered.version:
        found = find_version(home, config.register_.model, registered.version)
        assert found, "it was registered a moment ago"
        reason = f"trained by run {name}; " + "; ".join(decision.reasons)
        record(home, found, config.register_.alias, reason, once=True)
    create_link_artifact(
        key="model",
        link=f"http://127.0.0.1:5000/#/models/{config.register_.model}/versions/{registered.version}",
        link_text=str(registered.model_uri),
        description="The registered model, in MLflow's pages (`pivotrl ui`).",
    )
    return asdict(registered)
