"""The whole line, its training on several processes: killed, on two machines, failing."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from line import ROOT, command, environment, pivotrl, pivotrl_until, small
from test_line import rows

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def few(data: Path) -> list[str]:
    """A small run without benchmarks."""
    return [*small(data), "evaluate.benchmarks=[]", "evaluate.tasks=2"]


def test_two_processes_train_one_model_and_end_with_the_run(
    home: Path, data: Path, prefect_server: str
) -> None:
    arguments = [*few(data), "train.processes=2"]

    def training_has_a_checkpoint() -> bool:
        orders = home.glob("work/*/order.json")
        return any(p.is_dir() for o in orders for p in o.parent.glob("round/checkpoint-??????"))

    code, output = pivotrl_until(home, arguments, training_has_a_checkpoint, signal.SIGKILL)
    assert code == -signal.SIGKILL, output
    order = next(home.glob("work/*/order.json"))
    deadline = time.monotonic() + 30
    while any(str(order) in (p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])):
        assert time.monotonic() < deadline, "processes outlive the run that started them"
        time.sleep(0.2)
    before = len((order.parent / "round" / "steps.jsonl").read_bytes().splitlines())
    assert before > 2
    pivotrl(home, *arguments, server=prefect_server)
    trained = rows(home, "select step, max(value) as reward from train_steps where metric = "
                   "'reward' group by training_id, step order by training_id, step")  # fmt: skip
    assert [row["step"] for row in trained] == [*range(1, 7)]


def test_machines_meet_where_the_first_one_says(
    home: Path, data: Path, tmp_path: Path, prefect_server: str
) -> None:
    arguments = [
        *few(data),
        "train.steps=5",
        "train.nodes=2",
        f"train.master=127.0.0.1:{free_port()}",
    ]
    with (tmp_path / "output").open("w+") as output:
        first = subprocess.Popen(
            command(*arguments),
            env=environment(home, prefect_server),
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
        deadline = time.monotonic() + 120
        while "--node-rank 1" not in (said := (tmp_path / "output").read_text()):
            assert first.poll() is None and time.monotonic() < deadline, said
            time.sleep(0.1)
        line = next(text for text in said.splitlines() if "--node-rank 1" in text)
        typed = line.partition(": ")[2].replace(" (2, ...)", "").split()
        other = subprocess.run(
            [sys.executable, *typed[1:]],
            env=environment(home, prefect_server),
            cwd=ROOT,
            timeout=300,
            check=False,
        )
        assert (other.returncode, first.wait(timeout=300)) == (0, 0), (
            tmp_path / "output"
        ).read_text()


def test_a_failure_of_one_process_is_told(home: Path, data: Path, prefect_server: str) -> None:
    arguments = [*few(data), "train.processes=2", "train.freeze=['no_such_part']"]
    done = pivotrl(home, *arguments, expect=1, server=prefect_server)
    assert "no parameter's name contains 'no_such_part'" in done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
