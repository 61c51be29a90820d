"""Shards: immutable Parquet files of one table's rows, whole on disk or not there at all.

This module must never know the database.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from pivotrl.store.tables import frame_of
from pivotrl.types import JSON, PivotRLError

ROWS_A_GROUP = 50_000
"""DuckDB reads one group on one core."""


def write_shard(path: Path, table: str, rows: Sequence[Mapping[str, JSON]]) -> None:
    """Checks the rows and writes them; equal rows make equal bytes. Replaces an older file.

    The file appears under its name only when all of it is written; one that a crash of the machine
    left broken has not the hash that the manifest says. Raises PivotRLError for rows that break the
    table's model and where the disk cannot take them.
    """
    write_shards({path: rows}, table)


def write_shards(shards: Mapping[Path, Sequence[Mapping[str, JSON]]], table: str) -> None:
    """As `write_shard`, several at once: a check costs the same for many rows as for few."""
    frame = frame_of(table, [row for rows in shards.values() for row in rows])
    start = 0
    for path, rows in shards.items():
        _write(path, frame[start : start + len(rows)])
        start += len(rows)


def _write(path: Path, frame: pl.DataFrame) -> None:
    buffer = io.BytesIO()
    frame.write_parquet(
        buffer, compression="zstd", compression_level=1, row_group_size=ROWS_A_GROUP
    )
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(buffer.getbuffer())
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise PivotRLError(
            f"{path}: cannot be written: {error.strerror}; make room or rights and run again"
        ) from None


def read_shard(path: Path) -> list[dict[str, JSON]]:
    """The rows of a shard, in order. Raises PivotRLError if it is missing or damaged."""
    try:
        return pl.read_parquet(path).to_dicts()
    except (OSError, pl.exceptions.PolarsError) as error:
        what = " ".join(str(error).split())[:200]
        raise PivotRLError(f"{path}: cannot be read: {what}; delete it and run again") from None
