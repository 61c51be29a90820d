"""The policy that a round validates and keeps: a moving average of its weights.

Averaging takes the noise of single steps out of the weights; what a policy can do outside the
domain suffers less from it (WARP, arXiv 2406.16768). It must never know how weights change.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pivotrl.training.adapters import trainable


class MovingAverage:
    """Of the trained parameters of `model`, from their present values on."""

    def __init__(self, model: Any, decay: float) -> None:
        """`decay` in [0, 1): the share of the old average that a step keeps; 0 keeps no copy."""
        self.decay = decay
        parameters = trainable(model) if decay else ()
        self.weights: dict[str, Tensor] = {n: p.detach().clone() for n, p in parameters}

    @torch.no_grad()
    def update(self, model: Any) -> None:
        parameters = dict(model.named_parameters())
        for name, average in self.weights.items():
            average.lerp_(parameters[name], 1 - self.decay)

    @contextmanager
    def in_place(self, model: Any) -> Iterator[None]:
        """The model computes with the average inside."""
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    @torch.no_grad()
    def _exchange(self, model: Any) -> None:
        parameters = dict(model.named_parameters())
        for name, average in self.weights.items():
            present = parameters[name].clone()
            parameters[name].copy_(average)
            average.copy_(present)
