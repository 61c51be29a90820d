"""An engine that counts what it is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pivotrl.prefixes import unique_tokens
from pivotrl.types import Engine, Sample, SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Another engine, with a count of its turns and tokens."""

    engine: Engine
    counts: Counter[str] = field(default_factory=Counter)
    """`sampled` turns, `prompt_tokens`, `unique_prompt_tokens` of each call's trie,
    `completion_tokens`."""

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        params: SamplingParams,
        seeds: Sequence[int],
        on_progress: Callable[[int, int], None] | None = None,
        first: int = 0,
    ) -> list[list[Sample]]:
        rows = self.engine.sample(prompts, n, params, seeds, on_progress, first)
        self.counts["sampled"] += n * len(prompts)
        self.counts["prompt_tokens"] += n * sum(map(len, prompts))
        self.counts["unique_prompt_tokens"] += unique_tokens(prompts)
        self.counts["completion_tokens"] += sum(len(s.token_ids) for row in rows for s in row)
        return rows

    def load_weights(self, state: Mapping[str, Any]) -> None:
        self.engine.load_weights(state)
