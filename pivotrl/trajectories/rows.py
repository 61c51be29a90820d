"""Files to raw rows: JSONL, JSON array or one JSON document, plain or gzipped, told by content.

JSONL is streamed with a bound on every line; a JSON array or document is loaded whole. A row that
cannot be decoded is handed on as a `RowError` in its place, so that counting never slips. This
module must never know what a row means.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import orjson

from pivotrl.types import JSON, ConfigError, canonical

MAX_LINE_BYTES = 64 * 2**20
MAX_DOCUMENT_BYTES = 2**30
EXCERPT_CHARACTERS = 200
HEAD_BYTES = 4 * EXCERPT_CHARACTERS + 4

_UTF8_MARK = b"\xef\xbb\xbf"
_OTHER_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


class RowError(Exception):
    """Why one row cannot be used: a stable `reason` to count by, a `remedy` with the place."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}: {remedy}")
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    number: int
    """1-based: the line of a JSONL file, the index in an array."""
    value: JSON | RowError
    head: bytes | None = None
    """The first bytes of the row as they lie in the file; None where it was part of an array."""

    @property
    def excerpt(self) -> str:
        """The start of the row, at most `EXCERPT_CHARACTERS` and a mark that there is more."""
        raw = self.head if self.head is not None else canonical(self.value)[:HEAD_BYTES]
        text = raw.decode("utf-8", errors="replace").strip()
        return text if len(text) <= EXCERPT_CHARACTERS else text[:EXCERPT_CHARACTERS] + "…"


def read_rows(path: Path) -> Iterator[Row]:
    """Every row of the file in order; blank lines are no rows. An empty file yields nothing.

    Raises ConfigError if the file cannot be opened.
    """
    try:
        plain = path.open("rb")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; check data.trajectories") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; name the files in it") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be opened: {error.strerror}") from None
    with plain:
        zipped = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=plain)) if zipped else plain
        number = 0
        try:
            for row in _rows(stream):
                number = row.number
                yield row
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            problem = RowError("broken gzip", f"compress the file again: {error}")
            yield Row(number=number + 1, value=problem, head=b"")


def _rows(stream: BinaryIO) -> Iterator[Row]:
    head = stream.read(4096)
    if head.startswith(_OTHER_MARKS):
        yield _bad(1, head, "not UTF-8", "the file is UTF-16 or UTF-32: convert it, e.g. by iconv")
        return
    start = len(_UTF8_MARK) if head.startswith(_UTF8_MARK) else 0
    stream.seek(start)
    document = _is_document(stream, array=head[start:].lstrip().startswith(b"["))
    stream.seek(start)
    yield from _document(stream) if document else _lines(stream)


def _is_document(stream: BinaryIO, array: bool) -> bool:
    """True for one JSON value in the whole file, false for one a line; moves the stream."""
    start = stream.tell()
    first, second = _full_line(stream), _full_line(stream)
    if _decodes(first):
        return array and not second
    stream.seek(start)
    return _decodes(stream.read(MAX_DOCUMENT_BYTES)) or (array and not _decodes(second))


def _full_line(stream: BinaryIO) -> bytes:
    """The next line that is not blank, cut at the limit; empty at the end of the file."""
    while (line := stream.readline(MAX_LINE_BYTES + 1)) and not line.strip():
        pass
    return line


def _decodes(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


def _document(stream: BinaryIO) -> Iterator[Row]:
    data = stream.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        yield _bad(1, data, "document too large", f"over {MAX_DOCUMENT_BYTES} bytes: write JSONL")
        return
    value = _decode(data)
    head = data[:HEAD_BYTES]
    del data
    if isinstance(value, list):
        for number, item in enumerate(value, start=1):
            yield Row(number=number, value=item)
    else:
        yield Row(number=1, value=value, head=head)


def _lines(stream: BinaryIO) -> Iterator[Row]:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            head = line
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE_BYTES)
            yield _bad(number, head, "line too long", f"over {MAX_LINE_BYTES} bytes: shorten it")
        elif line.strip():
            yield Row(number=number, value=_decode(line), head=line[:HEAD_BYTES])


def _decode(data: bytes) -> JSON | RowError:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as encoding:
            where = f"byte {encoding.start} of the row is {data[encoding.start]:#04x}"
            return RowError("not UTF-8", f"{where}: save the file as UTF-8")
        return RowError("broken JSON", f"{error}")


def _bad(number: int, data: bytes, reason: str, remedy: str) -> Row:
    return Row(number=number, value=RowError(reason, remedy), head=data[:HEAD_BYTES])
