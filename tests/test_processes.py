"""A real flow in a real process, killed with kill -9, and what the next start finds."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Timer

import httpx
import psutil
import pytest
from line import ROOT, environment
from needs import needs_sandbox
from prefect.client import base
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from bench.screenshots import ask_prefect
from flows import processes
from flows.processes import NOBODY, outlive_server, reap, record_run
from flows.servers import services

RUN = """
import sys, time
import flows
flows.home().mkdir(parents=True, exist_ok=True)
from prefect import flow, task
from prefect.runtime import flow_run
from flows.processes import guard_server, record_run

guard_server(flows.home())

@task
def wait():
    print("waiting", flush=True)
    time.sleep(600)

@flow(name="retrain")
def retrain():
    with record_run(flows.home(), flow_run.id):
        wait()

retrain()
"""
NEXT_START = """
import json, sys
import flows
from flows.processes import mark_crashed, reap

dead = reap(flows.home())
assert "prefect" not in sys.modules
mark_crashed(flows.home(), dead)

from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    states = [r.state.name for r in client.read_flow_runs() + client.read_task_runs()]
print(json.dumps({"dead": dead, "states": states}))
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_a_killed_run_is_crashed_at_the_next_start_and_its_server_gone(home: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN], env=environment(home), stdout=subprocess.PIPE, text=True
    )
    server = None
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == "waiting\n"
        folder = home / "work" / "processes"
        (path,), (record,) = folder.glob("run-*.json"), folder.glob("server-*.json")
        server = psutil.Process(json.loads(record.read_text())["server"][0])
        assert "uvicorn" in server.cmdline()
        assert reap(home) == []  # alive: nothing is touched
        port = server.cmdline()[server.cmdline().index("--port") + 1]
        url = f"http://127.0.0.1:{port}"
        while not ask_prefect(url, "task_runs/filter", {}):  # they travel as events, a moment later
            time.sleep(0.2)
        run.kill()
        run.wait()
        assert server.is_running()

        found = subprocess.run(
            [sys.executable, "-c", NEXT_START],
            env=environment(home),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    finally:
        run.kill()
        if server is not None and server.is_running():
            alive = server.status() != psutil.STATUS_ZOMBIE
            server.kill()
        else:
            alive = False
    assert not alive
    assert json.loads(found.stdout.splitlines()[-1]) == {
        "dead": [path.stem.removeprefix("run-")],
        "states": ["Crashed", "Crashed"],
    }
    assert not path.exists() and not record.exists()


def test_a_run_asks_again_where_its_server_went_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

    for client in (base.PrefectHttpxAsyncClient, base.PrefectHttpxSyncClient):
        monkeypatch.setattr(client, "_has_connected", False, raising=False)  # and back at the end
    with HTTPServer(("127.0.0.1", 0), Health, bind_and_activate=False) as server:
        server.server_bind()  # and nobody listens
        url = f"http://127.0.0.1:{server.server_address[1]}/api"
        with temporary_settings({PREFECT_API_URL: url}):
            with get_client(sync_client=True) as client:
                with pytest.raises(httpx.ConnectError):
                    client.request("GET", "/health")
            outlive_server()
            Timer(0.5, lambda: (server.server_activate(), server.handle_request())).start()
            with get_client(sync_client=True) as client:
                assert client.request("GET", "/health").status_code == 200


def test_a_clean_end_leaves_no_record(home: Path) -> None:
    with record_run(home, "00000000-0000-0000-0000-000000000000"):
        (path,) = (home / "work" / "processes").glob("*.json")
        assert json.loads(path.read_text())["owner"][0] == os.getpid()
    assert not path.exists()
    assert reap(home) == []


def test_a_run_that_raises_leaves_its_record_to_the_next_start(home: Path) -> None:
    with pytest.raises(SystemExit), record_run(home, "1"):
        sys.exit(143)  # and its server, as it may be, is dead
    assert [path.name for path in (home / "work" / "processes").iterdir()] == ["run-1.json"]


def test_a_record_that_a_power_cut_left_empty_is_of_a_dead_run(home: Path) -> None:
    folder = home / "work" / "processes"
    folder.mkdir(parents=True)
    for name in ("run-1", "server-2"):
        (folder / f"{name}.json").write_text("")
    assert reap(home) == ["1"]
    assert [path.name for path in folder.iterdir()] == ["run-1.json"]
    (home / "work/up.json").write_text("")
    assert services(home) == []


def test_two_starts_after_a_killed_run_end_its_server_both(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "work" / "processes"
    with record_run(home, "1"):
        record = json.loads((folder / "run-1.json").read_text()) | {"owner": NOBODY}
    (folder / "server-2.json").write_text(json.dumps(record | {"server": NOBODY}))
    (folder / "server-3.json").write_text(json.dumps(record | {"server": NOBODY}))

    def another_start(*_: object) -> None:
        for path in folder.iterdir():
            path.unlink()

    monkeypatch.setattr(processes, "_end", another_start)
    assert reap(home) == []


def test_another_process_under_the_recorded_number_is_left_alone(home: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with record_run(home, "1"):
            (path,) = (home / "work" / "processes").glob("*.json")
            record = json.loads(path.read_text()) | {"owner": (bystander.pid, 1.0)}
        path.write_text(json.dumps(record))
        served = record | {"server": record["owner"]}
        path.with_name("server-2.json").write_text(json.dumps(served))

        assert reap(home) == ["1"]
        assert bystander.poll() is None
    finally:
        bystander.send_signal(signal.SIGKILL)
        bystander.wait()


@needs_sandbox(None if shutil.which("bwrap") else "bubblewrap makes the other container")
def test_a_run_in_another_container_over_the_home_is_not_taken_for_dead(home: Path) -> None:
    code = "import flows; from flows.processes import reap; print(reap(flows.home()))"
    inside = ["bwrap", "--bind", "/", "/", "--dev", "/dev", "--unshare-pid", "--proc", "/proc"]
    with record_run(home, "1"):
        done = subprocess.run(
            [*inside, sys.executable, "-c", code],
            env=environment(home),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == "[]\n"
