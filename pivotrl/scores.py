"""What scored items say: summaries, paired differences of two policies, their tables.

Items are clusters of their repeats, and some benchmarks' items come in clusters themselves (one
question in six languages): errors and intervals are over clusters, means over items. This module
must never know where the items were stored or how they were made.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from pivotrl.types import FinishReason, PivotRLError

RESAMPLES = 10_000
CONFIDENCE = 0.95
Cluster = Callable[[str], str]
"""From an item's id to what it was drawn with: its question, its problem, its segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationItem:
    item_id: str
    repeat: int = 0
    """Which of the item's responses this is."""
    prompt: str
    """The messages' contents, apart by blank lines."""
    output: str
    extracted: str | None
    """The answer that the scorer found in the output; None if it found none."""
    score: float
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSummary:
    n: int
    """Items."""
    mean: float
    standard_error: float | None
    """Of the mean, robust to clusters (Liang and Zeger 1986, n/(n-1)); None for a single one."""
    unparsed: float
    """Share of outputs without an answer to judge; they score 0."""
    truncated: float
    """Share of outputs that a length limit cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    n: int
    """Items."""
    clusters: int
    """Of the items: what was drawn by itself."""
    difference: float
    """Mean of (second - first) over items."""
    standard_error: float
    low: float
    high: float
    """Percentile bootstrap over clusters (Efron 1979), 95 %."""
    p: float
    """Two-sided, by the normal approximation of the paired t statistic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A policy's items in one suite."""

    kind: str
    miniature: bool
    items: Sequence[EvaluationItem]
    cluster: Cluster = str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One suite; scores and differences in points (0 to 100)."""

    suite: str
    kind: str
    n: int
    clusters: int
    base: float
    base_error: float
    trained: float
    trained_error: float
    difference: float
    difference_error: float
    difference_low: float
    difference_high: float
    p: float
    """Two-sided, paired; Holm-corrected over the suites of its kind."""
    base_unparsed: float
    """Share of outputs without an answer to judge; as of the trained, and of those cut."""
    trained_unparsed: float
    base_truncated: float
    trained_truncated: float
    miniature: bool


def summary(items: Sequence[EvaluationItem], cluster: Cluster = str) -> ScoreSummary:
    """Raises `PivotRLError` without items."""
    if not items:
        raise PivotRLError("evaluation: no items to summarise; evaluate at least one")
    scores = item_means(items)
    clusters = _clusters(scores.items(), cluster)
    return ScoreSummary(
        n=len(scores),
        mean=fmean(scores.values()),
        standard_error=_error(clusters) if len(clusters) > 1 else None,
        unparsed=fmean(item.extracted is None for item in items),
        truncated=fmean(item.finish_reason is FinishReason.LENGTH for item in items),
    )


def item_means(items: Sequence[EvaluationItem]) -> dict[str, float]:
    """Item id -> mean score of its repeats, in the order in which items come."""
    scores = defaultdict(list)
    for item in items:
        scores[item.item_id].append(item.score)
    return {item_id: fmean(found) for item_id, found in scores.items()}


def paired_difference(
    first: Sequence[EvaluationItem], second: Sequence[EvaluationItem], cluster: Cluster = str
) -> PairedDifference:
    """How much the second policy's mean is above the first's, on the same items.

    Raises `PivotRLError` unless both have the same items and repeats, each once, in at least two
    clusters.
    """
    keys = [[(item.item_id, item.repeat) for item in items] for items in (first, second)]
    if set(keys[0]) != set(keys[1]) or any(len(set(k)) != len(k) for k in keys):
        raise PivotRLError(
            "evaluation: the two runs have different items; evaluate both on one set"
        )
    before, after = item_means(first), item_means(second)
    differences = {item_id: after[item_id] - before[item_id] for item_id in before}
    clusters = _clusters(differences.items(), cluster)
    if len(clusters) < 2:
        raise PivotRLError("evaluation: a paired difference needs two items or more, drawn apart")
    mean, error = fmean(differences.values()), _error(clusters)
    deviations = abs(mean) / error if error > 0 else 0.0 if mean == 0 else math.inf
    low, high = bootstrap_interval(clusters)
    return PairedDifference(
        n=len(differences),
        clusters=len(clusters),
        difference=mean,
        standard_error=error,
        low=low,
        high=high,
        p=math.erfc(deviations / math.sqrt(2)),
    )


def _clusters(values: Iterable[tuple[str, float]], cluster: Cluster) -> np.ndarray:
    """[clusters, 2] float64: the sum of a cluster's values, and how many they are."""
    found = defaultdict(list)
    for item_id, value in values:
        found[cluster(item_id)].append(value)
    return np.array([(math.fsum(own), len(own)) for own in found.values()])


def _error(clusters: np.ndarray) -> float:
    """Of the mean over items; the standard error of the mean where each is its own cluster."""
    sums, sizes = clusters.T
    n, items = len(clusters), sizes.sum()
    residuals = sums - sizes * sums.sum() / items
    return float(math.sqrt(n / (n - 1) * (residuals**2).sum()) / items)


def bootstrap_interval(clusters: np.ndarray) -> tuple[float, float]:
    """The percentile interval of the mean over items; `clusters` [n, 2] are sums and sizes.

    The same clusters in any order give the same numbers.
    """
    ordered = clusters[np.lexsort(clusters.T[::-1])]
    sums, sizes = ordered.T
    n = len(ordered)
    rng = np.random.default_rng(n)
    at_once = max(1, 1_000_000 // n)
    means = []
    for done in range(0, RESAMPLES, at_once):
        drawn = rng.integers(0, n, (min(at_once, RESAMPLES - done), n))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the given order (Holm 1979)."""
    m = len(p_values)
    adjusted = [0.0] * m
    floor = 0.0
    for rank, index in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        floor = max(floor, min(1.0, (m - rank) * p_values[index]))
        adjusted[index] = floor
    return adjusted


def compare(base: Mapping[str, Scored], trained: Mapping[str, Scored]) -> list[ScoreRow]:
    """A row a suite that both have, in the order of `base`."""
    rows: list[ScoreRow] = []
    for kind in ("domain", "benchmark"):
        names = [s for s, scored in base.items() if scored.kind == kind and s in trained]
        found = [paired_difference(base[s].items, trained[s].items, base[s].cluster) for s in names]
        corrected = holm([difference.p for difference in found])
        for name, difference, p in zip(names, found, corrected, strict=True):
            before, after = (
                summary(side[name].items, base[name].cluster) for side in (base, trained)
            )
            rows.append(
                ScoreRow(
                    suite=name,
                    kind=kind,
                    n=difference.n,
                    clusters=difference.clusters,
                    base=100 * before.mean,
                    base_error=100 * (before.standard_error or 0.0),
                    trained=100 * after.mean,
                    trained_error=100 * (after.standard_error or 0.0),
                    difference=100 * difference.difference,
                    difference_error=100 * difference.standard_error,
                    difference_low=100 * difference.low,
                    difference_high=100 * difference.high,
                    p=p,
                    base_unparsed=before.unparsed,
                    trained_unparsed=after.unparsed,
                    base_truncated=before.truncated,
                    trained_truncated=after.truncated,
                    miniature=base[name].miniature,
                )
            )
    return rows


def ood_change(rows: Sequence[ScoreRow]) -> float | None:
    """Mean change over the benchmarks, in points; None without any."""
    changes = [row.difference for row in rows if row.kind == "benchmark"]
    return fmean(changes) if changes else None
