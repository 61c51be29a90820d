"""kill -9 in a stage of one's choice, at a random instant, and what must be equal afterwards."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from line import contents, environment, small
from nursery import Nursery

from pivotrl.store import Store

STAGES = ("ingest", "extract", "sample", "verify", "select", "train", "evaluate", "agree")
ORDER = ("ingest", "extract", "sample", "verify", "select", "train", "agree", "evaluate")
"""As a run comes to them."""
SAID = {"agree": "reward against oracle"}
"""What a run calls a stage."""
SECONDS = {"ingest": 3.0, "sample": 3.0, "train": 6.0, "evaluate": 3.0}
"""Within which a stage is hit."""
AT_ONCE = 0.3
"""Of the others."""


def few(data: Path) -> list[str]:
    """A small run with one benchmark, so that `evaluate` is no longer than its window."""
    return [*small(data), "evaluate.benchmarks=['mmlu_pro']"]


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


def published(home: Path) -> dict[Path, int]:
    """When each finished shard and model was made: whoever makes one again sets another time."""
    return {path: path.stat().st_mtime_ns for path in home.glob("*/*/*/manifest.json")}


class Runs:
    """Runs of one home, one at a time."""

    def __init__(self, home: Path, server: str | None = None) -> None:
        home.mkdir(parents=True)
        self.log = home.with_name(f"{home.name}.log")
        self.environment = environment(home, server)
        self.nursery = Nursery()

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        self.nursery.close()

    def start(self, arguments: Sequence[str]) -> int:
        """The id of the run's process, which leads a session."""
        self.log.write_text("")
        return self.nursery.start(arguments, self.environment, self.log, self.log)

    def whole(self, arguments: Sequence[str]) -> None:
        """A run to its end."""
        self.start(arguments)
        assert self.nursery.ended(900) and self.nursery.code() == 0, self.log.read_text()

    def killed_in(self, stage: str, arguments: Sequence[str], rng: random.Random) -> bool:
        """Starts a run and kills it in the stage, or right after; False if it ended before.

        A stage is under way once the run has said that the one before it, its first shard, is done
        or cached; how long after is drawn from the time that it takes.
        """
        before = ORDER[ORDER.index(stage) - 1] if stage != ORDER[0] else None
        awaited = re.compile(rf"^[✓•] {SAID.get(before, before)}" if before else ".", re.MULTILINE)
        run, deadline = self.start(arguments), time.monotonic() + 600
        while not awaited.search(self.log.read_text()) and not self.nursery.ended(0.01):
            assert time.monotonic() < deadline, f"{stage}: never came so far"
        if not self.nursery.ended(rng.uniform(0, SECONDS.get(stage, AT_ONCE))):
            os.killpg(run, signal.SIGKILL)
        code = self.nursery.code()
        assert code in (0, -signal.SIGKILL), f"{stage}: exit {code}\n{self.log.read_text()}"
        return code != 0
