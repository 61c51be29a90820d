"""What breaks at three in the morning, for real: kills in every stage, servers that go away."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from kills import ORDER, killed_in, started, state, whole
from line import pivotrl, report, small
from test_line import data, home
from test_scheduled import free_port

__all__ = ["data", "home"]

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_killed_in_every_stage_it_ends_as_if_never_killed(
    home: Path, data: Path, tmp_path: Path
) -> None:
    killed, rng = tmp_path / "killed", random.Random(0)
    met = [stage for stage in ORDER if killed_in(killed, stage, small(data), rng)]
    assert met == list(ORDER)
    whole(killed, small(data))
    assert state(killed) == state(home)
    assert report(killed)["scores"] == report(home)["scores"]


def test_a_server_that_comes_back_in_mid_run_loses_nothing(
    home: Path, data: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    ports = ["--prefect-port", free_port(), "--mlflow-port", free_port()]
    try:
        pivotrl(own, "up", *ports)
        process = started(own, small(data))
        deadline = time.monotonic() + 300
        while not any(own.glob("shards/sample/*/manifest.json")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        for service in json.loads((own / "work/up.json").read_text()):
            os.killpg(service["pid"], signal.SIGKILL)
        pivotrl(own, "up", *ports)  # as a supervisor would
        code = process.wait(600)
    finally:
        pivotrl(own, "down")
    assert code == 0
    assert state(own) == state(home)
