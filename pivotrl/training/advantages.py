"""Advantages of a group: how much better each action did than its siblings.

Pure functions of the group's rewards; they must never see tokens or another group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pivotrl.training.records import Advantage


def has_signal(rewards: Sequence[float | None]) -> bool:
    """Whether two rewards of the group differ; without it every advantage is exactly 0."""
    return len({r for r in rewards if r is not None}) > 1


def spread(rewards: Sequence[float], freedom: int = 0) -> float:
    """Standard deviation with `len - freedom` in the denominator, 0 if that is not positive."""
    if len(rewards) <= freedom:
        return 0.0
    mean = math.fsum(rewards) / len(rewards)
    return math.sqrt(math.fsum((r - mean) ** 2 for r in rewards) / (len(rewards) - freedom))


def advantages(
    rewards: Sequence[float | None], kind: Advantage, epsilon: float
) -> tuple[float | None, ...]:
    """One advantage a reward; None stays None and takes no part in mean and spread.

    `population`: (r - mean) / (std + epsilon), the paper's equation with the population std.
    `sample`: the same with the sample std (TRL 1.16, epsilon 1e-4).
    `loo`: mean and sample std of the *other* rewards, undivided where that std is 0 (NeMo-RL).
    `none`: r - mean (Dr. GRPO).
    A group whose rewards are all equal gets exactly 0.0 everywhere (Theorem 3.1).
    """
    known = [r for r in rewards if r is not None]
    if not has_signal(rewards):
        return tuple(None if r is None else 0.0 for r in rewards)
    if kind == "leave_one_out":
        return tuple(None if r is None else _leave_one_out(r, known, epsilon) for r in rewards)
    mean = math.fsum(known) / len(known)
    match kind:
        case "population":
            scale = spread(known) + epsilon
        case "sample":
            scale = spread(known, freedom=1) + epsilon
        case "no_std":
            scale = 1.0
    return tuple(None if r is None else (r - mean) / scale for r in rewards)


def _leave_one_out(reward: float, known: Sequence[float], epsilon: float) -> float:
    others = list(known)
    others.remove(reward)
    deviation = spread(others, freedom=1) if has_signal(others) else 0.0
    difference = reward - math.fsum(others) / len(others)
    return difference / (deviation + epsilon) if deviation > 0 else difference
