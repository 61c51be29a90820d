"""Rows of a benchmark: from a local file in any layout that trajectories have too, or a hub.

This module must never know a model or how a row is scored.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson

from pivotrl.benchmarks.base import Benchmark, Row
from pivotrl.trajectories.rows import RowError, read_rows
from pivotrl.types import JSON, ConfigError, PivotRLError, digest

_ID_FIELDS = ("id", "key", "unique_id", "question_id", "problem_id", "problem_idx")


def load_rows(benchmark: Benchmark, path: Path, n: int | None = None) -> list[Row]:
    """Rows as the benchmark takes them, in the file's order: all, or `n` drawn by their ids' hash.

    So a draw has all languages and subjects of a file that is sorted by them. Each has an `id` (its
    own, or its content's hash) and, if it is real, the `folder` it lay in.

    Raises `PivotRLError` that names file and row for a missing or empty file, a row that is not
    a JSON object or lacks a field, and an id that occurs twice.
    """
    found: list[Row] = []
    seen: set[str] = set()
    for row in read_rows(path):
        where = f"{path} row {row.number}"
        if isinstance(row.value, RowError):
            raise PivotRLError(f"{where}: {row.value}")
        if not isinstance(row.value, dict):
            raise PivotRLError(f"{where}: not an object; write one object a line")
        try:
            read = benchmark.read(row.value)
        except (KeyError, ValueError, TypeError) as error:
            raise PivotRLError(
                f"{where}: no row of {benchmark.name} ({type(error).__name__} {error}); mend or "
                "drop it"
            ) from None
        if read is None:
            continue
        item_id = next((str(read[f]) for f in _ID_FIELDS if read.get(f) is not None), digest(read))
        if item_id in seen:
            raise PivotRLError(f"{where}: id {item_id!r} occurs twice; make ids unique")
        seen.add(item_id)
        real = {} if read.get("miniature") else {"folder": str(path.parent)}
        found.append({**read, **real, "id": item_id})
    if not found:
        raise PivotRLError(f"{path}: no benchmark items in it; give one JSON object a line")
    drawn = set(sorted(seen, key=digest)[:n])
    return [row for row in found if row["id"] in drawn]


def fetch(benchmark: Benchmark, path: Path) -> None:
    """Writes the real rows, as their publishers have them, to `path` (JSON Lines).

    Raises ConfigError, with the remedy, where the hub cannot be reached.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as out:
        for row in _hub_rows(benchmark):
            out.write(orjson.dumps(row, default=str) + b"\n")
    unfinished.replace(path)


def _hub_rows(benchmark: Benchmark) -> Iterator[JSON]:
    import datasets

    source = benchmark.source
    for config in source.configs or (None,):
        try:
            rows = datasets.load_dataset(
                source.path, config, split=source.split, revision=source.revision
            )
        except (OSError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise ConfigError(
                f"{benchmark.name}: {source.path} cannot be loaded from the hub ({reason}); go "
                "online once, or name a folder that has "
                f"{benchmark.name}.jsonl (evaluate.data, --data)"
            ) from None
        for row in rows:
            yield dict(row) | ({"config": config} if config else {})
