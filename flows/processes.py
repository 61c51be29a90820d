"""Which process runs which flow run, so that a killed one is noticed at the next start.

A run that is killed cannot say so: its flow run stays "Running", and the server that Prefect
started for it lives on without a parent. Records under `work/processes/`, one a server and one a
flow run, tell the next start about both. A process is known by its number where it runs alone: of
another machine or container over the same home nothing is said; Prefect's leases notice its end.
This module must never know what a flow does; it imports Prefect only where it talks to it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psutil

from pivotrl.types import JSON
from pivotrl.whole_files import write_whole

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

CLOCK_TOLERANCE_SECONDS = 2.0
"""A start time is counted from the boot time, which moves when the clock is set."""
END_TIMEOUT_SECONDS = 10.0
NOBODY = (1, 0.0)
"""No process is that old."""
GO_ON = "finished stages are kept; the same command, or the next schedule, goes on there."
"""What the state of a run says that ended before its time."""


def guard_server(home: Path) -> None:
    """Prefect's ephemeral server gets a process group of its own and a record as it starts.

    Ctrl-C reaches the whole group of a terminal; the server must outlive it by the moment in which
    the run says how it ended. Call it before the server is started; one that is named in Prefect's
    settings is somebody else's.
    """
    from prefect.settings import get_current_settings

    if get_current_settings().api.url is not None:
        return
    from prefect.server.api import server  # a second or two

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[Any]:
        started = subprocess.Popen(*arguments, process_group=0, **options)
        _write(_folder(home) / f"server-{started.pid}.json", {"server": _identity(started.pid)})
        return started

    vars(server)["subprocess"] = SimpleNamespace(**vars(subprocess) | {"Popen": start})


def outlive_server() -> None:
    """From now on a server that went away is asked again, for two minutes, by new clients too.

    Prefect frees a task's device by a client of its own, which else ends the run where it finds
    nobody at once. Call it once the server has answered; a run's own server ends with it.
    """
    from prefect.client import base
    from prefect.settings import get_current_settings

    if get_current_settings().api.url is not None:
        answered = property(lambda _client: True, lambda _client, _said: None)
        for client in (base.PrefectHttpxAsyncClient, base.PrefectHttpxSyncClient):
            setattr(client, "_has_connected", answered)  # noqa: B010


@contextmanager
def record_run(home: Path, flow_run_id: UUID | str) -> Iterator[None]:
    """Keep the record of this process while the flow run lives; call it inside the flow.

    A body that raises leaves it: no server may have heard of its end, so the next start looks.
    """
    path = _folder(home) / f"run-{flow_run_id}.json"
    _write(path, {})
    yield
    path.unlink(missing_ok=True)


def record_lost(home: Path, flow_run_ids: Sequence[str]) -> None:
    """That no process has these flow runs, as after a restore: the next start says so of them."""
    for flow_run_id in flow_run_ids:
        _write(_folder(home) / f"run-{flow_run_id}.json", {"owner": NOBODY})


def reap(home: Path) -> list[str]:
    """End the orphaned servers of dead runs; the flow run ids of those runs.

    Call it before Prefect is used. A run's record stays until `mark_crashed` has done its part.
    """
    dead = []
    for path in sorted(_folder(home).glob("*.json")):
        record = _read(path)
        if record is None or record["place"] != _place() or alive(*record["owner"]):
            continue
        if path.name.startswith("run-"):
            dead.append(path.stem.removeprefix("run-"))
            continue
        if "server" in record:
            _end(*record["server"])
        path.unlink(missing_ok=True)
    return dead


def under_way(home: Path) -> bool:
    """Whether a run of this machine goes on over the home."""
    found = (_read(path) for path in _folder(home).glob("run-*.json"))
    return any(one and one["place"] == _place() and alive(*one["owner"]) for one in found)


def mark_crashed(home: Path, flow_run_ids: Sequence[str]) -> None:
    """Set these flow runs, and their task runs that were under way, to Crashed."""
    if not flow_run_ids:
        return
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterId,
        TaskRunFilter,
        TaskRunFilterState,
        TaskRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    crashed: State[None] = Crashed(
        message=f"The process was killed, as the next start noticed: {GO_ON}"
    )
    under_way = TaskRunFilter(
        state=TaskRunFilterState(
            type=TaskRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING]), name=None
        )
    )
    with get_client(sync_client=True) as client:
        for flow_run_id in flow_run_ids:
            run_id = UUID(flow_run_id)
            with suppress(ObjectNotFound):  # somebody deleted the run, or Prefect's database
                state = client.read_flow_run(run_id).state
                tasks = client.read_task_runs(
                    flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])),
                    task_run_filter=under_way,
                )
                for task in tasks:
                    client.set_task_run_state(task.id, crashed, force=True)
                if state is None or not state.is_final():
                    client.set_flow_run_state(run_id, crashed, force=True)
            (_folder(home) / f"run-{flow_run_id}.json").unlink(missing_ok=True)


def stopped(flow_run_id: UUID) -> State[None]:
    """The state of a run that a signal ended: Cancelled where somebody asked for that."""
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled, Crashed

    with get_client(sync_client=True) as client:
        state = client.read_flow_run(flow_run_id).state
    asked = state is not None and state.is_cancelling()
    return (Cancelled if asked else Crashed)(message=f"Stopped: {GO_ON}")


def mark_stopped(flow_run_ids: Sequence[UUID]) -> None:
    """Say how to go on, where Prefect itself says only that a signal came."""
    if not flow_run_ids:
        return
    import httpx
    from prefect.client.orchestration import get_client

    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:  # ended with the run
        for flow_run_id in flow_run_ids:
            client.set_flow_run_state(flow_run_id, stopped(flow_run_id), force=True)


def _folder(home: Path) -> Path:
    return home / "work" / "processes"


def _identity(pid: int) -> tuple[int, float]:
    return pid, psutil.Process(pid).create_time()


def _place() -> list[str]:
    """Machine and namespace, within which a process's number means something."""
    namespace = Path("/proc/self/ns/pid")
    return [socket.gethostname(), os.readlink(namespace) if namespace.exists() else ""]


def _write(path: Path, record: Mapping[str, JSON]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = {"place": _place(), "owner": _identity(os.getpid())}
    write_whole(path, json.dumps(owner | dict(record)).encode())


def _read(path: Path) -> dict[str, Any] | None:
    """None where its run, or another start that ended its server, has just removed it."""
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except ValueError:  # left empty by a power cut, which ended its owner too
        return {"place": _place(), "owner": NOBODY}


def alive(pid: int, create_time: float) -> bool:
    """True if that very process runs: not another one under its number, and not a zombie."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - create_time) < CLOCK_TOLERANCE_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end(pid: int, create_time: float) -> None:
    """End that process, gently first. Returns when it is gone, or raises psutil.AccessDenied."""
    for send in (psutil.Process.terminate, psutil.Process.kill):
        deadline = time.monotonic() + END_TIMEOUT_SECONDS
        with suppress(psutil.NoSuchProcess):
            if alive(pid, create_time):
                send(psutil.Process(pid))
        while alive(pid, create_time) and time.monotonic() < deadline:
            time.sleep(0.05)
