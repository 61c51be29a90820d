"""kill -9 in a stage of one's choice, at a random instant, and what must be equal afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from line import ROOT, command, contents, environment

from pivotrl.store import Store

STAGES = ("ingest", "extract", "sample", "verify", "select", "train", "evaluate", "agree")
ORDER = ("ingest", "extract", "sample", "verify", "select", "train", "agree", "evaluate")
"""As a run comes to them."""
SECONDS = {"sample": 4.0, "train": 8.0, "evaluate": 6.0}
"""Within which a stage is hit."""
AT_ONCE = 0.3
"""Of the others."""


def state(home: Path) -> tuple[dict, list[tuple]]:
    """Files by stage, and counts of every table that must not depend on kills."""
    sql = " union all ".join(
        f"select '{table}', count(*), count(distinct {key}) from {table}"
        for table, key in (
            ("rollouts", "rollout_id"),
            ("verdicts", "rollout_id"),
            ("pivots", "candidate_id"),
            ("train_rollouts", "(training_id, step, candidate_id, sample_index)"),
            ("evaluation_items", "(evaluation_id, item_id, repeat)"),
        )
    )
    return contents(home, *STAGES), Store(home / "pivotrl.duckdb").query(sql + " order by 1")[1]


def started(home: Path, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(*arguments),
        env=environment(home),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def whole(home: Path, arguments: Sequence[str]) -> None:
    """A run to its end."""
    code = started(home, arguments).wait(900)
    assert code == 0, f"exit {code}"


def killed_in(home: Path, stage: str, arguments: Sequence[str], rng: random.Random) -> bool:
    """Starts a run and kills it while it is in the stage, or near it; False if it ended before.

    A stage is under way once the one before it has published something, the first once the home has
    folders; how long after is drawn from the time that it takes.
    """
    before = ORDER[ORDER.index(stage) - 1] if stage != ORDER[0] else None
    process = started(home, arguments)
    deadline = time.monotonic() + 600
    while process.poll() is None and not _reached(home, before):
        assert time.monotonic() < deadline, f"{stage}: never came so far"
        time.sleep(0.01)
    instant = time.monotonic() + rng.uniform(0, SECONDS.get(stage, AT_ONCE))
    while process.poll() is None and time.monotonic() < instant:
        time.sleep(0.005)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    assert code in (0, -signal.SIGKILL), f"{stage}: exit {code}"
    return code != 0


def _reached(home: Path, stage: str | None) -> bool:
    if stage is None:
        return (home / "work").is_dir()
    return any(any(home.glob(f"{s}/{stage}/*/manifest.json")) for s in ("shards", "checkpoints"))
