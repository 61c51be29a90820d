"""Key-value store and attention for decoding many samples of few prompts at once.

A row's keys lie in three parts: what all prompts of a call share (stored once), the rest of its
prompt (stored once a prompt) and its own tokens (stored by row). Attention runs over the parts
separately and merges them by their log-sum-exp, which is exact (as in Hydragen, arXiv 2402.05099);
a prompt's keys are read once for all of its samples instead of once a sample.
It must never know tokens, sampling or prompts' texts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pivotrl.types import PivotRLError

ATTENTION = "pivotrl_shared_prompt"
"""The name under which transformers finds `_attention`."""

Layers = list[tuple[Tensor, Tensor]]
"""Keys and values of one prompt, one pair a layer: [1, key heads, tokens, head size]."""

_FIRST_CAPACITY = 64
_IGNORED = {
    *("position_ids", "use_cache", "is_causal", "cache_position"),
    *("output_attentions", "output_router_logits"),  # what is reported changes nothing
}


class SharedPromptStore:
    """Keys and values of the rows in flight; takes a transformers cache's place in `forward`.

    `lengths` [rows] is how many own tokens each row has stored; the next one goes behind them.
    """

    def __init__(self, common: Layers, *, rows: int, slots: int, width: int) -> None:
        """`width`: the longest prompt without the common part, in tokens."""
        self.common = [(keys[0], values[0]) for keys, values in common]
        device = common[0][0].device
        self.rows = rows
        self.width = width
        self.slot_of_row = torch.zeros(rows, dtype=torch.long, device=device)
        self.lengths = torch.zeros(rows, dtype=torch.long, device=device)
        self.slot_lengths = torch.ones(slots, dtype=torch.long, device=device)
        self.longest = 0
        self.prompt = [_empty(pair, slots, width) for pair in common]
        self.own = [_empty(pair, rows, _FIRST_CAPACITY) for pair in common]

    def add_prompt(self, slot: int, layers: Layers) -> None:
        """Stores a prompt without its common part, which must be at least one token long."""
        skipped = self.common[0][0].shape[1]
        tokens = layers[0][0].shape[2] - skipped
        self.slot_lengths[slot] = tokens
        for (keys, values), (new_keys, new_values) in zip(self.prompt, layers, strict=True):
            keys[slot, :, :tokens] = new_keys[0, :, skipped:]
            values[slot, :, :tokens] = new_values[0, :, skipped:]

    def add_rows(self, rows: Tensor, slot: int) -> None:
        """Points `rows`, which hold nothing any more, at the prompt in `slot`."""
        self.slot_of_row[rows] = slot
        self.lengths[rows] = 0

    def keep_rows(self, rows: Tensor) -> None:
        """Drops all rows but these, in this order, and the prompts that nobody uses any more."""
        self.rows = len(rows)
        self.lengths = self.lengths[rows]
        self.own = [(keys[rows], values[rows]) for keys, values in self.own]
        used, self.slot_of_row = torch.unique(self.slot_of_row[rows], return_inverse=True)
        self.slot_lengths = self.slot_lengths[used]
        self.prompt = [(keys[used], values[used]) for keys, values in self.prompt]

    def begin_step(self, living: Tensor) -> None:
        """Prepares storing and attending to one more token a row; `living` are rows' indices."""
        device = self.lengths.device
        self.longest = int(self.lengths.max()) + 1
        capacity = self.own[0][0].shape[2]
        if self.longest > capacity:
            self.own = [_grow(pair, 2, 2 * capacity) for pair in self.own]
        self.every_row = torch.arange(self.rows, device=device)
        own_tokens = torch.arange(self.longest, device=device)
        self.own_bias = _bias(own_tokens > self.lengths[:, None])
        # Rows of one prompt attend together: each gets a place among the `group` of its slot.
        # Dead rows read place 0 and fill none; empty places compute row 0 for nobody.
        slots = self.slot_of_row[living]
        rows_of_slot = torch.bincount(slots)
        self.slots_in_use, self.group = len(rows_of_slot), int(rows_of_slot.max())
        by_slot = torch.argsort(slots, stable=True)
        first = torch.cumsum(rows_of_slot, 0) - rows_of_slot
        rank = torch.arange(len(living), device=device) - first[slots[by_slot]]
        places = slots[by_slot] * self.group + rank
        self.place = torch.zeros_like(self.slot_of_row)
        self.place[living[by_slot]] = places
        self.row_of_place = self.place.new_zeros(self.slots_in_use * self.group)
        self.row_of_place[places] = living[by_slot]
        lengths = self.slot_lengths[: self.slots_in_use]
        self.prompt_tokens = int(lengths.max())
        prompt_tokens = torch.arange(self.prompt_tokens, device=device)
        self.prompt_bias = _bias(prompt_tokens >= lengths[:, None])

    def end_step(self, living: Tensor) -> None:
        """Counts the stored token of the `living` rows; the others start again at none."""
        grown = self.lengths[living] + 1
        self.lengths = torch.zeros_like(self.lengths)
        self.lengths[living] = grown

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Stores one token's keys and values [rows, key heads, 1, head size] of a layer."""
        own_keys, own_values = self.own[layer]
        own_keys[self.every_row, :, self.lengths] = keys[:, :, 0]
        own_values[self.every_row, :, self.lengths] = values[:, :, 0]
        return keys, values

    def get_seq_length(self, layer: int = 0) -> int:
        return self.longest

    def attend(self, layer: int, query: Tensor) -> Tensor:
        """Attention of one scaled query a row, [rows, heads, head size] -> the same shape."""
        rows, heads, size = query.shape
        common_keys, common_values = self.common[layer]
        key_heads = common_keys.shape[0]
        share = heads // key_heads
        query = query.view(rows, key_heads, share, size)

        own_keys, own_values = self.own[layer]
        parts: list[tuple[Tensor, ...]] = [
            _part(
                query,
                own_keys[:, :, : self.longest],
                own_values[:, :, : self.longest],
                self.own_bias,
            )
        ]
        prompt_keys, prompt_values = self.prompt[layer]
        slots, group = self.slots_in_use, self.group
        spread = query[self.row_of_place].view(slots, group, key_heads, share, size)
        found = _part(
            spread.transpose(1, 2).reshape(slots, key_heads, group * share, size),
            prompt_keys[:slots, :, : self.prompt_tokens],
            prompt_values[:slots, :, : self.prompt_tokens],
            self.prompt_bias,
        )
        parts.append(
            tuple(
                item.view(slots, key_heads, group, share, -1)
                .transpose(1, 2)
                .reshape(slots * group, key_heads, share, -1)[self.place]
                for item in found
            )
        )
        if common_keys.shape[1]:
            flat = query.transpose(0, 1).reshape(key_heads, rows * share, size)
            parts.append(
                tuple(
                    item.view(key_heads, rows, share, -1).transpose(0, 1)
                    for item in _part(flat, common_keys, common_values, None)
                )
            )
        return _merge(parts).to(query.dtype).reshape(rows, heads, size)


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    shared_prompt_store: SharedPromptStore,
    **others: Any,
) -> tuple[Tensor, None]:
    """The transformers attention interface: query [rows, heads, 1, size] -> [rows, 1, heads, size].

    Refuses what it does not compute: windows that bind, soft caps, sinks, biases.
    """
    store = shared_prompt_store
    asked = [name for name, setting in others.items() if setting is not None]
    unknown = sorted(set(asked) - _IGNORED)
    length = store.common[0][0].shape[1] + store.width + store.longest
    if sliding_window is not None and sliding_window < length:
        unknown.append(f"sliding window {sliding_window} (rows have up to {length} tokens)")
    if unknown:
        raise PivotRLError(
            f"{type(module).__name__} uses {', '.join(unknown)}, which the in-process engine does "
            "not compute; use the vLLM engine or another model"
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output = store.attend(module.layer_idx, query[:, :, 0] * scale)  # type: ignore[arg-type]
    return output[:, None], None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attention)


def _bias(hidden: Tensor) -> Tensor:
    """[count, tokens] bool -> what is added to scores [count, heads, queries, tokens]."""
    return hidden.float().masked_fill_(hidden, -torch.inf)[:, None, None]


def _part(
    query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Unnormalised output, largest score and sum of weights; fp32 scores."""
    scores = torch.matmul(query, keys.transpose(-1, -2)).float()
    if bias is not None:
        scores += bias
    top = scores.amax(-1, keepdim=True)
    weights = scores.sub_(top).exp_()
    return torch.matmul(weights.to(values.dtype), values), top, weights.sum(-1, keepdim=True)


def _merge(parts: list[tuple[Tensor, ...]]) -> Tensor:
    top = torch.stack([part[1] for part in parts]).amax(0)
    shrink = [torch.exp(part[1] - top) for part in parts]
    output = sum(part[0] * factor for part, factor in zip(parts, shrink, strict=True))
    total = sum(part[2] * factor for part, factor in zip(parts, shrink, strict=True))
    return torch.as_tensor(output / total)


def _empty(pair: tuple[Tensor, Tensor], count: int, tokens: int) -> tuple[Tensor, Tensor]:
    keys, values = (item.new_zeros(count, item.shape[1], tokens, item.shape[3]) for item in pair)
    return keys, values


def _grow(pair: tuple[Tensor, Tensor], dimension: int, size: int) -> tuple[Tensor, Tensor]:
    """The pair with zeros appended along `dimension` up to `size`."""
    shape = list(pair[0].shape)
    shape[dimension] = size - shape[dimension]
    keys, values = (
        torch.cat([item, item.new_zeros(*shape[:3], item.shape[3])], dimension) for item in pair
    )
    return keys, values
