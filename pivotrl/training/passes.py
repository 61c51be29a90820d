"""The forward passes of a step: which rows lie in which layout, and in which process.

It must never know a loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pivotrl.training import ranks
from pivotrl.training.flops import shape_of, tree_flops
from pivotrl.training.records import Backend
from pivotrl.training.tree import Layout, Row, bins, in_order

BALANCED = 1.05
"""The heaviest share over the mean from which on nothing is taken apart any more."""


def passes(
    rows: Sequence[Row],
    trajectories: Sequence[str],
    model: Any,
    backend: Backend,
    max_tokens: int,
) -> list[tuple[Layout, bool]]:
    """This process's layouts, and whether each counts.

    `trajectories`: of each row; rows of one share most and stay together where that leaves no
    process idle (`shares`). Of several processes, each has rows of about as many operations (shared
    tokens once, attention counted), and each as many passes, since a model in shards is passed
    together: what is lacking is a short row that does not count.
    """
    own = rows
    if ranks.count() > 1:
        met: dict[str, list[Row]] = {}
        for row, trajectory in zip(rows, trajectories, strict=True):
            if row.completion:
                met.setdefault(trajectory, []).append(row)
        shape = shape_of(model)
        dealt = shares([*met.values()], lambda some: tree_flops(shape, Layout(some)), ranks.count())
        own = dealt[ranks.number()]
    layouts = [(layout, True) for layout in bins(own, max_tokens, is_tree=backend != "rows")]
    lacking = max(ranks.gathered(len(layouts))) - len(layouts)
    if lacking:
        shortest = min((row for row in rows if row.completion), key=lambda row: len(row.inputs))
        layouts += [(Layout([shortest]), False)] * lacking
    return layouts


def shares(
    sets: Sequence[Sequence[Row]], cost: Callable[[Sequence[Row]], float], parts: int
) -> list[list[Row]]:
    """All rows once, dealt to `parts` of about the same cost.

    Sets stay whole where that is as good; else each is cut in two, four, ... neighbours in the
    tree, as fine as makes the heaviest part lightest, since what is cut is read twice. `cost`: of
    rows in the tree's order.
    """
    ordered = [in_order(members) for members in sets]
    pieces, found, lightest = 1, list[list[Row]](), float("inf")
    while pieces < 2 * max(map(len, ordered), default=1):
        units = [some for members in ordered for some in _cut(members, pieces)]
        costs = [cost(some) for some in units]
        dealt = ranks.balanced(costs, parts)
        heaviest = max(sum(costs[i] for i in share) for share in dealt)
        if heaviest < lightest:
            lightest = heaviest
            found = [[row for i in share for row in units[i]] for share in dealt]
        if heaviest <= BALANCED * sum(costs) / parts:
            break
        pieces *= 2
    return found or [[] for _ in range(parts)]


def _cut(rows: Sequence[Row], pieces: int) -> list[Sequence[Row]]:
    size = -(-len(rows) // pieces)
    return [rows[start : start + size] for start in range(0, len(rows), size)]
