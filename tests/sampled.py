"""Rollouts as the stage sample leaves them, of texts that a test chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pivotrl.manifest import FileEntry, Manifest, file_hash
from pivotrl.store.shards import write_shard


def rollouts_of(home: Path, texts: Mapping[str, Sequence[str]]) -> Manifest:
    """`texts`: candidate's id -> its samples."""
    rows = [
        {
            "rollout_id": f"{candidate_id}-{number}",
            "candidate_id": candidate_id,
            "policy": "p",
            "sample_index": number,
            "prompt_hash": "h",
            "prompt_tokens": 1,
            "token_ids": [1],
            "logprobs": [-1.0],
            "text": text,
            "seed": number,
            "finish_reason": "stop",
            "status": "ok",
        }
        for candidate_id, own in texts.items()
        for number, text in enumerate(own)
    ]
    file = home / "shards" / "sampled.parquet"
    write_shard(file, "rollouts", rows)
    sha256 = file_hash(file)
    entry = FileEntry(
        path="shards/sampled.parquet", table="rollouts", sha256=sha256, content=sha256
    )
    return Manifest(kind="sample", key="s", parts={}, files=(entry,))
