"""Helpers of the tests that run the whole line: the real command, in a subprocess, small."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path

from nursery import Nursery

ROOT = Path(__file__).parents[1]
SMALL = (
    "data.shard_turns=100",
    "profile.samples=4",
    "train.steps=6",
    "train.pivots_per_step=4",
    "train.group_size=4",
    "train.validate_every=3",
    "train.validation_pivots=8",
    "train.validation_samples=2",
    "train.checkpoint_every=2",
    "evaluate.tasks=12",
    "evaluate.items=12",
)


def environment(home: Path, server: str | None = None) -> dict[str, str]:
    """As a user's shell has it; `server`: the address of a running Prefect server to use."""
    # Without what importing `flows` in the tests' own process has set.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    api = {"PREFECT_API_URL": server} if server else {}
    return own | api | {"PIVOTRL_HOME": str(home), "COLUMNS": "160"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *arguments]


def small(data: Path) -> list[str]:
    """Arguments of a small run of the embedded default on data written to `data`."""
    return [
        "run",
        str(ROOT / "configs/mini.toml"),
        f"data.trajectories={data / 'retail.jsonl'}",
        f"evaluate.data={data / 'benchmarks'}",
        *SMALL,
    ]


def pivotrl(
    home: Path,
    *arguments: str,
    folder: Path = ROOT,
    cwd: Path = ROOT,
    expect: int = 0,
    server: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs the command; the test fails with its output unless it exits with `expect`.

    It is that of this checkout, in `cwd`, or of the copy in `folder`.
    With the address of a `server` a run saves the start of its own, which is no part of the test.
    """
    if folder == ROOT:
        done = _forked(arguments, environment(home, server), cwd)
    else:
        done = subprocess.run(
            command(*arguments),
            env=environment(home, server) | {"PYTHONPATH": str(folder)},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=900,
        )
    assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def _forked(
    arguments: Sequence[str], environment: Mapping[str, str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    """The command without the time that its imports take."""
    nursery = _nursery(threading.get_ident())
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / name for name in ("out", "err")]
        process = nursery.start(arguments, environment, *said, cwd)
        if not nursery.ended(900):
            os.killpg(process, signal.SIGKILL)
        return subprocess.CompletedProcess(
            ["pivotrl", *arguments], nursery.code(), *(path.read_text() for path in said)
        )


@cache
def _nursery(_: int) -> Nursery:
    """One for each thread of the tests: it starts one command at a time."""
    return Nursery()


def pivotrl_until(
    home: Path, arguments: list[str], reached: Callable[[], bool], end: signal.Signals
) -> tuple[int, str]:
    """Starts the command, sends `end` to its process group once `reached`; exit code and output.

    Prefect's server is in a group of its own: after SIGKILL it is an orphan, for the next start.
    """
    nursery = _nursery(threading.get_ident())
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        process = nursery.start(arguments, environment(home), output, output)
        deadline = time.monotonic() + 600
        while not (there := reached()) and not nursery.ended(0.02):
            if time.monotonic() > deadline:
                break
        if there and not nursery.ended():
            os.killpg(process, end)
        if not (ended := nursery.ended(120 * there)):  # or the next command would wait for it
            os.killpg(process, signal.SIGKILL)
        code, said = nursery.code(), output.read_text()
        assert ended, f"{'did not end' if there else 'never came so far'}: {said}"
        return code, said


def report(home: Path) -> Mapping:
    return json.loads((home / "report.json").read_text())


def endings(home: Path) -> list[tuple[str, str]]:
    """State and message of every flow run in Prefect's own database, oldest first."""
    with closing(sqlite3.connect(home / "prefect" / "prefect.db")) as database:
        return database.execute(
            "select s.name, s.message from flow_run r join flow_run_state s on s.id = r.state_id "
            "order by r.created"
        ).fetchall()


def contents(home: Path, *stages: str) -> dict[str, list]:
    """Every published file's hash, by stage and key: what a run made."""
    out = {}
    for shelf in ("shards", "checkpoints"):
        for path in sorted(home.glob(f"{shelf}/*/*/manifest.json")):
            stage = path.parts[-3]
            if stage in stages:
                made = json.loads(path.read_text())
                out[f"{stage}/{path.parts[-2]}"] = [
                    (Path(f["path"]).name, f["sha256"])
                    for f in made["files"]
                    if f["table"] != "train_steps"  # holds wall-clock seconds
                ]
    return out
