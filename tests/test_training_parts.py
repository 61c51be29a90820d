"""Plan, advantages and losses: the pure parts of training, against their formulas."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.training.advantages import advantages, spread
from pivotrl.training.alarms import is_stale, raise_alarm, warnings
from pivotrl.training.losses import (
    clipped_tokens,
    importance_weights,
    kl_to_reference,
    policy_terms,
)
from pivotrl.training.optimizer import warm_up
from pivotrl.training.plan import batches, order, plan, sampling_seed, validation_seed
from pivotrl.training.records import Correction
from pivotrl.types import PivotRLError

sizes = st.integers(1, 40)


@settings(deadline=None)
@given(count=sizes, per_step=sizes, seed=st.integers(0, 5), steps=st.integers(1, 30))
def test_plan_loses_and_repeats_nobody(count: int, per_step: int, seed: int, steps: int) -> None:
    rows = plan(list(map(str, range(count))), per_step, steps, seed)
    assert all(len(row) == len(set(row)) == min(count, per_step) for row in rows)
    met = list(itertools.chain(*rows))
    times = [met.count(i) for i in range(count)]
    assert max(times) - min(times) <= 1


def test_plan_is_a_pure_function_of_seed_step_and_attempt() -> None:
    turns = [str(i // 4) for i in range(50)]
    for together in (1, 3):
        given = {"seed": 3, "together": together}
        rows = plan(turns, 8, 40, **given)
        assert plan(turns, 8, 20, **given) == rows[:20]
        assert list(itertools.islice(batches(turns, 8, 3, together=together), 20)) == rows[:20]
        assert plan(turns, 8, 40, seed=4, together=together) != rows
        assert plan(turns, 8, 40, attempt=1, **given) != rows
    keys = [(s, t, a, c) for s in (0, 1) for t in (1, 2) for a in (0, 1) for c in "xy"]
    assert len({sampling_seed(*key) for key in keys}) == len(keys)
    assert validation_seed(0, "x") == validation_seed(0, "x") != validation_seed(0, "y")


@settings(deadline=None)
@given(
    turns=st.lists(st.integers(0, 6).map(str), min_size=1, max_size=40),
    together=st.integers(1, 5),
    seed=st.integers(0, 3),
)
def test_turns_of_a_trajectory_come_together(turns: list[str], together: int, seed: int) -> None:
    met = order(turns, together, seed)
    assert sorted(met) == [*range(len(turns))]
    sets = [len([*members]) for _, members in itertools.groupby(met, key=lambda i: turns[i])]
    wanted = sum(-(-turns.count(one) // together) for one in set(turns))
    assert len(sets) <= wanted  # two sets of one trajectory may meet by chance


def test_one_success_in_sixteen_has_the_published_advantages() -> None:
    rewards = [1.0] + [0.0] * 15
    assert advantages(rewards, "population", 1e-6)[0] == pytest.approx(3.873, abs=1e-3)
    assert advantages(rewards, "sample", 1e-4)[0] == pytest.approx(3.7485, abs=1e-4)
    assert advantages(rewards, "leave_one_out", 1e-6)[0] == 1.0
    assert advantages(rewards, "no_std", 1e-6)[0] == 15 / 16


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=16))
def test_sample_advantages_are_those_of_trl(rewards: list[float]) -> None:
    # TRL 1.16, grpo_trainer.py: rewards - mean, over nanstd + 1e-4.
    tensor = torch.tensor(rewards, dtype=torch.float64)
    theirs = (tensor - tensor.mean()) / (tensor.std() + 1e-4)
    ours = advantages(rewards, "sample", 1e-4)
    torch.testing.assert_close(torch.tensor(ours, dtype=torch.float64), theirs)


@pytest.mark.parametrize("kind", ["population", "sample", "leave_one_out", "no_std"])
@settings(deadline=None)
@given(reward=st.floats(0, 1), count=st.integers(1, 16))
def test_equal_rewards_give_exactly_zero(kind: str, reward: float, count: int) -> None:
    assert advantages([reward] * count, kind, 1e-4) == (0.0,) * count  # type: ignore[arg-type]


def test_a_missing_reward_is_dropped_and_never_zero() -> None:
    found = advantages([1.0, None, 0.0, 0.0], "population", 1e-4)
    without = advantages([1.0, 0.0, 0.0], "population", 1e-4)
    assert found == (without[0], None, *without[1:])
    assert advantages([1.0, None, 1.0], "population", 1e-4) == (0.0, None, 0.0)
    assert advantages([None, None], "leave_one_out", 1e-4) == (None, None)


def test_leave_one_out_uses_the_others_only() -> None:
    rewards = [1.0, 1.0, 0.0, 0.0]
    others = [1.0, 0.0, 0.0]
    wanted = (1 - 1 / 3) / (spread(others, freedom=1) + 1e-6)
    assert advantages(rewards, "leave_one_out", 1e-6)[0] == pytest.approx(wanted)


def test_clipped_loss_by_hand() -> None:
    ratio = torch.tensor([0.5, 0.5, 1.0, 1.5, 1.5], dtype=torch.float64)
    advantage = torch.tensor([1.0, -1.0, 2.0, 1.0, -1.0], dtype=torch.float64)
    old = torch.full((5,), -1.0, dtype=torch.float64)
    new = (old + ratio.log()).requires_grad_()
    clip = {"clip_low": 0.2, "clip_high": 0.28}
    loss = policy_terms("dapo", new, old, advantage, [5], **clip)
    wanted = torch.tensor([-0.5, 0.8, -2.0, -1.28, 1.5], dtype=torch.float64)
    torch.testing.assert_close(loss.detach(), wanted)
    low, high = clipped_tokens(ratio, advantage, **clip)
    assert low.tolist() == [False, True, False, False, False]
    assert high.tolist() == [False, False, False, True, False]
    loss.sum().backward()
    assert new.grad is not None
    assert ((new.grad == 0) == (low | high)).all()
    assert torch.autograd.gradcheck(
        lambda x: policy_terms("dapo", x, old, advantage, [5], **clip),
        (new.detach().requires_grad_(),),
    )


def test_kl_is_the_one_of_trl_and_unbiased() -> None:
    policy = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    reference = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64)
    estimate = (policy * kl_to_reference(policy.log(), reference.log())).sum()
    exact = (policy * (policy / reference).log()).sum()
    torch.testing.assert_close(estimate, exact)
    assert (kl_to_reference(policy.log(), reference.log()) >= 0).all()
    assert (kl_to_reference(policy.log(), policy.log()) == 0).all()


def test_importance_weights_are_cut_or_masked_and_without_gradient() -> None:
    trainer = torch.tensor([-1.0, -1.0, -1.0], requires_grad=True)
    sampler = torch.tensor([-1.1, -4.0, -1.2])

    def weights(correction: Correction) -> list[float]:
        found = importance_weights(trainer, sampler, [1, 2], correction, 2.0)
        assert not found.requires_grad
        return found.tolist()

    first, last = math.exp(0.1), math.exp(0.2)
    assert weights("token_truncate") == pytest.approx([first, 2.0, last])
    assert weights("token_mask") == pytest.approx([first, 0.0, last])
    assert weights("sequence_truncate") == pytest.approx([first, 2.0, 2.0])
    assert weights("sequence_mask") == pytest.approx([first, 0.0, 0.0])


def test_warm_up() -> None:
    assert [warm_up(step, 1.0, 4) for step in (1, 2, 4, 9)] == [0.25, 0.5, 1.0, 1.0]
    assert warm_up(1, 1.0, 0) == 1.0


def healthy(**changes: float) -> dict[str, float]:
    return {
        "completions/clipped_ratio": 0.1,
        "reward": 0.4,
        "group_reward_std": 0.4,
        "frac_reward_zero_std": 0.2,
    } | changes


def test_alarms() -> None:
    raise_alarm([healthy()] * 9, 9)
    cut = {"completions/clipped_ratio": 1.0}
    with pytest.raises(PivotRLError, match="at the limit"):
        raise_alarm([healthy()] + [healthy(frac_reward_zero_std=1.0, **cut)] * 5, 6)
    raise_alarm([healthy()] + [healthy(**cut)] * 5, 6)
    nearly = healthy(frac_reward_zero_std=1.0, **{"completions/clipped_ratio": 0.97})
    with pytest.raises(PivotRLError, match="at the limit"):
        raise_alarm([nearly] * 5, 5)
    with pytest.raises(PivotRLError, match="earned a reward"):
        raise_alarm([healthy()] * 30 + [healthy(reward=0.0)] * 5, 35)
    raise_alarm([healthy(reward=0.0)] * 4 + [healthy()] + [healthy(reward=0.0)] * 4, 9)
    unknown = {"verdict/unknown_tool": 9.0, "verdict/accepted": 1.0}
    with pytest.raises(PivotRLError, match="does not know"):
        raise_alarm([healthy(**unknown)] * 5, 5)
    raise_alarm([healthy(**unknown)] * 4 + [healthy(**{"verdict/accepted": 9.0})], 5)
    assert "does not know" in warnings([healthy(**unknown)])[0]
    with pytest.raises(PivotRLError, match="nats"):
        raise_alarm([healthy(**{"sampling/sampling_logp_difference/mean": 0.5})], 1)


def test_stale_when_the_spread_collapses() -> None:
    fresh = [healthy(group_reward_std=0.4)] * 6
    assert not is_stale(fresh + [healthy(group_reward_std=0.2)] * 9, 1 / 3)
    assert not is_stale(fresh + [healthy(group_reward_std=0.1)] * 3, 1 / 3)
    assert is_stale(fresh + [healthy(group_reward_std=0.1)] * 5, 1 / 3)
    assert not is_stale(fresh + [healthy(group_reward_std=0.0)] * 9, 0)
