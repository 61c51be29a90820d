"""The plots of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pivotrl.page import figure_of
from pivotrl.types import JSON

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pivotrl.tracking.runs import TrackedRun

PLOTTED = {
    "reward": ("reward", "validation/reward"),
    "signal": ("reward_std", "frac_reward_zero_std"),
    "kl": ("kl",),
}
"""Training curves: file and its metrics."""


def figures(run: TrackedRun) -> dict[str, Figure]:
    """The plots of a run by file name; a plot without data is left out."""
    plots = {
        f"plots/{name}.png": _steps_figure(run.steps, metrics) for name, metrics in PLOTTED.items()
    }
    scores = run.tables.get("scores", ())
    plots |= {"plots/scores.png": _scores_figure(scores), "plots/ood.png": _change_figure(scores)}
    return {file: figure for file, figure in plots.items() if figure is not None}


def _steps_figure(
    steps: Sequence[tuple[int, Mapping[str, float]]], names: Sequence[str]
) -> Figure | None:
    names = [n for n in names if any(n in metrics for _, metrics in steps)]
    if not names:
        return None
    figure = figure_of(7, 4)
    (axes,) = figure.axes
    for name in names:
        points = [(step, metrics[name]) for step, metrics in steps if name in metrics]
        axes.plot(*zip(*points, strict=True), label=name)
    axes.set(xlabel="step", ylim=(0, None))
    axes.legend()
    return figure


def _change_figure(rows: Sequence[Mapping[str, JSON]]) -> Figure | None:
    """Benchmarks alone: what the training changed outside its domain."""
    changes = [row for row in rows if row.get("kind") == "benchmark" and "change" in row]
    if not changes:
        return None
    figure = figure_of(7, 4)
    (axes,) = figure.axes
    axes.barh(
        [row["suite"] for row in changes],
        [row["change"] for row in changes],
        xerr=[row["change_error"] for row in changes],
        color=["#3a7d44" if row["change"] >= 0 else "#d1495b" for row in changes],
        capsize=2,
    )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set(xlabel="change in points, ± one paired standard error")
    return figure


def _scores_figure(rows: Sequence[Mapping[str, JSON]]) -> Figure | None:
    rows = [row for row in rows if {"suite", "model", "score"} <= row.keys()]
    if not rows:
        return None
    suites = list(dict.fromkeys(row["suite"] for row in rows))
    models = list(dict.fromkeys(row["model"] for row in rows))
    width = 0.8 / len(models)
    figure = figure_of(max(7, 1.1 * len(suites)), 4)
    (axes,) = figure.axes
    for offset, model in enumerate(models):
        own = [row for row in rows if row["model"] == model]
        axes.bar(
            [suites.index(row["suite"]) + (offset - (len(models) - 1) / 2) * width for row in own],
            [row["score"] for row in own],
            width,
            yerr=[row.get("standard_error") or 0.0 for row in own],
            capsize=2,
            label=model,
        )
    what = "Miniature scores" if any(row.get("miniature") for row in rows) else "Scores"
    axes.set_xticks(range(len(suites)), suites, rotation=30, ha="right")
    axes.set(ylabel="score", title=f"{what}, ± one standard error")
    figure.legend(loc="outside right upper")
    return figure
