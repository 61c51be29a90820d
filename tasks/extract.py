"""Trajectories to candidates: one shard of candidates for each shard of trajectories."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

from pivotrl.config import Config
from pivotrl.manifest import Manifest
from pivotrl.store.shards import read_shard, write_shard
from pivotrl.types import PivotRLError, digest
from tasks.stage import Produced, Stage, Work


def extract(config: Config, trajectories: Manifest | None) -> Manifest | None:
    return _stage(
        settings={"validation_share": config.data.validation_share},
        inputs={"trajectories": trajectories},
    )


def _body(work: Work) -> Produced:
    from pivotrl import candidates
    from pivotrl.trajectories import from_row

    shard_of: dict[str, int] = {}
    shown: dict[str, str] = {}
    found = []
    for number, path in enumerate(work.files("trajectories", "trajectories")):
        for row in read_shard(path):
            # Ids ignore the order of keys, prompts do not.
            shown[row["trajectory_id"]] = digest([row["messages"], row["tools"]])
            for candidate in candidates.extract(
                from_row(row), validation_share=work.settings["validation_share"]
            ):
                shard_of.setdefault(candidate.id, number)
                found.append(candidate)
    unique, occurrences = candidates.fold(found)
    if not unique:
        raise PivotRLError(
            "no trajectory has an assistant turn that follows a user; nothing to learn from"
        )
    files: list[tuple[str, str | None, int, str | None]] = []
    for number in sorted(set(shard_of.values())):
        rows = [candidates.to_row(c) for c in unique if shard_of[c.id] == number]
        name = f"candidates-{number:05d}.parquet"
        write_shard(work.out / name, "candidates", rows)
        content = digest([[r["candidate_id"], shown[r["trajectory_id"]]] for r in rows])
        files.append((name, "candidates", len(rows), content))
    write_shard(work.out / "occurrences.parquet", "occurrences", [asdict(o) for o in occurrences])
    files.append(("occurrences.parquet", "occurrences", len(occurrences), None))
    return Produced(
        files=files,
        counts={
            "candidates": len(unique),
            "tool_calls": sum(bool(c.demonstration.tool_calls) for c in unique),
            "texts": sum(not c.demonstration.tool_calls for c in unique),
            "validation": sum(c.split == "validation" for c in unique),
            "duplicates": len(found) - len(unique),
            "domains": dict(sorted(Counter(c.domain for c in unique).items())),
        },
    )


_stage = Stage(
    name="extract",
    body=_body,
    modules=("pivotrl.candidates", "pivotrl.trajectories", "pivotrl.store.shards"),
)
