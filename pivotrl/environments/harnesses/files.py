"""What a harness left behind, read as what it is: foreign JSON, bounded, that may be anything.

This module must never know a harness's format.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from pivotrl.types import JSON, PivotRLError

LONGEST_FILE = 2**30
"""Bytes."""


def read_bytes(path: Path) -> bytes:
    """Raises PivotRLError for a file that is missing or too long."""
    try:
        if path.stat().st_size > LONGEST_FILE:
            raise PivotRLError(f"{path}: more than {LONGEST_FILE} bytes; run fewer tasks at a time")
        return path.read_bytes()
    except OSError as error:
        raise PivotRLError(
            f"{path}: the harness left no such result ({error.strerror}); its log says why"
        ) from None


def read_json(path: Path) -> JSON:
    """One value. Raises PivotRLError for a file that is missing, too long or not JSON."""
    text = read_bytes(path)
    with format_of(path, "JSON"):
        return orjson.loads(text)


def read_lines(path: Path) -> list[JSON]:
    """A value a line. Raises as `read_json` does."""
    text = read_bytes(path)
    with format_of(path, "JSON Lines"):
        return [orjson.loads(line) for line in text.splitlines()]


@contextmanager
def format_of(path: Path, form: str) -> Iterator[None]:
    """Whatever a foreign value lacks, as one PivotRLError that names the file and what it is not.

    Wanted around every look into a value that a harness wrote.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise PivotRLError(
            f"{path}: not {form} ({type(error).__name__}: {error}); run the harness again, in a "
            "version that writes it"
        ) from None
