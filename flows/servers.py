"""`pivotrl ui`: the Prefect and MLflow pages over one `PIVOTRL_HOME`, on loopback.

Two child processes, each with its own log under `work/ui/`; both end when this one does. This
module must never know what a run holds, and it imports neither Prefect nor MLflow.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from pivotrl.tracking import store_uri
from pivotrl.types import ConfigError, PivotRLError

HOST = "127.0.0.1"
START_TIMEOUT_SECONDS = 180.0
END_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    name: str
    url: str
    health: str
    """Path that answers 200 once the server is ready."""
    process: subprocess.Popen[bytes]
    log: Path


def serve(home: Path, prefect_port: int = 4200, mlflow_port: int = 5000) -> None:
    """Run both servers until Ctrl-C, SIGTERM or a closed terminal; then end them and return.

    Raises `ConfigError` if a port is taken, `PivotRLError` if a server does not start or dies.
    """
    from rich.console import Console
    from rich.panel import Panel

    console = Console()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with suppress(KeyboardInterrupt):
        console.print("Starting the Prefect and MLflow servers (about 15 seconds)")
        with running(home, prefect_port, mlflow_port) as servers:
            lines = [f"{server.name:<8} {server.url}" for server in servers]
            text = "\n".join([*lines, "", f"over {home}", "Ctrl-C ends both"])
            console.print(Panel(text, title="pivotrl ui", expand=False))
            while all(server.process.poll() is None for server in servers):
                time.sleep(0.5)
            raise PivotRLError(
                next(_ended(server) for server in servers if server.process.poll() is not None)
            )
    console.print("Both servers ended")


@contextmanager
def running(home: Path, prefect_port: int, mlflow_port: int) -> Iterator[list[Server]]:
    """The Prefect and the MLflow server, both healthy; ended at exit. Raises as `serve` does."""
    home = home.resolve()
    _check_free(prefect_port, "--prefect-port")
    _check_free(mlflow_port, "--mlflow-port")
    servers: list[Server] = []
    try:
        servers.append(_start_prefect(home, prefect_port))
        servers.append(_start_mlflow(home, mlflow_port))
        for server in servers:
            _wait_until_healthy(server)
        yield servers
    finally:
        _end(servers)


def _start_prefect(home: Path, port: int) -> Server:
    environment = {
        "PREFECT_HOME": str(home / "prefect"),
        # the page looks for its API on port 4200 unless it is told
        "PREFECT_UI_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
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
    }
    arguments = ["mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    arguments += ["--backend-store-uri", store_uri(home), "--no-serve-artifacts"]
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
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={**inherited, **environment},
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us alone, and we end them in order
        )
    return Server(name=name, url=f"http://{HOST}:{port}", health=health, process=process, log=log)


def _wait_until_healthy(server: Server) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise PivotRLError(_ended(server))
        with suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(server.url + server.health, timeout=5) as answer:
                if answer.status == 200:
                    return
        time.sleep(0.2)
    raise PivotRLError(
        f"the {server.name} server is not up after {START_TIMEOUT_SECONDS:.0f} s; see {server.log}"
    )


def _ended(server: Server) -> str:
    code = server.process.returncode
    return f"the {server.name} server ended by itself (exit code {code}); see {server.log}"


def _end(servers: Sequence[Server]) -> None:
    """Ends them for certain: until it is done no signal hurries it."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    for server in servers:
        with suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGTERM)
    for server in servers:
        try:
            server.process.wait(END_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:  # an open page keeps its connection, and the server waits
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()
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


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
