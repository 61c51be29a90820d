"""A model's scores to a run in MLflow, under the same names whoever scored it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from pivotrl.config import Config, flatten
from pivotrl.manifest import Manifest
from pivotrl.policies import PolicyFiles
from pivotrl.scores import ScoreRow, ood_change
from pivotrl.suites import Suite
from pivotrl.tracking.runs import TrackedRun, log_run, metric_name, parameter
from pivotrl.types import JSON, digest
from tasks.session import current

MEANINGS = {
    "<kind>/<suite>/score": "Points, 0 to 100; kind is domain or benchmark.",
    "<kind>/<suite>/base": "Points of the base: that it was trained from, or compared with.",
    "<kind>/<suite>/difference": "Points above the base, paired by item.",
    "<kind>/<suite>/unparsed": "Percent of outputs without an answer to judge; they score 0.",
    "<kind>/<suite>/truncated": "Percent of outputs that the length limit cut.",
    "in_domain": "Score in the first live domain, sampled.",
    "gain": "Its difference.",
    "ood_mean": "Mean difference over the benchmarks.",
}
"""Every metric of a run that scores a model, by the name it has in MLflow."""


def score_metrics(
    scores: Mapping[tuple[str, str], float], rows: Sequence[ScoreRow]
) -> dict[str, float]:
    """What every run that scores a model logs; MLflow compares runs by these names.

    `scores`: (kind, suite) -> points; `rows`: the same beside a base, where there is one.
    """
    found = {f"{kind}/{suite}/score": score for (kind, suite), score in scores.items()}
    for row in rows:
        found |= {f"{row.kind}/{row.suite}/{w}": getattr(row, w) for w in ("base", "difference")}
    summary = {
        "in_domain": next((s for (kind, _), s in scores.items() if kind == "domain"), None),
        "gain": next((row.difference for row in rows if row.kind == "domain"), None),
        "ood_mean": ood_change(rows),
    }
    found |= {name: value for name, value in summary.items() if value is not None}
    return {metric_name(name): value for name, value in found.items()}


def trained_metrics(rows: Sequence[ScoreRow]) -> dict[str, float]:
    """Of a model that was trained from the base of the rows."""
    return score_metrics({(row.kind, row.suite): row.trained for row in rows}, rows)


def track_scores(
    config: Config,
    name: str,
    label: str,
    policy: PolicyFiles,
    evaluations: Sequence[tuple[Suite, Manifest]],
    rows: Sequence[ScoreRow],
) -> dict[str, JSON]:
    """The MLflow run that holds the scores: made, or found from an earlier evaluation.

    `rows`: beside the model that it was compared with; idempotent by what was scored.
    """
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
    shares = {
        metric_name(f"{kind}/{suite}/{what}"): 100 * found[what]
        for (kind, suite), found in counts.items()
        for what in ("unparsed", "truncated")
    }
    scores = {suite: 100 * found["score"] for suite, found in counts.items()}
    run = TrackedRun(
        name=f"{name} {label}",
        key=digest(
            [label, [manifest.key for _, manifest in evaluations], [asdict(row) for row in rows]]
        ),
        parameters={key: parameter(value) for key, value in flatten(config).items()},
        tags={"policy": policy.weights, "pivotrl.kind": "evaluation"},
        metrics=score_metrics(scores, rows) | shares,
        tables={"scores": table},
    )
    return asdict(log_run(current().home, run))
