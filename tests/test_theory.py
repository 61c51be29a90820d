"""The paper's theorems on tabular policies, against what they are defined by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from pivotrl.theory import accepted_mass, kendall_tau, path_speed, rank_correlation, tilted

weights = st.lists(st.floats(0.05, 1), min_size=3, max_size=8)


def policy_of(values: list[float]) -> np.ndarray:
    return np.asarray(values) / sum(values)


def rewards_of(size: int) -> np.ndarray:
    return np.asarray([1.0 if number % 3 == 0 else 0.0 for number in range(size)])


def kl(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ np.log(one / other))


@given(weights, st.floats(0.3, 5))
def test_speed_along_the_path_is_the_fisher_norm_of_its_motion(
    values: list[float], beta: float
) -> None:
    base, step = policy_of(values), 1e-5 * beta
    rewards = rewards_of(len(base))
    there = tilted(base, rewards, beta)
    ahead, behind = (np.log(tilted(base, rewards, beta + s)) for s in (step, -step))
    score = (ahead - behind) / (2 * step)
    assert path_speed(there, rewards, beta) == pytest.approx(np.sqrt(there @ score**2), rel=1e-4)


@given(weights)
def test_the_natural_gradient_has_the_norm_of_the_rewards_std(values: list[float]) -> None:
    policy = policy_of(values)
    rewards = rewards_of(len(policy))
    gradient = policy * (rewards - policy @ rewards)  # of the mean reward, by the logits
    fisher = np.diag(policy) - np.outer(policy, policy)
    norm = np.sqrt(gradient @ np.linalg.pinv(fisher) @ gradient)
    assert norm == pytest.approx(path_speed(policy, rewards, 1.0), rel=1e-6)


def test_of_right_and_wrong_the_speed_is_greatest_at_one_half() -> None:
    speeds = {p: path_speed([p, 1 - p], [1, 0], 1.0) for p in (0.1, 0.3, 0.5, 0.7, 0.9)}
    assert max(speeds, key=speeds.__getitem__) == 0.5
    assert path_speed([0.4, 0.6], [1, 1], 1.0) == 0.0  # 3.1: equal rewards teach nothing


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_tilted_is_the_minimiser(beta: float) -> None:
    base = policy_of([0.1, 0.4, 0.2, 0.7, 0.5])
    rewards = rewards_of(5)

    def cost(logits: np.ndarray) -> float:
        policy = np.exp(logits - logits.max())
        policy /= policy.sum()
        return -policy @ rewards + beta * kl(policy, base)

    logits = minimize(cost, np.zeros(5), method="BFGS", options={"gtol": 1e-9}).x
    found = np.exp(logits - logits.max())
    assert found / found.sum() == pytest.approx(tilted(base, rewards, beta), abs=1e-5)


@given(weights, st.floats(0.2, 5), st.data())
def test_tilted_raises_the_accepted_mass_keeps_ratios_and_is_the_projection(
    values: list[float], beta: float, data: st.DataObject
) -> None:
    base = policy_of(values)
    accepted = rewards_of(len(base)) == 1
    found = tilted(base, accepted, beta)
    mass = found[accepted].sum()
    assert mass == pytest.approx(accepted_mass(base[accepted].sum(), beta))
    for part in (accepted, ~accepted):
        assert found[part] / found[part].sum() == pytest.approx(base[part] / base[part].sum())
    other = policy_of(
        data.draw(st.lists(st.floats(0.05, 1), min_size=len(base), max_size=len(base)))
    )
    if other[accepted].sum() >= mass:
        assert kl(other, base) >= kl(found, base) - 1e-9


def test_ranks() -> None:
    assert kendall_tau([-3, -2, -1], [-9, -5, -4]) == 1.0
    assert kendall_tau([-3, -2, -1], [-4, -5, -9]) == -1.0
    assert kendall_tau([-1], [-2]) is None and kendall_tau([-1, -1], [-2, -3]) is None
    assert rank_correlation([1, 2, 3], [1, 4, 9]) == pytest.approx(1.0)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None
