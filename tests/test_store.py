"""The store: idempotent merges, one owner at a time, SQL that cannot reach out, honest errors."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.profiling import judged_sql, profile_sql
from pivotrl.store import Store
from pivotrl.store.keys import KEYS
from pivotrl.store.shards import read_shard, write_shard
from pivotrl.store.tables import polars_schema
from pivotrl.types import ConfigError, PivotRLError

DUCKDB_TYPES = {
    pl.String: "VARCHAR",
    pl.Int64: "BIGINT",
    pl.Float64: "DOUBLE",
    pl.Boolean: "BOOLEAN",
    pl.Datetime("us"): "TIMESTAMP",
    pl.List(pl.String): "VARCHAR[]",
    pl.List(pl.Int64): "BIGINT[]",
    pl.List(pl.Float32): "FLOAT[]",
}


def candidate(name: str = "c", **changes: Any) -> dict[str, Any]:
    return {
        "candidate_id": name,
        "trajectory_id": "t",
        "turn": 2,
        "domain": "shop",
        "task": None,
        "split": "train",
        "split_group": "g",
        "action_type": "tool_call",
        "tool_names": ["find"],
        "demonstration": "{}",
        "accepted_actions": "[]",
        "files": None,
    } | changes


def verdicts(rewards: list[float | None], version: str = "1", name: str = "c") -> list[dict]:
    return [
        {
            "rollout_id": f"{name}{number}",
            "candidate_id": name,
            "policy": "p",
            "sample_index": number,
            "estimator": "fixed",
            "verifier": "v",
            "verifier_version": version,
            "status": "error" if reward is None else "ok",
            "reward": reward,
            "category": "accepted" if reward else "wrong_tool",
            "details": "{}",
        }
        for number, reward in enumerate(rewards)
    ]


def shard(folder: Path, name: str, table: str, rows: list[dict]) -> Path:
    write_shard(folder / f"{name}.parquet", table, rows)
    return folder / f"{name}.parquet"


def values(store: Store, sql: str) -> list[tuple]:
    return store.query(sql)[1]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home" / "pivotrl.duckdb", wait_seconds=20)


# Tables


def test_the_sql_schema_is_what_rows_are_checked_against(store: Store) -> None:
    for table in KEYS:
        found = values(
            store,
            f"SELECT column_name, data_type, comment FROM duckdb_columns()"
            f" WHERE table_name = '{table}' AND column_name <> 'shard'",
        )
        expected = {name: DUCKDB_TYPES[dtype] for name, dtype in polars_schema(table).items()}
        assert {name: dtype for name, dtype, _ in found} == expected
        assert all(comment for _, _, comment in found), table
        assert set(KEYS[table]) <= set(expected)
    assert not values(store, "SELECT table_name FROM duckdb_tables() WHERE comment IS NULL")
    assert not values(
        store, "SELECT view_name FROM duckdb_views() WHERE comment IS NULL AND NOT internal"
    )


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([candidate(split="test")], "split"),
        ([candidate(turn=-1)], "turn"),
        ([candidate(turn="two")], "type"),
        ([candidate(demonstration=None)], "demonstration"),
        ([candidate(difficulty=1)], "row 0: no column difficulty"),
        ([{"candidate_id": "c"}], "non-nullable"),
    ],
)
def test_rows_that_break_the_model_are_refused(tmp_path: Path, rows: list[dict], says: str) -> None:
    with pytest.raises(PivotRLError, match=says) as caught:
        write_shard(tmp_path / "c.parquet", "candidates", rows)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_error_is_never_a_reward(tmp_path: Path) -> None:
    for row in ({"status": "error", "reward": 0.0}, {"status": "ok", "reward": None}):
        with pytest.raises(PivotRLError, match="exactly where the status is ok"):
            write_shard(tmp_path / "v.parquet", "verdicts", [verdicts([1.0])[0] | row])
    with pytest.raises(PivotRLError, match="reward"):
        write_shard(tmp_path / "v.parquet", "verdicts", [verdicts([1.5])[0]])


# Shards


def test_a_shard_comes_back_and_has_the_same_bytes_again(tmp_path: Path) -> None:
    rows = [candidate(str(i), tool_names=["a"] * (i % 3)) for i in range(100)]
    one, two = (
        shard(tmp_path, "one", "candidates", rows),
        shard(tmp_path, "two", "candidates", rows),
    )
    assert read_shard(one) == rows
    assert one.read_bytes() == two.read_bytes()
    assert read_shard(shard(tmp_path, "none", "candidates", [])) == []


def test_a_damaged_or_missing_shard_says_so(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    for name in ("bad.parquet", "missing.parquet"):
        with pytest.raises(PivotRLError, match=f"{name}: cannot be read"):
            read_shard(tmp_path / name)


LIMITED = """
import resource, sys
from pathlib import Path
from pivotrl.store import Store
from pivotrl.store.shards import write_shard
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    {call}
except Exception as error:
    print(type(error).__name__, error)
"""


def limited(call: str, limit: int) -> str:
    """What a process prints that may write files of at most `limit` bytes: a disk that is full."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED.format(limit=limit, call=call)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        # a compiled module that is cut at the limit would break whoever imports it next
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        timeout=120,
        check=True,
    )
    return done.stdout


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, store: Store) -> None:
    row = {"source_row": 1, "reason": "r", "remedy": "r", "excerpt": "e"}
    rows = f"[{row} | {{'source_file': str(hash(str(i)))}} for i in range(20000)]"
    path = tmp_path / "shards" / "q.parquet"
    said = limited(f"write_shard(Path({str(path)!r}), 'quarantine', {rows})", 20_000)
    assert said.startswith("PivotRLError")
    assert "q.parquet: cannot be written" in said
    assert not list(path.parent.iterdir())

    values(store, "SELECT 1")
    big = shard(
        tmp_path,
        "big",
        "quarantine",
        [row | {"source_file": os.urandom(32).hex()} for _ in range(20_000)],
    )
    size = store.path.stat().st_size
    call = f"Store(Path({str(store.path)!r})).merge('quarantine', [Path({str(big)!r})])"
    said = limited(call, size + 100_000)
    assert said.startswith("PivotRLError"), said
    assert "big.parquet" in said
    assert values(store, "SELECT count(*) FROM quarantine") == [(0,)]
    assert store.merge("quarantine", [big]) == 20_000


# Merging


def test_before_any_run_the_views_answer(store: Store) -> None:
    columns, rows = store.query("select * from pivot_stats limit 5")
    assert rows == []
    assert columns[:2] == ["candidate_id", "policy"]
    assert {"n", "mean", "variance", "interval_low", "zero_signal", "selected"} <= set(columns)
    for view in (
        "domain_stats", "signal_by_step", "stale_pivots", "verdict_counts", "leaderboard"
    ):  # fmt: skip
        assert values(store, f"SELECT * FROM {view}") == []


def test_merging_twice_changes_nothing(store: Store, tmp_path: Path) -> None:
    file = shard(tmp_path, "c", "candidates", [candidate("a"), candidate("b")])
    assert store.merge("candidates", [file]) == 2
    moment = values(store, "SELECT merged_at FROM merged_shards")
    assert store.merge("candidates", [file, file]) == 0
    assert values(store, "SELECT count(*) FROM candidates") == [(2,)]
    (later,) = values(store, "SELECT merged_at FROM merged_shards")
    assert later > moment[0]


@settings(max_examples=6, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=5), min_size=1, max_size=3),
    st.data(),
)
def test_a_key_is_there_once_with_its_last_row(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[int]], data: st.DataObject
) -> None:
    """Shards that overlap, merged in any order, again and again: the last writer of a key wins."""
    folder = tmp_path_factory.mktemp("merge")
    store = Store(folder / "s.duckdb")
    files = [
        shard(
            folder, f"{n}", "candidates", [candidate(str(i), turn=n) for i in dict.fromkeys(group)]
        )
        for n, group in enumerate(groups)
    ]
    expected: dict[str, int] = {}
    for n in data.draw(st.lists(st.integers(0, len(files) - 1), min_size=1, max_size=5)):
        store.merge("candidates", [files[n]])
        expected |= {str(i): n for i in groups[n]}
        assert dict(values(store, "SELECT candidate_id, turn FROM candidates")) == expected


def test_a_merge_is_all_or_nothing(store: Store, tmp_path: Path) -> None:
    good = shard(tmp_path, "good", "candidates", [candidate()])
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    foreign = shard(tmp_path, "foreign", "occurrences", [])
    for bad in (tmp_path / "bad.parquet", foreign, tmp_path / "missing.parquet"):
        with pytest.raises(PivotRLError, match=bad.name):
            store.merge("candidates", [good, bad])
        assert values(store, "SELECT count(*) FROM candidates") == [(0,)]
    with pytest.raises(PivotRLError, match="no table"):
        store.merge("merged_shards; drop table runs", [good])


def test_every_table_takes_its_rows(store: Store, tmp_path: Path) -> None:
    """One generated row a table, through Parquet into DuckDB and back, lists and dates included."""
    samples: dict[Any, Any] = {
        pl.String: "x", pl.Int64: 1, pl.Float64: 0.5, pl.Boolean: True,
        pl.List(pl.String): ["a"], pl.List(pl.Int64): [1, 2], pl.List(pl.Float32): [0.5],
    }  # fmt: skip
    words = {"split": "train", "finish_reason": "stop", "status": "ok", "kind": "domain",
             "action_type": "text", "estimator": "fixed"}  # fmt: skip
    moment = pl.Series(["2026-01-02T03:04:05"]).str.to_datetime()[0]
    for table in KEYS:
        row = {c: samples.get(d, moment) for c, d in polars_schema(table).items()}
        row |= {c: word for c, word in words.items() if c in row}
        store.merge(table, [shard(tmp_path, table, table, [row])])
        columns, rows = store.query(f"SELECT * EXCLUDE (shard) FROM {table}")
        assert dict(zip(columns, rows[0], strict=True)) == row


# Views


def test_pivot_stats_are_of_the_verdicts_merged_last(store: Store, tmp_path: Path) -> None:
    """A verifier that is changed and changed back: the store follows each time."""
    store.merge("candidates", [shard(tmp_path, "c", "candidates", [candidate()])])
    one = shard(tmp_path, "one", "verdicts", verdicts([1.0, 0.0, 0.0, None], "1"))
    two = shard(tmp_path, "two", "verdicts", verdicts([1.0, 1.0, 1.0, 1.0], "2"))
    ask = "SELECT samples, n, mean, zero_signal, verifier_version, domain FROM pivot_stats"
    for file, expected in [
        (one, (4, 3, 1 / 3, False, "1", "shop")),
        (two, (4, 4, 1.0, True, "2", "shop")),
        (one, (4, 3, 1 / 3, False, "1", "shop")),
    ]:
        store.merge("verdicts", [file])
        assert values(store, ask) == [expected]
    assert values(store, "SELECT count(*) FROM verdicts") == [(8,)]
    assert values(store, "SELECT status, category, verdicts FROM verdict_counts") == [
        ("error", "wrong_tool", 1),
        ("ok", "accepted", 1),
        ("ok", "wrong_tool", 2),
    ]


def test_a_later_shard_outdates_only_the_candidates_that_it_judges(
    store: Store, tmp_path: Path
) -> None:
    """Graded rewards, in any order within the shard, have the mean of their sorted sum."""
    graded = [0.7, 0.1, 1.0, 0.0, 0.1, None]
    for name, rows in {
        "one": [*verdicts(graded, name="a"), *verdicts([1.0, 0.0], name="b")],
        "two": verdicts([0.0, 0.0], "2", name="b"),
    }.items():
        store.merge("verdicts", [shard(tmp_path, name, "verdicts", rows)])
    ask = "SELECT candidate_id, verifier_version, samples, n, mean, variance FROM pivot_stats"
    (a, b) = values(store, f"{ask} ORDER BY candidate_id")
    right = sorted(r for r in graded if r is not None)
    assert a[:5] == ("a", "1", 6, 5, sum(right) / 5)
    assert a[5] == pytest.approx(sum((r - sum(right) / 5) ** 2 for r in right) / 5)
    assert b == ("b", "2", 2, 2, 0.0, 0.0)
    current = "SELECT candidate_id, verifier_version, count(*) FROM current_verdicts GROUP BY ALL"
    assert sorted(values(store, current)) == [("a", "1", 6), ("b", "2", 2)]


def test_the_estimator_is_what_was_asked_of_each_profile(store: Store, tmp_path: Path) -> None:
    """Not how long profiles are: a fixed K may differ from file to file, a stopped one may not."""
    shards = {
        "fixed 4": verdicts([1.0] * 4, name="a"),
        "fixed 2": verdicts([1.0] * 2, name="b"),
        "stopped": [row | {"estimator": "stopped"} for row in verdicts([1.0] * 2, name="c")],
    }
    ask = "SELECT candidate_id, samples, estimator FROM pivot_stats ORDER BY ALL"
    for name, rows in shards.items():
        store.merge("verdicts", [shard(tmp_path, name, "verdicts", rows)])
    assert values(store, ask) == [("a", 4, "fixed"), ("b", 2, "fixed"), ("c", 2, "stopped")]
    store.merge("verdicts", [shard(tmp_path, "all K", "verdicts", verdicts([1.0] * 4, name="c"))])
    assert values(store, ask)[2] == ("c", 4, "fixed")


def test_a_judgement_counts_where_the_verdict_is_undecided(store: Store, tmp_path: Path) -> None:
    """A judgement of a rollout whose later verdict is decided no longer counts."""
    undecided = {"status": "undecided", "reward": None}
    first = [row | undecided for row in verdicts([1.0, 1.0])]
    store.merge("verdicts", [shard(tmp_path, "v", "verdicts", first)])
    judgements = [
        {
            "status": "ok", "reward": 1.0 - number, "judgement_id": f"j{number}",
            "rollout_id": f"c{number}", "candidate_id": "c", "judge": "j", "judge_version": "1",
            "category": "accepted", "details": "{}",
        }
        for number in range(2)
    ]  # fmt: skip
    store.merge("judgements", [shard(tmp_path, "j", "judgements", judgements)])
    ask = "SELECT n, mean FROM pivot_stats"
    assert values(store, ask) == [(2, 0.5)]
    second = [verdicts([1.0], "2")[0], first[1] | {"verifier_version": "2"}]
    store.merge("verdicts", [shard(tmp_path, "w", "verdicts", second)])
    assert values(store, ask) == [(1, 1.0)]


@settings(max_examples=4, deadline=None)
@given(st.data())
def test_profiles_are_those_of_all_current_rows(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever is merged after what: renewing touched candidates equals computing all anew."""
    folder = tmp_path_factory.mktemp("profiles")
    store = Store(folder / "s.duckdb")
    reward = st.sampled_from([None, 0.0, 1.0, 0.1, 0.7])
    shards: list[tuple[str, Path]] = []
    for number, names in enumerate(["ab", "bc", "a", "abc"]):
        rows = [
            row | ({"status": "undecided"} if row["status"] == "error" else {})
            for name in names
            for row in verdicts(data.draw(st.lists(reward, min_size=1, max_size=5)), name=name)
        ]
        version = {"verifier_version": str(number % 3)}
        judged = [
            {key: row[key] for key in ("rollout_id", "candidate_id", "category", "details")}
            | {"judgement_id": row["rollout_id"], "judge": "j", "judge_version": "1"}
            | {"status": "ok", "reward": 0.5 * (number % 2)}
            for row in rows
        ]
        for table, found in (("verdicts", [row | version for row in rows]), ("judgements", judged)):
            shards.append((table, shard(folder, f"{table}{number}", table, found)))
    anew = (
        f"SELECT *, 'fixed' FROM"
        f" ({profile_sql(judged_sql('current_verdicts', 'current_judgements'))})"
    )
    for table, file in data.draw(st.lists(st.sampled_from(shards), min_size=3, max_size=8)):
        store.merge(table, [file])
        assert values(store, "FROM profiles ORDER BY ALL") == values(store, anew + " ORDER BY ALL")


def test_a_key_that_a_shard_has_twice_is_there_once(store: Store, tmp_path: Path) -> None:
    twice = [candidate(turn=1), candidate("d", turn=7), candidate(turn=2)]
    assert store.merge("candidates", [shard(tmp_path, "c", "candidates", twice)]) == 2
    asked = values(store, "SELECT candidate_id, turn FROM candidates ORDER BY ALL")
    assert asked == [("c", 1), ("d", 7)]


def test_selected_is_of_the_selection_merged_last(store: Store, tmp_path: Path) -> None:
    files = [
        shard(tmp_path, name, "verdicts", verdicts([1.0, 0.0], name=name)) for name in ("a", "b")
    ]
    store.merge("verdicts", files)
    for number, kept in enumerate(["a", "b"]):
        selection = {
            "selection_id": f"s{number}", "name": "run", "policy": "p", "rule": "r",
            "parameters": "{}", "candidates": 2, "pivots": 1,
        }  # fmt: skip
        pivot = {
            "selection_id": f"s{number}", "candidate_id": kept, "policy": "p", "n": 2,
            "mean": 0.5, "variance": 0.25,
        }  # fmt: skip
        store.merge("selections", [shard(tmp_path, f"s{number}", "selections", [selection])])
        store.merge("pivots", [shard(tmp_path, f"p{number}", "pivots", [pivot])])
        ask = "SELECT candidate_id FROM pivot_stats WHERE selected"
        assert values(store, ask) == [(kept,)]


def test_every_turn_of_a_bad_row_stays_in_quarantine(store: Store, tmp_path: Path) -> None:
    rows = [
        {"source_file": "f", "source_row": 1, "reason": "prompt too long", "remedy": "r",
         "excerpt": turn}
        for turn in ("a", "b", "c")
    ]  # fmt: skip
    assert store.merge("quarantine", [shard(tmp_path, "q", "quarantine", rows)]) == 3


def test_training_signal_and_stale_pivots(store: Store, tmp_path: Path) -> None:
    selection = {
        "selection_id": "s", "name": "run", "policy": "p", "rule": "r", "parameters": "{}",
        "candidates": 2, "pivots": 2,
    }  # fmt: skip
    pivots = [
        {"selection_id": "s", "candidate_id": c, "policy": "p", "n": 4, "mean": 0.5,
         "variance": 0.25}
        for c in ("a", "b")
    ]  # fmt: skip
    rewards = {(1, "a"): [1.0, 0.0], (2, "a"): [1.0, 1.0], (1, "b"): [0.0, 0.0], (2, "b"): [0.0, 1]}
    rows = [
        {
            "training_id": "t", "selection_id": "s", "round": 0, "step": step, "candidate_id": name,
            "sample_index": index, "reward": float(reward), "category": "accepted",
            "advantage": 0.0, "tokens": 3, "finish_reason": "stop", "text": "x",
        }
        for (step, name), found in rewards.items()
        for index, reward in enumerate(found)
    ]  # fmt: skip
    store.merge("selections", [shard(tmp_path, "s", "selections", [selection])])
    store.merge("pivots", [shard(tmp_path, "p", "pivots", pivots)])
    store.merge("train_rollouts", [shard(tmp_path, "r", "train_rollouts", rows)])
    assert values(
        store, "SELECT step, groups, zero_signal_groups, mean_reward FROM signal_by_step"
    ) == [
        (1, 2, 1, 0.25),
        (2, 2, 1, 0.75),
    ]
    assert values(store, "SELECT candidate_id, step, latest_std FROM stale_pivots") == [
        ("a", 2, 0.0)
    ]


def test_the_leaderboard_ranks_within_a_suite(store: Store, tmp_path: Path) -> None:
    rows = [
        {
            "evaluation_id": f"{model}{suite}", "policy_weights": model, "model": model,
            "suite": suite, "kind": "benchmark", "decoding": "{}", "miniature": True, "n": 500,
            "score": score, "standard_error": 0.02, "unparsed": 0, "truncated": 0,
        }
        for model, suite, score in [("base", "aime25", 0.6), ("trained", "aime25", 0.7),
                                    ("base", "ifbench", 0.5)]
    ]  # fmt: skip
    store.merge("evaluations", [shard(tmp_path, "e", "evaluations", rows)])
    assert values(store, "SELECT suite, rank, model FROM leaderboard") == [
        ("aime25", 1, "trained"),
        ("aime25", 2, "base"),
        ("ifbench", 1, "base"),
    ]


# SQL of a user


@pytest.mark.parametrize(
    "sql",
    [
        "COPY runs TO '{folder}/out.csv'",
        "SELECT * FROM read_text('{folder}/secret')",
        "SELECT * FROM '{folder}/secret.csv'",
        "ATTACH '{folder}/other.duckdb'",
        "EXPORT DATABASE '{folder}/dump'",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "INSTALL httpfs",
        "DELETE FROM runs",
        "DROP VIEW pivot_stats",
        "SELECT * FROM no_such_table",
        "SELEC 1",
    ],
)
def test_a_query_reaches_nothing_else(store: Store, tmp_path: Path, sql: str) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret.csv").write_text("a,b\n")
    before = sorted(tmp_path.iterdir())
    values(store, "SELECT 1")
    with pytest.raises(ConfigError, match="SQL: ") as caught:
        store.query(sql.format(folder=tmp_path))
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == sorted([*before, store.path.parent])


def test_parameters_and_statements_without_rows(store: Store) -> None:
    assert store.query("SELECT ?::INT + 1 AS next", [41]) == (["next"], [(42,)])
    assert store.query(" ") == ([], [])


# Who holds it, and what it is

HOLD = """
import sys, time, duckdb
held = duckdb.connect(sys.argv[1])
print("held", flush=True)
time.sleep(float(sys.argv[2]))
held.close()
"""


def hold(path: Path, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_it_waits_for_another_process_and_names_it(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values(store, "SELECT 1")
    file = shard(tmp_path, "c", "candidates", [candidate()])
    with hold(store.path, 1.5) as process, caplog.at_level(logging.WARNING, "pivotrl.store"):
        assert store.merge("candidates", [file]) == 1
    (record,) = caplog.records
    assert f"process {process.pid} (" in record.getMessage()
    assert "python" in record.getMessage()


def test_it_gives_up_with_the_name_of_the_holder(store: Store) -> None:
    values(store, "SELECT 1")
    impatient = Store(store.path, wait_seconds=0.3)
    with hold(store.path, 60) as process:
        with pytest.raises(PivotRLError, match=f"held by process {process.pid}"):
            impatient.query("SELECT 1")
        process.kill()
    assert values(impatient, "SELECT 1") == [(1,)]


def test_threads_of_one_process_take_turns(store: Store, tmp_path: Path) -> None:
    files = [shard(tmp_path, f"{i}", "candidates", [candidate(str(i))]) for i in range(4)]
    failed: list[Exception] = []

    def work(file: Path) -> None:
        try:
            store.merge("candidates", [file])
            store.query("SELECT * FROM pivot_stats")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert values(store, "SELECT count(*) FROM candidates") == [(4,)]


MERGING = """
import sys
from pathlib import Path
from pivotrl.store import Store
store, file = Store(Path(sys.argv[1])), Path(sys.argv[2])
store.query("SELECT 1")
print("ready", flush=True)
while True:
    store.merge("quarantine", [file])
    store.path.with_name("count").write_text("x")
"""


def test_a_killed_merge_leaves_a_whole_store(store: Store, tmp_path: Path) -> None:
    row = {"source_row": 1, "reason": "r", "remedy": "r", "excerpt": "e"}
    rows = [row | {"source_file": str(i)} for i in range(50_000)]
    file = shard(tmp_path, "q", "quarantine", rows)
    for delay in (0.0, 0.15, 0.4):
        with subprocess.Popen(
            [sys.executable, "-c", MERGING, str(store.path), str(file)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(delay)
            os.kill(process.pid, signal.SIGKILL)
        assert values(store, "SELECT count(*) FROM quarantine") in ([(0,)], [(50_000,)])
    store.merge("quarantine", [file])
    assert values(store, "SELECT count(*) FROM quarantine") == [(50_000,)]


def test_a_store_that_is_not_ours_is_refused(store: Store, tmp_path: Path) -> None:
    values(store, "SELECT 1")
    for version, says in ((99, "newer version.*upgrade"), (0, "old schema.*sets it aside")):
        with duckdb.connect(str(store.path)) as opened:
            opened.execute("UPDATE store_version SET version = ?", [version])
        for call in (lambda: store.query("SELECT 1"), lambda: store.merge("runs", [])):
            with pytest.raises(PivotRLError, match=says):
                call()
    other = Store(tmp_path / "other.duckdb")
    with duckdb.connect(str(other.path)) as opened:
        opened.execute("CREATE TABLE a (b INT)")
    with pytest.raises(PivotRLError, match="no store"):
        other.query("SELECT 1")
    other.path.write_bytes(b"not a database")
    with pytest.raises(PivotRLError, match="cannot be opened"):
        other.query("SELECT 1")


def test_an_empty_file_gets_its_schema(store: Store) -> None:
    """What a process leaves that died between making the file and its schema."""
    store.path.parent.mkdir()
    duckdb.connect(str(store.path)).close()
    assert values(store, "SELECT * FROM pivot_stats") == []


def test_a_store_of_an_older_schema_is_built_anew_with_all_its_rows(
    store: Store, tmp_path: Path
) -> None:
    """Looks that were merged together count together, also where `clean` took their shards."""
    looks = [verdicts([1.0, 0.0, None, 0.0, 1.0, 1.0])[start::3] for start in range(3)]
    files = [shard(tmp_path, f"v{n}", "verdicts", rows) for n, rows in enumerate(looks)]
    store.merge("verdicts", [shard(tmp_path, "earlier", "verdicts", verdicts([1.0], version="0"))])
    store.merge("verdicts", files)
    store.merge("candidates", [shard(tmp_path, "c", "candidates", [candidate()])])
    asked = (
        "FROM pivot_stats",
        "SELECT * EXCLUDE shard FROM verdicts ORDER BY rollout_id, verifier_version",
    )
    before = [values(store, sql) for sql in asked]
    assert before[0][0][8:11] == (6, 5, 0.6), "samples, n, mean"
    with duckdb.connect(str(store.path)) as opened:
        opened.execute("UPDATE store_version SET version = 0")
    (killed := store.path.with_suffix(".renewal")).mkdir()
    (killed / "pivotrl.duckdb.wal").write_bytes(b"what a killed renewal left")
    files[0].unlink()
    (tmp_path / "earlier.parquet").unlink()
    (tmp_path / "c.parquet").write_bytes(b"of another schema")
    renewal = store.renew()
    assert renewal and (renewal.shards, renewal.left_out) == (5, 1)
    assert not values(store, "FROM candidates")
    store.merge("candidates", [shard(tmp_path, "c", "candidates", [candidate()])])
    assert [values(store, sql) for sql in asked] == before
    assert store.renew() is None
    assert {path.name for path in store.path.parent.iterdir()} == {
        "pivotrl.duckdb", "pivotrl.schema-0.duckdb", "pivotrl.renewal.lock",
    }  # fmt: skip
