"""A retraining that a schedule starts: whatever is new goes through the line, nothing else runs.

The flow that `pivotrl deploy` puts on a work pool; a worker runs it in a process of its own.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import orjson
from filelock import FileLock
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from flows import home
from flows.processes import record_run, stopped
from flows.rounds import starting_point
from flows.run import check, real, told_dry
from flows.terminal import terminal
from pivotrl.config import Config, flatten, load_config
from pivotrl.policies import identify
from pivotrl.types import JSON, PivotRLError
from tasks.ingest import new_files
from tasks.promote import was_champion
from tasks.sample import was_profiled
from tasks.session import Session, running

NAMED = 3
"""New files that are named."""


@flow(name="scheduled", persist_result=False)
def scheduled(
    config: str,
    settings: list[str] | None = None,
    start: Literal["base", "champion"] | None = None,
    steps: Annotated[int, Field(ge=1)] | None = None,
    lambda_diff: float | None = None,
    promote: bool | None = None,
) -> State[None]:
    """Retrains if something is new; waits while another scheduled run works over the same home.

    Args:
        config: The TOML of the experiment.
        settings: More of it, each key=value.
        start: Policy that is profiled and trained further (train.start); empty: as configured.
        steps: Optimiser batches a round (train.steps); empty: as configured.
        lambda_diff: Pivots have a mean reward below it (select.lambda_diff); empty: as configured.
        promote: A model that passes the gate becomes champion at once (promote.automatic);
            empty: as configured.
    """
    typed = {
        "train.start": start,
        "train.steps": steps,
        "select.lambda_diff": lambda_diff,
        "promote.automatic": promote,
    }
    overrides = [
        *(settings or []),
        *(f"{k}={json.dumps(v)}" for k, v in typed.items() if v is not None),
    ]
    loaded = load_config(Path(config), overrides)
    check(loaded)
    try:
        # one at a time over a home, whichever deployment it is of; a lock ends with its process
        with record_run(home(), str(flow_run.id)), FileLock(home() / "work" / "scheduled.lock"):
            why = why_run(loaded)
            if not why:
                return Completed(message="Nothing new: every stage is cached, nothing ran.")
            new = news(loaded, why)
            real(loaded, shlex.join(["pivotrl", "run", config, *overrides]))
            return Completed(message=f"Ran from {why}{new}")
    except (SystemExit, TerminationSignal):
        return stopped(UUID(flow_run.id))


def why_run(config: Config) -> str:
    """What a run would do anew, as far as can be told before it; empty where there is nothing.

    The last things that a run does, registry, gate and report, are no stages: one that died before
    them, found MLflow silent or was told otherwise has every stage cached and is to be finished.
    """
    records = told_dry(config, terminal(quiet=True))
    for record in records:
        if not record.cached:
            return f"{record.label}: {record.why}"
    keys = {record.key for record in records}
    for path in (home() / "reports").glob("*.json"):
        report = json.loads(path.read_bytes())
        if keys <= {stage["key"] for stage in report["stages"]} and not _owes(report, config):
            return ""
    return "the registry: no earlier run left it as it is asked for now"


def _owes(report: Mapping[str, JSON], config: Config) -> bool:
    """Whether that run, its stages apart, did less than one with this configuration would."""
    if report["outcome"] == "no pivots":
        return False
    asked = orjson.loads(orjson.dumps(flatten(config)))  # as reports have it, without infinities
    now = {k: v for k, v in asked.items() if k.startswith(("register.", "promote."))}
    if (
        report["outcome"] != "trained"
        or not report["model"]
        or not now.items() <= report["config"].items()
    ):
        return True
    try:
        return (
            config.promote.automatic
            and report["gate"]["passed"]
            and not was_champion(home(), config.register_.model, report["model"]["version"])
        )
    except PivotRLError:  # a store of an older schema: a run builds it anew
        return True


def news(config: Config, why: str) -> str:
    """Which files are new, and what is profiled for them; nothing where neither changed."""
    if why.split()[0].rstrip(":") not in ("ingest", "extract", "sample"):
        return ""
    new = new_files(config, home())
    names = ", ".join(file.name for file in new[:NAMED]) + ", ..." * (len(new) > NAMED)
    files = f"; {len(new)} new file{'s' * (len(new) > 1)}: {names}" if new else ""
    with running(Session(home=home(), console=terminal(quiet=True))):
        model = starting_point(config)
    policy = "the base" if model == config.model.path else "the champion"
    if was_profiled(config, home(), model, identify(model)):
        return f"{files}; from {policy}, profiled before: only new candidates are profiled"
    return f"{files}; from {policy}, not profiled before: the whole pool is profiled"
