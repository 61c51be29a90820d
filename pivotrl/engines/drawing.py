"""Draws tokens from logits, one uniform number a token, so that a sample depends on its seed alone.

It must never know a model, a prompt or a batch's composition.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pivotrl.types import SamplingParams


def uniforms_of(seed: int, count: int) -> np.ndarray:
    """`count` numbers in [0, 1), float64; a longer draw from the same seed begins with them."""
    return np.random.Generator(np.random.PCG64(seed)).random(count)


def draw(logits: Tensor, uniforms: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """Token ids [rows] and their log-probabilities [rows] (fp32) under the sampling distribution.

    `logits` [rows, vocabulary], `uniforms` [rows] float64. Inverse CDF over the ids in order, in
    fp64. At temperature 0 the most likely id is taken and its log-probability is 0. A row whose
    logits are not finite gets NaN.
    """
    logits = logits.float()
    if params.temperature == 0:
        best, ids = logits.max(dim=-1)
        return ids, torch.where(torch.isfinite(best), 0.0, torch.nan)
    logprobs = torch.log_softmax(logits / params.temperature, dim=-1)
    if params.top_p < 1:
        logprobs = _nucleus(logprobs, params.top_p)
    cumulative = logprobs.exp().double().cumsum(-1)
    targets = uniforms[:, None] * cumulative[:, -1:]
    ids = torch.searchsorted(cumulative, targets, right=True).clamp_(max=logits.shape[-1] - 1)
    return ids[:, 0], logprobs.gather(1, ids)[:, 0]


def _nucleus(logprobs: Tensor, top_p: float) -> Tensor:
    """Keeps the fewest most likely ids whose mass reaches `top_p` and renormalises."""
    ordered, ids = logprobs.sort(dim=-1, descending=True, stable=True)
    mass = ordered.double().exp()
    dropped = mass.cumsum(-1) - mass >= top_p
    hidden = torch.zeros_like(dropped).scatter_(1, ids, dropped)
    return torch.log_softmax(logprobs.masked_fill(hidden, -torch.inf), dim=-1)
