"""Files to raw rows: JSONL, JSON array or document, gzip or zstd of both, Parquet, data sets.

Told by content, not by name. JSONL, Parquet and data sets are streamed, JSONL with a bound on every
line; a JSON array or document is loaded whole. A row that cannot be decoded is handed on as a
`RowError` in its place, so that counting never slips. This module must never know what a row means.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson
import zstandard

from pivotrl.types import JSON, ConfigError, canonical

MAX_LINE_BYTES = 64 * 2**20
MAX_DOCUMENT_BYTES = 2**30
EXCERPT_CHARACTERS = 200
HEAD_BYTES = 4 * EXCERPT_CHARACTERS + 4

_UTF8_MARK = b"\xef\xbb\xbf"
_GZIP, _ZSTD, _PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
SUFFIXES = (".json", ".jsonl", ".ndjson", ".traj", ".parquet", ".gz", ".zst")
"""Files that are read where a folder is named."""
DATA_SET_FILES = ("state.json", "dataset_dict.json")
"""They mark a folder as a data set saved by the `datasets` library."""
HUB = "hf:"
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
        raw = self.head
        if raw is None:
            raw = b"" if isinstance(self.value, RowError) else canonical(self.value)[:HEAD_BYTES]
        text = raw.decode("utf-8", errors="replace").strip()
        return text if len(text) <= EXCERPT_CHARACTERS else text[:EXCERPT_CHARACTERS] + "…"


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files and data sets behind `paths`, of folders in order of name.

    Raises ConfigError for what is not there and for a folder without any.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_file() or _is_data_set(path) or str(path).startswith(HUB):
            found.append(path)
        elif path.is_dir():
            inside = [f for f in sorted(path.rglob("*")) if f.is_file() and f.suffix in SUFFIXES]
            runs = {f.parent / "simulations" for f in inside if f.name == "results.json"}
            inside = [f for f in inside if f.parent not in runs]  # they are read with their index
            if not inside:
                known = ", ".join(SUFFIXES)
                raise ConfigError(f"{path}: the folder has no file {known} (data.trajectories)")
            found += inside
        else:
            raise ConfigError(f"{path}: no such file (data.trajectories)")
    return found


def _is_data_set(path: Path) -> bool:
    return any((path / name).is_file() for name in DATA_SET_FILES)


def read_rows(path: Path, is_row: Callable[[JSON], bool] = lambda _: False) -> Iterator[Row]:
    """Every row of a file or data set in order; blank lines are no rows. Empty ones yield nothing.

    A JSON array for which `is_row` holds is one row, else each of its items is. Raises ConfigError
    if the file cannot be opened.
    """
    if str(path).startswith(HUB) or _is_data_set(path):
        yield from _numbered(_data_set(path))
        return
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: is no file, and what it is read from ends: write it to a file")
    try:
        with path.open("rb") as plain:
            mark = plain.read(4)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; check data.trajectories") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be opened: {error.strerror}") from None
    number = 0
    try:
        rows = _numbered(_parquet(path)) if mark == _PARQUET else _rows(path, mark, is_row)
        for row in rows:
            number = row.number
            yield row
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        kind = "gzip" if mark.startswith(_GZIP) else "zstd"
        problem = RowError(f"broken {kind}", f"compress the file again: {error}")
        yield Row(number=number + 1, value=problem, head=b"")


def _numbered(values: Iterator[JSON | RowError]) -> Iterator[Row]:
    for number, value in enumerate(values, start=1):
        plain = value if isinstance(value, RowError) else _plain(value)
        yield Row(number=number, value=plain)


def _plain(value: Any) -> JSON | RowError:
    """JSON of what columns hold beside JSON: dates, decimals, bytes; without Arrow's filling.

    Columns give every object the keys of all others, with null as value.
    """
    try:
        return _filled(
            orjson.loads(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS))
        )
    except orjson.JSONEncodeError as error:
        return RowError("not JSON", f"a column holds what JSON cannot: {error}")


def _filled(value: JSON) -> JSON:
    if isinstance(value, dict):
        return {key: _filled(item) for key, item in value.items() if item is not None}
    return [_filled(item) for item in value] if isinstance(value, list) else value


def _parquet(path: Path) -> Iterator[JSON | RowError]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        for batch in ParquetFile(path).iter_batches(batch_size=64):
            yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        yield RowError("broken Parquet", f"write the file again: {str(error).splitlines()[0]}")


def _data_set(path: Path) -> Iterator[JSON]:
    """Rows of a saved data set, or of one on the hub: `hf:owner/name` or `hf:owner/name:split`."""
    import datasets

    if str(path).startswith(HUB):
        name, _, split = str(path).removeprefix(HUB).partition(":")
        try:
            yield from datasets.load_dataset(name, split=split or "train", streaming=True)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0][:200]
            raise ConfigError(f"{path}: cannot be loaded from the hub: {reason}") from None
        return
    try:
        loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ConfigError(f"{path}: is no whole data set: {reason}") from None
    for part in loaded.values() if isinstance(loaded, dict) else [loaded]:
        yield from part


def hub_commit(path: Path) -> str:
    """The commit that a data set on the hub is at. Raises ConfigError where it cannot be asked."""
    from huggingface_hub import HfApi

    name = str(path).removeprefix(HUB).partition(":")[0]
    try:
        return str(HfApi().dataset_info(name).sha)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ConfigError(f"{path}: cannot be found on the hub: {reason}") from None


@contextmanager
def _opened(path: Path, mark: bytes) -> Iterator[BinaryIO]:
    with path.open("rb") as plain:
        if mark.startswith(_GZIP):
            yield cast(BinaryIO, gzip.GzipFile(fileobj=plain))
        elif mark == _ZSTD:
            reader = zstandard.ZstdDecompressor().stream_reader(plain, read_across_frames=True)
            yield cast(BinaryIO, io.BufferedReader(reader))
        else:
            yield plain


def _rows(path: Path, mark: bytes, is_row: Callable[[JSON], bool]) -> Iterator[Row]:
    with _opened(path, mark) as stream:
        head = stream.read(4096)
    if head.startswith(_OTHER_MARKS):
        yield _bad(1, head, "not UTF-8", "the file is UTF-16 or UTF-32: convert it, e.g. by iconv")
        return
    start = len(_UTF8_MARK) if head.startswith(_UTF8_MARK) else 0
    array = head[start:].lstrip().startswith(b"[")
    with _opened(path, mark) as stream:
        stream.read(start)
        document = _is_document(stream, array)
    with _opened(path, mark) as stream:
        stream.read(start)
        yield from _document(stream, is_row) if document else _lines(stream)


def _is_document(stream: BinaryIO, array: bool) -> bool:
    """True for one JSON value in the whole file, false for one a line."""
    first, second = _full_line(stream), _full_line(stream)
    if _decodes(first):
        return array and not second
    if not array and (len(first) > MAX_LINE_BYTES or _decodes(second)):
        return False  # a bad first line; what follows is not held to see it
    rest = stream.read(MAX_DOCUMENT_BYTES)
    return _decodes(first + second + rest) or (array and not _decodes(second))


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


def _document(stream: BinaryIO, is_row: Callable[[JSON], bool]) -> Iterator[Row]:
    data = stream.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        yield _bad(1, data, "document too large", f"over {MAX_DOCUMENT_BYTES} bytes: write JSONL")
        return
    value = _decode(data)
    head = data[:HEAD_BYTES]
    del data
    if isinstance(value, list) and not is_row(value):
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
