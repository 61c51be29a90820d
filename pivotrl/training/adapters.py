"""What of a model is trained: all of it, all but frozen parts, or low-rank adapters (peft).

A policy is always saved whole, adapters merged into its weights, so that whoever loads it needs to
know nothing of them. It must never know an algorithm.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from pivotrl.training import ranks
from pivotrl.types import PivotRLError

_BASE = ".base_layer"
"""Where peft keeps what it wraps: a layer, or one in another for each adapted tensor of experts."""


def trainable(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Names and values of what is trained."""
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def freeze(model: Any, parts: Sequence[str]) -> None:
    """Parameters with one of the parts in their name are not trained (`mlp.gate.`: routers).

    Raises PivotRLError for a part that no name has.
    """
    for part in parts:
        found = [p for name, p in model.named_parameters() if part in name]
        if not found:
            raise PivotRLError(f"training: no parameter's name contains {part!r} (train.freeze)")
        for parameter in found:
            parameter.requires_grad_(False)


def prepare(model: Any, frozen: Sequence[str], gradient_checkpointing: bool) -> None:
    """The model as it trains. Modes differ in what is kept of a pass, never in numbers: models that
    drop out are refused (`logprobs`). Raises PivotRLError."""
    freeze(model, frozen)
    model.train(gradient_checkpointing)  # transformers checkpoints in training mode only
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})


def with_adapters(model: Any, rank: int, alpha: int, seed: int) -> Any:
    """The model with LoRA on all its linear layers but the head, drawn from the seed.

    Raises PivotRLError where peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise PivotRLError("train.lora_rank needs peft: pip install 'pivotrl[lora]'") from None
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear")
    with warnings.catch_warnings():  # of patterns that peft itself adds for experts
        warnings.filterwarnings("ignore", ".*pattern keys did not match any targeted module.*")
        return get_peft_model(model, config)


def without_adapters(model: Any) -> AbstractContextManager[None]:
    """The model as it was before adapters; for one without any, as it is."""
    return model.disable_adapter() if hasattr(model, "get_base_model") else nullcontext()


@torch.no_grad()
def policy_state(model: Any) -> dict[str, Tensor]:
    """Names and values of the policy as anybody loads it: adapters merged, tied values once.

    What is in shards stays so.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    names = {name for name, _ in base.named_parameters(remove_duplicate=False)}
    tied = names - {name for name, _ in base.named_parameters()}
    state = {
        name.replace(_BASE, ""): value
        for name, value in base.state_dict().items()
        if ".lora_" not in name and name not in tied
    }
    for name, module in base.named_modules():
        if hasattr(module, "get_delta_weight"):
            own = getattr(module, "parameter_name", "weight")
            weight = getattr(module.get_base_layer(), own)
            delta = sum(module.get_delta_weight(adapter) for adapter in module.active_adapters)
            state[f"{name}.{own}".replace(_BASE, "")] = (weight + delta).to(weight.dtype)
    return state


@torch.no_grad()
def save_whole(model: Any, folder: Any) -> None:
    """A Hugging Face folder of the policy; of several processes, the first writes it."""
    state = {}
    for name, value in policy_state(model).items():
        everything = ranks.whole(value)
        if ranks.number() == 0:
            state[name] = everything.cpu() if ranks.is_sharded(model) else everything
    if state:
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        base.save_pretrained(folder, state_dict=state)
