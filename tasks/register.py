"""A checkpoint to a registered model in MLflow; idempotent by the content of what it logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE

from pivotrl.config import Config, flatten
from pivotrl.manifest import Manifest
from pivotrl.profile_tables import completions, success_rates, verdict_table
from pivotrl.promotion import Decision
from pivotrl.scores import ScoreRow
from pivotrl.store import Store
from pivotrl.system_metrics import thinned
from pivotrl.tracking.registry import find_version
from pivotrl.tracking.runs import Data, Part, Registered, TrackedRun, log_run, parameter
from pivotrl.types import JSON, digest
from tasks.promote import GATE_TAG, PASSED, record_decision
from tasks.session import current
from tasks.stage import read_table
from tasks.track import trained_metrics
from tasks.train import checkpoint_of, metrics_by_step


@task(name="register", task_run_name="register {name}", cache_policy=NO_CACHE, persist_result=False)
def _register(name: str, home: Path, checkpoint: Manifest, run: Mapping[str, Any]) -> Registered:
    """Prefect draws the edge from `checkpoint`."""
    return log_run(home, TrackedRun(name=name, **run))


def register(
    config: Config,
    name: str,
    trajectories: Manifest,
    candidates: Manifest,
    selection: Manifest,
    checkpoints: Sequence[Manifest],
    scores: Sequence[ScoreRow],
    decision: Decision,
    tags: Mapping[str, str],
) -> dict[str, JSON]:
    """`{"run_id", "version", "model_uri", "created", ...}` of the registered model.

    `checkpoints`: one a round; the last is registered, the steps of all are logged in a row. Below
    the run lie those of its stages: profile, train (one a round), evaluate.
    """
    home = current().home
    checkpoint = checkpoints[-1]
    system = current().system.copy()
    del current().system[: len(system)]  # of a comparison each run gets its own
    rounds = [metrics_by_step(read_table(home, made, "train_steps")) for made in checkpoints]
    steps: list[tuple[int, dict[str, float]]] = []
    for of_round in rounds:
        before = steps[-1][0] if steps else 0
        steps += [(before + step, metrics) for step, metrics in of_round]
    table = [
        {
            "kind": row.kind,
            "suite": row.suite,
            "model": model,
            "score": getattr(row, model),
            "standard_error": getattr(row, f"{model}_error"),
            "miniature": row.miniature,
        }
        | ({"change": row.difference, "change_error": row.difference_error} if trained else {})
        for row in scores
        for model, trained in (("base", False), ("trained", True))
    ]
    metrics = trained_metrics(scores)
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
            "parts": [
                _profile(home, candidates, selection),
                *(
                    Part(name=f"train {n}" if len(rounds) > 1 else "train", steps=of_round)
                    for n, of_round in enumerate(rounds, 1)
                ),
                Part(name="evaluate", metrics=metrics, tables={"scores": table}),
            ],
            "data": [
                Data(
                    name=config.run.name,
                    digest=trajectories.fingerprint,
                    source=", ".join(map(str, config.data.trajectories)),
                    rows=trajectories.counts["trajectories"],
                )
            ],
            "system": thinned(system),
            "metrics": metrics,
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
        record_decision(home, found, config.register_.alias, name, decision)
    create_link_artifact(
        key="model",
        link=f"{current().mlflow_page}/#/models/{config.register_.model}/versions/{registered.version}",
        link_text=str(registered.model_uri),
        description="The registered model, in MLflow's pages (`pivotrl ui`).",
    )
    return asdict(registered)


def _profile(home: Path, candidates: Manifest, selection: Manifest) -> Part:
    policy = selection.parts["settings"]["policy"]
    store = Store(home / "pivotrl.duckdb")
    counts = {k: v for k, v in selection.counts.items() if isinstance(v, int)}
    of = (store, candidates.key, policy)
    return Part(
        name="profile",
        metrics={f"profile/{name}": value for name, value in counts.items()},
        tables={
            "selection": selection.counts["domains"],
            "success_rates": success_rates(*of),
            "verdicts": verdict_table(*of),
            "completions": completions(*of),
        },
    )
