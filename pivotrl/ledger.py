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
JUDGE = "judge"
"""A stage that asks another model, whose size nobody tells: tokens without FLOPs."""
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""What model families call the number of experts in config.json."""


def active_parameters(model: Path) -> int:
    """Of a model folder, those that a token passes: read from the headers of its safetensors.

    Of a mixture's experts each token is sent to `num_experts_per_tok`.
    """
    settings = orjson.loads((model / "config.json").read_bytes())
    settings = settings.get("text_config", settings)
    experts = next((settings[name] for name in EXPERTS if settings.get(name)), 0)
    every = sent = 0
    for file in sorted(model.glob("*.safetensors")):
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = orjson.loads(opened.read(length))
        for name, row in header.items():
            if name != "__metadata__":
                size = prod(row["shape"])
                if experts and ".experts." in name:
                    sent += size
                else:
                    every += size
    return every + (sent * settings["num_experts_per_tok"] // experts if experts else 0)


def ledger(
    stages: Mapping[str, Sequence[Mapping[str, JSON]]],
    *,
    parameters: int,
    samples: int,
    turns_per_trajectory: float,
) -> dict[str, JSON]:
    """Of each stage and in total; beside it a profile with fixed K, and end-to-end RL.

    `stages`: counts of each task of a stage, with `seconds`; `parameters`: the active ones.
    Generating is 2 FLOPs a parameter and computed token (unique prompt tokens and completions;
    attention is left out), training counts its own (`flops`). Fixed K computes the prompts of the
    first looks alone, completes as many tokens an action, and finds what was found. End-to-end RL
    samples whole episodes: as many turns as a trajectory has for each action that training sampled
    here, and no profile. That is an estimate in rollout turns, the paper's unit, and says nothing
    of how many either needs for the same score.
    """
    out: dict[str, JSON] = {}
    for stage, found in stages.items():
        row: dict[str, float] = {"seconds": round(sum(c["seconds"] for c in found), 1)}
        for name in ADDED_UP:
            if any(name in counts for counts in found):
                row[name] = sum(counts.get(name, 0) for counts in found)
        generated = 0 if stage == JUDGE else 2 * parameters * _computed(row)
        row["flops"] = float(generated + sum(counts.get("flops", 0) for counts in found))
        out[stage] = row
    names = dict.fromkeys(("seconds", "flops", *(name for row in out.values() for name in row)))
    out["total"] = {name: sum(row.get(name, 0) for row in out.values()) for name in names}
    profile, train = out.get("profile", {}), out.get("train", {})
    first = [counts for counts in stages.get("profile", ()) if counts.get("candidates")]
    fixed_k = samples * sum(counts["candidates"] for counts in first)
    rollouts, sampled = (profile.get(name, 0) for name in ("rollouts", "sampled"))
    completion = profile.get("completion_tokens", 0) / max(sampled, 1)
    prompts = sum(counts["unique_prompt_tokens"] for counts in first)
    tokens = prompts + round(completion * (fixed_k - (rollouts - sampled)))
    acted = train.get("rollouts", 0)
    out["compared"] = {
        "fixed_k_rollouts": fixed_k,
        "rollout_share": rollouts / max(fixed_k, 1),
        "fixed_k_tokens": tokens,
        "token_share": _computed(profile) / max(tokens, 1),
        "fixed_k_flops": float(2 * parameters * tokens),
        "end_to_end_turns": round(acted * turns_per_trajectory),
        "pivot_turns": sampled + acted,
    }
    return out


def comparison(costs: Mapping[str, JSON]) -> str:
    """What fixed K and end-to-end RL would have taken, in words."""
    found = costs["compared"]
    profile = (
        f"{found['rollout_share']:.0%} of the {found['fixed_k_rollouts']:,} rollouts and "
        f"{found['token_share']:.0%} of the {found['fixed_k_tokens']:,} tokens "
        f"({found['fixed_k_flops']:.1e} FLOPs) of a fixed K"
    )
    if not found["end_to_end_turns"]:
        return profile
    return (
        f"{profile}; {found['pivot_turns']:,} turns sampled, {found['end_to_end_turns']:,} in "
        "end-to-end RL of as many actions"
    )


def _computed(row: Mapping[str, float]) -> float:
    """Tokens that passed through the model."""
    return row.get("unique_prompt_tokens", 0) + row.get("completion_tokens", 0)
