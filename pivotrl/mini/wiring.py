"""Where the miniature's pretraining starts: a random Qwen3 model that can already look back.

Copying is done by an induction circuit (Olsson et al. 2022), which a small model finds late.
Weights set to the circuit's shape before the first step (mimetic initialisation: Trockman & Kolter
2023) let it copy early; nothing is frozen. `bench/wiring.py` measures both starts.
This module must never know a corpus or a task.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SHARPNESS = 2.0
"""Weight of the queries' and keys' norms in the wired layers: attention falls on one token."""
SLOW = 0.02
"""Radians a position below which a rotary frequency carries content, above it distance."""


@torch.no_grad()
def wire_induction(model: Any) -> None:
    """Sets the first two attention layers of a freshly made Qwen3 model, in place.

    Layer 0: head h looks h + 1 tokens back and writes what it finds into a subspace of its own.
    Layer 1: each head looks for the place where the current token was read by one of those heads
    (of head g for the g-th group of keys) and repeats the token found there. Draws from torch's
    global generator.
    """
    config = model.config
    size, heads = config.head_dim, config.num_attention_heads
    groups, width = config.num_key_value_heads, config.hidden_size
    half = torch.arange(0, size, 2).float() / size
    frequency = 1 / config.rope_parameters["rope_theta"] ** half
    is_far = frequency > SLOW
    slow = torch.cat((~is_far, ~is_far)).float()[:, None]
    embedding = model.model.embed_tokens.weight
    # A component that all tokens share, half of each one's energy: position alone steers layer 0.
    embedding[:, 0] = config.initializer_range * width**0.5

    first, second = (model.model.layers[i].self_attn for i in (0, 1))
    for attention in (first, second):
        attention.q_norm.weight.fill_(SHARPNESS)
        attention.k_norm.weight.fill_(SHARPNESS)
    first.q_proj.weight.mul_(0.1)
    first.k_proj.weight.mul_(0.1)
    ahead = torch.cat((is_far.float(), torch.zeros(size // 2)))
    content = _orthonormal(width, size).T * slow
    written = [_orthonormal(width, size) for _ in range(heads)]
    for group in range(groups):
        own = slice(group * size, (group + 1) * size)
        first.k_proj.weight[own, 0] += 0.5 * ahead
        first.v_proj.weight[own] = 0.1 * content
        second.k_proj.weight[own] = 0.2 * written[group].T * slow
        repeated = _orthonormal(width, size)
        second.v_proj.weight[own] = 0.1 * repeated.T
        for head in range(group * heads // groups, (group + 1) * heads // groups):
            second.o_proj.weight[:, head * size : (head + 1) * size] = 0.2 * repeated
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        angle = -(head + 1) * frequency
        turned = torch.cat((is_far * angle.cos(), is_far * angle.sin()))
        first.q_proj.weight[own, 0] += 0.5 * turned
        first.o_proj.weight[:, own] = 0.5 * written[head]
        second.q_proj.weight[own] = 0.2 * content


def _orthonormal(rows: int, columns: int) -> Tensor:
    """[rows, columns] with orthonormal columns that leave the shared component alone."""
    matrix = torch.linalg.qr(torch.randn(rows, columns))[0]
    matrix[0] = 0.0
    return matrix
