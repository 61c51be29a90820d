"""Puts a scheduled retraining on Prefect's server: a deployment, its work pool, its limits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
)
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.events import DeploymentEventTrigger, Event, Resource, ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron
from prefect.workers.process import ProcessWorker

from flows import home
from flows.rounds import STALE, event_source
from flows.scheduled import scheduled
from flows.servers import POOL
from pivotrl.config import Config
from pivotrl.types import ConfigError
from tasks.task_runs import DEVICE_TAG

FILES = "pivotrl.files"
"""Event: trajectories have arrived; whoever collects them sends it."""


def deploy(
    path: Path,
    config: Config,
    overrides: Sequence[str],
    *,
    cron: str | None,
    timezone: str,
    pool: str,
    devices: int | None,
) -> str:
    """Creates or replaces the deployment of `config`'s name; returns its full name.

    It runs by its schedule, by hand, and at the events `events_of` of the resource
    `pivotrl.<run.name>`. One of its runs at a time, later ones wait for it; `devices`: tasks of all
    runs that may compute at once, by default as many as before, at first one. Our pool is made
    where it is not there, another must be there. Raises ConfigError for a pool or a schedule that
    Prefect does not know.
    """
    with get_client(sync_client=True) as client:
        try:
            kind = client.read_work_pool(pool).type
        except ObjectNotFound:
            if pool != POOL:
                raise ConfigError(
                    f"no work pool {pool!r}; `prefect work-pool create` makes one"
                ) from None
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(
                WorkPoolCreate(name=POOL, type="process", base_job_template=template)
            )
            kind = "process"
        if devices is not None or not _is_limited(client):
            client.create_concurrency_limit(tag=DEVICE_TAG, concurrency_limit=devices or 1)
    here = {"env": {"PIVOTRL_HOME": str(home())}, "working_dir": str(Path.cwd())}
    try:
        deployment = scheduled.to_deployment(
            name=config.run.name,
            schedule=Cron(cron, timezone=timezone) if cron else None,
            parameters={"config": str(path), "settings": list(overrides)},
            concurrency_limit=ConcurrencyLimitConfig(
                limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
            ),
            triggers=[
                DeploymentEventTrigger(
                    name=f"{event} of {config.run.name}",
                    expect={event},
                    match=ResourceSpecification(event_source(config.run.name)),
                )
                for event in events_of(config)
            ],
            tags=["pivotrl"],
            work_pool_name=pool,
            job_variables=here if kind == "process" else {},
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
    except ValueError as error:
        raise ConfigError(f"--cron {cron!r}, --timezone {timezone!r}: {error}") from None
    assert isinstance(deployment, RunnerDeployment), "nothing runs an event loop here"
    deployment.apply()
    return f"{scheduled.name}/{config.run.name}"


def _is_limited(client: SyncPrefectClient) -> bool:
    try:
        client.read_concurrency_limit_by_tag(DEVICE_TAG)
    except ObjectNotFound:
        return False
    return True


def events_of(config: Config) -> tuple[str, ...]:
    """The events at which it runs: a stale round leaves nothing new to who starts from the base."""
    return (FILES, STALE) if config.train.start == "champion" else (FILES,)


def notify(name: str) -> None:
    """Sends `FILES` for the experiment of that name. Raises ConfigError if none is deployed."""
    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name(f"{scheduled.name}/{name}")
        except ObjectNotFound:
            raise ConfigError(
                f"no deployment {scheduled.name}/{name}; `pivotrl deploy` makes it"
            ) from None
        event = Event(event=FILES, resource=Resource(event_source(name)))
        client.request("POST", "/events", json=[event.model_dump(mode="json")])


def schedules() -> list[tuple[str, str, str, str]]:
    """(deployment, when, next run, last run) of our flow's deployments."""
    found = []
    with get_client(sync_client=True) as client:
        ours = FlowFilter(name=FlowFilterName(any_=[scheduled.name]))
        for one in client.read_deployments(flow_filter=ours):
            runs = client.read_flow_runs(
                flow_run_filter=FlowRunFilter(
                    deployment_id=FlowRunFilterDeploymentId(any_=[one.id])
                ),
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
                limit=200,
            )
            waiting = [run for run in runs if run.state and run.state.is_scheduled()]
            done = [run for run in runs if run.start_time]
            when = ", ".join(str(getattr(s.schedule, "cron", s.schedule)) for s in one.schedules)
            upcoming = f"{waiting[-1].expected_start_time:%Y-%m-%d %H:%M %Z}" if waiting else ""
            last = ""
            if done and (state := done[0].state):
                last = f"{done[0].start_time:%Y-%m-%d %H:%M %Z}, {state.name}"
                last += f": {state.message}" if state.message else ""
            found.append((f"{scheduled.name}/{one.name}", when or "by hand", upcoming, last))
    return found
