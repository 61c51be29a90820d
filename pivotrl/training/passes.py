"""The forward passes of a step: which rows lie in which layout, and in which process.

It must never know a loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pivotrl.training import ranks
from pivotrl.training.flops import shape_of, tree_flops
from pivotrl.training.records import Backend
from pivotrl.training.tree import Layout, Row, bins, in_order


def passes(
    rows: Sequence[Row],
    trajectories: Sequence[str],
    model: Any,
    backend: Backend,
    max_tokens: int,
) -> list[tuple[Layout, bool]]:
    """This process's layouts, and whether each counts.

    `trajectories`: of each row; rows of one share most and stay together. Of several processes,
    each has rows of about as many operations (shared tokens once, attention counted), and each as
    many passes, since a model in shards is passed together: what is lacking is a short row that
    does not count.
    """
    own = rows
    if ranks.count() > 1:
        met: dict[str, list[Row]] = {}
        for row, trajectory in zip(rows, trajectories, strict=True):
            if row.completion:
                met.setdefault(trajectory, []).append(row)
        sets, shape = [*met.values()], shape_of(model)
        costs = [tree_flops(shape, Layout(in_order(members))) for members in sets]
        share = ranks.balanced(costs, ranks.count())[ranks.number()]
        own = [row for i in share for row in sets[i]]
    layouts = [(layout, True) for layout in bins(own, max_tokens, is_tree=backend != "rows")]
    lacking = max(ranks.gathered(len(layouts))) - len(layouts)
    if lacking:
        shortest = min((row for row in rows if row.completion), key=lambda row: len(row.inputs))
        layouts += [(Layout([shortest]), False)] * lacking
    return layouts
