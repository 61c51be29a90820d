"""kill -9 in a stage of one's choice, at a random instant, and what must be equal afterwards."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from line import ROOT, command, contents, environment

from pivotrl.store import Store

STAGES = ("ingest", "extract", "sample", "verify", "select", "train", "evaluate", "agree")
ORDER = ("ingest", "extract", "sample", "verify", "select", "train", "agree", "evaluate")
"""As a run comes to them."""
SAID = {"agree": "reward against oracle"}
"""What a run calls a stage."""
SECONDS = {"ingest": 3.0, "sample": 3.0, "train": 6.0, "evaluate": 6.0}
"""Within which a stage is hit."""
AT_ONCE = 0.3
"""Of the others."""


Running = subprocess.Popen[bytes]


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


def started(home: Path, arguments: Sequence[str], log: int = subprocess.DEVNULL) -> Running:
    return subprocess.Popen(
        command(*arguments),
        env=environment(home) | {"PYTHONUNBUFFERED": "1"},
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def whole(home: Path, arguments: Sequence[str]) -> None:
    """A run to its end."""
    code = started(home, arguments).wait(900)
    assert code == 0, f"exit {code}"


def killed_in(home: Path, stage: str, arguments: Sequence[str], rng: random.Random) -> bool:
    """Starts a run and kills it in the stage, or right after; False if it ended before.

    A stage is under way once the run has said that the one before it, its first shard, is done or
    cached; how long after is drawn from the time that it takes.
    """
    before = ORDER[ORDER.index(stage) - 1] if stage != ORDER[0] else None
    awaited = re.compile(rf"^[✓•] {SAID.get(before, before)}" if before else ".", re.MULTILINE)
    with tempfile.NamedTemporaryFile() as log:
        process = started(home, arguments, log.fileno())
        deadline = time.monotonic() + 600
        while process.poll() is None and not awaited.search(Path(log.name).read_text()):
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
