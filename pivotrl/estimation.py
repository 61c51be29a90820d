"""What a round will need: a configuration against a card (`pivotrl plan`).

This module must never know a store, a run or weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pivotrl.config import Config
from pivotrl.types import ConfigError

GIB = 2**30
RESERVED = 0.92
"""Share of a card's memory that can be filled: the rest is the driver's and fragments."""


def estimate(
    config: Config, *, card: str, prompt: int, action: int, candidates: int, efficiency: float
) -> dict[str, Any]:
    """Bytes and seconds by what takes them, and advice; `pivotrl.training.estimate` says how.

    Raises ConfigError for an unknown card or a folder without config.json.
    """
    from pivotrl.engines.hf import load_model
    from pivotrl.training.adapters import freeze, with_adapters
    from pivotrl.training.estimate import CARDS, Load, memory, seconds

    if card not in CARDS:
        raise ConfigError(f"card {card!r} is not known; known are {', '.join(CARDS)}")
    train = config.train
    is_half = config.model.dtype == "bfloat16"
    model = load_model(
        config.model.path, dtype=config.model.dtype if train.lora_rank else "float32", device="meta"
    )
    if train.lora_rank:
        model = with_adapters(model, train.lora_rank, train.lora_alpha, config.run.seed)
    freeze(model, train.freeze)
    load = Load(
        devices=train.devices,
        nodes=train.nodes,
        pivots_per_step=train.pivots_per_step,
        group_size=train.group_size,
        prompt_tokens=prompt,
        action_tokens=action,
        micro_batch_tokens=train.micro_batch_tokens,
        batch_rows=config.model.batch_rows,
        bytes_computed=2 if is_half else 4,
        checkpointing=train.gradient_checkpointing,
        averages=train.ema_decay > 0,
        has_reference=train.kl_beta > 0,
        is_own=train.lora_rank > 0 and train.rounds == 1,
    )
    held = memory(model, load)
    step = seconds(model, load, CARDS[card], efficiency)
    one = step["sample"] + max(step["train"], step["transfer"])
    alone = replace(load, devices=1, nodes=1)  # profiling has one engine
    profile = seconds(model, alone, CARDS[card], efficiency)["sample"]
    profile *= candidates * config.profile.samples / (train.pivots_per_step * train.group_size)
    room, total = RESERVED * CARDS[card].memory, sum(held.values())
    largest = max(held, key=lambda name: held[name])
    if total <= room:
        advice = "It fits."
    elif largest == "sampler":
        advice = (
            "It does not fit: each process samples from a whole copy of the policy "
            f"({held['sampler'] / GIB:,.0f} GiB), which more processes do not make smaller; take "
            "cards with more memory"
            + ("." if train.lora_rank else ", or train adapters (train.lora_rank).")
        )
    else:
        advice = (
            f"It does not fit: {largest} takes most. Lower train.micro_batch_tokens or "
            "model.batch_rows, set train.gradient_checkpointing, or take more processes."
        )
    return {
        "model": config.model.path.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "devices": load.devices,
        "memory": held,
        "memory_sum": total,
        "memory_card": CARDS[card].memory,
        "fits": total <= room,
        "seconds": {
            **{f"a step: {name}": took for name, took in step.items() if took},
            f"a round of {train.steps} steps": one * train.steps,
            f"profiling {candidates:,} candidates on one card": profile,
        },
        "device_hours": (one * train.steps * load.devices + profile) / 3600,
        "advice": advice,
    }
