"""When a candidate needs no more rollouts: a sequential test of what selection would say at K.

Rollouts come in looks. After each, the Beta-binomial posterior predictive says how probable it is
that the decision of the paper's rule (pivot or not, `is_pivot`; with an infinite λ that of `mixed`)
would change by the K-th rollout; below 1 - certainty the candidate is closed. The prior has three
hypotheses of equal weight: never right, always right, or a rate uniform on (0, 1); the paper finds
71 % of turns to be of the first two kinds. docs/profiling.md says what it saves and what it costs.
This module must never know engines, files, or other candidates: what a candidate gets depends on
its own rewards alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil, comb, fsum


def looks(samples: int) -> tuple[int, ...]:
    """Rollouts a candidate has after each look, strictly rising to `samples`: quarters of K."""
    return tuple(sorted({ceil(samples * quarter / 4) for quarter in range(1, 5)}))


def is_pivot(right: int, n: int, lambda_diff: float) -> bool:
    """The rule `pivots` of pivotrl.selection for `right` rewards of 1 among n rewards of 0 or 1."""
    return 0 < right < n and right / n < lambda_diff


@lru_cache(maxsize=4096)
def doubt(right: int, n: int, *, samples: int, lambda_diff: float) -> float:
    """Probability that the decision after `samples` rewards is not the one after n of them.

    Exactly 0 where no continuation changes it.
    """
    now = is_pivot(right, n, lambda_diff)
    left = samples - n
    other = fsum(
        comb(left, more) * _probability(right + more, samples)
        for more in range(left + 1)
        if is_pivot(right + more, samples, lambda_diff) is not now
    )
    return other / _probability(right, n)


def is_open(
    rewards: Sequence[float], *, samples: int, lambda_diff: float, certainty: float
) -> bool:
    """Whether a candidate needs more rollouts; `rewards` are its valid ones so far, in [0, 1].

    `certainty` in (0, 1]: the least probability that selection decides now as it would after
    `samples` (K) rewards; at 1 only what no further reward can change is closed. A closed candidate
    is selected, or not, by the same SQL rule at its own n. Graded rewards (any other than 0 and 1)
    have no such model: they stay open until the decision is sure.
    """
    n, total = len(rewards), fsum(rewards)
    if all(reward in (0, 1) for reward in rewards):
        return doubt(int(total), n, samples=samples, lambda_diff=lambda_diff) > 1 - certainty
    if n >= samples or total / samples >= lambda_diff:
        return False
    is_mixed = min(rewards) < max(rewards)
    return not (is_mixed and (total + samples - n) / samples < lambda_diff)


def _probability(right: int, n: int) -> float:
    """Of one given order of `right` successes in n, under the prior."""
    return ((right == 0) + (right == n) + 1 / ((n + 1) * comb(n, right))) / 3
