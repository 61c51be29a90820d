"""What a home may lose, and how it is kept elsewhere: clean, backup, restore."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
import tempfile
import time
import zlib
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from pivotrl.store import Store
from pivotrl.types import PivotRLError

SHELVES = ("shards", "checkpoints")
KEPT = (
    *("artifacts", "shards", "checkpoints", "results", "reports", "benchmarks"),
    *("report.json", "report.html", "marks.jsonl"),
)
DATABASES = ("mlflow.db", "prefect/prefect.db", "judge.sqlite")
STORE = "pivotrl.duckdb"
ORIGIN = "home.txt"
"""Where the home was: MLflow keeps whole paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A folder or record that no kept run refers to."""

    kind: str
    path: Path
    bytes: int


def leftovers(home: Path, keep_runs: int, older_than: float) -> list[Leftover]:
    """What nothing refers to: stages of none of the last `keep_runs` runs of each name.

    Nothing in which something is younger than `older_than` days, so that an unfinished run finds
    what it had; never what the registry holds, which has files of its own. Rows that were merged
    stay in the store.
    """
    kept = _referred(home, keep_runs)
    before = time.time() - older_than * 86_400
    found = []
    for shelf in SHELVES:
        for folder in sorted((home / shelf).glob("*/*")):
            if folder.is_dir() and folder.name not in kept and _changed(folder) < before:
                found.append(
                    Leftover(kind=f"{shelf}/{folder.parent.name}", path=folder, bytes=_size(folder))
                )
    for place in ("results", "work"):
        for path in sorted((home / place).glob("[0-9a-f]" * 16 + "*")):
            key = path.name.split(".")[0]
            if len(key) == 16 and key not in kept and _changed(path) < before:
                found.append(Leftover(kind=place, path=path, bytes=_size(path)))
    return found


def remove(found: list[Leftover]) -> None:
    for leftover in found:
        if leftover.path.is_dir():
            shutil.rmtree(leftover.path)
        else:
            leftover.path.unlink(missing_ok=True)


def backup(home: Path, out: Path) -> int:
    """Writes the home to a `.tar.gz`: databases whole in one moment each; returns its bytes.

    Runs may go on meanwhile. Not in it: `work/`, logs, and data that commands make again.
    Raises PivotRLError for a home without anything.
    """
    home = home.resolve()
    if not (home / STORE).is_file():
        raise PivotRLError(f"{home}: there is no store to keep; run something first")
    (home / "work").mkdir(exist_ok=True)
    unfinished = out.with_name(out.name + ".unfinished")
    with (
        tempfile.TemporaryDirectory(dir=home / "work") as folder,
        closing(tarfile.open(unfinished, "w:gz", compresslevel=1)) as archive,
    ):
        copies = Path(folder)
        (copies / ORIGIN).write_text(f"{home}\n")
        Store(home / STORE).copy_to(copies / STORE)
        for name in DATABASES:
            if (home / name).is_file():
                (copies / name).parent.mkdir(exist_ok=True)
                with closing(sqlite3.connect(home / name)) as source:
                    with closing(sqlite3.connect(copies / name)) as copy:
                        source.backup(copy)
        for name in (ORIGIN, STORE, *DATABASES):
            if (copies / name).is_file():
                archive.add(copies / name, name)
        for name in KEPT:
            if (home / name).exists():
                archive.add(home / name, name)
    unfinished.replace(out)
    return out.stat().st_size


def restore(archive: Path, home: Path) -> list[str]:
    """Unpacks a backup into an empty home, the one it was made of.

    Returns Prefect's ids of the flow runs that were under way then, and are of no process now.
    Raises PivotRLError for another home, one that holds something, or what is no backup.
    """
    home = home.resolve()
    holds = [path.name for path in home.glob("*") if path.name != "work"] if home.is_dir() else []
    if holds:
        raise PivotRLError(f"{home} is not empty ({', '.join(sorted(holds)[:3])}); move it away")
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as folder:
        try:
            with tarfile.open(archive) as opened:
                opened.extractall(folder, filter="data")
            origin = (Path(folder) / ORIGIN).read_text().strip()
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            raise PivotRLError(
                f"{archive} cannot be unpacked; is it a whole one of `pivotrl backup`? {error}"
            ) from None
        if origin != str(home):
            raise PivotRLError(
                f"{archive} is of {origin}, and MLflow keeps whole paths; restore it with "
                f"PIVOTRL_HOME={origin}"
            )
        lost = _released(Path(folder) / "prefect" / "prefect.db")
        home.mkdir(exist_ok=True)
        for path in sorted(Path(folder).iterdir()):
            if path.name != ORIGIN:
                shutil.move(path, home / path.name)
    return lost


def _released(path: Path) -> list[str]:
    """The flow runs that were under way; the slots that they held are free.

    What would free them else, leases in files, changes while an archive is written.
    """
    if not path.is_file():
        return []
    states = "('PENDING', 'RUNNING', 'CANCELLING')"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("update concurrency_limit_v2 set active_slots = 0")
        found = database.execute(f"select id from flow_run where state_type in {states}")
        return [run for (run,) in found]


def _referred(home: Path, keep_runs: int) -> set[str]:
    """Keys of the stages of the runs that are kept."""
    by_name: dict[str, list[dict]] = {}
    for path in sorted((home / "reports").glob("*.json"), key=lambda p: p.stat().st_mtime):
        try:
            report = json.loads(path.read_text())
        except ValueError:
            raise PivotRLError(
                f"{path} is damaged: what its run used is not known; move it away"
            ) from None
        by_name.setdefault(report["config"]["run.name"], []).append(report)
    kept = [report for reports in by_name.values() for report in reports[-keep_runs:]]
    return {stage["key"] for report in kept for stage in report["stages"]}


def _changed(path: Path) -> float:
    """When anything in the folder last did, or in the one that a lock is of."""
    changed = [0.0]
    for file in (path, *path.with_suffix("").rglob("*")):
        with suppress(FileNotFoundError):  # a run that is under way writes and removes files
            changed.append(file.lstat().st_mtime)
    return max(changed)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
