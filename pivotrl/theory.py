"""The paper's theorems as instruments (PivotRL, arXiv 2603.21383, theorems 3.1 to 3.3).

Tabular policies are arrays [A] of probabilities, rewards arrays [A]. Pure functions; this module
must never know a model or a file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau, spearmanr

Array = NDArray[np.float64]


def tilted(base: ArrayLike, rewards: ArrayLike, beta: float) -> Array:
    """The minimiser of E[-r] + β KL(π‖π₀): π ∝ π₀ exp(r / β)."""
    rewards = np.asarray(rewards, dtype=np.float64)
    weights = np.asarray(base) * np.exp((rewards - rewards.max()) / beta)
    return weights / weights.sum()


def path_speed(policy: ArrayLike, rewards: ArrayLike, beta: float) -> float:
    """γ = sqrt(Var r) / β²: Fisher norm of how `tilted` moves with β (theorem 3.2).

    Times β² it is the Fisher norm of the natural gradient of the mean reward: its std.
    """
    policy, rewards = np.asarray(policy), np.asarray(rewards, dtype=np.float64)
    mean = policy @ rewards
    return float(np.sqrt(policy @ (rewards - mean) ** 2)) / beta**2


def accepted_mass(mass: float, beta: float) -> float:
    """q_β = ρ e^{1/β} / (1 - ρ + ρ e^{1/β}) of the mass ρ of accepted actions (theorem 3.3)."""
    return mass / (mass + (1 - mass) * float(np.exp(-1 / beta)))


def kendall_tau(before: Sequence[float], after: Sequence[float]) -> float | None:
    """τ-b of log-probabilities [A] before and after; None where fewer than two differ."""
    return _number(kendalltau(before, after).statistic) if len(before) > 1 else None


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's ρ; None where it is not defined."""
    if len(set(one)) < 2 or len(set(other)) < 2:
        return None
    return _number(spearmanr(one, other).statistic)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
