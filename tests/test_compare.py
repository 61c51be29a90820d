"""The comparison of ways to train: its arithmetic, and a small one for real."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from line import pivotrl, report, small
from test_line import data

from pivotrl.comparison import ARMS, Outcome, best_sft, equal_accuracy, interval, summary

__all__ = ["data"]

CURVE = [[0, 0, 0.0, 0.2], [10, 500, 5.0, 0.35], [20, 1000, 11.0, 0.5]]
ONE = Outcome(
    arm="pivots", in_domain=40.0, gain=20.0, ood={"a": -1.0, "b": 2.0}, turns=250, seconds=4.0
)


def test_intervals_are_students() -> None:
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert (low, high) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-3)  # t = 4.3027
    assert interval([5.0]) == [5.0, None, None]


def test_seeds_are_summed_up_by_arm() -> None:
    found = summary([ONE, replace(ONE, in_domain=44.0, ood={"a": 1.0, "b": 2.0}, turns=350)])
    assert found["pivots"]["in_domain"][0] == 42.0
    assert found["pivots"]["ood"]["a"][0] == 0.0
    assert found["pivots"]["ood_mean"][0] == 1.0
    assert (found["pivots"]["rollout_turns"], found["pivots"]["seconds"]) == (300, 4.0)
    assert summary([replace(ONE, ood={})])["pivots"]["ood_mean"] is None


def test_sft_is_its_best_setting_by_the_mean_of_seeds() -> None:
    low = [replace(ONE, arm="sft 0.1 x 1", in_domain=value) for value in (50.0, 0.0)]
    high = [replace(ONE, arm="sft 0.1 x 2", in_domain=value) for value in (30.0, 30.0)]
    assert best_sft([ONE, *low, *high]) == [ONE, *high]
    assert best_sft([ONE]) == [ONE]


def test_equal_accuracy_is_a_ratio_or_a_bound() -> None:
    other = replace(ONE, arm="end to end", curve=CURVE)
    assert equal_accuracy(ONE, other) == {"reached": True, "turn_ratio": 4.0, "time_ratio": 2.75}
    assert equal_accuracy(replace(ONE, in_domain=60.0), other)["reached"] is False
    assert equal_accuracy(replace(ONE, in_domain=60.0), other)["turn_ratio"] == 4.0


@pytest.mark.slow
def test_what_cannot_be_compared_is_said_before_anything_starts(data: Path, tmp_path: Path) -> None:
    arguments = ["compare", *small(data)[1:]]
    for more, message in (
        (["--seeds", "0,x"], "--seeds 0,x: write whole numbers"),
        (["evaluate.domains=[]"], "name a live domain in evaluate.domains"),
    ):
        done = pivotrl(tmp_path / "home", *arguments, *more, expect=2)
        assert message in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.long
def test_a_small_comparison_trains_every_arm(
    data: Path, tmp_path: Path, prefect_server: str
) -> None:
    home = tmp_path / "home"
    arguments = [
        *("compare", *small(data)[1:], "--seeds", "0,1"),
        *("train.steps=2", "evaluate.benchmarks=['math500']"),
        *("sft.learning_rates=[1e-4]", "sft.epochs=[1]", "end_to_end.steps=2"),
        *("end_to_end.tasks=4", "end_to_end.tasks_per_step=2", "end_to_end.group_size=2"),
        *("end_to_end.validation_tasks=4",),
    ]
    done = pivotrl(home, *arguments, server=prefect_server)
    made = report(home)
    assert made["arms"].keys() == {*ARMS, "sft 0.0001 x 1", "end to end"}
    for arm in made["arms"].values():
        assert len(arm["in_domain"]) == 3 and arm["in_domain"][1] is not None
        assert arm["ood"].keys() == {"math500"}
    assert [row["seed"] for row in made["equal_accuracy"]] == made["seeds"] == [0, 1]
    assert made["arms"]["end to end"]["rollout_turns"] > 2 * 2 * 2 * 2
    assert "Ways to train, in points" in done.stdout
    again = pivotrl(home, *arguments, server=prefect_server)
    assert report(home)["arms"] == made["arms"]
    stages = json.loads((home / "report.json").read_text())["stages"]
    assert all(stage["cached"] for stage in stages if stage["label"] != "report"), again.stdout
