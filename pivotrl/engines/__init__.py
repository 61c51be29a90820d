"""Where completions come from, and the fingerprints that say from which policy.

Sample j of a prompt draws from `types.seed_of(prompt seed, j)` in every engine; `engines.hf` is the
in-process one. This module imports without torch and must never know candidates or verifiers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pivotrl.types import JSON, ConfigError, SamplingParams, canonical, digest

if TYPE_CHECKING:
    from torch import Tensor


def weights_hash(source: Path | str | Mapping[str, Tensor]) -> str:
    """The first 16 hex digits of the SHA-256 over names, types, shapes and bytes of all tensors.

    `source` is a model folder (its *.safetensors, read tensor by tensor) or a state; both agree
    where they hold the same tensors, however the folder is split into files. A folder leaves out
    the second name of tied tensors, which a model's `state_dict()` has. Raises ConfigError.
    """
    tensors = sorted(source.items()) if isinstance(source, Mapping) else _tensors(Path(source))
    content = hashlib.sha256()
    for name, tensor in tensors:
        content.update(canonical([name, str(tensor.dtype), list(tensor.shape)]))
        content.update(_bytes(tensor))
    return content.hexdigest()[:16]


def policy_fingerprint(
    *, weights: str, chat: Mapping[str, str], params: SamplingParams
) -> dict[str, JSON]:
    """The identity of a policy: `policy` is a digest of the other fields.

    `weights` from `weights_hash`, `chat` from `ChatFormat.fingerprint`. A profile belongs to it.
    """
    parts = {
        "weights": weights,
        "tokenizer": chat["tokenizer"],
        "template": chat["template"],
        "sampling": asdict(params),
    }
    return {"policy": digest(parts)} | parts


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a folder in the order of names, one in memory at a time."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ConfigError(f"{folder}: no *.safetensors; give a model folder in that format")
    place: dict[str, Path] = {}
    try:
        for file in files:
            with safe_open(file, framework="pt") as content:
                place |= dict.fromkeys(content.keys(), file)
        for name in sorted(place):
            with safe_open(place[name], framework="pt") as content:
                yield name, content.get_tensor(name)
    except SafetensorError as error:
        raise ConfigError(f"{folder}: broken safetensors ({error}); copy the file again") from None


def _bytes(tensor: Tensor) -> Any:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy()
