"""Adaptive profiling: exact at certainty 1, calibrated below it, and selection agrees with it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adaptive as bench
import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pivotrl.adaptive import doubt, is_open, is_pivot, looks
from pivotrl.profiling import profile_sql
from pivotrl.selection import RULES

K16: dict[str, Any] = {"samples": 16, "lambda_diff": 0.6}
LAMBDAS = st.sampled_from([0.25, 0.5, 0.6, 0.9, 1.0, math.inf])
"""The last is the rule `mixed`."""


def closed_at(rewards: list[float], **test: Any) -> int:
    """How many of the rewards are drawn."""
    return next(n for n in looks(len(rewards)) if not is_open(rewards[:n], **test))


@given(st.integers(1, 200))
def test_looks_rise_to_k(samples: int) -> None:
    found = looks(samples)
    assert found[-1] == samples and found[0] > 0 and len(found) <= 4
    assert list(found) == sorted(set(found))


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=24), LAMBDAS)
def test_at_certainty_1_the_decision_is_that_of_all_k(rewards: list[float], limit: float) -> None:
    n = closed_at(rewards, samples=len(rewards), lambda_diff=limit, certainty=1.0)
    early = is_pivot(int(sum(rewards[:n])), n, limit)
    assert early == is_pivot(int(sum(rewards)), len(rewards), limit)


@given(st.lists(st.sampled_from([0, 0.25, 0.5, 1]), min_size=2, max_size=16), LAMBDAS)
def test_graded_rewards_are_closed_only_when_sure(rewards: list[float], limit: float) -> None:
    samples = len(rewards)
    least: dict[str, Any] = {"samples": samples, "lambda_diff": limit, "certainty": 0.5}
    for n in range(1, samples + 1):
        seen = rewards[:n]
        if set(seen) <= {0, 1} or is_open(seen, **least):
            continue
        for ending in ([0.0] * (samples - n), [1.0] * (samples - n), rewards[n:]):
            assert kept([*seen, *ending], limit) == kept(seen, limit)


def kept(rewards: list[float], limit: float) -> bool:
    return min(rewards) < max(rewards) and sum(rewards) / len(rewards) < limit


def test_graded_rewards_stay_open_where_ones_and_zeros_would_close() -> None:
    test = K16 | {"certainty": 0.9}
    assert not is_open([1.0] * 4, **test)
    assert is_open([0.9] * 4, **test)
    assert not is_open([0.9] * 11, **test)  # 9.9 of 16 is over λ whatever comes
    assert is_open([0.5] * 15, **test) and not is_open([0.5] * 16, **test)


@given(st.lists(st.sampled_from([0.0, 1.0]), max_size=16), st.floats(0.5, 1), st.floats(0.5, 1))
def test_more_certainty_closes_nothing_earlier(rewards: list[float], a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert is_open(rewards, certainty=high, **K16) or not is_open(rewards, certainty=low, **K16)


def test_nothing_known_is_open_and_nothing_left_is_closed() -> None:
    assert is_open([], certainty=0.9, **K16)
    assert not any(is_open([1.0] * r + [0.0] * (16 - r), certainty=1.0, **K16) for r in range(17))


def test_doubt_is_the_posterior_predictive_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for n in (1, 4, 7, 12, 15):
        for right in range(n + 1):
            weights = np.array([right == 0, right == n, stats.betabinom(n, 1, 1).pmf(right)])
            weights = weights / weights.sum()
            more = np.arange(16 - n + 1)
            chance = weights[2] * stats.betabinom(16 - n, 1 + right, 1 + n - right).pmf(more)
            chance[0] += weights[0]
            chance[-1] += weights[1]
            ends = np.array([is_pivot(right + m, 16, 0.6) for m in range(16 - n + 1)])
            expected = chance[ends != is_pivot(right, n, 0.6)].sum()
            assert doubt(right, n, **K16) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("certainty", [0.99, 0.95, 0.9])
@pytest.mark.parametrize(("samples", "limit"), [(8, 0.6), (16, 0.6), (16, 0.3), (32, 0.9)])
def test_under_its_prior_decisions_hold_as_often_as_promised(
    samples: int, limit: float, certainty: float
) -> None:
    random = np.random.default_rng(0)
    rates = np.concatenate([np.zeros(700), np.ones(700), random.random(700)])
    rows = (random.random((2100, samples)) < rates[:, None]).astype(float).tolist()
    test = {"samples": samples, "lambda_diff": limit, "certainty": certainty}
    drawn = [closed_at(row, **test) for row in rows]
    changed = [kept(row[:n], limit) != kept(row, limit) for row, n in zip(rows, drawn, strict=True)]
    assert np.mean(changed) < 1 - certainty
    assert np.mean(drawn) < 0.8 * samples


@pytest.mark.parametrize("pool", [bench.simulated, bench.demo])
def test_the_targets_hold_on_both_pools(pool: Callable[[], bench.Pool]) -> None:
    found = bench.summary(bench.curve(pool(), orders=3))
    assert found["precision"] >= 0.97 and found["recall"] >= 0.97
    assert found["rollout_share"] <= 0.75
    assert found["true_pivots_half"] > found["true_pivots_k8"]


def test_numbers_for_a_program_leave_the_page_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    arguments = ["adaptive.py", "--orders", "2", "--out", str(page)]
    monkeypatch.setattr("sys.argv", [*arguments, "--json"])
    bench.main()
    assert json.loads(capsys.readouterr().out)["pools"].keys() == {"simulated", "demo"}
    assert not page.exists()
    monkeypatch.setattr("sys.argv", arguments)
    bench.main()
    assert page.read_text().count("## simulated: ") == page.read_text().count("## demo: ") == 1


@pytest.mark.parametrize("limit", [0.25, 0.6, 1.0])
def test_the_rule_is_that_of_selection(limit: float) -> None:
    states = [(right, n) for n in range(1, 26) for right in range(n + 1)]
    found = selected([[1.0] * right + [0.0] * (n - right) for right, n in states], limit)
    assert found == {i for i, (right, n) in enumerate(states) if is_pivot(right, n, limit)}


def test_selection_of_stopped_profiles_is_what_the_replay_says() -> None:
    pool = bench.simulated(400, seed=3)
    rows = pool.rewards.astype(float).tolist()
    stopped = [row[: closed_at(row, certainty=bench.ADVISED, **K16)] for row in rows]
    right, found = selected(rows, 0.6), selected(stopped, 0.6)
    recall, precision, share, true, others = bench.replay(pool.rewards, pool.rates, bench.ADVISED)
    assert len(found) == true + others
    assert len(found & right) == pytest.approx(recall * len(right))
    assert len(found & right) == pytest.approx(precision * len(found))
    assert sum(map(len, stopped)) == pytest.approx(share * 400 * 16)


def selected(rows: list[list[float]], limit: float) -> set[int]:
    """Numbers of the rows that the SQL of profiling and selection keeps."""
    flat = [(number, reward) for number, row in enumerate(rows) for reward in row]
    with duckdb.connect(":memory:") as database:
        database.execute(
            "CREATE TABLE verdicts AS SELECT unnest($1) AS candidate_id, unnest($2) AS reward,"
            " 'p' AS policy, 'v' AS verifier, '1' AS verifier_version, 'ok' AS status",
            [list(column) for column in zip(*flat, strict=True)],
        )
        found = database.execute(
            f"SELECT candidate_id FROM ({profile_sql('verdicts')}),"
            f" (SELECT $1::DOUBLE AS lambda_diff) WHERE {RULES['pivots']}",
            [limit],
        ).fetchall()
    return {number for (number,) in found}
