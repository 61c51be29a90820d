"""What one run of a flow shares: its home, its console, what each stage did, dry or real.

A dry session follows the same story and runs nothing: a stage that would run is answered with
`None`, and so is every stage behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

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


@dataclass(slots=True, kw_only=True)
class StageRecord:
    """A line of the report: what a stage did."""

    stage: str
    label: str
    key: str
    cached: bool
    seconds: float
    why: str = ""
    """Why it ran: the parts of the key that changed since the last run of this stage."""


@dataclass(slots=True, kw_only=True)
class Session:
    home: Path
    console: Console
    dry: bool = False
    records: list[StageRecord] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(
        self, label: str, total: int | None, unit: str
    ) -> Iterator[Callable[[float], None]]:
        """A bar with rate and time left; gives the function that advances it."""
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
            yield lambda steps: bars.advance(task, steps)


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
