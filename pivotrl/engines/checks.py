"""What engines refuse before they compute anything: a call, or weights that do not fit.

It must never know candidates, verifiers or how an engine works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pivotrl.types import ConfigError, PivotRLError, SamplingParams

if TYPE_CHECKING:
    from torch import Tensor, nn


def check_call(
    prompts: Sequence[Sequence[int]],
    n: int,
    params: SamplingParams,
    seeds: Sequence[int],
    *,
    vocabulary: int,
    context: int | None,
) -> None:
    """The arguments of `types.Engine.sample`; `vocabulary` and `context` are the policy's.

    Raises ConfigError for settings without a meaning, PivotRLError for a prompt that is empty, has
    a token outside the vocabulary, or leaves no room for `max_tokens` in the context.
    """
    if n < 1 or params.max_tokens < 1 or params.temperature < 0 or not 0 < params.top_p <= 1:
        raise ConfigError(
            f"sampling settings n={n}, {params}: n and max_tokens must be at least 1, "
            "temperature at least 0, top_p in (0, 1]"
        )
    if len(seeds) != len(prompts):
        raise ValueError(f"{len(seeds)} seeds for {len(prompts)} prompts")
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise PivotRLError(f"prompt {index} is empty; render it with its chat template")
        if not 0 <= min(prompt) <= max(prompt) < vocabulary:
            raise PivotRLError(
                f"prompt {index} has token {max(prompt)} but the model knows "
                f"{vocabulary}; use the tokenizer that belongs to the model"
            )
        if context is not None and len(prompt) + params.max_tokens > context:
            raise PivotRLError(
                f"prompt {index} has {len(prompt)} tokens, with max_tokens {params.max_tokens} "
                f"more than the context of {context}; lower max_tokens or drop the prompt"
            )


def check_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Raises PivotRLError unless `state` has every parameter of `model` in its shape, and no other.

    Names of tied tensors may occur or be left out.
    """
    targets = model.state_dict()
    needed = {name for name, _ in model.named_parameters()}
    wrong = sorted(needed - state.keys()) + sorted(state.keys() - targets.keys())
    wrong += [
        name for name in sorted(needed & state.keys()) if state[name].shape != targets[name].shape
    ]
    if wrong:
        raise PivotRLError(
            f"weights do not fit the model: {wrong[0]} is missing, unknown or of another shape "
            f"({len(wrong)} such); give the state of a model of the same architecture"
        )
