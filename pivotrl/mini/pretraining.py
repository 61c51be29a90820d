"""Pretrains the miniature's Qwen3 model from scratch, on a CPU, reproducibly.

Muon for matrices, AdamW for the rest, a linear decay to zero. The forward pass is the model's own
written out, with one addition: the prefix that a domain's episodes share is computed once a batch.
It must never know what the tokens mean.
"""

from __future__ import annotations

import copy
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, distributed

from pivotrl.mini.corpus import DOCUMENTS_PER_STEP, Corpus, Tokens

BATCH_TOKENS = 4096
"""Tokens in one forward pass; larger ones leave the cache and are slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainingSettings:
    documents_per_step: int = DOCUMENTS_PER_STEP
    prompt_weight: float = 0.1
    """Weight in the loss of tokens that the assistant did not write."""
    prompt_share: float = 0.25
    """Share of those tokens that is drawn for the loss (with the weight to match): less head."""
    muon_lr: float = 0.012
    adam_lr: float = 0.02
    momentum: float = 0.95
    warmup_steps: int = 20
    decay_share: float = 0.6
    """Share of the steps, at the end, in which the learning rate falls linearly to zero."""
    clip: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    domain: str | None
    ids: Tensor
    """[rows, tokens], padded behind."""
    weights: Tensor
    """[rows, tokens], of each token as a target; the first of a row without prefix has none."""


def pretrain(
    model: Any,
    corpus: Corpus,
    settings: PretrainingSettings,
    seed: int,
    workers: int,
    on_step: Callable[[int, int, float], None],
) -> None:
    """One pass over the corpus, in its order; `on_step(step, tokens, loss)` after each step.

    `workers` processes of one thread each share every step's documents. The same machine and
    arguments give the same weights.
    """
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory() as folder:
        job = _Job(workers, f"file://{folder}/store", corpus, settings, seed)
        others = torch.multiprocessing.spawn(_other_worker, (model, job), workers - 1, join=False)
        _work(0, model, job, on_step)
        while not others.join():
            pass


@dataclass(frozen=True, slots=True)
class _Job:
    """What all workers are told."""

    workers: int
    store: str
    corpus: Corpus
    settings: PretrainingSettings
    seed: int


def _other_worker(index: int, model: Any, job: _Job) -> None:
    own = copy.deepcopy(model)  # what came in is in memory shared with the first worker
    _work(index + 1, own, job, lambda *_: None)


def _work(rank: int, model: Any, job: _Job, on_step: Callable[[int, int, float], None]) -> None:
    corpus, settings, workers = job.corpus, job.settings, job.workers
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=job.store, rank=rank, world_size=workers)
    rng = np.random.default_rng((job.seed, rank))
    prefixes = {name: torch.from_numpy(ids) for name, ids in corpus.prefixes.items()}
    per_step = settings.documents_per_step
    steps = len(corpus.documents) // per_step
    parameters = list(model.parameters())
    sums = torch.zeros(sum(p.numel() for p in parameters) + 2)
    *gradients, totals = sums.split([*(p.numel() for p in parameters), 2])
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.view_as(parameter)
    muon = Muon([p for p in model.model.layers.parameters() if p.ndim == 2], settings)
    others = [p for n, p in model.named_parameters() if p.ndim == 1 or "embed" in n]
    adam = torch.optim.AdamW(others, lr=1.0, betas=(0.9, 0.95), weight_decay=0.0, foreach=True)
    model.train()
    for step in range(steps):
        documents = corpus.documents[step * per_step : (step + 1) * per_step]
        sums.zero_()
        for batch in _batches(documents, rank, workers, settings, rng):
            loss = _loss(model, batch, prefixes.get(batch.domain) if batch.domain else None)
            loss.backward()
            totals += torch.stack((loss.detach(), batch.weights.sum()))
        distributed.all_reduce(sums)
        loss_sum, weight = totals.tolist()
        sums /= weight
        torch.nn.utils.clip_grad_norm_(others, settings.clip)
        scale = _schedule(step, steps, settings)
        for group in adam.param_groups:
            group["lr"] = settings.adam_lr * scale
        adam.step()
        muon.step(settings.muon_lr * scale)
        on_step(step, sum(len(document.ids) for document in documents), loss_sum / weight)
    model.eval()
    distributed.destroy_process_group()


def _schedule(step: int, steps: int, settings: PretrainingSettings) -> float:
    left = (steps - step) / steps / settings.decay_share
    return min(1.0, (step + 1) / settings.warmup_steps, left)


def _batches(
    documents: list[Tokens],
    rank: int,
    workers: int,
    settings: PretrainingSettings,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    """One worker's share; documents of like length together, padded to the longest."""
    for domain in (None, *sorted({d.domain for d in documents if d.domain})):
        group = sorted((d for d in documents if d.domain == domain), key=lambda d: len(d.ids))[
            rank::workers
        ]
        while group:
            rows = max(1, BATCH_TOKENS // len(group[-1].ids))
            yield _batch(domain, group[-rows:], settings, rng)
            del group[-rows:]


def _batch(
    domain: str | None,
    documents: list[Tokens],
    settings: PretrainingSettings,
    rng: np.random.Generator,
) -> Batch:
    longest = max(len(document.ids) for document in documents)
    ids = np.zeros((len(documents), longest), dtype=np.int64)
    weights = np.zeros((len(documents), longest), dtype=np.float32)
    for row, document in enumerate(documents):
        length = len(document.ids)
        drawn = rng.random(length) < settings.prompt_share
        ids[row, :length] = document.ids
        weights[row, :length] = np.where(
            document.is_target, 1.0, drawn * (settings.prompt_weight / settings.prompt_share)
        )
    weights[:, 0] = 0.0
    return Batch(domain=domain, ids=torch.from_numpy(ids), weights=torch.from_numpy(weights))


def _loss(model: Any, batch: Batch, prefix: Tensor | None) -> Tensor:
    """Weighted sum of cross-entropies, in nats; only positions with a weight reach the head."""
    hidden = hidden_states(model, batch.ids, prefix)
    weights = batch.weights[:, 1:]
    chosen = weights > 0
    logits = model.lm_head(hidden[:, :-1][chosen])
    losses = F.cross_entropy(logits, batch.ids[:, 1:][chosen], reduction="none")
    return (losses * weights[chosen]).sum()


def hidden_states(model: Any, ids: Tensor, prefix: Tensor | None = None) -> Tensor:
    """Last hidden states [rows, tokens, width] of `ids` [rows, tokens], each behind `prefix`.

    What `model.model` computes for prefix and row in one; padding must be behind.
    """
    config = model.config
    skipped = 0 if prefix is None else len(prefix)
    length = ids.shape[1]
    half = torch.arange(0, config.head_dim, 2).float() / config.head_dim
    angles = torch.arange(skipped + length)[:, None] / config.rope_parameters["rope_theta"] ** half
    cos, sin = angles.cos(), angles.sin()
    hidden = model.model.embed_tokens(ids)
    before = None if prefix is None else model.model.embed_tokens(prefix)[None]
    mask = torch.ones(length, skipped + length, dtype=torch.bool).tril(skipped)
    for layer in model.model.layers:
        query, key, value = _project(layer, hidden, cos[skipped:], sin[skipped:], config)
        if before is None:
            hidden = _rest(layer, hidden, _attend(query, key, value, None), config)
            continue
        first = _project(layer, before, cos[:skipped], sin[:skipped], config)
        key, value = (
            torch.cat((shared.expand(len(ids), -1, -1, -1), own), 2)
            for shared, own in ((first[1], key), (first[2], value))
        )
        hidden = _rest(layer, hidden, _attend(query, key, value, mask), config)
        before = _rest(layer, before, _attend(*first, None), config)
    return _norm(hidden, model.model.norm.weight, config)


def _norm(x: Tensor, weight: Tensor, config: Any) -> Tensor:
    normed: Tensor = _RootMeanSquareNorm.apply(x, weight, config.rms_norm_eps)
    return normed


class _RootMeanSquareNorm(torch.autograd.Function):
    """`F.rms_norm` with a written-out gradient: on a CPU the whole step is 30 % faster."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        normal = x * scale
        ctx.save_for_backward(normal, scale, weight)
        return normal * weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        normal, scale, weight = ctx.saved_tensors
        of_weight = (gradient * normal).flatten(0, -2).sum(0)
        inner = gradient * weight
        along = (inner * normal).mean(-1, keepdim=True)
        return inner.addcmul_(normal, along, value=-1).mul_(scale), of_weight, None


def _project(
    layer: Any, hidden: Tensor, cos: Tensor, sin: Tensor, config: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated queries, rotated keys and values, each [rows, heads, tokens, head size]."""
    attention = layer.self_attn
    x = _norm(hidden, layer.input_layernorm.weight, config)
    shape = (*x.shape[:2], -1, config.head_dim)
    query = _norm(attention.q_proj(x).view(shape), attention.q_norm.weight, config)
    key = _norm(attention.k_proj(x).view(shape), attention.k_norm.weight, config)
    value = attention.v_proj(x).view(shape).transpose(1, 2)
    return _rotate(query.transpose(1, 2), cos, sin), _rotate(key.transpose(1, 2), cos, sin), value


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    groups = query.shape[1] // key.shape[1]
    return F.scaled_dot_product_attention(
        query,
        key.repeat_interleave(groups, 1),
        value.repeat_interleave(groups, 1),
        attn_mask=mask,
        is_causal=mask is None,
    )


def _rest(layer: Any, hidden: Tensor, attended: Tensor, config: Any) -> Tensor:
    joined = attended.transpose(1, 2).reshape(*hidden.shape[:2], -1)
    hidden = hidden + layer.self_attn.o_proj(joined)
    x = _norm(hidden, layer.post_attention_layernorm.weight, config)
    gated = F.silu(layer.mlp.gate_proj(x)) * layer.mlp.up_proj(x)
    return hidden + layer.mlp.down_proj(gated)


class Muon:
    """Momentum whose matrix is made nearly orthogonal (Jordan et al. 2024, Nesterov, 5 steps)."""

    def __init__(self, matrices: list[Tensor], settings: PretrainingSettings) -> None:
        self._momentum = settings.momentum
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for matrix in matrices:
            by_shape.setdefault(matrix.shape, []).append(matrix)
        self._groups = [
            (group, torch.zeros(len(group), *shape)) for shape, group in by_shape.items()
        ]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        for group, buffer in self._groups:
            gradient = torch.stack([m.grad for m in group if m.grad is not None])
            buffer.lerp_(gradient, 1 - self._momentum)
            update = orthogonalised(gradient.lerp(buffer, self._momentum))
            rows, columns = update.shape[1:]
            update *= lr * math.sqrt(max(1.0, rows / columns))
            for matrix, change in zip(group, update, strict=True):
                matrix.sub_(change)


def orthogonalised(matrices: Tensor) -> Tensor:
    """[n, rows, columns], each with its singular values near 1 (quintic Newton-Schulz)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x
