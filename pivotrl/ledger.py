"""What a run cost, and what it would have cost otherwise: rollouts, tokens, seconds, FLOPs.

Counts are those of the stages when they ran, cached or not. This module must never know a stage's
code, a model or a database.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

import orjson

from pivotrl.types import JSON

ADDED_UP = ("rollouts", "sampled", "prompt_tokens", "unique_prompt_tokens", "completion_tokens")


def parameters(model: Path) -> int:
    """Numbers in the safetensors of a model folder, read from their headers alone."""
    total = 0
    for file in sorted(model.glob("*.safetensors")):
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = orjson.loads(opened.read(length))
        total += sum(prod(row["shape"]) for name, row in header.items() if name != "__metadata__")
    return total


def ledger(
    stages: Mapping[str, Sequence[Mapping[str, JSON]]],
    *,
    parameters: int,
    candidates: int,
    samples: int,
    turns_per_trajectory: float,
) -> dict[str, JSON]:
    """Of each stage and in total; beside it a profile with fixed K, and end-to-end RL.

    `stages`: counts of each task of a stage, with `seconds`. Generating is 2 FLOPs a parameter and
    computed token (unique prompt tokens and completions; attention is left out), training counts
    its own (`flops`). End-to-end RL samples whole episodes: as many turns as a trajectory has for
    each action that training sampled here, and no profile. That is an estimate in rollout turns,
    the paper's unit, and says nothing of how many either needs for the same score.
    """
    out: dict[str, JSON] = {}
    for stage, found in stages.items():
        row: dict[str, float] = {"seconds": round(sum(c["seconds"] for c in found), 1)}
        for name in ADDED_UP:
            if any(name in counts for counts in found):
                row[name] = sum(counts.get(name, 0) for counts in found)
        computed = row.get("unique_prompt_tokens", 0) + row.get("completion_tokens", 0)
        trained = sum(counts.get("flops", 0) for counts in found)
        row["flops"] = float(2 * parameters * computed + trained)
        out[stage] = row
    names = dict.fromkeys(name for row in out.values() for name in row)
    out["total"] = {name: sum(row.get(name, 0) for row in out.values()) for name in names}
    profile, train = out.get("profile", {}), out.get("train", {})
    acted = train.get("rollouts", 0)
    out["compared"] = {
        "fixed_k_rollouts": candidates * samples,
        "rollout_share": profile.get("rollouts", 0) / max(candidates * samples, 1),
        "end_to_end_turns": round(acted * turns_per_trajectory),
        "pivot_turns": profile.get("sampled", 0) + acted,
    }
    return out
