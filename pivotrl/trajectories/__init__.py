"""Trajectories in: files of any known format to typed, checked trajectories, told by content.

A row that cannot be used becomes a `BadRow` with its place, reason and remedy, and the others go
on: good and bad rows add up to the rows of the file. Another format is another short module in
`FORMATS`. This package must never know a model, a prompt or a database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pivotrl.trajectories import openai_chat, tau_bench
from pivotrl.trajectories.build import build
from pivotrl.trajectories.columns import from_row, to_row
from pivotrl.trajectories.draft import Format
from pivotrl.trajectories.rows import Row, RowError, read_rows
from pivotrl.trajectories.tool_specs import read_tools
from pivotrl.types import ConfigError, PivotRLError, ToolSpec, Trajectory

__all__ = ["FORMATS", "BadRow", "from_row", "read", "read_tools", "to_row"]

FORMATS: tuple[Format, ...] = (tau_bench, openai_chat)
"""Asked in this order; the first that recognises a row reads it."""

REMEDY_CHARACTERS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row of the `quarantine` table (`dataclasses.asdict`)."""

    source_file: str
    source_row: int
    """1-based: the line of a JSONL file, the index in an array."""
    reason: str
    """A few stable words to count by."""
    remedy: str
    excerpt: str


def read(
    paths: Sequence[Path], *, tools: tuple[ToolSpec, ...] | None = None, domain: str | None = None
) -> Iterator[Trajectory | BadRow]:
    """Every row of the files in order, as a trajectory or as a bad row.

    `tools` and `domain` serve rows that name none. JSONL is streamed; a JSON array is loaded whole.
    Raises ConfigError for a missing or empty file, before the first row where it can be known, and
    PivotRLError at the end of a file in which no row was usable.
    """
    for path in paths:
        if not path.is_file():
            what = "is a folder; name the files in it" if path.is_dir() else "no such file"
            raise ConfigError(f"{path}: {what} (data.trajectories)")
    return (result for _, result in read_labelled(paths, tools=tools, domain=domain))


def read_labelled(
    paths: Sequence[Path], *, tools: tuple[ToolSpec, ...] | None, domain: str | None
) -> Iterator[tuple[str, Trajectory | BadRow]]:
    """As `read`, each with the name of its row's format ("unknown" where none recognises it)."""
    for path in paths:
        usable, bad = 0, 0
        first_bad: BadRow | None = None
        for row in read_rows(path):
            label = "unknown"
            try:
                found = format_of(row)
                label = found.NAME
                trajectory = build(
                    found.parse(row.value),
                    given_tools=tools,
                    given_domain=domain,
                    source_file=str(path),
                    source_row=row.number,
                )
            except RowError as error:
                bad_row = _bad_row(path, row, error)
                first_bad, bad = first_bad or bad_row, bad + 1
                yield label, bad_row
            else:
                usable += 1
                yield label, trajectory
        if first_bad is None and not usable:
            raise ConfigError(f"{path}: the file is empty; name one with trajectories")
        if first_bad is not None and not usable:
            raise PivotRLError(
                f"{path}: none of {bad} rows is usable (tried {_known()}); row "
                f"{first_bad.source_row}: {first_bad.reason}: {first_bad.remedy}"
            )


def format_of(row: Row) -> Format:
    """The format that recognises the row. Raises RowError, also for a row that is no JSON."""
    if isinstance(row.value, RowError):
        raise row.value
    for candidate in FORMATS:
        if candidate.recognises(row.value):
            return candidate
    keys = "is no object"
    if isinstance(row.value, dict):
        keys = f"has the keys {', '.join(key[:40] for key in [*row.value][:8])}"
    raise RowError("unknown format", f"the row {keys}; known formats: {_known()}")


def _known() -> str:
    return ", ".join(f.NAME for f in FORMATS)


def _bad_row(path: Path, row: Row, error: RowError) -> BadRow:
    return BadRow(
        source_file=str(path),
        source_row=row.number,
        reason=error.reason,
        remedy=error.remedy[:REMEDY_CHARACTERS],
        excerpt=row.excerpt,
    )
