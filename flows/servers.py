"""The Prefect and MLflow servers over one `PIVOTRL_HOME` and a worker, on loopback.

Both use the home's own SQLite files, or the databases that their own variables name:
`PREFECT_API_DATABASE_CONNECTION_URL`, and `MLFLOW_TRACKING_URI`; of a server, none is started.

Child processes that stay, each with its own log under `work/ui/`; `work/up.json` tells `down`,
`status` and every run about them. This module must never know what a run holds, and it imports
neither Prefect nor MLflow.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from flows import processes
from pivotrl.masking import masked
from pivotrl.tracking.client import store_uri
from pivotrl.types import ConfigError, PivotRLError
from pivotrl.whole_files import write_whole

HOST = "127.0.0.1"
START_TIMEOUT_SECONDS = 180.0
END_TIMEOUT_SECONDS = 10.0
RUN_END_TIMEOUT_SECONDS = 60.0
"""A run finishes what cannot be cut off, and says to its server how it ended."""
LOG_BYTES = 5_000_000
"""A log longer than that is set aside at a start, in place of the one before it."""
UP = Path("work") / "up.json"
LEASES = "prefect.server.concurrency.lease_storage.filesystem"
POOL = "pivotrl"
"""The work pool of the machine's own worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    name: str
    url: str
    health: str
    """Path that answers 200 once the server is ready."""
    pid: int
    """Also of its process group."""
    started: float
    """Of the process, seconds since the epoch; with the pid it names one process for good."""
    log: str

    @property
    def alive(self) -> bool:
        return processes.alive(self.pid, self.started)

    @property
    def healthy(self) -> bool:
        with suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(self.url + self.health, timeout=5) as answer:
                return bool(answer.status == 200)
        return False


def up(
    home: Path, prefect_port: int = 4200, mlflow_port: int = 5000, *, worker: bool = True
) -> list[Server]:
    """Starts both servers and a worker and leaves them running; returns them, healthy.

    What runs already is left alone; a worker that outlived its Prefect server finds the new one
    where that was. Raises `ConfigError` if a port is taken, `PivotRLError` if a server does not
    start; then nothing that this call started is left running.
    """
    home = home.resolve()
    before = {server.name: server for server in services(home)}
    known = {name: server for name, server in before.items() if server.alive}
    prefect, option = "Prefect" not in known, "--prefect-port"
    if prefect and "worker" in known:  # its runs would end with it, and could say so to nobody
        prefect_port = int(before["Prefect"].url.rpartition(":")[2])
        option = "`pivotrl down`, then --prefect-port"
    mlflow = "MLflow" not in known and not store_uri(home).startswith("http")
    if prefect:
        _check_free(prefect_port, option)
    if mlflow:
        _check_free(mlflow_port, "--mlflow-port")
    started: list[Server] = []
    try:
        if prefect:
            started.append(_start_prefect(home, prefect_port))
        if mlflow:
            started.append(_start_mlflow(home, mlflow_port))
        for server in started:
            _wait_until_healthy(server)
        known |= {server.name: server for server in started}
        if worker and "worker" not in known:
            known["worker"] = _start_worker(home, known["Prefect"].url)
            started.append(known["worker"])
            _wait_until_healthy(known["worker"])
    except BaseException:
        _end(started)
        raise
    servers = [known[name] for name in ("Prefect", "MLflow", "worker") if name in known]
    record = json.dumps([asdict(server) for server in servers], indent=1)
    write_whole(home / UP, record.encode())
    return servers


def services(home: Path) -> list[Server]:
    """What `up` started over this home, dead or alive."""
    try:
        return [Server(**row) for row in json.loads((home / UP).read_text())]
    except (FileNotFoundError, ValueError):  # or left empty by a power cut, which ended them all
        return []


def down(home: Path) -> list[Server]:
    """Ends what `up` started, the worker first; returns what was still alive."""
    found = [server for server in services(home) if server.alive]
    for server in reversed(found):
        if server.name == "worker":
            _end_runs(server)
        _end([server])
    (home / UP).unlink(missing_ok=True)
    return found


def api_url(home: Path) -> str | None:
    """Of the Prefect server that `up` left running over this home."""
    for server in services(home):
        if server.name == "Prefect" and server.alive:
            return f"{server.url}/api"
    return None


def mlflow_page(home: Path) -> str:
    """Where a browser finds MLflow: what `PIVOTRL_MLFLOW_PAGE` says, what runs, or what would."""
    started = [server.url for server in services(home) if server.name == "MLflow" and server.alive]
    told, uri = os.environ.get("PIVOTRL_MLFLOW_PAGE"), masked(store_uri(home))
    served = [uri] if uri.startswith("http") else ["http://127.0.0.1:5000"]
    return told or [*started, *served][0]


def _start_worker(home: Path, prefect: str) -> Server:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    environment = {
        "PREFECT_API_URL": f"{prefect}/api",
        "PREFECT_HOME": str(home / "prefect"),
        "PIVOTRL_HOME": str(home),
        "PREFECT_WORKER_WEBSERVER_HOST": HOST,
        "PREFECT_WORKER_WEBSERVER_PORT": str(port),
    }
    arguments = ["prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    arguments += ["--name", "pivotrl", "--with-healthcheck"]
    return _start(home, "worker", port, "/health", arguments, environment)


def _start_prefect(home: Path, port: int) -> Server:
    environment = {
        "PREFECT_HOME": str(home / "prefect"),
        # the page looks for its API on port 4200 unless it is told
        "PREFECT_UI_API_URL": f"http://{HOST}:{port}/api",
        # of the page that it serves itself, under both its names
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # in memory, a slot that a killed run held would outlive a restart for good
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
        # runs keep their terminal quiet; a server's log must say why it failed
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_ROOT_LEVEL": "WARNING",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
    }
    arguments = ("prefect", "server", "start", "--host", HOST, "--port", str(port))
    return _start(home, "Prefect", port, "/api/health", arguments, environment)


def _start_mlflow(home: Path, port: int) -> Server:
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # with it and four workers, MLflow starts ten processes and takes 1.4 GB
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # not an argument: everybody may read those, and a password may be in it
        "MLFLOW_BACKEND_STORE_URI": store_uri(home),
    }
    arguments = ["mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    arguments += ["--no-serve-artifacts"]
    arguments += ["--default-artifact-root", (home / "artifacts").as_uri()]
    return _start(home, "MLflow", port, "/health", arguments, environment)


def _start(
    home: Path,
    name: str,
    port: int,
    health: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
) -> Server:
    log = home / "work" / "ui" / f"{name.lower()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # a server must not take itself for the client of another one
    inherited = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
    if log.is_file() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={**inherited, **environment},
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us alone, and we end them in order
        )
    return Server(
        name=name,
        url=f"http://{HOST}:{port}",
        health=health,
        pid=process.pid,
        started=psutil.Process(process.pid).create_time(),
        log=str(log),
    )


def _wait_until_healthy(server: Server) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if not server.alive:
            raise PivotRLError(f"the {server.name} server ended by itself; see {server.log}")
        if server.healthy:
            return
        time.sleep(0.2)
    raise PivotRLError(
        f"the {server.name} server is not up after {START_TIMEOUT_SECONDS:.0f} s; see {server.log}"
    )


def _end_runs(worker: Server) -> None:
    """The worker held still: it would kill them at once, or start the next."""
    held = psutil.Process(worker.pid)
    held.suspend()
    try:
        runs = [(run.pid, run.create_time()) for run in held.children()]
        for pid, _ in runs:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + RUN_END_TIMEOUT_SECONDS
        while any(processes.alive(*run) for run in runs) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        held.resume()


def _end(servers: Sequence[Server]) -> None:
    """Ends them for certain: until it is done no signal hurries it."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    for send in (signal.SIGTERM, signal.SIGKILL):  # an open page keeps a server waiting
        for server in servers:
            if server.alive:
                with suppress(ProcessLookupError):
                    os.killpg(server.pid, send)
        deadline = time.monotonic() + END_TIMEOUT_SECONDS
        while any(server.alive for server in servers) and time.monotonic() < deadline:
            time.sleep(0.05)
    for number, handler in before.items():
        signal.signal(number, handler)


def _check_free(port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} is taken by {_holder(port)}; choose another with {option} PORT"
            ) from error


def _holder(port: int) -> str:
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "another process"
