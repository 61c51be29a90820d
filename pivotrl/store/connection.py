"""Opening the DuckDB file: one process writes at a time, so whoever comes second waits and says for
whom. This module must never know the tables.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import psutil

from pivotrl.types import PivotRLError

POLL_SECONDS = 0.2

_log = logging.getLogger("pivotrl.store")
_turn = threading.Lock()  # one file cannot be open for reading and writing in one process
_READ_ONLY: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "lock_configuration": True,
}


@contextmanager
def connection(
    path: Path, *, read_only: bool, wait_seconds: float
) -> Iterator[duckdb.DuckDBPyConnection]:
    """An open store, closed at the end. Read-only ones reach no other file and no setting.

    Waits while another process or thread holds the file, saying who. Raises PivotRLError when the
    wait is over or the file cannot be opened.
    """
    deadline = time.monotonic() + wait_seconds
    if not _turn.acquire(timeout=wait_seconds):
        raise PivotRLError(f"{path}: another thread held the store for {wait_seconds:.0f} s")
    try:
        with closing(_open(path, read_only, deadline, wait_seconds)) as opened:
            yield opened
    finally:
        _turn.release()


def _open(
    path: Path, read_only: bool, deadline: float, wait_seconds: float
) -> duckdb.DuckDBPyConnection:
    said = False
    while True:
        try:
            config = _READ_ONLY if read_only else {}
            return duckdb.connect(str(path), read_only=read_only, config=config)
        except (duckdb.IOException, duckdb.ConnectionException) as error:
            holder = _holder(str(error))
            if holder is None:
                what = one_line(error)
                raise PivotRLError(f"{path}: the store cannot be opened: {what}") from None
            if time.monotonic() >= deadline:
                raise PivotRLError(
                    f"{path}: held by {holder} for over {wait_seconds:.0f} s; end it or wait for it"
                ) from None
            if not said:
                _log.warning("%s: waiting, the store is held by %s", path, holder)
                said = True
            time.sleep(POLL_SECONDS)


def _holder(message: str) -> str | None:
    """Who holds the file, out of DuckDB's message; None if the message is about something else."""
    if "different configuration" in message:
        return "another connection of this process"
    if "Could not set lock" not in message:
        return None
    found = re.search(r"PID (\d+)", message)
    if found is None:
        return "another process"
    try:
        command = " ".join(psutil.Process(int(found[1])).cmdline())[:200]
    except psutil.Error:
        command = ""
    return f"process {found[1]}" + (f" ({command})" if command else "")


def one_line(error: Exception) -> str:
    """DuckDB's message without its drawing of the statement."""
    return " ".join(str(error).split("\n\nLINE ")[0].split())[:400]
