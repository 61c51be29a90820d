"""A run's page shows what is of this run, all of it: its bad rows, its rounds, its controls."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from test_promotion import DOMAIN

from pivotrl.ledger import ledger
from pivotrl.page import Section
from pivotrl.run_page import RunKeys, run_sections
from pivotrl.scores import ScoreRow
from pivotrl.store import Store
from pivotrl.store.shards import write_shard

KEYS = RunKeys(trajectories="mine", candidates="c", selection="s", trainings=["first", "second"])


def bad_row(number: int) -> dict[str, Any]:
    return {"source_file": "runs.jsonl", "source_row": number, "reason": "not JSON"} | {
        "remedy": f"mend row {number}", "excerpt": "",
    }  # fmt: skip


def step_row(training: str, number: int, step: int) -> dict[str, Any]:
    return {"training_id": training, "round": number, "step": step} | {
        "metric": "reward", "value": 0.5,
    }  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Of two runs' files and of both rounds of one of them."""
    store = Store(tmp_path / "pivotrl.duckdb")
    steps = [
        step_row(training, number, step)
        for number, training in enumerate(KEYS.trainings)
        for step in range(1, 31)
    ]
    for file, table, rows in (
        ("ingest/other/q.parquet", "quarantine", [bad_row(n) for n in range(20)]),
        ("ingest/mine/q.parquet", "quarantine", [bad_row(77)]),
        ("train/any/steps.parquet", "train_steps", steps),
    ):
        path = tmp_path / file
        path.parent.mkdir(parents=True)
        write_shard(path, table, rows)
        store.merge(table, [path])
    return store


def page(store: Store, keys: RunKeys, **scores: list[ScoreRow]) -> dict[str, Section]:
    report: dict[str, Any] = {
        "name": "mini",
        "outcome": "trained",
        "model": None,
        "training": {"warnings": []},
        "config": {"select.lambda_diff": 0.6, "select.rule": "pivots"},
        "ingest": {"bad_rows": 1},
        "extract": {"candidates": 5},
        "selection": {"domains": []},
        "scores": {label: [asdict(row) for row in rows] for label, rows in scores.items()},
        "cost": ledger({}, parameters=1, samples=4, turns_per_trajectory=1.0),
    }
    return {section.title: section for section in run_sections(report, store, keys)}


def test_bad_rows_are_those_of_the_runs_files(store: Store) -> None:
    rows = page(store, KEYS)["What went in"].rows
    assert [row for row in rows if "runs.jsonl" in row[0]] == [
        ["runs.jsonl, row 77", "not JSON; mend row 77"]
    ]


def test_the_curves_are_of_all_rounds_in_a_row(store: Store) -> None:
    both = page(store, KEYS)["Training"]
    assert both.note == "By step, of 2 rounds in a row." and "<!-- 60 -->" in both.figure
    last = page(store, replace(KEYS, trainings=["second"]))["Training"]
    assert last.note == "By step." and "<!-- 60 -->" not in last.figure


def test_controls_have_their_scores(store: Store) -> None:
    control = replace(DOMAIN, trained=61.0, difference=41.0)
    found = page(store, KEYS, trained=[DOMAIN], **{"sft 0.1 x 4": [control]})
    assert found["Scores"].columns[3] == "trained" and found["Scores"].rows[0][3] == "30.0 ± 2.0"
    shown = found["Scores of sft 0.1 x 4"]
    assert shown.columns[3] == "sft 0.1 x 4"
    assert (shown.rows[0][3], shown.rows[0][4][:5]) == ("61.0 ± 2.0", "+41.0")
