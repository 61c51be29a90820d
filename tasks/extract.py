"""Trajectories to candidates: one shard of candidates for each shard of trajectories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

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
    counts, domains = Counter[str](), Counter[str]()
    shards = work.files("trajectories", "trajectories")
    written: dict[int, tuple[int, str]] = {}  # shard -> rows, digest of what the model sees
    first: dict[bytes, tuple[int, str, str, int]] = {}  # candidate -> shard, rank: small, for many
    smaller: dict[int, dict[str, tuple[dict[str, JSON], str]]] = {}
    occurrences: list[tuple[str, str | None, int, str | None]] = []

    def write(number: int, rows: list[dict[str, JSON]], sights: Mapping[str, str]) -> None:
        write_shard(work.out / f"candidates-{number:05d}.parquet", "candidates", rows)
        seen = [[row["candidate_id"], sights[row["trajectory_id"]]] for row in rows]
        written[number] = len(rows), digest(seen)

    for number, path in enumerate(shards):
        trajectories = read_shard(path)
        sights = _sights(trajectories)
        found = [row for t in trajectories for row in candidates.rows(t, validation_share=share)]
        unique, places = candidates.fold(found)
        new: list[dict[str, JSON]] = []
        for row in unique:
            key, rank = bytes.fromhex(row["candidate_id"]), candidates.rank(row)
            if key not in first:
                first[key] = number, *rank
                new.append(row)
            elif rank < first[key][1:]:
                shard = first[key][0]
                first[key] = shard, *rank
                better = row, sights[row["trajectory_id"]]
                smaller.setdefault(shard, {})[row["candidate_id"]] = better
        if new:
            write(number, new, sights)
        if places:
            name = f"occurrences-{number:05d}.parquet"
            write_shard(work.out / name, "occurrences", places)
            occurrences.append((name, "occurrences", len(places), None))
        counts["turns"] += sum(trajectory["turns"] for trajectory in trajectories)
        counts["found"] += len(found)
        counts["tool_calls"] += sum(row["action_type"] == "tool_call" for row in new)
        domains.update(row["domain"] for row in new)
    if not first:
        raise PivotRLError(
            "no turn is a candidate: none follows a user and counts in its domain "
            "(docs/formats.md); nothing to learn from"
        )
    for number, found_later in smaller.items():  # the same decisions, of smaller rank
        sights = _sights(read_shard(shards[number]))
        sights |= {row["trajectory_id"]: sight for row, sight in found_later.values()}
        before = read_shard(work.out / f"candidates-{number:05d}.parquet")
        rows = [found_later.get(row["candidate_id"], (row,))[0] for row in before]
        domains.subtract(row["domain"] for row in before)
        domains.update(row["domain"] for row in rows)
        write(number, rows, sights)
    return Produced(
        files=[
            (f"candidates-{number:05d}.parquet", "candidates", rows, content)
            for number, (rows, content) in written.items()
        ]
        + occurrences,
        counts={
            "candidates": len(first),
            "tool_calls": counts["tool_calls"],
            "texts": len(first) - counts["tool_calls"],
            "validation": sum(
                candidates.split_of(group, share) == "validation"
                for _, group, _, _ in first.values()
            ),
            "duplicates": counts["found"] - len(first),
            "no_candidates": counts["turns"] - counts["found"],
            "domains": dict(sorted((+domains).items())),
        },
    )


def _sights(trajectories: Sequence[Mapping[str, JSON]]) -> dict[str, str]:
    """What the model is shown of each trajectory: ids ignore the order of keys, prompts do not."""
    return {row["trajectory_id"]: digest([row["messages"], row["tools"]]) for row in trajectories}


_stage = Stage(
    name="extract",
    body=_body,
    modules=("pivotrl.candidates", "pivotrl.trajectories", "pivotrl.store.shards"),
)
