"""Each decision once: of equal candidates one stays, and every place where it was met is kept.

Within a shard in memory, between shards by SQL over their files, so memory does not grow with the
data. Which one stays depends on what was found, never on its order. This module must never know a
trajectory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from pivotrl.types import JSON

PLACE = ("candidate_id", "split_group", "trajectory_id", "turn")
"""Columns of `occurrences`; the last three are the rank: the smallest stays."""
MEMORY = "200MB"


def fold(
    found: Iterable[dict[str, JSON]],
) -> tuple[list[dict[str, JSON]], list[dict[str, JSON]]]:
    """Each decision once, in order of first appearance, and rows of `occurrences`."""
    kept: dict[str, tuple[tuple[JSON, ...], dict[str, JSON]]] = {}
    places: dict[tuple[JSON, ...], None] = {}
    for row in found:
        key = row["candidate_id"]
        place = (key, row["split_group"], row["trajectory_id"], row["turn"])
        places[place] = None
        known = kept.get(key)
        if known is None or place < known[0]:
            kept[key] = place, row
    return (
        [row for _, row in kept.values()],
        [dict(zip(PLACE, place, strict=True)) for place in places],
    )


def surplus(files: Sequence[Path]) -> dict[Path, set[str]]:
    """File -> candidates in it that another of the files has with a smaller rank."""
    query = f"""
        WITH found AS (SELECT {", ".join(PLACE)}, filename FROM read_parquet(?, filename = true)),
        several AS (SELECT candidate_id FROM found GROUP BY candidate_id HAVING count(*) > 1)
        SELECT filename, candidate_id FROM found SEMI JOIN several USING (candidate_id)
        QUALIFY row_number() OVER (PARTITION BY candidate_id ORDER BY {", ".join(PLACE[1:])}) > 1"""
    by_file: dict[Path, set[str]] = defaultdict(set)
    for file, candidate_id in _query(query, files):
        by_file[Path(file)].add(candidate_id)
    return by_file


def counts(files: Sequence[Path]) -> dict[str, JSON]:
    """Of all candidates: how many there are, of which action, held out, and by domain."""
    query = """
        SELECT domain, count(*), count(*) FILTER (action_type = 'tool_call'),
        count(*) FILTER (split = 'validation') FROM read_parquet(?) GROUP BY domain ORDER BY domain
        """
    rows = _query(query, files)
    total, calls, held_out = (sum(row[i] for row in rows) for i in (1, 2, 3))
    return {
        "candidates": total,
        "tool_calls": calls,
        "texts": total - calls,
        "validation": held_out,
        "domains": {row[0]: row[1] for row in rows},
    }


def _query(query: str, files: Sequence[Path]) -> list[tuple[JSON, ...]]:
    with (
        TemporaryDirectory() as spill,
        duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": spill}) as database,
    ):
        return database.execute(query, [[str(file) for file in files]]).fetchall()
