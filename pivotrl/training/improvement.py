"""The updates of one step: groups in, changed weights and metrics out.

Every micro-batch's loss is already divided by the whole step's token count, so how the step is
cut into micro-batches changes memory and speed but not the gradient. It must never know an
engine, a reward function or a file.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pivotrl.training.logprobs import can_share_prefix, log_probs
from pivotrl.training.losses import (
    clipped_loss,
    clipped_tokens,
    importance_weights,
    kl_to_reference,
)
from pivotrl.training.optimizer import update, warm_up
from pivotrl.training.packing import Pack, micro_batches, pack_rows, pack_shared
from pivotrl.training.records import Group, TrainSettings
from pivotrl.types import Sample


@dataclass(slots=True, kw_only=True)
class Batch:
    """Packs of one forward pass and what their N tokens carry; all tensors are [N]."""

    packs: list[Pack]
    advantages: Tensor
    sampled: Tensor
    """The sampler's log-probabilities."""
    reference: Tensor | None
    old: Tensor | None = None
    """The trainer's own, before the first update."""


Packing = Callable[[Sequence[int], Sequence[tuple[int, Sequence[int]]]], list[Pack]]


def packing_for(model: Any, max_tokens: int) -> Packing:
    """How this model's groups are laid out: behind one prompt where that is exact."""
    if can_share_prefix(model):
        return lambda prompt, completions: pack_shared(prompt, completions, max_tokens)
    return pack_rows


def improve(
    model: Any,
    reference: Any | None,
    optimizer: torch.optim.Optimizer,
    groups: Sequence[Group],
    packing: Packing,
    settings: TrainSettings,
    step: int,
) -> dict[str, float]:
    """The updates of one step; its metrics by TRL's names.

    Without the KL term, groups without a signal are not forwarded (their gradient is exactly 0)
    but their tokens count in the denominator; if no group has one, no weight changes.
    """
    batches, tokens = _batches(model, reference, groups, packing, settings)
    learning_rate = warm_up(step, settings.learning_rate, settings.warmup_steps)
    seen: dict[str, list[Tensor]] = {}
    losses, norms = [], []
    for number in range(settings.updates_per_batch):
        loss = 0.0
        for batch in batches:
            current, entropy = log_probs(
                model, batch.packs, temperature=settings.temperature, dtype=settings.dtype
            )
            old = batch.old = current.detach() if batch.old is None else batch.old
            clip = {"clip_low": settings.clip_low, "clip_high": settings.clip_high}
            weights = importance_weights(old, batch.sampled, settings.importance_cap)
            terms = weights * clipped_loss(current, old, batch.advantages, **clip)
            found = {"entropy": entropy}
            if batch.reference is not None:
                kl = kl_to_reference(current, batch.reference)
                terms = terms + settings.kl_beta * kl
                found["kl"] = kl.detach()
            share = terms.sum() / tokens
            share.backward()
            loss += float(share.detach())
            low, high = clipped_tokens(current.detach(), old, batch.advantages, **clip)
            found |= {"clip_ratio/low_mean": low, "clip_ratio/high_mean": high}
            if number == 0:
                found["difference"] = old - batch.sampled
            for name, values in found.items():
                seen.setdefault(name, []).append(values.double())
        losses.append(loss)
        if batches:
            norms.append(
                update(
                    model,
                    optimizer,
                    step=step,
                    loss=loss,
                    learning_rate=learning_rate,
                    max_grad_norm=settings.max_grad_norm,
                )
            )
    metrics = {
        "loss": statistics.fmean(losses),
        "grad_norm": statistics.fmean(norms) if norms else 0.0,
        "learning_rate": learning_rate,
    }
    flat = {name: torch.cat(parts) for name, parts in seen.items()}
    if (difference := flat.pop("difference", None)) is not None:
        ratio = difference.exp()
        metrics |= {
            "sampling/sampling_logp_difference/mean": float(difference.abs().mean()),
            "sampling/sampling_logp_difference/max": float(difference.abs().max()),
            "sampling/importance_sampling_ratio/min": float(ratio.min()),
            "sampling/importance_sampling_ratio/mean": float(ratio.mean()),
            "sampling/importance_sampling_ratio/max": float(ratio.max()),
        }
    return metrics | {name: float(values.mean()) for name, values in flat.items()}


def _batches(
    model: Any,
    reference: Any | None,
    groups: Sequence[Group],
    packing: Packing,
    settings: TrainSettings,
) -> tuple[list[Batch], int]:
    """The step's forward passes and its denominator: all tokens of samples with a reward."""
    rows: list[tuple[Sample, float]] = []
    packs: list[Pack] = []
    tokens = 0
    for group in groups:
        learned = []
        for sample, advantage in zip(group.samples, group.advantages, strict=True):
            if advantage is not None:
                learned.append((len(rows), sample.token_ids))
                rows.append((sample, advantage))
                tokens += len(sample.token_ids)
        if settings.kl_beta or any(group.advantages):
            packs += packing(group.pivot.prompt_ids, learned)
    batches = []
    for part in micro_batches(packs, settings.micro_batch_tokens):
        members = [rows[i] for pack in part for i in pack.samples]
        sampled = torch.tensor([p for s, _ in members for p in s.logprobs], device=model.device)
        spread_out = [a for s, a in members for _ in s.token_ids]
        against = None
        if reference is not None:
            with torch.no_grad():
                against, _ = log_probs(
                    reference, part, temperature=settings.temperature, dtype=settings.dtype
                )
        batches.append(
            Batch(
                packs=part,
                advantages=torch.tensor(spread_out, device=model.device),
                sampled=sampled,
                reference=against,
            )
        )
    return batches, max(tokens, 1)
