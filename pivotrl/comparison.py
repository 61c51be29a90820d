"""Two policies' items to a table of scores: paired differences with errors, Holm-corrected.

This module must never know where the items were stored or how they were made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pivotrl.evaluation import EvaluationItem, holm, paired_difference, summary


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One suite; scores and differences in points (0 to 100)."""

    suite: str
    kind: str
    n: int
    base: float
    base_error: float
    trained: float
    trained_error: float
    difference: float
    difference_error: float
    p: float
    """Two-sided, paired; Holm-corrected over the suites of its kind."""
    miniature: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A policy's items in one suite."""

    kind: str
    miniature: bool
    items: Sequence[EvaluationItem]


def compare(base: Mapping[str, Scored], trained: Mapping[str, Scored]) -> list[ScoreRow]:
    """A row a suite that both have, in the order of `base`."""
    rows: list[ScoreRow] = []
    for kind in ("domain", "benchmark"):
        names = [s for s, scored in base.items() if scored.kind == kind and s in trained]
        found = [paired_difference(base[s].items, trained[s].items) for s in names]
        corrected = holm([difference.p for difference in found])
        for name, difference, p in zip(names, found, corrected, strict=True):
            before, after = summary(base[name].items), summary(trained[name].items)
            rows.append(
                ScoreRow(
                    suite=name,
                    kind=kind,
                    n=difference.n,
                    base=100 * before.mean,
                    base_error=100 * (before.standard_error or 0.0),
                    trained=100 * after.mean,
                    trained_error=100 * (after.standard_error or 0.0),
                    difference=100 * difference.difference,
                    difference_error=100 * difference.standard_error,
                    p=p,
                    miniature=base[name].miniature,
                )
            )
    return rows


def ood_change(rows: Sequence[ScoreRow]) -> float | None:
    """Mean change over the benchmarks, in points; None without any."""
    changes = [row.difference for row in rows if row.kind == "benchmark"]
    return fmean(changes) if changes else None
