"""The terms of the objectives, token by token: pure functions of tensors of shape [N].

N counts the completion tokens of rows one behind the other; `lengths` says how many are of each
row. These must never know what a group, a batch or a model is. The loss of a step is the sum of
terms times `token_weights`, which are of the whole step, so how it is cut into passes changes
nothing. Sources: GRPO (arXiv 2402.03300), Dr. GRPO (2503.20783), DAPO (2503.14476), CISPO
(2506.13585), GSPO (2507.18071); each equals TRL 1.16's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pivotrl.training.records import Correction, Loss


def token_weights(loss: Loss, lengths: Sequence[int], max_tokens: int) -> list[float]:
    """The weight of every token of each row; `lengths` are of all rows of the step.

    `grpo`, `gspo`: rows weigh the same. `dr_grpo`: tokens do, against the longest possible rows.
    `dapo`, `bnpo`, `cispo`: tokens do, against those that there are (`bnpo` is TRL's name for it
    within one batch, and a step is one).
    """
    match loss:
        case "grpo" | "gspo":
            return [1 / (len(lengths) * max(1, length)) for length in lengths]
        case "dr_grpo":
            return [1 / (len(lengths) * max_tokens)] * len(lengths)
        case "dapo" | "bnpo" | "cispo":
            return [1 / max(1, sum(lengths))] * len(lengths)


def policy_ratio(
    loss: Loss, log_probs: Tensor, old_log_probs: Tensor, lengths: Sequence[int]
) -> Tensor:
    """w = pi / pi_old of every token; `gspo`: the geometric mean of its row's, at each token."""
    difference = log_probs - old_log_probs
    if loss == "gspo":
        means = torch.stack([row.sum() / max(1, len(row)) for row in difference.split([*lengths])])
        difference = means.repeat_interleave(torch.tensor(lengths, device=means.device))
    return torch.exp(difference)


def policy_terms(
    loss: Loss,
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    lengths: Sequence[int],
    *,
    clip_low: float,
    clip_high: float,
) -> Tensor:
    """-min(w A, clip(w, 1 - clip_low, 1 + clip_high) A); `cispo`: -min(w, 1 + clip_high) A log pi,
    whose weight has no gradient, so that no token is ever without one."""
    ratio = policy_ratio(loss, log_probs, old_log_probs, lengths)
    if loss == "cispo":
        return -ratio.clamp(max=1 + clip_high).detach() * advantages * log_probs
    clipped = torch.clamp(ratio, 1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def clipped_tokens(
    ratio: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """Boolean [N] each: where the lower and where the upper clip stopped the gradient."""
    return (ratio < 1 - clip_low) & (advantages < 0), (ratio > 1 + clip_high) & (advantages > 0)


def kl_to_reference(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """Schulman's k3 estimator of KL(pi || pi_0): exp(d) - d - 1 with d = log pi_0 - log pi."""
    difference = reference_log_probs - log_probs
    return torch.exp(difference) - difference - 1


def importance_weights(
    old_log_probs: Tensor,
    sampled_log_probs: Tensor,
    lengths: Sequence[int],
    correction: Correction,
    cap: float,
) -> Tensor:
    """pi_trainer / pi_sampler of the token, or of its whole row, without gradient.

    Above `cap` it is cut to it (`truncate`) or becomes 0 (`mask`).
    """
    difference = (old_log_probs - sampled_log_probs).detach()
    level, _, way = correction.partition("_")
    if level == "sequence":
        sums = torch.stack([row.sum() for row in difference.split([*lengths])])
        difference = sums.repeat_interleave(torch.tensor(lengths, device=sums.device))
    ratio = torch.exp(difference)
    return ratio.clamp(max=cap) if way == "truncate" else ratio.masked_fill(ratio > cap, 0.0)
