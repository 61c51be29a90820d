"""Prompts as a trie: what neighbours share. This module must never know what the tokens mean."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def shared_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens both begin with."""
    length = min(len(first), len(second))
    differs = np.asarray(first[:length]) != np.asarray(second[:length])
    return int(differs.argmax()) if differs.any() else length


def by_prefix(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Indices in the order in which a prompt shares its longest prefix with the one before it."""
    keys = [np.asarray(prompt, dtype=">u4").tobytes() for prompt in prompts]
    return sorted(range(len(prompts)), key=keys.__getitem__)


def unique_tokens(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens of the trie: what an engine computes that shares every prefix."""
    order = by_prefix(prompts)
    shared = sum(shared_prefix(prompts[a], prompts[b]) for a, b in pairwise(order))
    return sum(map(len, prompts)) - shared
