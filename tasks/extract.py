"""Trajectories to candidates: at most one shard of candidates for each shard of trajectories."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pivotrl.config import Config
from pivotrl.manifest import Manifest
from pivotrl.store.shards import read_shard, write_shard, write_shards
from pivotrl.types import JSON, PivotRLError, digest
from tasks.stage import Produced, Stage, Work

Row = dict[str, JSON]
ROWS_A_CHECK = 8_192


def extract(config: Config, trajectories: Manifest | None) -> Manifest | None:
    return _stage(
        settings={"validation_share": config.data.validation_share},
        inputs={"trajectories": trajectories},
    )


def _body(work: Work) -> Produced:
    from pivotrl import candidates, folding

    share = work.settings["validation_share"]
    written: dict[Path, tuple[int, str]] = {}  # shard -> rows, digest of what the model sees
    occurrences: dict[str, int] = {}  # file -> rows
    unique: dict[Path, list[Row]] = {}
    places: dict[Path, list[Row]] = {}
    source: dict[Path, Path] = {}
    turns = found = 0

    def note(path: Path, rows: Sequence[Row], sights: Mapping[str, str]) -> None:
        seen = [[row["candidate_id"], sights[row["trajectory_id"]]] for row in rows]
        written[path] = len(rows), digest(seen)

    def write() -> None:
        write_shards(unique, "candidates")
        write_shards(places, "occurrences")
        unique.clear()
        places.clear()

    for number, path in enumerate(work.files("trajectories", "trajectories")):
        trajectories = read_shard(path)
        rows = [row for t in trajectories for row in candidates.rows(t, validation_share=share)]
        turns += sum(trajectory["turns"] for trajectory in trajectories)
        found += len(rows)
        if not rows:
            continue
        target = work.out / f"candidates-{number:05d}.parquet"
        once, met = folding.fold(rows)
        note(target, once, _sights(trajectories))
        source[target], unique[target] = path, once
        places[work.out / f"occurrences-{number:05d}.parquet"] = met
        occurrences[f"occurrences-{number:05d}.parquet"] = len(met)
        if sum(map(len, places.values())) > ROWS_A_CHECK:
            write()
    if not written:
        raise PivotRLError(
            "no turn is a candidate: none follows a user and counts in its domain "
            "(docs/formats.md); nothing to learn from"
        )
    write()
    for path, elsewhere in folding.surplus([*written]).items():
        rows = [row for row in read_shard(path) if row["candidate_id"] not in elsewhere]
        path.unlink()
        del written[path]
        if rows:
            write_shard(path, "candidates", rows)
            note(path, rows, _sights(read_shard(source[path])))
    counts = folding.counts([*written])
    return Produced(
        files=[(path.name, "candidates", *of_file) for path, of_file in sorted(written.items())]
        + [(name, "occurrences", n, None) for name, n in occurrences.items()],
        counts=counts
        | {"duplicates": found - counts["candidates"], "no_candidates": turns - found},
    )


def _sights(trajectories: Sequence[Mapping[str, JSON]]) -> dict[str, str]:
    """What the model is shown of each trajectory: ids ignore the order of keys, prompts do not."""
    return {
        row["trajectory_id"]: hashlib.sha256(
            b"\n".join((row["messages"].encode(), row["tools"].encode()))
        ).hexdigest()
        for row in trajectories
    }


_stage = Stage(
    name="extract",
    body=_body,
    modules=("pivotrl.candidates", "pivotrl.folding", "pivotrl.store.shards"),
)
