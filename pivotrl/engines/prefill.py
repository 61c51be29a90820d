"""Prompts to keys, values and first logits: each behind the prefix that it shares, many at once.

It must never know candidates, verifiers or chat templates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from pivotrl.engines.shared_prompt import Layers
from pivotrl.prefixes import shared_prefix

CALL_TOKENS = 64
"""What a forward call costs beyond its tokens, in tokens: reading the weights, launching."""
MAX_TOKENS = 8192
"""Of prompts that are computed together: bounds their memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """The next prompts to compute behind one prefix."""

    prompts: int
    shared: int
    """Tokens that all of them begin with, computed once before."""


class Prefill:
    """Keys, values and last logits of prompts in trie order, reusing the prefix before them."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._cache: Any = DynamicCache()
        self._prompt: Sequence[int] = ()

    def __call__(self, prompt: Sequence[int]) -> tuple[Layers, Tensor]:
        """Layers of `prompt`, valid until the next call, and the logits [1, vocabulary] after."""
        self._reuse(prompt, len(prompt) - 1)
        logits = self._extend(prompt)
        return [(layer.keys, layer.values) for layer in self._cache.layers], logits

    def plan(self, prompts: Sequence[Sequence[int]]) -> Together:
        """How many of the next `prompts` to compute together: where that costs least.

        In turn, each costs its tokens behind the prompt before it, and a call; together, those
        behind what all share, and about one call.
        """
        known = shared_prefix(self._prompt, prompts[0])
        shared = len(prompts[0]) - 1
        in_turn = len(prompts[0]) - min(known, shared) + CALL_TOKENS
        tokens = len(prompts[0])
        best, most = Together(prompts=1, shared=0), 0
        for number, (before, prompt) in enumerate(pairwise(prompts), 2):
            with_before = shared_prefix(before, prompt)
            shared = min(shared, with_before, len(prompt) - 1)
            tokens += len(prompt)
            computed = tokens - number * shared
            if computed > MAX_TOKENS:
                break
            in_turn += len(prompt) - min(with_before, len(prompt) - 1) + CALL_TOKENS
            trunk = shared - known + CALL_TOKENS if shared > known else 0
            saved = in_turn - computed - trunk - CALL_TOKENS
            if saved > most:
                best, most = Together(prompts=number, shared=shared), saved
        return best

    @staticmethod
    def alike(prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Indices in groups of like length, for one call each: padding costs less than a call."""
        group: list[int] = []
        waste = 0
        for index in sorted(range(len(prompts)), key=lambda i: -len(prompts[i])):
            waste += len(prompts[group[0]]) - len(prompts[index]) if group else 0
            if waste > CALL_TOKENS:
                yield group
                group, waste = [], 0
            group.append(index)
        yield group

    def together(self, prompts: Sequence[Sequence[int]], shared: int) -> tuple[Layers, Tensor]:
        """Layers [prompts, key heads, tokens, head size], padded behind, and the logits after each.

        `shared` tokens, fewer than the shortest prompt has, are common to all.
        """
        trunk = prompts[0][:shared]
        self._reuse(trunk, shared)
        if len(self._prompt) < shared:
            self._extend(trunk)
        count, width = len(prompts), max(map(len, prompts)) - shared
        cache: Any = DynamicCache()
        for index, layer in enumerate(self._cache.layers if shared else ()):
            keys, values = (x.expand(count, -1, -1, -1) for x in (layer.keys, layer.values))
            cache.update(keys, values, index)
        ids = torch.tensor(
            [[*prompt[shared:], *[0] * (shared + width - len(prompt))] for prompt in prompts],
            device=self._device,
        )
        ends = torch.tensor([len(prompt) - shared - 1 for prompt in prompts], device=self._device)
        kept, which = torch.unique(ends, return_inverse=True)
        output = self._model(
            input_ids=ids,  # causal: what pads behind an end is seen by nothing before it
            position_ids=torch.arange(shared, shared + width, device=self._device).expand(
                count, -1
            ),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=kept,
        )
        rows = torch.arange(count, device=self._device)
        return [(layer.keys, layer.values) for layer in cache.layers], output.logits[rows, which]

    def _reuse(self, prompt: Sequence[int], at_most: int) -> None:
        """Crops the cache to what it shares with `prompt`."""
        shared = min(shared_prefix(self._prompt, prompt), at_most)
        if shared == 0:
            self._cache = DynamicCache()
        elif surplus := len(self._prompt) - shared:
            self._cache.crop(-surplus)
        self._prompt = prompt[:shared]

    def _extend(self, prompt: Sequence[int]) -> Tensor:
        """Computes the rest of `prompt` behind the cache; the logits [1, vocabulary] after it."""
        done = len(self._prompt)
        output = self._model(
            input_ids=torch.tensor([prompt[done:]], device=self._device),
            position_ids=torch.arange(done, len(prompt), device=self._device)[None],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._prompt = prompt
        logits: Tensor = output.logits[:, -1]
        return logits
