"""`pivotrl ui` for real, over a home where a Prefect flow and an MLflow run were logged."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from line import environment, pivotrl
from needs import needs_chromium

from bench.screenshots import CHROMIUM, FLAGS, HOST, ask, ask_prefect, free_port, screenshot
from flows import servers
from flows.servers import LOG_BYTES, Server, down, services, up
from pivotrl.tracking.runs import TrackedRun, log_run
from pivotrl.types import ConfigError

FLOW = """
import flows
flows.home().mkdir(parents=True)
from prefect import flow, task
from tasks.artifacts import show_table

@task(task_run_name="sample retail 1/1")
def sample():
    return 1

@task(task_run_name="select")
def select(rollouts):
    domain = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
    domain += " ![x](http://127.0.0.1:9/x) [x](javascript:alert(1)) `x`"
    table = [{"rule": "kept", "candidates": 12, "domain": domain}]
    show_table("selection", table, "Candidates by what the profile says of them")

@flow(name="retrain", flow_run_name="mini 2026-01-01")
def retrain():
    select(sample())

retrain()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    home: Path
    said: str
    prefect: str
    mlflow: str

    @property
    def pids(self) -> list[int]:
        return [server.pid for server in services(self.home)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("servers") / "home"
    subprocess.run([sys.executable, "-c", FLOW], env=environment(home), check=True)
    log_run(
        home,
        TrackedRun(
            name="mini 2026-01-01", key="00ff", parameters={"seed": 0}, steps=[(1, {"reward": 0.5})]
        ),
    )
    logs = home / "work" / "ui"
    logs.mkdir(parents=True)
    (logs / "prefect.log").write_text("why it failed yesterday\n")
    (logs / "mlflow.log").write_bytes(b"x" * (LOG_BYTES + 1))
    prefect, mlflow = free_port(), free_port()
    ports = ["--prefect-port", str(prefect), "--mlflow-port", str(mlflow)]
    said = pivotrl(home, "ui", *ports).stdout
    yield Served(
        home=home,
        said=said,
        prefect=f"http://{HOST}:{prefect}",
        mlflow=f"http://{HOST}:{mlflow}",
    )
    down(home)


def flow_run(served: Served) -> dict:
    (run,) = ask_prefect(served.prefect, "flow_runs/filter", {})
    return run


def test_both_servers_answer_with_what_was_logged(served: Served) -> None:
    assert served.prefect in served.said
    assert served.mlflow in served.said
    assert flow_run(served)["name"] == "mini 2026-01-01"
    tasks = ask_prefect(served.prefect, "task_runs/filter", {})
    assert {task["name"] for task in tasks} == {"sample retail 1/1", "select"}
    (artifact,) = ask_prefect(served.prefect, "artifacts/filter", {})
    assert artifact["key"] == "selection"
    settings = ask(f"{served.prefect}/ui-settings")
    assert settings["api_url"] == f"{served.prefect}/api"
    found = ask(f"{served.mlflow}/api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]})
    assert found["runs"][0]["info"]["run_name"] == "mini 2026-01-01"


@needs_chromium
def test_the_pages_show_the_run_in_a_browser(served: Served, tmp_path: Path) -> None:
    page = f"{served.prefect}/runs/flow-run/{flow_run(served)['id']}"
    picture = tmp_path / "run.png"
    text = screenshot(page, picture, "sample retail 1/1", click="Task Runs")
    assert "select" in text
    assert "mini 2026-01-01" in text
    assert picture.stat().st_size > 10_000

    page = f"{served.mlflow}/#/experiments/1/runs"
    text = screenshot(page, tmp_path / "runs.png", "mini 2026-01-01")
    assert "1 matching run" in text


@needs_chromium
def test_a_hostile_domain_is_text_on_the_page_of_an_artifact(served: Served) -> None:
    from playwright.sync_api import sync_playwright

    (artifact,) = ask_prefect(served.prefect, "artifacts/filter", {})
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_page()
        page.goto(f"{served.prefect}/artifacts/artifact/{artifact['id']}")
        page.get_by_text("img src").locator("visible=true").first.wait_for(timeout=60_000)
        shown = page.locator(".artifact-data-table__cell", has_text="onerror")
        assert shown.locator("img, a, script, code").count() == 0
        assert "＜img src=x onerror=" in shown.inner_text()
        assert page.title() != "owned"
        chromium.close()


def test_every_socket_of_both_listens_on_loopback(served: Served) -> None:
    processes = [psutil.Process(pid) for pid in served.pids]
    processes += [child for process in processes for child in process.children(recursive=True)]
    found = [c for p in processes for c in p.net_connections("inet")]
    listening = [c.laddr for c in found if c.status == psutil.CONN_LISTEN]
    assert len({address.port for address in listening}) >= 2
    assert {address.ip for address in listening} == {HOST}


def test_another_page_in_the_browser_of_this_machine_commands_no_server(served: Served) -> None:
    url = f"{served.prefect}/api/flow_runs/filter"

    def allowed(origin: str) -> bool:
        asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        asks |= {"Access-Control-Request-Headers": "content-type"}
        return httpx.options(url, headers=asks).status_code == 200

    assert allowed(served.prefect) and allowed(served.prefect.replace(HOST, "localhost"))
    assert not allowed("https://evil.example") and not allowed("null")
    unasked = httpx.post(url, content=b"{}")  # as a page may send without asking first
    assert (unasked.status_code, unasked.json()) == (403, {"detail": "Missing CSRF token."})


def test_a_taken_port_names_its_holder_and_the_option(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        holder = rf"port {port} is taken by .+ \(pid {os.getpid()}\)"
        for option, ports in (
            ("--mlflow-port", (free_port(), port)),
            ("--prefect-port", (port, free_port())),
        ):
            with pytest.raises(ConfigError, match=rf"{holder}; .* {option}"):
                up(tmp_path, *ports)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_outlived_its_server_keeps_its_run_and_finds_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(servers, "_wait_until_healthy", lambda server: None)
    waits = [sys.executable, "-c", "import time; time.sleep(60)"]
    processes = [subprocess.Popen(waits, start_new_session=True) for _ in range(3)]

    def as_if(process: subprocess.Popen, name: str, port: int) -> Server:
        started = psutil.Process(process.pid).create_time()
        url = f"http://{HOST}:{port}"
        return Server(name=name, url=url, health="/", pid=process.pid, started=started, log="")

    port = free_port()
    left = [as_if(processes[0], "Prefect", port), as_if(processes[1], "worker", 1)]
    (tmp_path / "work").mkdir()
    (tmp_path / "work/up.json").write_text(json.dumps([asdict(server) for server in left]))
    starts = iter(processes[2:])
    monkeypatch.setattr(
        servers, "_start_prefect", lambda home, port: as_if(next(starts), "Prefect", port)
    )
    try:
        processes[0].kill()
        processes[0].wait()
        again, worker = up(tmp_path, free_port())
        assert worker == left[1] and worker.alive
        assert again.alive and again.url == left[0].url, "where the worker and its run ask for it"
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_log_goes_on_and_is_set_aside_when_it_is_long(served: Served) -> None:
    logs = served.home / "work" / "ui"
    assert (logs / "prefect.log").read_text().startswith("why it failed yesterday\n")
    assert (logs / "mlflow.log.1").stat().st_size > LOG_BYTES > (logs / "mlflow.log").stat().st_size


def test_it_reuses_what_runs_and_status_and_down_know_it(served: Served) -> None:
    pids = served.pids
    assert len(pids) == 2
    started = [psutil.Process(pid) for pid in pids]
    everyone = [*started, *(c for server in started for c in server.children(recursive=True))]
    assert len(everyone) == 3  # Prefect, MLflow and its one worker: no more
    assert pivotrl(served.home, "ui").stdout == served.said
    assert served.pids == pids
    table = pivotrl(served.home, "status").stdout
    assert table.count("healthy") == 2 and "no worker: schedules wait" in table
    assert pivotrl(served.home, "down").stdout == "ended: Prefect, MLflow\n"
    assert psutil.wait_procs(everyone, timeout=5)[1] == []
