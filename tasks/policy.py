"""The policy that this process has loaded: one at a time, shared by the stages that sample."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pivotrl.types import ConfigError

if TYPE_CHECKING:
    from pivotrl.chat import ChatFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    model: Any
    chat: ChatFormat
    engine: Any
    context: int
    """Longest sequence, in tokens."""


@lru_cache(maxsize=1)
def load_policy(path: Path, weights: str, dtype: str, device: str, batch_rows: int) -> Policy:
    """`weights` is the hash of the files, so that a changed folder is loaded again."""
    from pivotrl.engines.hf import HFEngine, load_model

    chat = load_chat(path, weights)
    model = load_model(path, dtype=dtype, device=device)
    engine = HFEngine(
        model,
        stop_ids=chat.stop_ids,
        pad_id=chat.pad_id,
        decode=chat.decode,
        max_batch_rows=batch_rows,
        device=device,
    )
    context = getattr(model.config, "max_position_embeddings", None)
    if context is None:
        raise ConfigError(f"{path}: config.json names no max_position_embeddings; add it")
    return Policy(model=model, chat=chat, engine=engine, context=context)


def forget_policy() -> None:
    """Gives its memory back."""
    import torch

    load_policy.cache_clear()
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@lru_cache(maxsize=1)
def load_chat(path: Path, version: str) -> ChatFormat:
    """`version` is a hash of the folder's files, so that a changed folder is loaded again."""
    from pivotrl.chat import ChatFormat

    return ChatFormat.load(path)
