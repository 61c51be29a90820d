"""What one run of a flow shares: its home, its console, what each stage did, dry or real.

A dry session follows the same story and runs nothing: a stage that would run is answered with
`None`, and so is every stage behind it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from uuid import UUID

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from pivotrl.system_metrics import Sample

PAGE_SECONDS = 5.0
"""Between two looks of a progress bar on Prefect's page."""


@dataclass(slots=True, kw_only=True)
class StageRecord:
    """A line of the report: what a stage did."""

    stage: str
    label: str
    key: str = ""
    cached: bool = False
    seconds: float = 0.0
    why: str = ""
    """Why it ran: the parts of the key that changed since the last run of this stage."""


@dataclass(slots=True, kw_only=True)
class Session:
    home: Path
    console: Console
    dry: bool = False
    records: list[StageRecord] = field(default_factory=list)
    system: list[Sample] = field(default_factory=list)
    """What the machine does, so far."""
    mlflow_page: str = "http://127.0.0.1:5000"
    """Where a browser finds MLflow."""

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(
        self, label: str, total: int | None, unit: str
    ) -> Iterator[Callable[[float], None]]:
        """A bar with rate and time left, also on the page of a task that takes long.

        Gives the function that advances it.
        """
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn(unit),
            _Rate(),
            TimeRemainingColumn(),
        )
        with Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        ) as bars:
            task = bars.add_task(label, total=total)
            page = _PageBar(label=label, total=total)

            def advance(steps: float) -> None:
                bars.advance(task, steps)
                page.advance(steps)

            yield advance
            page.end()


@dataclass(slots=True, kw_only=True)
class _PageBar:
    """A progress artifact of the task run, made once it has taken a while."""

    label: str
    total: int | None
    done: float = 0.0
    shown: float = field(default_factory=time.monotonic)
    artifact: UUID | None = None
    silent: bool = False
    """Prefect did not answer once."""

    def advance(self, steps: float) -> None:
        self.done += steps
        if self.total and time.monotonic() - self.shown >= PAGE_SECONDS:
            self.shown = time.monotonic()
            self._show(100 * min(1.0, self.done / self.total))

    def end(self) -> None:
        if self.artifact is not None:
            self._show(100.0)

    def _show(self, percent: float) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact
        from prefect.context import TaskRunContext

        if self.silent or TaskRunContext.get() is None:
            return
        try:
            if self.artifact is None:
                self.artifact = cast(UUID, create_progress_artifact(percent, None, self.label))
            else:
                update_progress_artifact(self.artifact, percent)
        except Exception as error:  # a page is no reason for a stage to fail
            self.silent = True
            logging.getLogger("pivotrl").debug("no progress on the page: %s", error)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.1f}/s" if task.speed else "", style="dim")


_current: Session | None = None


@contextmanager
def running(session: Session) -> Iterator[Session]:
    """Makes `session` the one that stages find; runs of one process do not nest."""
    global _current
    before, _current = _current, session
    try:
        yield session
    finally:
        _current = before


def current() -> Session:
    if _current is None:
        raise RuntimeError("a stage was called outside a session; use `tasks.session.running`")
    return _current


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    start = time.perf_counter()
    yield lambda: time.perf_counter() - start
