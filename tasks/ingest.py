"""Files to trajectories: bad rows to quarantine, low rewards left out, everything counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from rich.markup import escape

from pivotrl.config import Config
from pivotrl.manifest import Manifest, file_hash
from pivotrl.store.shards import write_shards
from pivotrl.trajectories.rows import HUB, files_of, hub_commit
from pivotrl.types import JSON, PivotRLError, digest
from tasks.session import current
from tasks.stage import File, Produced, Stage, Work, manifests_of

BAD_ROWS_A_SHARD = 10_000
TURNS_A_CHECK, CHARACTERS_A_CHECK = 8_192, 16_000_000


def ingest(config: Config) -> Manifest | None:
    data = config.data
    return _stage(
        settings={
            "files": [_fingerprint(file) for file in _files(config)],
            "tools": data.tools is not None,
            "domain": data.domain,
            "min_reward": data.min_reward,
            "shard_turns": data.shard_turns,
        },
        extra={"paths": data.trajectories, "tools": data.tools},
    )


def new_files(config: Config, home: Path) -> list[Path]:
    """Those whose content the nearest earlier run over this home did not read."""
    files = {_fingerprint(file): file for file in _files(config)}
    earlier = [m.parts["settings"]["files"] for m in manifests_of(home / "shards" / "ingest")]
    new = ([f for key, f in files.items() if key not in read] for read in earlier or [[]])
    return min(new, key=len)


def _files(config: Config) -> list[Path]:
    data = config.data
    return [*files_of(data.trajectories), *([data.tools] if data.tools else [])]


def _fingerprint(path: Path) -> str:
    """Of a file its hash, of a saved data set its files', of one on the hub its commit."""
    if str(path).startswith(HUB):
        return hub_commit(path)
    if path.is_dir():
        return digest([file_hash(file) for file in sorted(path.rglob("*")) if file.is_file()])
    return file_hash(path)


def _body(work: Work) -> Produced:
    from pivotrl import trajectories

    tools_file: Path | None = work.extra["tools"]
    tools = trajectories.read_tools(tools_file) if tools_file else None
    settings = work.settings
    files: list[File] = []
    counts = Counter[str](rows=0, trajectories=0, bad_rows=0, low_reward=0, duplicates=0)
    seen: set[str] = set()
    first_bad: trajectories.BadRow | None = None
    good: list[list[dict[str, JSON]]] = [[]]  # shards
    bad: list[dict[str, JSON]] = []
    turns = turns_of_all = size = 0

    def write(table: str, *shards: list[dict[str, JSON]]) -> None:
        first = sum(file[1] == table for file in files)
        named = {f"{table}-{first + i:05d}.parquet": rows for i, rows in enumerate(shards) if rows}
        if named:
            write_shards({work.out / name: rows for name, rows in named.items()}, table)
            files.extend((name, table, len(rows), None) for name, rows in named.items())

    paths = work.extra["paths"]
    for _, item in trajectories.read_stored(paths, tools=tools, domain=settings["domain"]):
        counts["rows"] += 1
        if isinstance(item, trajectories.BadRow):
            counts["bad_rows"] += 1
            first_bad = first_bad or item
            bad.append(asdict(item))
            if len(bad) == BAD_ROWS_A_SHARD:
                write("quarantine", bad)
                bad = []
            continue
        minimum, reward = settings["min_reward"], item["reward"]
        if minimum is not None and reward is not None and reward < minimum:
            counts["low_reward"] += 1
            continue
        if item["trajectory_id"] in seen:
            counts["duplicates"] += 1
            continue
        seen.add(item["trajectory_id"])
        counts["trajectories"] += 1
        last = good[-1][-1] if good[-1] else item
        other_file = item["source_file"] != last["source_file"]
        if good[-1] and (other_file or turns + item["turns"] > settings["shard_turns"]):
            if size > CHARACTERS_A_CHECK or turns_of_all > TURNS_A_CHECK:
                write("trajectories", *good)
                good, turns_of_all, size = [], 0, 0
            good.append([])
            turns = 0
        good[-1].append(item)
        turns += item["turns"]
        turns_of_all += item["turns"]
        size += len(item["messages"])
    write("trajectories", *good)
    write("quarantine", bad)
    if not seen:
        raise PivotRLError(
            f"none of {counts['rows']} rows is left: {counts['bad_rows']} bad, "
            f"{counts['low_reward']} below data.min_reward = {settings['min_reward']}; lower "
            "data.min_reward or mend the rows"
        )
    if counts["low_reward"]:
        current().say(
            f"  [yellow]{counts['low_reward']:,} of {counts['rows']:,} trajectories have a reward "
            f"below {settings['min_reward']:g} and are left out[/] (data.min_reward)"
        )
    if first_bad:
        current().say(
            f"  [yellow]{counts['bad_rows']:,} bad rows in quarantine[/], first: "
            + escape(
                f"{first_bad.source_file}, row {first_bad.source_row}: {first_bad.reason}; "
                f"{first_bad.remedy}"
            )
        )
    return Produced(files=files, counts=dict(counts))


_stage = Stage(name="ingest", body=_body, modules=("pivotrl.trajectories", "pivotrl.store.shards"))
