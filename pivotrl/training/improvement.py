"""The updates of one step: groups in, changed weights and metrics out.

Every pass's loss is already divided by what counts in the whole step, so how the step is cut into
passes changes memory and speed but not the gradient. It must never know an engine, a reward
function or a file.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pivotrl.training import ranks
from pivotrl.training.adapters import without_adapters
from pivotrl.training.flops import shape_of, tree_flops
from pivotrl.training.logprobs import log_probs
from pivotrl.training.losses import (
    clipped_tokens,
    importance_weights,
    kl_to_reference,
    policy_ratio,
    policy_terms,
    token_weights,
)
from pivotrl.training.optimizer import update, warm_up
from pivotrl.training.passes import passes
from pivotrl.training.records import Backend, Group, TrainSettings
from pivotrl.training.tree import Layout, Row


@dataclass(slots=True, kw_only=True)
class Batch:
    """A layout of one forward pass and what its N tokens carry; all tensors are [N]."""

    layout: Layout
    lengths: list[int]
    """Tokens of each row."""
    weights: Tensor
    advantages: Tensor
    sampled: Tensor
    """The sampler's log-probabilities."""
    reference: Tensor | None
    old: Tensor | None = None
    """The trainer's own, before the first update."""
    is_counted: bool = True
    """False where a process only keeps the others company: models in shards pass together."""


def improve(
    model: Any,
    reference: Any | None,
    optimizer: torch.optim.Optimizer,
    groups: Sequence[Group],
    backend: Backend,
    settings: TrainSettings,
    step: int,
) -> dict[str, float]:
    """The updates of one step; its metrics by TRL's names.

    Without the KL term, groups without a signal are not forwarded (their gradient is exactly 0)
    but their rows and tokens count in the denominator; if no group has one, no weight changes.
    """
    batches = _batches(model, reference, groups, backend, settings)
    learning_rate = warm_up(step, settings.learning_rate, settings.warmup_steps)
    seen: dict[str, list[Tensor]] = {}
    losses, norms = [], []
    for number in range(settings.updates_per_batch):
        loss = 0.0
        for batch in batches:
            share, found = batch_loss(model, batch, backend, settings)
            share.backward()
            loss += float(share.detach())
            if number:
                found.pop("difference")
            for name, values in found.items() if batch.is_counted else ():
                seen.setdefault(name, []).append(values.double())
        loss = math.fsum(ranks.gathered(loss))
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
    shape = shape_of(model)
    counted = [batch.layout for batch in batches if batch.is_counted]
    own = (
        sum(layout.row_tokens for layout in counted),
        sum(len(layout.ids) for layout in counted),
        sum(tree_flops(shape, layout) for layout in counted),
    )
    rows, tokens, forward = map(math.fsum, zip(*ranks.gathered(own), strict=True))
    if tokens:
        metrics["token_ratio"] = rows / tokens
        metrics["flops"] = forward * (3 * settings.updates_per_batch + (reference is not None))
    flat = _joined(ranks.gathered({name: torch.cat(parts).cpu() for name, parts in seen.items()}))
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


def _joined(everybody: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    names = dict.fromkeys(name for found in everybody for name in found)
    return {n: torch.cat([found[n] for found in everybody if n in found]) for n in names}


def batch_loss(
    model: Any, batch: Batch, backend: Backend, settings: TrainSettings
) -> tuple[Tensor, dict[str, Tensor]]:
    """The batch's share of the step's loss, and values [N] to report."""
    current, entropy = log_probs(
        model, batch.layout, backend, temperature=settings.temperature, dtype=settings.dtype
    )
    old = batch.old = current.detach() if batch.old is None else batch.old
    clip = {"clip_low": settings.clip_low, "clip_high": settings.clip_high}
    trust = importance_weights(
        old, batch.sampled, batch.lengths, settings.importance_correction, settings.importance_cap
    )
    terms = trust * policy_terms(
        settings.loss, current, old, batch.advantages, batch.lengths, **clip
    )
    ratio = policy_ratio(settings.loss, current.detach(), old, batch.lengths)
    low, high = clipped_tokens(ratio, batch.advantages, **clip)
    found = {"entropy": entropy, "difference": old - batch.sampled}
    if settings.loss == "cispo":  # it stops no gradient: a weight is cut, above alone
        found["cispo_clip_ratio"] = high
    else:
        found |= {
            "clip_ratio/low_mean": low,
            "clip_ratio/high_mean": high,
            "clip_ratio/region_mean": low | high,
        }
    if batch.reference is not None:
        kl = kl_to_reference(current, batch.reference)
        terms = terms + settings.kl_beta * kl
        found["kl"] = kl.detach()
    return (terms * batch.weights).sum(), found


def _batches(
    model: Any,
    reference: Any | None,
    groups: Sequence[Group],
    backend: Backend,
    settings: TrainSettings,
) -> list[Batch]:
    """The step's forward passes; the weights of their tokens count all samples with a reward."""
    learned = [
        (group, act, advantage)
        for group in groups
        for act, advantage in zip(group.acts, group.advantages, strict=True)
        if advantage is not None
    ]
    weights = token_weights(
        settings.loss, [len(act.sample.token_ids) for _, act, _ in learned], settings.max_tokens
    )
    turns = [
        (group, turn, weight, advantage)
        for (group, act, advantage), weight in zip(learned, weights, strict=True)
        for turn in act.turns
    ]
    rows = [
        Row(sample=number, prompt=turn.prompt_ids, completion=turn.sample.token_ids)
        for number, (group, turn, _, _) in enumerate(turns)
        if settings.kl_beta or any(group.advantages)
    ]
    of = [turns[row.sample][0].pivot.trajectory_id for row in rows]
    batches = []
    for layout, is_counted in passes(rows, of, model, backend, settings.micro_batch_tokens):
        members = [turns[row.sample] for row in layout.rows]
        lengths = [len(turn.sample.token_ids) for _, turn, _, _ in members]
        by_row = torch.tensor([[weight, advantage] for _, _, weight, advantage in members])
        by_token = by_row.repeat_interleave(torch.tensor(lengths), dim=0).to(model.device)
        sampled = torch.tensor(
            [p for _, turn, _, _ in members for p in turn.sample.logprobs], device=model.device
        )
        against = None
        if reference is not None:
            with torch.no_grad(), without_adapters(reference):
                against, _ = log_probs(
                    reference,
                    layout,
                    backend,
                    temperature=settings.temperature,
                    dtype=settings.dtype,
                )
        batches.append(
            Batch(
                layout=layout,
                lengths=lengths,
                weights=by_token[:, 0] * is_counted,
                advantages=by_token[:, 1],
                sampled=sampled,
                reference=against,
                is_counted=is_counted,
            )
        )
    return batches
