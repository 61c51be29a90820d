"""Trajectories in: files of any known format to typed, checked trajectories, told by content.

A row that cannot be used becomes a `BadRow` with its place, reason and remedy, and the others go
on: good and bad rows add up to the rows of the file. Another format is another short module in
`FORMATS`. This package must never know a model, a prompt or a database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from pivotrl.trajectories import (
    atif,
    hermes,
    mini_swe_agent,
    nemo_gym,
    openai_chat,
    openhands,
    responses,
    sharegpt,
    swe_agent,
    tau2_bench,
    tau_bench,
    toolbench,
)
from pivotrl.trajectories.build import build
from pivotrl.trajectories.columns import from_row, to_row
from pivotrl.trajectories.draft import Draft, Format
from pivotrl.trajectories.rows import Row, RowError, files_of, read_rows
from pivotrl.trajectories.tool_specs import read_tools, store_tools
from pivotrl.types import JSON, ConfigError, PivotRLError, ToolSpec, Trajectory

__all__ = ["FORMATS", "BadRow", "from_row", "read", "read_stored", "read_tools", "to_row"]

FORMATS: tuple[Format, ...] = (
    tau_bench,
    tau2_bench,
    nemo_gym,
    atif,
    toolbench,
    swe_agent,
    openhands,
    sharegpt,
    mini_swe_agent,
    hermes,
    openai_chat,
    responses,
)
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

    `tools` serves rows that declare none, `domain` holds for all. JSONL is streamed; a JSON array
    is loaded whole. Raises ConfigError for a missing or empty file, before the first row where it
    can be known, and PivotRLError at the end of a path in which no row was usable: a folder may
    hold files that are no trajectories.
    """
    return (
        result if isinstance(result, BadRow) else from_row(result)
        for _, result in read_stored(paths, tools=tools, domain=domain)
    )


def read_stored(
    paths: Sequence[Path], *, tools: tuple[ToolSpec, ...] | None = None, domain: str | None = None
) -> Iterator[tuple[str, dict[str, JSON] | BadRow]]:
    """As `read`, but trajectories as rows of their table, each with the name of its row's format.

    The name is "unknown" where no format recognises the row.
    """
    given = [(path, files_of([path])) for path in paths]
    return _read(given, store_tools(tools or ()), domain)


def _read(
    given: Sequence[tuple[Path, Sequence[Path]]], tools: str, domain: str | None
) -> Iterator[tuple[str, dict[str, JSON] | BadRow]]:
    for path, files in given:
        usable, bad = 0, 0
        first_bad: BadRow | None = None
        for label, result in chain.from_iterable(_read_file(f, tools, domain) for f in files):
            if isinstance(result, BadRow):
                first_bad, bad = first_bad or result, bad + 1
            else:
                usable += 1
            yield label, result
        if first_bad is None and not usable:
            raise ConfigError(f"{path}: empty, without a row; name a file with trajectories")
        if first_bad is not None and not usable:
            where = f"{first_bad.source_file} " if len(files) > 1 else ""
            raise PivotRLError(
                f"{path}: none of {bad} rows is usable (tried {_known()}); {where}row "
                f"{first_bad.source_row}: {first_bad.reason}: {first_bad.remedy}"
            )


def _read_file(
    path: Path, tools: str, domain: str | None
) -> Iterator[tuple[str, dict[str, JSON] | BadRow]]:
    for row in read_rows(path, is_row=lambda value: _recogniser(value) is not None):
        label = "unknown"
        results: list[dict[str, JSON] | BadRow] = []
        try:
            found: Any = format_of(row)
            label = found.NAME
            whole = found.joined(row.value, path) if found is tau2_bench else row.value
            drafts = list(found.parse(whole))
            if not drafts:
                raise RowError("no trajectory", f"the row is an empty {label} document")
        except RowError as error:
            results.append(_bad_row(path, row, row.number, error))
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            what = f"{type(error).__name__} {error}"[:200]
            broken = RowError("breaks its format", f"the row only looks like {label}: {what}")
            results.append(_bad_row(path, row, row.number, broken))
        else:
            for index, draft in enumerate(drafts, start=1):
                number = row.number if len(drafts) == 1 else index
                results.append(_built(draft, path, row, number, tools, domain))
        for result in results:
            yield label, result


def _built(
    draft: Draft,
    path: Path,
    row: Row,
    number: int,
    tools: str,
    domain: str | None,
) -> dict[str, JSON] | BadRow:
    try:
        return build(
            draft,
            given_tools=tools,
            given_domain=domain,
            source_file=str(path),
            source_row=number,
        )
    except RowError as error:
        return _bad_row(path, row, number, error)
    except orjson.JSONEncodeError as error:  # of what old formats write as Python
        problem = RowError("not JSON", f"a call's arguments hold what JSON cannot: {error}")
        return _bad_row(path, row, number, problem)


def _recogniser(value: JSON) -> Format | None:
    return next((known for known in FORMATS if known.recognises(value)), None)


def format_of(row: Row) -> Format:
    """The format that recognises the row. Raises RowError, also for a row that is no JSON."""
    if isinstance(row.value, RowError):
        raise row.value
    found = _recogniser(row.value)
    if found is not None:
        return found
    keys = "is no object"
    if isinstance(row.value, dict):
        keys = f"has the keys {', '.join(key[:40] for key in [*row.value][:8])}"
    raise RowError("unknown format", f"the row {keys}; known formats: {_known()}")


def _known() -> str:
    return ", ".join(f.NAME for f in FORMATS)


def _bad_row(path: Path, row: Row, number: int, error: RowError) -> BadRow:
    return BadRow(
        source_file=str(path),
        source_row=number,
        reason=error.reason,
        remedy=error.remedy[:REMEDY_CHARACTERS],
        excerpt=row.excerpt,
    )
