"""The gate: whether a trained policy may take the place of the champion, and why.

Decided from scores and from what training showed, nothing else. This module must never know a
registry, a file or a configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pivotrl.scores import ScoreRow

MALFORMED = "completions/malformed_ratio"
MIN_CLUSTERS = 20
"""A percentile interval of fewer is no interval: of two items it has no width where they agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What a challenger must clear; points are of 100."""

    min_gain: float
    """The lower end of the 95 % interval of every in-domain gain must be above it."""
    max_drop: float
    """The lower end of the interval of every benchmark's change must not be below minus this."""
    max_kl: float | None
    """Nats a token to the reference; None asks nothing."""
    max_malformed: float
    """Share of malformed actions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    passed: bool
    reasons: Sequence[str]
    """What was checked, one line each, failures first."""


def step_of(
    steps: Sequence[tuple[int, Mapping[str, float]]], best_step: int
) -> tuple[int, Mapping[str, float]]:
    """The step whose actions the policy after `best_step` sampled; the last where there is none."""
    sampled = [row for row in steps if MALFORMED in row[1]] or [(best_step, {})]
    return next((row for row in sampled if row[0] > best_step), sampled[-1])


def decide(
    bar: Bar,
    scores: Sequence[ScoreRow],
    step: tuple[int, Mapping[str, float]],
    champion: Mapping[str, float] | None,
) -> Decision:
    """`scores`: paired differences to the base, with bootstrap intervals. `step`: its metrics.

    `champion`: suite -> score of the champion in its own run, None where there is none; a domain
    must not score below it. What was not measured does not pass: no domain, no benchmark, a
    champion that was not scored in this one's domains, too few items, no output that could be read.
    """
    checks: list[tuple[bool, str]] = []
    domains = [row for row in scores if row.kind == "domain"]
    if not domains:
        checks.append((False, "no live domain was scored (evaluate.domains)"))
    for row in domains:
        low = row.difference_low
        said = f"{row.suite}: gain {row.difference:+.1f}, at least {low:+.1f}"
        checks.append((low > bar.min_gain, f"{said}, must be above {bar.min_gain:+g}"))
        if champion is None:
            continue
        best = champion.get(row.suite)
        if best is None:
            checks.append((False, f"{row.suite}: the champion was not scored in it"))
        else:
            said = f"{row.suite}: {row.trained:.1f}, the champion's {best:.1f}"
            checks.append((row.trained >= best, said))
    benchmarks = [row for row in scores if row.kind == "benchmark"]
    if not benchmarks:
        checks.append((False, "no benchmark was scored (evaluate.benchmarks)"))
    for row in benchmarks:
        low = row.difference_low
        said = f"{row.suite}: change {row.difference:+.1f}, at worst {low:+.1f}"
        checks.append((low >= -bar.max_drop, f"{said}, may fall by {bar.max_drop:g}"))
    for row in scores:
        if row.clusters < MIN_CLUSTERS:
            said = f"{row.suite}: {row.clusters} items that are drawn apart"
            checks.append((False, f"{said}, of at least {MIN_CLUSTERS}"))
        if row.trained_unparsed == 1:
            checks.append((False, f"{row.suite}: no output had an answer to judge"))
    number, metrics = step
    malformed = metrics.get(MALFORMED)
    said = "not measured" if malformed is None else f"{malformed:.1%}"
    known = malformed is not None and malformed <= bar.max_malformed
    limit = f"of at most {bar.max_malformed:.1%}"
    checks.append((known, f"malformed actions in step {number}: {said} {limit}"))
    if bar.max_kl is not None:
        kl = metrics.get("kl")
        said = "not measured (train.kl_beta = 0)" if kl is None else f"{kl:.3f}"
        known = kl is not None and kl <= bar.max_kl
        checks.append((known, f"KL in step {number}: {said}, of at most {bar.max_kl:g}"))
    ordered = sorted(checks, key=lambda check: check[0])
    return Decision(
        passed=all(ok for ok, _ in checks),
        reasons=[("passes: " if ok else "FAILS: ") + said for ok, said in ordered],
    )
