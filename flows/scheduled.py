"""A retraining that a schedule starts: whatever is new goes through the line, nothing else runs.

The flow that `pivotrl deploy` puts on a work pool; a worker runs it in a process of its own.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from filelock import FileLock
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from flows import home
from flows.processes import record_run
from flows.run import check, real, why_run
from pivotrl.config import load_config


@flow(name="scheduled", persist_result=False)
def scheduled(config: str, settings: list[str] | None = None) -> State[None]:
    """Retrains if something is new; waits while another scheduled run works over the same home.

    `config`: the TOML of the experiment. `settings`: `key=value`, on top of it.
    """
    overrides = settings or []
    loaded = load_config(Path(config), overrides)
    check(loaded)
    # one at a time over a home, whichever deployment it is of; a lock ends with its process
    with FileLock(home() / "work" / "scheduled.lock"), record_run(home(), str(flow_run.id)):
        why = why_run(loaded)
        if not why:
            return Completed(message="Nothing new: every stage is cached, nothing ran.")
        real(loaded, shlex.join(["pivotrl", "run", config, *overrides]))
        return Completed(message=f"Ran from {why}")
