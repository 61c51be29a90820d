"""What breaks at three in the morning, for real: kills in every stage, servers that go away."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from kills import ORDER, Runs, few, published, state
from line import ROOT, command, endings, environment, pivotrl, report, small
from test_scheduled import free_port, prefect, run_now

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, data: Path, prefect_server: str) -> Path:
    """A home after a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("home")
    pivotrl(folder, *few(data), server=prefect_server)
    return folder


@pytest.mark.parametrize("seed", range(4))
def test_killed_in_every_stage_it_ends_as_if_never_killed(
    seed: int, home: Path, data: Path, tmp_path: Path, prefect_server: str
) -> None:
    rng = random.Random(seed)
    made: dict[Path, int] = {}
    with Runs(tmp_path / "killed", prefect_server) as runs:
        for stage in ORDER:
            assert runs.killed_in(stage, few(data), rng), stage
            made = published(tmp_path / "killed") | made
            if stage == "verify":
                assert [path for path in made if path.parts[-3] == "sample"]
        runs.whole(few(data))
    assert published(tmp_path / "killed").items() >= made.items(), "made once"
    assert state(tmp_path / "killed") == state(home)
    assert report(tmp_path / "killed")["scores"] == report(home)["scores"]


def test_a_server_that_comes_back_in_mid_run_loses_nothing(
    home: Path, data: Path, tmp_path: Path
) -> None:
    own, (_, config, *settings) = tmp_path / "own", few(data)
    ports = ["--prefect-port", free_port(), "--mlflow-port", free_port()]
    try:
        pivotrl(own, "up", *ports)
        services = json.loads((own / "work/up.json").read_text())
        server = services[0]["url"] + "/api"
        pivotrl(own, "deploy", config, *settings)
        ask(own, server, "mini")
        sampled(own, 0)
        for service in services[:2]:  # before the task frees the device, or soon after
            os.killpg(service["pid"], signal.SIGKILL)
        pivotrl(own, "up", *ports)  # as a supervisor would
        again = json.loads((own / "work/up.json").read_text())
        assert again[2] == services[2], "the worker, whose run would end with it"
        deadline = time.monotonic() + 400
        while {said for said, _ in endings(own)} & {"Pending", "Running"}:
            assert time.monotonic() < deadline
            time.sleep(1)
        assert [said for said, _ in endings(own)] == ["Completed", "Completed"], endings(own)
    finally:
        pivotrl(own, "down")
    assert state(own) == state(home)


def ask(home: Path, server: str, name: str) -> str:
    """Asks for a run of the deployment; its id."""
    code = (
        "from prefect.deployments import run_deployment\n"
        f"print('STATE', run_deployment('scheduled/{name}', timeout=0).id)"
    )
    return prefect(home, server, code)[0]


def sampled(home: Path, more_than: int) -> int:
    """How many shards are profiled, once there are more than that."""
    deadline = time.monotonic() + 300
    while (there := len([*home.glob("shards/sample/*/manifest.json")])) <= more_than:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return there


def terminated(pid: int) -> bool:
    """Whether SIGTERM waits for the process, which is suspended (proc(5), `ShdPnd`)."""
    (pending,) = re.findall(r"^ShdPnd:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.M)
    return bool(int(pending, 16) >> (signal.SIGTERM - 1) & 1)


def test_the_next_run_goes_on_after_worker_and_run_were_stopped_or_killed_together(
    data: Path, tmp_path: Path
) -> None:
    own, config = tmp_path / "own", tmp_path / "nightly.toml"
    text = (ROOT / "configs/mini.toml").read_text().replace('name = "mini"', 'name = "nightly"')
    config.write_text(text)
    settings = [*small(data)[2:], f"model.path={ROOT / 'pivotrl/mini/model'}"]
    settings += ["evaluate.benchmarks=[]", "train.steps=2", "register.model=own"]
    ports = ["--prefect-port", free_port(), "--mlflow-port", free_port()]
    try:
        pivotrl(own, "up", *ports)
        services = json.loads((own / "work/up.json").read_text())
        server = services[0]["url"] + "/api"
        pivotrl(own, "deploy", str(config), *settings)
        ask(own, server, "nightly")
        there = sampled(own, 0)
        (run,) = psutil.Process(services[2]["pid"]).children()
        run.suspend()  # or it may have ended before `down` comes to it
        stopping = subprocess.Popen(command("down"), env=environment(own), cwd=ROOT)
        while not terminated(run.pid):
            assert stopping.poll() is None
            time.sleep(0.02)
        run.resume()
        assert stopping.wait(120) == 0
        assert [state for state, _ in endings(own)] == ["Crashed", "Crashed"]  # and its retrain
        for _, message in endings(own):
            assert message.startswith("Stopped: ") and "the next schedule, goes on" in message
        pivotrl(own, "up", *ports)
        services = json.loads((own / "work/up.json").read_text())
        first = ask(own, server, "nightly")
        sampled(own, there)
        worker = psutil.Process(services[2]["pid"])
        for process in (*worker.children(recursive=True), worker):
            process.kill()
        pivotrl(own, "up", *ports)
        again = json.loads((own / "work/up.json").read_text())
        assert again[:2] == services[:2], "what lives is left alone"
        assert run_now(own, server).startswith("Completed Ran from")
        state = f"print('STATE', client.read_flow_run('{first}').state)"
        client = "from prefect.client.orchestration import get_client"
        code = f"{client}\nwith get_client(sync_client=True) as client: {state}"
        (said,) = prefect(own, server, code)
        assert said.startswith("Crashed") and "the next schedule, goes on" in said
    finally:
        pivotrl(own, "down")
