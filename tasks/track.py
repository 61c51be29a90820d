"""A model's scores to a run in MLflow; idempotent by what was scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from pivotrl.config import Config, flatten
from pivotrl.manifest import Manifest
from pivotrl.policies import PolicyFiles
from pivotrl.suites import Suite
from pivotrl.tracking import TrackedRun, log_run, metric_name, parameter
from pivotrl.types import JSON, digest
from tasks.session import current


def track_scores(
    config: Config,
    name: str,
    label: str,
    policy: PolicyFiles,
    evaluations: Sequence[tuple[Suite, Manifest]],
) -> dict[str, JSON]:
    """The MLflow run that holds the scores: made, or found from an earlier evaluation."""
    counts = {(suite.kind, suite.label): manifest.counts for suite, manifest in evaluations}
    table = [
        {
            "suite": suite,
            "model": label,
            "score": 100 * found["score"],
            "standard_error": 100 * (found["standard_error"] or 0.0),
            "miniature": found["miniature"],
        }
        for (_, suite), found in counts.items()
    ]
    metrics = {
        f"{kind}/{suite}/{what}": 100 * found[what]
        for (kind, suite), found in counts.items()
        for what in ("score", "unparsed", "truncated")
    }
    run = TrackedRun(
        name=f"{name} {label}",
        key=digest([label, [manifest.key for _, manifest in evaluations]]),
        parameters={key: parameter(value) for key, value in flatten(config).items()},
        tags={"policy": policy.weights, "pivotrl.kind": "evaluation"},
        metrics={metric_name(name): value for name, value in metrics.items()},
        tables={"scores": table},
    )
    return asdict(log_run(current().home, run))
