"""Shards: immutable Parquet files of one table's rows, whole on disk or not there at all.

This module must never know the database.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pivotrl.store.tables import frame_of
from pivotrl.types import JSON, PivotRLError


def write_shard(path: Path, table: str, rows: Sequence[dict[str, JSON]]) -> None:
    """Checks the rows and writes them; equal rows make equal bytes. Replaces an older file.

    The file appears under its name only when all of it is on the disk. Raises PivotRLError for rows
    that break the table's model and where the disk cannot take them.
    """
    buffer = io.BytesIO()
    frame_of(table, rows).write_parquet(buffer, compression="zstd", compression_level=1)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise PivotRLError(
            f"{path}: cannot be written: {error.strerror}; make room or rights and run again"
        ) from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_shard(path: Path) -> list[dict[str, JSON]]:
    """The rows of a shard, in order. Raises PivotRLError if it is missing or damaged."""
    try:
        return pl.read_parquet(path).to_dicts()
    except (OSError, pl.exceptions.PolarsError) as error:
        what = " ".join(str(error).split())[:200]
        raise PivotRLError(f"{path}: cannot be read: {what}; delete it and run again") from None
