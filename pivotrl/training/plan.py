"""Which pivots meet in which step, and with which seeds: pure functions of (seed, step, attempt).

Nothing here remembers anything, so a resumed run meets the same pivots as one never killed. It
must never know a model or a reward.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from pivotrl.types import seed_of


def permutation(count: int, seed: int) -> list[int]:
    """The numbers 0 to count - 1 in an order that the seed alone decides."""
    numbers = list(range(count))
    random.Random(seed).shuffle(numbers)
    return numbers


def order(trajectories: Sequence[str], together: int, seed: int) -> list[int]:
    """All pivots once; up to `together` of a trajectory side by side, and such sets shuffled.

    `trajectories`: of each pivot the one that it is a turn of.
    """
    turns: dict[str, list[int]] = {}
    for pivot, trajectory in enumerate(trajectories):
        turns.setdefault(trajectory, []).append(pivot)
    sets = []
    for trajectory, members in turns.items():
        mixed = [members[i] for i in permutation(len(members), seed_of(seed, trajectory))]
        sets += [mixed[start : start + together] for start in range(0, len(mixed), together)]
    return [pivot for i in permutation(len(sets), seed) for pivot in sets[i]]


def batches(
    trajectories: Sequence[str], per_step: int, seed: int, *, together: int = 1, attempt: int = 0
) -> Iterator[tuple[int, ...]]:
    """The endless row of steps, each with the indices of its pivots, `per_step` or all there are.

    Nobody is met twice before all were met once, and never twice in one step: where a step
    spans two epochs, those it already has keep their place for the step after. `attempt` is
    another, unrelated row, for groups that replace groups.
    """
    count = len(trajectories)
    size = min(per_step, count)
    if size == 0:
        raise ValueError("there is no pivot to plan with")
    epoch, waiting = 0, list[int]()
    while True:
        batch = waiting[:size]
        waiting = waiting[size:]
        if len(batch) < size:
            fresh = order(trajectories, together, seed_of(seed, "epoch", epoch, attempt))
            epoch += 1
            met, lacking = set(batch), size - len(batch)
            added = [i for i in fresh if i not in met][:lacking]
            batch += added
            waiting = [i for i in fresh if i not in set(added)]
        yield tuple(batch)


def plan(
    trajectories: Sequence[str],
    per_step: int,
    steps: int,
    seed: int,
    *,
    together: int = 1,
    attempt: int = 0,
) -> list[tuple[int, ...]]:
    """The first `steps` steps of `batches`; step t (from 1) meets `plan(...)[t - 1]`."""
    rows = batches(trajectories, per_step, seed, together=together, attempt=attempt)
    return [next(rows) for _ in range(steps)]


def sampling_seed(seed: int, step: int, attempt: int, candidate_id: str) -> int:
    """The seed of one group's samples."""
    return seed_of(seed, "sample", step, attempt, candidate_id)


def validation_seed(seed: int, candidate_id: str) -> int:
    """The same at every step, so that two validations differ by the policy alone."""
    return seed_of(seed, "validation", candidate_id)
