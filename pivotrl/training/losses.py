"""The terms of the GRPO objective, token by token: pure functions of tensors of shape [N].

N counts completion tokens of any number of groups in any order, so these must never know what a
group, a batch or a model is. The caller sums and divides by the step's token count
(token-level normalisation, TRL's `dapo`).
"""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> Tensor:
    """-min(w A, clip(w, 1 - clip_low, 1 + clip_high) A) with w = pi / pi_old (PPO, eq. 7)."""
    ratio = torch.exp(log_probs - old_log_probs)
    clipped = torch.clamp(ratio, 1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def clipped_tokens(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> tuple[Tensor, Tensor]:
    """Boolean [N] each: where the lower and where the upper clip stopped the gradient."""
    ratio = torch.exp(log_probs - old_log_probs)
    return (ratio < 1 - clip_low) & (advantages < 0), (ratio > 1 + clip_high) & (advantages > 0)


def kl_to_reference(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """Schulman's k3 estimator of KL(pi || pi_0): exp(d) - d - 1 with d = log pi_0 - log pi."""
    difference = reference_log_probs - log_probs
    return torch.exp(difference) - difference - 1


def importance_weights(old_log_probs: Tensor, sampled_log_probs: Tensor, cap: float) -> Tensor:
    """min(pi_trainer / pi_sampler, cap): truncated importance sampling, without gradient."""
    return torch.exp(old_log_probs - sampled_log_probs).clamp(max=cap).detach()
