"""AdamW as every arm uses it: parameter groups, the learning rate of a step, one checked update.

It must never know what the gradient came from.
"""

from __future__ import annotations

from typing import Any

import torch

from pivotrl.training.ranks import whole
from pivotrl.types import PivotRLError


def adamw(model: Any, weight_decay: float) -> torch.optim.AdamW:
    """Weight decay on matrices only, not on norms and biases."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=0.0,
    )


def warm_up(step: int, learning_rate: float, warmup_steps: int) -> float:
    """The learning rate of step 1, 2, ...: linear up to `warmup_steps`, then constant."""
    return learning_rate * min(1.0, step / warmup_steps) if warmup_steps else learning_rate


def update(
    model: Any,
    optimizer: torch.optim.Optimizer,
    *,
    step: int,
    loss: float,
    learning_rate: float,
    max_grad_norm: float,
) -> float:
    """Clip, check and apply the gradients there are, then clear them; the norm before clipping.

    Raises PivotRLError before any weight changes if loss or gradient is not finite.
    """
    norm = float(whole(torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)))
    if not all(torch.isfinite(torch.tensor([loss, norm]))):
        raise PivotRLError(
            f"step {step}: loss {loss} and gradient norm {norm} are not finite; the last "
            "checkpoint is whole: lower the learning rate or train in float32"
        )
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm
