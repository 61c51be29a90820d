"""Scheduled retraining on a real server with a real worker, and champions by its gate."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest
from filelock import FileLock
from line import ROOT, SMALL, environment, pivotrl, report

from flows import scheduled
from pivotrl.config import flatten, load_config
from pivotrl.tracking.registry import Version
from tasks.promote import CHAMPION, record
from tasks.session import StageRecord


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def prefect(home: Path, server: str, code: str) -> list[str]:
    """The lines that the code prints as a client of that server, those that begin with STATE."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(home, server),
        capture_output=True,
        text=True,
        timeout=560,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("STATE ")]
    return [line.removeprefix("STATE ") for line in lines]


def run_now(home: Path, server: str) -> str:
    """Asks for a run of the deployment and waits for its end; its state's name and message."""
    code = (
        "from prefect.deployments import run_deployment\n"
        "run = run_deployment('scheduled/nightly', timeout=500, poll_interval=1)\n"
        "print('STATE', run.state.name, run.state.message)"
    )
    return prefect(home, server, code)[0]


def runs(home: Path, server: str) -> list[str]:
    """State and message of the deployment's runs that have begun, oldest first."""
    code = (
        "for run in sorted((r for r in found if r.start_time), key=lambda r: r.start_time):\n"
        "    if run.deployment_id: print('STATE', run.state.name, run.state.message)"
    )
    return prefect(home, server, FOUND + code)


def planned(home: Path, server: str) -> list[str]:
    """When the runs are due that the server's schedule has made by itself."""
    code = (
        "for run in found:\n"
        "    if run.auto_scheduled: print('STATE', run.expected_start_time.isoformat())"
    )
    return prefect(home, server, FOUND + code)


FOUND = """
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    found = client.read_flow_runs(limit=200)
"""


def test_what_a_run_left_undone_beside_its_stages_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIVOTRL_HOME", str(tmp_path))
    stage = StageRecord(stage="train", label="train", key="k", cached=True, seconds=0.0)
    monkeypatch.setattr(scheduled, "told_dry", lambda *_: [stage])
    (tmp_path / "reports").mkdir()

    def owed(*settings: str, **changed: Any) -> bool:
        config = load_config(ROOT / "configs/own.toml", settings)
        made = load_config(ROOT / "configs/own.toml", ["promote.automatic=true"])
        report = {
            "outcome": "trained",
            "stages": [{"key": "k"}],
            "config": flatten(made),
            "model": {"version": "2"},
            "gate": {"passed": True},
        } | changed
        (tmp_path / "reports/r.json").write_text(json.dumps(report))
        return scheduled.why_run(config).startswith("the registry")

    automatic = "promote.automatic=true"
    assert owed(automatic), "MLflow fell silent before the alias moved"
    assert not owed(automatic, gate={"passed": False})
    version = Version(name="own", number="2", run_id="r", tags={})
    record(tmp_path, version, CHAMPION, "passed the gate")
    assert not owed(automatic)
    assert owed(automatic, stages=[]) and owed(automatic, model=None, gate=None)
    assert owed() and owed(automatic, "promote.min_gain=-5") and owed(automatic, "register.alias=n")
    assert owed(automatic, outcome="compared"), "that registers under aliases of its own"
    assert not owed(outcome="no pivots")
    with duckdb.connect(str(tmp_path / "pivotrl.duckdb")) as opened:
        opened.execute("update store_version set version = 0")
    assert owed(automatic), "the run builds the store anew"


@pytest.mark.slow
@pytest.mark.long
def test_a_schedule_trains_on_what_is_new_and_only_on_that(tmp_path: Path, data: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "runs"
    folder.mkdir()
    lines = (data / "retail.jsonl").read_text().splitlines(keepends=True)
    (folder / "monday.jsonl").write_text("".join(lines[:40]))
    config = tmp_path / "nightly.toml"
    text = (ROOT / "configs/mini.toml").read_text().replace('name = "mini"', 'name = "nightly"')
    config.write_text(text)
    settings = [
        *(f"data.trajectories={folder}", f"model.path={ROOT / 'pivotrl/mini/model'}", *SMALL),
        *(f"evaluate.data={data / 'benchmarks'}", "evaluate.benchmarks=['mmlu_pro']"),
        *("evaluate.tasks=20", "evaluate.items=20", "evaluate.max_tokens=48"),
        *("promote.automatic=true", "promote.min_gain=-100", "promote.max_drop=100"),
        *("promote.max_malformed=1.0", "register.model=own"),
    ]
    refused = pivotrl(home, "deploy", str(config), *settings, expect=2)
    assert "start one with `pivotrl up`" in refused.stderr
    refused = pivotrl(home, "notify", "nightly", expect=2)
    assert "no Prefect server runs; start one with `pivotrl up`" in refused.stderr
    assert "nothing runs" in pivotrl(home, "status").stdout
    try:
        ports = ["--prefect-port", free_port(), "--mlflow-port", free_port()]
        shown = pivotrl(home, "up", *ports).stdout
        assert shown.count("healthy") == 3 and "no schedules" in shown
        services = json.loads((home / "work/up.json").read_text())
        assert all(row["url"].startswith("http://127.0.0.1:") for row in services)
        listening = {c.laddr.ip for s in services for c in connections(s["pid"])}
        assert listening == {"127.0.0.1"}
        again = pivotrl(home, "up", *ports).stdout  # leaves alone what runs
        assert again.count("healthy") == 3
        assert json.loads((home / "work/up.json").read_text()) == services
        assert all(row["url"] in pivotrl(home, "ui").stdout for row in services[:2])
        server = services[0]["url"] + "/api"

        bad = pivotrl(home, "deploy", str(config), *settings, "--cron", "never", expect=2)
        assert "--cron 'never'" in bad.stderr
        unknown = pivotrl(home, "deploy", str(config), *settings, "--pool", "k8s", expect=2)
        assert "no work pool 'k8s'" in unknown.stderr
        pivotrl(home, "deploy", str(config), *settings, "--devices", "2")  # and again, otherwise
        told = pivotrl(home, "deploy", str(config), *settings, "--cron", "0 3 * * *")
        assert "scheduled/nightly runs at 0 3 * * * UTC" in told.stdout

        said = run_now(home, server)
        assert said.startswith("Completed Ran from ingest: never ran; 1 new file: monday.jsonl")
        assert said.endswith("; from the base, not profiled before: the whole pool is profiled")
        first = report(home)
        assert first["ingest"]["trajectories"] == 40 and first["gate"]["passed"]
        started = time.monotonic()
        assert "Nothing new" in run_now(home, server)
        assert time.monotonic() - started < 90
        with ThreadPoolExecutor(1) as other:
            with FileLock(home / "work" / "scheduled.lock"):  # as a run of another deployment
                asked = other.submit(run_now, home, server)
                deadline = time.monotonic() + 120
                while not runs(home, server)[-1].startswith("Running"):
                    assert time.monotonic() < deadline
                time.sleep(3)
                assert runs(home, server)[-1].startswith("Running"), "it waits"
            assert "Nothing new" in asked.result()
        assert report(home)["name"] == first["name"]
        champion = (
            "from pathlib import Path\n"
            "from flows.scheduled import load_config, news\n"
            f"config = load_config(Path({str(config)!r}), {[*settings, 'train.start=champion']})\n"
            "print('STATE', news(config, 'sample retail 1/2: changed: settings.policy'))"
        )
        assert prefect(home, server, champion)[0].startswith("; from the champion, ")

        (folder / "tuesday.jsonl").write_text("".join(lines[40:60]))
        state = run_now(home, server)
        assert state == (
            "Completed Ran from ingest: changed: settings.files; 1 new file: tuesday.jsonl; "
            "from the base, profiled before: only new candidates are profiled"
        )
        second = report(home)
        assert second["ingest"]["trajectories"] == 60
        cached = {stage["label"] for stage in second["stages"] if stage["cached"]}
        assert "sample retail 1/2" in cached or "sample retail 1/3" in cached
        assert second["model"]["version"] == "2"
        assert "version 1" in pivotrl(home, "rollback", "own", server=server).stdout
        for path in (home / "reports").iterdir():
            path.unlink()  # as if it had been killed after its last stage
        assert run_now(home, server).startswith("Completed Ran from the registry")
        assert report(home)["model"] == second["model"] | {"created": False}
        champions = [json.loads(line)["version"] for line in promoted(home, server, "champion")]
        assert champions == ["1", "2", "1"], "who was rolled back stays so"

        before = runs(home, server)
        assert pivotrl(home, "notify", "nightly").stdout == f"sent to {server}\n"
        deadline = time.monotonic() + 120
        while (now := runs(home, server)) == before or "Completed" not in now[-1]:
            assert time.monotonic() < deadline, now
            time.sleep(1)
        assert len(now) == len(before) + 1 and "Nothing new" in now[-1]

        table = pivotrl(home, "status").stdout
        assert "scheduled/nightly" in table and "0 3 * * *" in table and "Completed" in table
        due = planned(home, server)
        assert due and all("T03:00:00" in time for time in due)
        assert min(due)[:16].replace("T", " ") in table
    finally:
        ended = pivotrl(home, "down").stdout
    assert ended == "ended: Prefect, MLflow, worker\n"
    deadline = time.monotonic() + 20
    while any(psutil.pid_exists(s["pid"]) for s in services) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(s["pid"]) for s in services)
    assert "nothing runs" in pivotrl(home, "status").stdout
    assert pivotrl(home, "down").stdout == "ended: nothing ran\n"


def promoted(home: Path, server: str, alias: str) -> list[str]:
    asked = f"select version from promotions where alias = '{alias}' order by promoted_at"
    return pivotrl(home, "sql", "--json", asked, server=server).stdout.splitlines()


def connections(pid: int) -> list:
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    found = [c for p in processes for c in p.net_connections("inet")]
    return [c for c in found if c.status == psutil.CONN_LISTEN]


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
