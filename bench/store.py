"""The store at size: seconds of merges, of the selection and of `pivot_stats`; the file's size.

    python bench/store.py --candidates 1000000 [--looks] [--json]

Made shards, 16 rollouts a candidate, go through `Store.merge`. Then a further shard of 100,000 rows
of rollouts and of verdicts is merged (the slower counts; median of three), `pivot_stats` is
averaged and copied whole (the slower counts), and `select` runs over the Parquet shards; with
--looks also over the same verdicts as an adaptive profile leaves them, a file a look. Needs about
15 GB of disk. Writes docs/results/store.md, or prints the targets' numbers (--json).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from pivotrl.adaptive import looks
from pivotrl.selection import Criteria, select
from pivotrl.store import Store
from pivotrl.store.connection import connection
from pivotrl.store.shards import ROWS_A_GROUP
from pivotrl.store.tables import polars_schema

ROOT = Path(__file__).parents[1]
K = 16
LOADED = 50_000
"""Candidates a shard while the store is filled."""
MEASURED = 6_250
"""Candidates of a shard whose merge is measured: 100,000 rows."""
MERGES = 3
DOMAINS = ("retail", "terminal", "browsing", "software")
STATUSES = ("ok", "undecided", "error")
CATEGORIES = ("accepted", "wrong_tool", "wrong_argument", "text_instead_of_call")
WORDS = ("order", "item", "was", "sent", "back", "its", "size", "did", "not", "fit", "refund")


def ids(rng: np.random.Generator, n: int) -> list[str]:
    digits = rng.bytes(8 * n).hex()
    return [digits[start : start + 16] for start in range(0, 16 * n, 16)]


def lists(lengths: np.ndarray, values: np.ndarray) -> pl.Series:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return pl.Series(pa.LargeListArray.from_arrays(offsets, values))


def words(rng: np.random.Generator, n: int, names: tuple[str, ...]) -> pl.Series:
    return pl.Series(names)[rng.integers(0, len(names), n)]


def rewards(rng: np.random.Generator, n: int, graded: bool) -> np.ndarray:
    """[n * K]: 40 % of the candidates are always wrong, 22 % always right, the rest between."""
    kind = rng.random(n)
    right = np.where(kind < 0.4, 0.0, np.where(kind < 0.62, 1.0, rng.beta(0.7, 0.7, n)))
    found = rng.random((n, K)) < right[:, None]
    return np.where(found, rng.random((n, K)).round(3) if graded else 1.0, 0.0).ravel()


def made(number: int, n: int) -> Iterator[tuple[str, pl.DataFrame]]:
    """Table and rows of a shard of `n` candidates; one domain of the four has graded rewards."""
    rng = np.random.default_rng(number)
    domain = DOMAINS[number % len(DOMAINS)]
    candidates, groups, rollouts = ids(rng, n), ids(rng, -(-n // 10)), ids(rng, n * K)
    group = pl.Series(groups)[np.arange(n) // 10]
    repeated = pl.Series(candidates)[np.arange(n * K) // K]
    yield (
        "candidates",
        pl.DataFrame({"candidate_id": candidates}).with_columns(
            trajectory_id=group, task=group, split_group=group, domain=pl.lit(domain),
            turn=pl.Series(np.arange(n) % 10 * 2 + 2), action_type=pl.lit("tool_call"),
            split=pl.Series(np.where(rng.random(n) < 0.1, "validation", "train")),
            tool_names=pl.lit(["get_order"]), files=pl.lit(None), accepted_actions=pl.lit("[]"),
            demonstration=pl.lit('{"content":"","role":"assistant"}'),
        ),
    )  # fmt: skip
    lengths = rng.integers(20, 61, n * K)
    tokens = int(lengths.sum())
    yield (
        "rollouts",
        pl.DataFrame({"rollout_id": rollouts, "candidate_id": repeated}).with_columns(
            policy=pl.lit("85b04e8b29a861e2"), sample_index=pl.Series(np.arange(n * K) % K),
            prompt_hash=repeated, prompt_tokens=pl.Series(rng.integers(300, 9000, n).repeat(K)),
            token_ids=lists(lengths, (150_000 * rng.random(tokens) ** 3).astype(np.int64)),
            logprobs=lists(lengths, -(rng.exponential(0.4, tokens) ** 3).astype(np.float32)),
            text=pl.concat_str([words(rng, n * K, WORDS) for _ in range(25)], separator=" "),
            seed=pl.Series(rng.integers(0, 2**63, n * K)), finish_reason=pl.lit("stop"),
            status=pl.lit("ok"),
        ),
    )  # fmt: skip
    status = pl.Series(STATUSES)[rng.choice(3, n * K, p=[0.989, 0.01, 0.001])]
    reward = pl.Series(rewards(rng, n, domain == "software"))
    yield (
        "verdicts",
        pl.DataFrame({"rollout_id": rollouts, "candidate_id": repeated}).with_columns(
            status=status, reward=pl.when(status == "ok").then(reward),
            policy=pl.lit("85b04e8b29a861e2"), sample_index=pl.Series(np.arange(n * K) % K),
            estimator=pl.lit("fixed"), verifier=pl.lit("tool_use"),
            verifier_version=pl.lit("3654b6dbc892d4f9"), category=words(rng, n * K, CATEGORIES),
            details=words(rng, n * K, ('{"reference":0}', '{"reference":1}')),
        ),
    )  # fmt: skip


def written(folder: Path, number: int, n: int) -> dict[str, Path]:
    """Shards as `pivotrl.store.shards` writes them, without the check of each row."""
    files = {}
    for table, frame in made(number, n):
        files[table] = folder / f"{table}-{number:05}.parquet"
        schema = pl.Schema(polars_schema(table))
        frame.select(schema.names()).cast(schema).write_parquet(
            files[table], compression="zstd", compression_level=1, row_group_size=ROWS_A_GROUP
        )
    return files


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def stats_seconds(store: Store) -> float:
    with connection(store.path, read_only=True, wait_seconds=60) as opened:
        average = "SELECT count(*), avg(mean), avg(variance), avg(n) FROM pivot_stats"
        whole = "CREATE TEMP TABLE copied AS SELECT * FROM pivot_stats"
        return max(
            seconds(opened.execute(average).fetchall), seconds(lambda: opened.execute(whole))
        )


def by_look(file: Path) -> list[Path]:
    """The shard's verdicts as looks leave them, every candidate open to the end: the most rows."""
    frame, files = pl.read_parquet(file), []
    for first, upto in pairwise((0, *looks(K))):
        files.append(file.with_name(f"{file.stem}-from-{first}.parquet"))
        frame.filter(pl.col("sample_index").is_between(first, upto - 1)).write_parquet(
            files[-1], compression="zstd", compression_level=1, row_group_size=ROWS_A_GROUP
        )
    return files


def measure(folder: Path, candidates: int, in_looks: bool) -> dict[str, float]:
    store = Store(folder / "pivotrl.duckdb")
    kept: dict[str, list[Path]] = {"candidates": [], "verdicts": []}
    start = time.perf_counter()
    for number in range(-(-candidates // LOADED)):
        files = written(folder, number, min(LOADED, candidates - number * LOADED))
        for table, file in files.items():
            store.merge(table, [file])
        files["rollouts"].unlink()
        for table, found in kept.items():
            found.append(files[table])
    load_seconds = time.perf_counter() - start
    size = store.path.stat().st_size
    merges: dict[str, list[float]] = {"rollouts": [], "verdicts": []}
    for number in range(MERGES):
        files = written(folder, 10**6 + number, MEASURED)
        for table, times in merges.items():
            times.append(seconds(partial(store.merge, table, [files[table]])))
    chosen = partial(select, candidate_files=kept["candidates"], criteria=Criteria(lambda_diff=0.6))
    found = {
        "stats_seconds": stats_seconds(store),
        "select_seconds": seconds(lambda: chosen(kept["verdicts"])),
        "merge_seconds": max(statistics.median(times) for times in merges.values()),
        "bytes": size,
        "load_seconds": load_seconds,
    }
    if in_looks:
        looked = [part for file in kept["verdicts"] for part in by_look(file)]
        found["select_looks_seconds"] = seconds(lambda: chosen(looked))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--looks", action="store_true", help="select over a file a look, too")
    parser.add_argument("--json", action="store_true", help="the JSON on standard output")
    parser.add_argument("--folder", type=Path, help="where the shards and the store are made")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/store.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = measure(Path(folder), options.candidates, options.looks)
    if options.json:
        print(json.dumps({k: v for k, v in found.items() if k != "load_seconds"}))
        return
    in_looks = (
        f"| the same over a file a look | ≤ 2 s | {found['select_looks_seconds']:.2f} s |\n"
        if options.looks
        else ""
    )
    options.out.write_text(
        f"""# The store at size

`python bench/store.py --candidates {options.candidates}{" --looks" * options.looks}`; \
{os.cpu_count()} cores. {K} rollouts a candidate, with their verdicts.

| what | target | measured |
|---|---|---|
| `pivot_stats`, all of it averaged or copied, the slower | ≤ 2 s | {found["stats_seconds"]:.2f} s |
| `select` over the Parquet shards | ≤ 2 s | {found["select_seconds"]:.2f} s |
{in_looks}\
| merge of a shard of {MEASURED * K:,} rows, the slower of rollouts and verdicts | ≤ 1 s | \
{found["merge_seconds"]:.2f} s |
| the DuckDB file | | {found["bytes"] / 1e9:.2f} GB |
| making and merging all shards | | {found["load_seconds"]:.0f} s |
"""
    )


if __name__ == "__main__":
    main()
