"""How stages are tasks of Prefect: name, tag, retries; several in one, where they are many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.settings import get_current_settings

from pivotrl.manifest import Manifest
from pivotrl.types import PivotRLError
from tasks.session import current

DEVICE_TAG = "pivotrl-device"
"""Of tasks that compute with a model; Prefect limits how many run at once (`pivotrl deploy`)."""

Made = TypeVar("Made")


def told(label: str) -> str:
    """As the name of a task run, in which Prefect reads braces."""
    return label.replace("{", "(").replace("}", ")")


def device_tags() -> list[str]:
    """Of a task that computes with a model, where other runs may want the device too.

    A run's own server has no other runs, and asking it costs two seconds whenever its SQLite file
    is being written.
    """
    return [DEVICE_TAG] if get_current_settings().api.url is not None else []


def retried(times: int) -> dict[str, Any]:
    """Options of a task that is tried again, unless the user is to act."""
    return {
        "retries": times,
        "retry_delay_seconds": [2.0 * 3**i for i in range(times)],
        "retry_condition_fn": lambda _task, _run, state: (
            not isinstance(state.result(raise_on_failure=False), PivotRLError)
        ),
    }


def in_one_task(label: str, story: Callable[[], Made], *inputs: Manifest | None) -> Made:
    """What `story` makes; its stages are cached, published and resumed one by one as ever.

    A dry session has no tasks.
    """
    session = current()
    if session.dry:
        return story()
    before = len(session.records)

    def execute(inputs: Sequence[Any]) -> Made:
        """Prefect draws the edges of its graph from `inputs`."""
        del session.records[before:]  # of a try that failed
        return story()

    run: Callable[..., Made] = Task(
        fn=execute,
        name="profile",
        task_run_name=told(label),
        cache_policy=NO_CACHE,
        persist_result=False,
        tags=device_tags(),
        **retried(2),
    )
    return run(inputs=inputs)
