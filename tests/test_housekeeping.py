"""What a home may lose. That a copy of it is as good: tests/test_line.py."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from flows.operate import clean
from flows.processes import record_run
from pivotrl.store import Store
from pivotrl.types import PivotRLError
from tasks.housekeeping import backup, leftovers, remove, restore

DAY = 86_400


def a_home(folder: Path) -> Path:
    """Three runs of one name and one of another, each with a shard of its own; all a month old."""
    (folder / "reports").mkdir(parents=True)
    for number, name in enumerate(("nightly", "nightly", "nightly", "other")):
        key = f"{number:016x}"
        stages = [{"stage": "sample", "key": key}, {"stage": "train", "key": key}]
        text = json.dumps({"config": {"run.name": name}, "stages": stages})
        path = folder / f"reports/{name}-{number}.json"
        path.write_text(text)
        os.utime(path, (time.time() + number, time.time() + number))
        for place in (f"shards/sample/{key}", f"checkpoints/train/{key}", f"work/{key}"):
            (folder / place).mkdir(parents=True)
            (folder / place / "rows").write_text("x" * 100)
        (folder / "results").mkdir(exist_ok=True)
        (folder / "results" / key).write_text("{}")
    (folder / "shards/runs").mkdir()
    (folder / "shards/runs/abc.parquet").write_text("not a stage")
    (folder / "work/up.json").write_text("[]")
    month_ago = time.time() - 30 * DAY
    for path in folder.rglob("*"):
        if "reports" not in path.parts:
            os.utime(path, (month_ago, month_ago))
    return folder


def test_what_kept_runs_refer_to_stays(tmp_path: Path) -> None:
    folder = a_home(tmp_path / "home")
    assert leftovers(folder, keep_runs=3, older_than=7) == []
    found = leftovers(folder, keep_runs=1, older_than=7)
    assert {(leftover.kind, leftover.path.name[-1]) for leftover in found} == {
        (kind, number)
        for kind in ("shards/sample", "checkpoints/train", "results", "work")
        for number in "01"
    }
    assert {leftover.bytes for leftover in found} == {100, 2}
    remove(found)
    assert leftovers(folder, keep_runs=1, older_than=7) == []
    kept = {path.name for path in (folder / "shards/sample").iterdir()}
    assert kept == {f"{2:016x}", f"{3:016x}"}
    assert (folder / "shards/runs/abc.parquet").exists() and (folder / "work/up.json").exists()


def test_what_an_unfinished_run_wrote_lately_stays(tmp_path: Path) -> None:
    folder = a_home(tmp_path / "home")
    month_ago = (time.time() - 30 * DAY,) * 2
    work = folder / f"work/{0:016x}"
    for path in (work.with_suffix(".lock"), work / "checkpoint"):
        path.write_text("")
    for path in (work.with_suffix(".lock"), work):
        os.utime(path, month_ago)
    found = leftovers(folder, keep_runs=1, older_than=7)
    assert {one.path.name[:16] for one in found if one.kind == "work"} == {f"{1:016x}"}


def test_nothing_is_removed_while_a_run_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = a_home(tmp_path / "home")
    monkeypatch.setenv("PIVOTRL_HOME", str(folder))
    with record_run(folder, "1"):
        clean(keep_runs=1, older_than=7, yes=False)
        with pytest.raises(PivotRLError, match="a run is under way"):
            clean(keep_runs=1, older_than=7, yes=True)
    assert leftovers(folder, keep_runs=1, older_than=7)
    clean(keep_runs=1, older_than=7, yes=True)
    assert not leftovers(folder, keep_runs=1, older_than=7)


def test_a_truncated_backup_is_called_so(tmp_path: Path) -> None:
    home, archive = a_home(tmp_path / "home"), tmp_path / "copy.tar.gz"
    Store(home / "pivotrl.duckdb").query("select 1")
    backup(home, archive)
    archive.write_bytes(archive.read_bytes()[:-200])
    home.rename(tmp_path / "away")
    with pytest.raises(PivotRLError, match=r"copy\.tar\.gz cannot be unpacked; is it a whole one"):
        restore(archive, home)
    assert not home.exists()


def test_a_damaged_report_is_named(tmp_path: Path) -> None:
    folder = a_home(tmp_path / "home")
    (folder / "reports/other-3.json").write_text("")
    with pytest.raises(PivotRLError, match=r"other-3\.json is damaged"):
        leftovers(folder, keep_runs=1, older_than=31)


def test_what_is_young_stays(tmp_path: Path) -> None:
    folder = a_home(tmp_path / "home")
    assert leftovers(folder, keep_runs=1, older_than=31) == []
