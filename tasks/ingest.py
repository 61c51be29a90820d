"""Files to trajectories: bad rows to quarantine, low rewards left out, everything counted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.markup import escape

from pivotrl.config import Config
from pivotrl.manifest import Manifest, file_hash
from pivotrl.store.shards import write_shard
from pivotrl.types import PivotRLError, Trajectory
from tasks.session import current
from tasks.stage import Produced, Stage, Work


def ingest(config: Config) -> Manifest | None:
    data = config.data
    files = [*data.trajectories, *([data.tools] if data.tools else [])]
    return _stage(
        settings={
            "files": [file_hash(file) for file in files],
            "tools": data.tools is not None,
            "domain": data.domain,
            "min_reward": data.min_reward,
            "shard_turns": data.shard_turns,
        },
        extra={"paths": data.trajectories, "tools": data.tools},
    )


def _body(work: Work) -> Produced:
    from pivotrl import trajectories

    tools_file: Path | None = work.extra["tools"]
    tools = trajectories.read_tools(tools_file) if tools_file else None
    settings = work.settings
    shards: list[list[Trajectory]] = []
    bad: list[dict] = []
    rows = low = turns = 0
    seen: set[str] = set()
    twice = 0
    source = ""
    for item in trajectories.read(work.extra["paths"], tools=tools, domain=settings["domain"]):
        rows += 1
        if isinstance(item, trajectories.BadRow):
            bad.append(asdict(item))
            continue
        minimum, reward = settings["min_reward"], item.reward
        if minimum is not None and reward is not None and reward < minimum:
            low += 1
            continue
        if item.id in seen:
            twice += 1
            continue
        seen.add(item.id)
        size = sum(m.role == "assistant" for m in item.messages)
        if not shards or item.source_file != source or turns + size > settings["shard_turns"]:
            shards.append([])
            source, turns = item.source_file, 0
        shards[-1].append(item)
        turns += size
    if not seen:
        raise PivotRLError(
            f"none of {rows} rows is left: {len(bad)} bad, {low} below data.min_reward = "
            f"{settings['min_reward']}; lower data.min_reward or mend the rows"
        )
    files: list[tuple[str, str | None, int, str | None]] = []
    for number, shard in enumerate(shards):
        name = f"trajectories-{number:05d}.parquet"
        write_shard(work.out / name, "trajectories", [trajectories.to_row(t) for t in shard])
        files.append((name, "trajectories", len(shard), None))
    if bad:
        write_shard(work.out / "quarantine.parquet", "quarantine", bad)
        files.append(("quarantine.parquet", "quarantine", len(bad), None))
    if low:
        current().say(
            f"  [yellow]{low:,} of {rows:,} trajectories have a reward below "
            f"{settings['min_reward']:g} and are left out[/] (data.min_reward)"
        )
    if bad:
        first = bad[0]
        current().say(
            f"  [yellow]{len(bad):,} bad rows in quarantine[/], first: "
            + escape(
                f"{first['source_file']}, row {first['source_row']}: {first['reason']}; "
                f"{first['remedy']}"
            )
        )
    return Produced(
        files=files,
        counts={
            "rows": rows,
            "trajectories": len(seen),
            "bad_rows": len(bad),
            "low_reward": low,
            "duplicates": twice,
        },
    )


_stage = Stage(name="ingest", body=_body, modules=("pivotrl.trajectories", "pivotrl.store.shards"))
