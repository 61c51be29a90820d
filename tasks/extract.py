"""Trajectories to candidates: one shard of candidates for each shard of trajectories."""

from __future__ import annotations

import hashlib
from collections import Counter

from pivotrl.config import Config
from pivotrl.manifest import Manifest
from pivotrl.store.shards import read_shard, write_shard
from pivotrl.types import JSON, PivotRLError, digest
from tasks.stage import Produced, Stage, Work


def extract(config: Config, trajectories: Manifest | None) -> Manifest | None:
    return _stage(
        settings={"validation_share": config.data.validation_share},
        inputs={"trajectories": trajectories},
    )


def _body(work: Work) -> Produced:
    from pivotrl import candidates

    share = work.settings["validation_share"]
    counts = Counter[str]()
    domains = Counter[str]()
    files: list[tuple[str, str | None, int, str | None]] = []
    kept: dict[int, dict[str, str]] = {}  # shard -> candidate -> what the model sees there
    first: dict[str, tuple[int, tuple[str, str, int]]] = {}
    smaller: dict[int, dict[str, tuple[dict[str, JSON], str]]] = {}
    for number, path in enumerate(work.files("trajectories", "trajectories")):
        found: list[dict[str, JSON]] = []
        shown: dict[str, str] = {}
        for trajectory in read_shard(path):
            # Ids ignore the order of keys, prompts do not.
            text = trajectory["messages"] + trajectory["tools"]
            shown[trajectory["trajectory_id"]] = hashlib.sha256(text.encode()).hexdigest()[:16]
            found += candidates.rows(trajectory, validation_share=share)
            counts["turns"] += trajectory["turns"]
        unique, places = candidates.fold(found)
        new: list[dict[str, JSON]] = []
        for row in unique:
            key, rank, sight = (
                row["candidate_id"],
                candidates.rank(row),
                shown[row["trajectory_id"]],
            )
            if key not in first:
                first[key] = number, rank
                kept.setdefault(number, {})[key] = sight
                new.append(row)
            elif rank < first[key][1]:
                first[key] = first[key][0], rank
                smaller.setdefault(first[key][0], {})[key] = row, sight
        for table, rows in (("candidates", new), ("occurrences", places)):
            if rows:
                write_shard(work.out / f"{table}-{number:05d}.parquet", table, rows)
        if places:
            files.append((f"occurrences-{number:05d}.parquet", "occurrences", len(places), None))
        counts["found"] += len(found)
        counts["tool_calls"] += sum(row["action_type"] == "tool_call" for row in new)
        domains.update(row["domain"] for row in new)
    if not first:
        raise PivotRLError(
            "no trajectory has an assistant turn that follows a user; nothing to learn from"
        )
    for number, better in smaller.items():  # the same decision in a later shard, of smaller rank
        path = work.out / f"candidates-{number:05d}.parquet"
        kept[number] |= {key: sight for key, (_, sight) in better.items()}
        rows = [better.get(row["candidate_id"], (row,))[0] for row in read_shard(path)]
        write_shard(path, "candidates", rows)
    for number, sights in kept.items():
        name = f"candidates-{number:05d}.parquet"
        files.append((name, "candidates", len(sights), digest([*sights.items()])))
    return Produced(
        files=files,
        counts={
            "candidates": len(first),
            "tool_calls": counts["tool_calls"],
            "texts": len(first) - counts["tool_calls"],
            "validation": sum(
                candidates.split_of(rank[0], share) == "validation" for _, rank in first.values()
            ),
            "duplicates": counts["found"] - len(first),
            "no_candidates": counts["turns"] - counts["found"],
            "domains": dict(sorted(domains.items())),
        },
    )


_stage = Stage(
    name="extract",
    body=_body,
    modules=("pivotrl.candidates", "pivotrl.trajectories", "pivotrl.store.shards"),
)
