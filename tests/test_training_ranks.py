"""Two processes at one round: the numbers of one, shards that resume exactly, work in balance."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import ranks_worker
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from training_models import engine_of, one_thread, random_model

from pivotrl.training import ranks, read_records
from pivotrl.training.passes import shares
from pivotrl.training.tree import Layout, Row
from pivotrl.types import PivotRLError

__all__ = ["one_thread"]
TESTS = Path(__file__).parent


def two(work: Path, what: str, *more: str) -> subprocess.CompletedProcess[str]:
    work.mkdir(exist_ok=True)
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    line += [str(TESTS / "ranks_worker.py"), str(work), what, *more]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, cwd=TESTS)


def test_two_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    done = two(tmp_path, "step")
    assert done.returncode == 0, done.stderr[-2000:]
    weights, metrics = torch.load(tmp_path / "step.pt", weights_only=True)
    start = dict(random_model().double().named_parameters())
    model, reference = random_model().double(), random_model(seed=1).double()
    alone, expected = ranks_worker.step(model, reference)
    for name, value in alone.items():
        change = torch.dist(value, start[name])
        assert change > 0
        assert torch.dist(value, weights[name]) <= 1e-6 * change
    # Layouts differ, and with them what sharing saves; no other number does.
    for name in expected.keys() - {"token_ratio", "flops"}:
        assert metrics[name] == pytest.approx(expected[name], rel=1e-6, abs=1e-6), name
    assert metrics["token_ratio"] > 1


@pytest.mark.long
@pytest.mark.parametrize("what", ["round", "adapters", "experts"])
def test_a_round_on_two_is_the_round_of_one_and_resumes_exactly(tmp_path: Path, what: str) -> None:
    assert two(tmp_path / "whole", what).returncode == 0
    killed = two(tmp_path / "killed", what, "5")
    assert killed.returncode != 0
    assert (tmp_path / "killed" / "checkpoint-000004").is_dir()
    assert two(tmp_path / "killed", what).returncode == 0
    one = ranks_worker.MODELS[what]()
    reference = random_model() if what == "round" else None
    alone = ranks_worker.whole_round(tmp_path / "alone", one, engine_of(one), reference)

    records = {name: [*read_records(tmp_path / name / "steps.jsonl")] for name in
               ("whole", "killed", "alone")}  # fmt: skip
    assert [r.step for r in records["whole"]] == [*range(7)]
    for a, b, c in zip(*records.values(), strict=True):
        assert a.rollouts == b.rollouts
        # The same actions as one process draws, though its batches are others.
        assert [r.text for r in a.rollouts] == [r.text for r in c.rollouts]
        if a.step:
            assert a.metrics["loss"] == b.metrics["loss"]
            assert a.metrics["reward"] == c.metrics["reward"]
            assert a.metrics["grad_norm"] == pytest.approx(c.metrics["grad_norm"], rel=1e-3)
    policies = [next((tmp_path / name).glob("policy-*")) for name in ("whole", "killed")]
    whole, resumed = (load_file(policy / "model.safetensors") for policy in policies)
    expected = load_file(alone.checkpoint / "model.safetensors")
    assert whole.keys() == resumed.keys() == expected.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert all(torch.allclose(v, expected[n], atol=1e-4) for n, v in whole.items())


def test_a_round_of_other_processes_is_refused(tmp_path: Path) -> None:
    assert two(tmp_path, "round").returncode == 0
    model = random_model()
    with pytest.raises(PivotRLError, match="was not written by 1 processes"):
        ranks_worker.whole_round(tmp_path, model, engine_of(model), random_model())


@given(st.lists(st.floats(0, 1e6), max_size=30), st.integers(1, 8))
def test_the_heaviest_part_is_near_the_best_possible(costs: list[float], parts: int) -> None:
    shares = ranks.balanced(costs, parts)
    assert sorted(item for share in shares for item in share) == [*range(len(costs))]
    heaviest = max(sum(costs[i] for i in share) for share in shares)
    bound = max([sum(costs) / parts, *costs])
    assert heaviest <= bound + (max(costs, default=0) if len(costs) > parts else 0) + 1e-3


def rows_of(trajectory: int, pivots: int, group: int, longest: int) -> list[Row]:
    """Rows of a trajectory whose pivots go on from each other's prompts."""
    return [
        Row(
            sample=sample,
            prompt=tuple(range(1000 * trajectory, 1000 * trajectory + longest - 40 * pivot)),
            completion=(sample,) * 30,
        )
        for pivot in range(pivots)
        for sample in range(group)
    ]


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=14),
    st.integers(1, 6),
    st.integers(1, 33),
)
def test_rows_are_dealt_once_whatever_the_processes(
    pivots: list[int], group: int, parts: int
) -> None:
    sets = [rows_of(number, count, group, 200) for number, count in enumerate(pivots)]
    dealt = shares(sets, lambda some: len(Layout(some).ids), parts)
    assert len(dealt) == parts
    met = [id(row) for share in dealt for row in share]
    assert sorted(met) == sorted(id(row) for members in sets for row in members)


@pytest.mark.parametrize(("trajectories", "parts"), [(14, 32), (1, 8), (3, 8)])
def test_sets_are_cut_where_processes_would_wait_for_one(trajectories: int, parts: int) -> None:
    sets = [rows_of(number, 4, 16, 600) for number in range(trajectories)]
    whole = len(Layout(sets[0]).ids)
    dealt = shares(sets, lambda some: len(Layout(some).ids), parts)
    assert max(len(Layout(share).ids) for share in dealt if share) <= 0.65 * whole


def test_sets_in_balance_stay_whole() -> None:
    sets = [rows_of(number, 4, 16, 600) for number in range(16)]
    dealt = shares(sets, lambda some: len(Layout(some).ids), 16)
    assert sorted(share[0].prompt[0] for share in dealt) == [1000 * n for n in range(16)]
    assert all(len(share) == 64 for share in dealt)
