"""Memory and time of a round before it is started, from shapes alone (`pivotrl plan`).

Memory of a device, in bytes. Of N processes each holds 1/N of what is sharded:

    weights     what is trained 4 a parameter (float32), what is frozen or adapted from in its dtype
    gradients   4, moments 8, average 4 (ema_decay), reference 4 (kl_beta) a parameter
    gathered    the two largest layers and what lies outside layers (embeddings, head) with its
                gradient, whole, in the dtype of computation, and a layer's gradient in it and in
                float32 (nothing where N is 1)
    sampler     a whole copy of the policy in its dtype (nothing where N is 1: it is the same)
    pass        activations of `pass_tokens` tokens: of every layer, or with gradient
                checkpointing one input a layer and all of one layer; and a chunk of logits
    cache       while sampling, keys and values of the rows that decode at once

A pass and a cache never exist together: the larger one counts. Time: counted operations
(`flops.py`) over what the card does at the stated efficiency; transfers of shards; reading of the
sampler's weights and cache once a token, which is the least that decoding can take. Kernels that
are started late, a sandbox or a judge are not in it: it is what a round takes at best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pivotrl.engines.decoding import MAX_PROMPTS, MIN_SHARES
from pivotrl.training.flops import PEAKS, shape_of, tree_flops
from pivotrl.training.logprobs import LOGITS_AT_ONCE
from pivotrl.training.tree import Layout, Row

FLOAT = 4
HALF = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A device: bytes, dense bf16 operations a second, bytes a second of memory and links."""

    memory: float
    peak: float
    bandwidth: float
    link: float
    """Between devices of a machine, one direction."""
    network: float
    """Between machines, a device's share."""


CARDS = {
    "A100": Card(memory=80e9, peak=PEAKS["A100"], bandwidth=2.0e12, link=300e9, network=25e9),
    "H100": Card(memory=80e9, peak=PEAKS["H100"], bandwidth=3.35e12, link=450e9, network=50e9),
    "H200": Card(memory=141e9, peak=PEAKS["H200"], bandwidth=4.8e12, link=450e9, network=50e9),
}
"""From the vendor's data sheets; networks of 200 and 400 Gbit/s a device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A round, as far as memory and time depend on it."""

    devices: int
    """One a process, of all machines."""
    nodes: int
    pivots_per_step: int
    group_size: int
    prompt_tokens: int
    action_tokens: int
    micro_batch_tokens: int
    batch_rows: int
    bytes_computed: int
    """A number in the dtype of computation: 4 or 2."""
    checkpointing: bool
    averages: bool
    has_reference: bool
    is_own: bool = False
    """Whether the reference is the model without its adapters."""

    @property
    def pass_tokens(self) -> int:
        """Of the largest pass: `tree.bins` lets a long prompt and its actions exceed the budget."""
        actions = self.group_size * self.action_tokens
        beside = min(self.prompt_tokens, self.micro_batch_tokens, actions)
        one = self.prompt_tokens + self.action_tokens
        return max(self.micro_batch_tokens, self.prompt_tokens + beside, one)


def memory(model: Any, load: Load) -> dict[str, float]:
    """Bytes of a device by what holds them. `model`: with or without weights (`meta` device)."""
    sizes = {name: p.numel() * p.element_size() for name, p in model.named_parameters()}
    trained = FLOAT * sum(p.numel() for p in model.parameters() if p.requires_grad)
    everything = sum(p.numel() for n, p in model.named_parameters() if ".lora_" not in n)
    share = 1 / load.devices
    several = load.devices > 1
    found = {
        "weights": share * sum(sizes.values()),
        "gradients": share * trained,
        "moments": share * 2 * trained,
        "average": share * trained * load.averages,
        "reference": share * FLOAT * everything * (load.has_reference and not load.is_own),
        "gathered": several * _gathered(model, load.bytes_computed),
        "sampler": several * load.bytes_computed * everything,
    }
    one_pass, cache = pass_bytes(model, load), _cache(model, load)
    found["pass" if one_pass > cache else "cache"] = max(one_pass, cache)
    return {name: held for name, held in found.items() if held}


def _gathered(model: Any, size: int) -> float:
    """Bytes of what is whole at once: two layers, a layer's gradient and its float32 sum on the
    way to the shards, and twice what lies outside layers."""
    layers = [m for m in model.modules() if type(m).__name__ in model._no_split_modules]
    sizes = sorted(sum(p.numel() for p in layer.parameters()) for layer in layers)
    trained = max(sum(p.numel() for p in m.parameters() if p.requires_grad) for m in layers)
    outside = sum(p.numel() for p in model.parameters()) - sum(sizes)
    return size * (sum(sizes[-2:]) + 2 * outside) + (size + FLOAT) * trained


def pass_bytes(model: Any, load: Load) -> float:
    """What a forward pass keeps for the backward pass, parameters left out.

    A token and layer: the residual stream before and after its norms, queries, keys, values and
    what attention gives, and of the MLP gate, up, their product and the activation; of experts,
    those that the token is sent to. Norms keep float32.
    """
    config = model.config.get_text_config()
    size, hidden = load.bytes_computed, config.hidden_size
    width = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    queries = width * config.num_attention_heads
    keys = width * (config.num_key_value_heads or config.num_attention_heads)
    inner, sent = config.intermediate_size, 0
    if getattr(config, "num_experts", None):
        sent = config.num_experts_per_tok
        inner = sent * config.moe_intermediate_size
    norms = 2 * (FLOAT * hidden + size * hidden)
    linear = size * (2 * hidden + 4 * inner + 2 * sent * hidden)
    attention = size * (4 * queries + 4 * keys) + 2 * FLOAT * queries
    layer, layers = norms + linear + attention, config.num_hidden_layers
    kept = layers * size * hidden + layer if load.checkpointing else layers * layer
    logits = 3 * FLOAT * min(LOGITS_AT_ONCE, load.pass_tokens * config.vocab_size)
    return load.pass_tokens * kept + logits


def _cache(model: Any, load: Load) -> float:
    """Keys and values of the prompts and rows that decode at once."""
    share = min(load.group_size, max(load.batch_rows // MIN_SHARES, 1))
    jobs = math.ceil(load.pivots_per_step / load.devices) * math.ceil(load.group_size / share)
    batch = max(min(load.batch_rows // share, jobs), 1)
    slots = max(min(MAX_PROMPTS * batch, batch * share, jobs), 1)
    tokens = slots * load.prompt_tokens + batch * share * load.action_tokens
    return tokens * _cached(model) * load.bytes_computed


def _cached(model: Any) -> int:
    """Numbers that a token leaves in the cache."""
    config = model.config.get_text_config()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * width * config.num_key_value_heads * config.num_hidden_layers


def step_flops(model: Any, load: Load) -> tuple[float, float]:
    """Operations of one forward pass over a step's trees, and over its prompts alone."""
    prompt = (0,) * load.prompt_tokens
    rows = [
        Row(sample=i, prompt=prompt, completion=(i + 1,) * load.action_tokens)
        for i in range(load.group_size)
    ]
    shape = shape_of(model)
    alone = Row(sample=0, prompt=prompt, completion=(1,))
    group, prefill = (tree_flops(shape, Layout(members)) for members in (rows, [alone]))
    return load.pivots_per_step * group, load.pivots_per_step * prefill


def seconds(model: Any, load: Load, card: Card, efficiency: float) -> dict[str, float]:
    """Of a step, by what takes them."""
    group, prefill = step_flops(model, load)
    speed = load.devices * card.peak * efficiency
    everything = sum(p.numel() for p in model.parameters())
    tokens = load.pivots_per_step * (load.prompt_tokens + load.group_size * load.action_tokens)
    passes = max(1.0, tokens / load.devices / load.micro_batch_tokens)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    moved = passes * (2 * load.bytes_computed * everything + FLOAT * trained)
    rate = card.link if load.nodes == 1 else card.network
    pivots = load.pivots_per_step / load.devices
    waves = max(1.0, pivots * load.group_size / load.batch_rows)
    cached = pivots * (load.prompt_tokens + load.group_size * load.action_tokens / 2)
    decoded = load.bytes_computed * (waves * everything + cached * _cached(model))
    return {
        "sample": prefill / speed + load.action_tokens * decoded / card.bandwidth,
        "train": group * (3 + load.checkpointing + load.has_reference) / speed,
        "transfer": moved / rate if load.devices > 1 else 0.0,
    }
