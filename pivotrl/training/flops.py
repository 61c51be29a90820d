"""Floating-point operations of a pass, counted from shapes (a multiply and an add are two).

Linear layers: two a weight and token. Attention: four a head's width, head, layer and pair of
tokens that see each other. Head: two a weight and predicting token. A backward pass costs twice a
forward pass (arXiv 2001.08361, appendix). Norms, rotations and softmax are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from pivotrl.training.tree import Layout

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 operations a second, from the vendor's data sheets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the operations of a model depend on."""

    weights: float
    """Of the linear layers that a token passes through, the head left out."""
    pair: int
    """Operations a pair of tokens, forward."""
    head: int
    """Weights of the head."""


def shape_of(model: Any) -> Shape:
    """The shape of a stock causal model; of experts, those that a token is sent to count."""
    config = model.config.get_text_config()
    head = model.get_output_embeddings().weight
    tables = {id(head), id(model.get_input_embeddings().weight)}
    share = 1.0
    if experts := getattr(config, "num_experts", None):
        share = config.num_experts_per_tok / experts
    weights = sum(
        weight.numel() * (share if ".experts." in name else 1.0)
        for name, weight in model.named_parameters()
        if weight.ndim > 1 and id(weight) not in tables
    )
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    pair = 4 * width * config.num_attention_heads * config.num_hidden_layers
    return Shape(weights=weights, pair=pair, head=head.numel())


def tree_flops(shape: Shape, layout: Layout) -> float:
    """Of a forward pass over the layout."""
    pairs = 0
    for node in layout.nodes:
        length = node.stop - node.start
        pairs += length * (length + 1) // 2 + length * node.depth
    return 2 * shape.weights * len(layout.ids) + shape.pair * pairs + _head(shape, layout)


def row_flops(shape: Shape, layout: Layout) -> float:
    """Of a forward pass over the layout's rows, each a sequence of its own, without padding."""
    lengths = [len(row.inputs) for row in layout.rows]
    pairs = sum(length * (length + 1) // 2 for length in lengths)
    return 2 * shape.weights * sum(lengths) + shape.pair * pairs + _head(shape, layout)


def peak_of(device: torch.device) -> float | None:
    """Dense bf16 operations a second of a device, where its data sheet is known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for card, peak in PEAKS.items() if card in name), None)


def _head(shape: Shape, layout: Layout) -> float:
    return 2 * shape.head * len(layout.predicting)
