"""Selection: exact thresholds, every candidate counted once, equal to a plain recomputation."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from statistics import NormalDist
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.profiling import profile_sql
from pivotrl.selection import CATEGORIES, Criteria, SelectionResult, overlapping, select
from pivotrl.store.shards import write_shard
from pivotrl.types import ConfigError, PivotRLError, Split

Rewards = dict[str, list[float | None]]


def candidate_row(name: str, split: str = "train", domain: str = "shop") -> dict[str, Any]:
    return {
        "candidate_id": name,
        "trajectory_id": "t",
        "turn": 2,
        "domain": domain,
        "task": None,
        "split": split,
        "split_group": "g",
        "action_type": "text",
        "tool_names": [],
        "demonstration": "{}",
        "accepted_actions": "[]",
    }


def verdict_rows(rewards: Rewards, policy: str = "p", version: str = "1") -> list[dict[str, Any]]:
    return [
        {
            "rollout_id": f"{name}/{policy}/{number}",
            "candidate_id": name,
            "policy": policy,
            "sample_index": number,
            "estimator": "fixed",
            "verifier": "v",
            "verifier_version": version,
            "status": "error" if reward is None else "ok",
            "reward": reward,
            "category": "accepted",
            "details": "{}",
        }
        for name, found in rewards.items()
        for number, reward in enumerate(found)
    ]


def selected(
    folder: Path, rewards: Rewards, held_out: tuple[str, ...] = (), **options: Any
) -> SelectionResult:
    candidates = [candidate_row(n, "validation" if n in held_out else "train") for n in rewards]
    write_shard(folder / "c.parquet", "candidates", candidates)
    write_shard(folder / "v.parquet", "verdicts", verdict_rows(rewards))
    split = options.pop("split", Split.TRAIN)
    criteria = Criteria(**{"lambda_diff": 0.6} | options)
    return select([folder / "v.parquet"], [folder / "c.parquet"], criteria=criteria, split=split)


def of(right: int, n: int) -> list[float | None]:
    return [*[1.0] * right, *[0.0] * (n - right)]


CASES: Rewards = {
    "right": of(4, 4),
    "wrong": of(0, 4),
    "equal": [0.5] * 4,
    "easy": of(3, 4),
    "at_lambda": of(3, 5),
    "pivot": of(2, 4),
    "graded": [0.25, 0.75, 0.5, 0.0],
    "thin": [1.0, None, None, None],
    "with_errors": [1.0, 0.0, None, None],
    "unseen": [],
    "validation": of(2, 4),
}


def test_every_category(tmp_path: Path) -> None:
    result = selected(tmp_path, CASES, held_out=("validation",))
    assert [p["candidate_id"] for p in result.pivots] == ["graded", "pivot", "with_errors"]
    (row,) = result.domains
    assert row == {
        "domain": "shop",
        "candidates": 11,
        "held_out": 1,
        "unprofiled": 2,
        "all_wrong": 1,
        "all_right": 1,
        "all_equal": 1,
        "too_easy": 2,
        "rejected": 0,
        "kept": 3,
    }
    graded, _, errors = result.pivots
    assert (graded["n"], graded["mean"]) == (4, 0.375)
    assert graded["variance"] == pytest.approx(0.078125)
    assert errors == {
        "candidate_id": "with_errors", "policy": "p", "n": 2, "mean": 0.5, "variance": 0.25
    }  # fmt: skip


def test_the_other_split_can_be_asked_for(tmp_path: Path) -> None:
    result = selected(tmp_path, CASES, held_out=("validation",), split=Split.VALIDATION)
    assert [p["candidate_id"] for p in result.pivots] == ["validation"]


@settings(max_examples=20, deadline=None)
@given(
    st.dictionaries(
        st.text("abcd", min_size=1, max_size=3),
        st.lists(st.sampled_from([0.0, 1.0, 0.5, 0.1, 0.7, None]), max_size=10),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([0.1, 0.5, 0.6, 2 / 3, 1.0]),
    st.sampled_from([0.1, 0.5, 0.75, 1.0]),
    st.data(),
)
def test_it_equals_a_plain_recomputation(
    tmp_path_factory: pytest.TempPathFactory,
    rewards: Rewards,
    lambda_diff: float,
    minimum: float,
    data: st.DataObject,
) -> None:
    held_out = tuple(n for n in rewards if data.draw(st.booleans()))
    result = selected(
        tmp_path_factory.mktemp("s"),
        rewards,
        held_out,
        lambda_diff=lambda_diff,
        minimum_valid=minimum,
    )
    expected = dict.fromkeys(CATEGORIES, 0)
    kept = []
    for name, found in sorted(rewards.items()):
        valid = sorted(r for r in found if r is not None)
        if name in held_out:
            category = "held_out"
        elif len(valid) < max(1, minimum * len(found)):
            category = "unprofiled"
        elif valid[0] == valid[-1]:
            category = {0.0: "all_wrong", 1.0: "all_right"}.get(valid[0], "all_equal")
        elif sum(valid) / len(valid) < lambda_diff:
            category = "kept"
            kept.append(name)
        else:
            category = "too_easy"
        expected[category] += 1
    (row,) = result.domains
    assert {c: row[c] for c in CATEGORIES} == expected
    assert sum(expected.values()) == row["candidates"] == len(rewards)
    assert [p["candidate_id"] for p in result.pivots] == kept


@pytest.mark.parametrize("n", [2, 3, 5, 7, 10, 13, 16, 27, 32])
def test_the_threshold_is_exact(tmp_path: Path, n: int) -> None:
    """A mean of exactly λ is too easy, one success less is a pivot; no rounding decides."""
    right = max(2, round(0.6 * n))
    rewards = {"at": of(right, n), "below": of(right - 1, n)}
    result = selected(tmp_path, rewards, lambda_diff=min(1.0, right / n))
    assert [p["candidate_id"] for p in result.pivots] == ["below"]
    assert result.pivots[0]["mean"] == float(Fraction(right - 1, n))


def test_a_configured_rule(tmp_path: Path) -> None:
    result = selected(tmp_path, CASES, rule="variance > 0 and n >= 5 -- few\n")
    assert [p["candidate_id"] for p in result.pivots] == ["at_lambda"]
    assert result.domains[0]["rejected"] == 4
    assert sum(result.domains[0][c] for c in CATEGORIES) == len(CASES)
    assert selected(tmp_path, CASES, rule="mean < lambda_diff").domains[0]["all_wrong"] == 0


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("difficulty > 1", "difficulty"),
        ("true) THEN 'kept' END AS category FROM profiled; DROP TABLE profiled; --", "condition"),
        ("mean <", "syntax"),
        ("(SELECT count(*) FROM read_text('/etc/hostname')) > 0", "disabled by configuration"),
        ("(SELECT count(*) FROM '/etc/hostname') > 0", "configuration|not exist"),
    ],
)
def test_a_bad_rule_is_refused(tmp_path: Path, rule: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        selected(tmp_path, CASES, rule=rule)
    assert "select.rule" in str(caught.value)


def test_rules_limits_and_orders(tmp_path: Path) -> None:
    def kept(**options: Any) -> set[str]:
        return {p["candidate_id"] for p in selected(tmp_path, POOL, **options).pivots}

    POOL: Rewards = {f"c{right:02}": of(right, 16) for right in range(17)}
    pivots = {f"c{right:02}" for right in range(1, 10)}
    assert kept() == pivots
    assert kept(rule="mixed") == {f"c{right:02}" for right in range(1, 16)}
    assert kept(rule="all") == set(POOL)
    assert kept(rule="mixed", limit=3) == {"c07", "c08", "c09"}  # the largest variances
    assert kept(limit_per_domain=1) == {"c08"}
    drawn = [kept(rule="all", limit=6, order="random", seed=seed) for seed in range(20)]
    assert all(len(one) == 6 for one in drawn) and len(set(map(frozenset, drawn))) > 15
    assert kept(rule="all", limit=6, order="random", seed=3) == drawn[3]
    own = "WITH few AS (SELECT * FROM pivot_stats WHERE n = 16 AND mean BETWEEN 0.2 AND 0.3)"
    assert kept(rule=f"{own} SELECT candidate_id FROM few") == {"c04"}
    few = "SELECT candidate_id FROM pivot_stats WHERE mean = 0.25"
    for query in (f"-- mine\n{few}", f"({few})", f"/* mine */ (({few}));", f"{few} ;\n"):
        assert kept(rule=query) == {"c04"}
    for condition in ("mean = 0.25;", "(mean = 0.25)", "NOT zero_signal AND mean = 0.25"):
        assert kept(rule=condition) == {"c04"}
    assert kept(rule="zero_signal") == {"c00", "c16"}
    assert kept(rule="SELECT 'nobody' AS candidate_id") == set()
    assert selected(tmp_path, POOL, limit=3).domains[0]["rejected"] == 6
    with pytest.raises(ConfigError, match="candidate_id"):
        kept(rule="SELECT 1 AS a, 2 AS b")
    with pytest.raises(ConfigError, match=r"disabled|configuration"):
        kept(rule="SELECT content AS candidate_id FROM read_text('/etc/hostname')")


@pytest.mark.parametrize("lambda_diff", [0.0, -1.0, 1.01, math.nan])
def test_lambda_is_bounded(tmp_path: Path, lambda_diff: float) -> None:
    with pytest.raises(ConfigError, match="lambda_diff"):
        selected(tmp_path, CASES, lambda_diff=lambda_diff)


def test_nothing_mixes_policies_or_verifier_versions(tmp_path: Path) -> None:
    write_shard(tmp_path / "c.parquet", "candidates", [candidate_row("a"), candidate_row("b")])
    one = tmp_path / "one.parquet"
    write_shard(one, "verdicts", verdict_rows({"a": of(1, 2)}))
    options: dict[str, Any] = {"criteria": Criteria(lambda_diff=0.6)}
    for name, policy, version in (("b", "q", "1"), ("a", "p", "2")):
        other = tmp_path / f"{policy}{version}.parquet"
        write_shard(other, "verdicts", verdict_rows({name: of(1, 2)}, policy, version))
        with pytest.raises(PivotRLError, match=r"policies|versions"):
            select([one, other], [tmp_path / "c.parquet"], **options)
    twice = select([one, one], [tmp_path / "c.parquet"] * 2, **options)
    assert [p["n"] for p in twice.pivots] == [2]
    assert twice.domains[0]["candidates"] == 2


def test_looks_are_added_up_and_what_is_there_twice_counts_once(tmp_path: Path) -> None:
    """Files of different looks share no rollout, so nobody looks for one; others may."""
    write_shard(tmp_path / "c.parquet", "candidates", [candidate_row("a"), candidate_row("b")])
    rows = verdict_rows({"a": of(2, 8), "b": of(5, 8)})
    looks = [tmp_path / f"look{number}.parquet" for number in range(2)]
    for number, file in enumerate(looks):
        write_shard(file, "verdicts", [r for r in rows if r["sample_index"] // 4 == number])
    late, none = tmp_path / "late.parquet", tmp_path / "none.parquet"
    write_shard(late, "verdicts", [r for r in rows if r["sample_index"] >= 6])
    write_shard(none, "verdicts", [])
    with duckdb.connect(":memory:") as database:
        assert overlapping(database, [*looks, none]) == []
        assert overlapping(database, [*looks, late]) == [[looks[1], late]]
        assert overlapping(database, [looks[0], *looks]) == [[looks[0], looks[0]]]
        assert overlapping(database, [none]) == []
    for files in (looks, [late, none, *looks], [*looks, looks[0]]):
        found = select(files, [tmp_path / "c.parquet"], criteria=Criteria(lambda_diff=0.7))
        assert [(p["n"], p["mean"]) for p in found.pivots] == [(8, 0.25), (8, 0.625)]


def test_shards_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    for files in ([], [tmp_path / "missing.parquet"], [tmp_path / "broken.parquet"]):
        with pytest.raises(PivotRLError, match="verdicts"):
            select(files, [tmp_path / "c.parquet"], criteria=Criteria(lambda_diff=0.6))


@pytest.mark.parametrize(("right", "n"), [(0, 3), (1, 1), (1, 16), (8, 16), (15, 16), (39, 40)])
def test_the_interval_is_wilsons(right: int, n: int) -> None:
    """The ends are the two p at which the score statistic is exactly the quantile."""
    database = duckdb.connect(":memory:")
    database.execute("CREATE TABLE v (candidate_id INT, policy INT, verifier VARCHAR,"
                     " verifier_version VARCHAR, status VARCHAR, reward DOUBLE)")  # fmt: skip
    database.executemany(
        "INSERT INTO v VALUES (1, 1, 'a', 'b', 'ok', ?)", [[r] for r in of(right, n)]
    )
    low, high, mean = database.execute(
        f"SELECT interval_low, interval_high, mean FROM ({profile_sql('v')})"
    ).fetchall()[0]
    database.close()
    z = NormalDist().inv_cdf(0.975)
    assert 0 <= low <= mean <= high <= 1
    for end in (low, high):
        if 1e-9 < end < 1 - 1e-9:
            assert abs(mean - end) / math.sqrt(end * (1 - end) / n) == pytest.approx(z, rel=1e-6)


def test_the_profile_does_not_depend_on_the_order_of_rows() -> None:
    database = duckdb.connect(":memory:")
    rewards = "[0.1, 0.2, 0.3, 0.7, 1e-3, 0.9, 0.4, 0.15, 0.65]"
    for name, order in (("up", "r"), ("down", "-r"), ("mixed", "hash(r)")):
        database.execute(
            f"CREATE TABLE {name} AS SELECT 1 AS candidate_id, 1 AS policy, 'v' AS verifier,"
            f" '1' AS verifier_version, 'ok' AS status, r AS reward FROM"
            f" (SELECT unnest({rewards})::DOUBLE AS r) ORDER BY {order}"
        )
    found = {
        database.execute(f"SELECT mean, variance FROM ({profile_sql(t)})").fetchall()[0]
        for t in ("up", "down", "mixed")
    }
    database.close()
    assert len(found) == 1


def test_without_a_valid_reward_the_profile_has_no_numbers() -> None:
    database = duckdb.connect(":memory:")
    database.execute(
        "CREATE TABLE v AS SELECT 1 AS candidate_id, 1 AS policy, 'v' AS verifier,"
        " '1' AS verifier_version, 'error' AS status, NULL::DOUBLE AS reward"
    )
    (row,) = database.execute(profile_sql("v")).fetchall()
    database.close()
    assert row == (1, 1, "v", "1", 1, 0, None, None, None, None, None)
