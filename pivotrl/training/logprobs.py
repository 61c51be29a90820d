"""Log-probabilities of completion tokens under a stock Hugging Face causal model.

A pack's prefix is read once (plain causal attention) into the model's own cache, with gradient;
its branches then follow in one row under a 4-D mask and explicit positions, which stock SDPA
computes exactly. Logits exist at predicted positions only, a bounded number at a time. This
module must never know a reward or an advantage.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pivotrl.training.packing import NO_TARGET, Pack, pack_rows, pack_shared
from pivotrl.training.records import Dtype
from pivotrl.types import PivotRLError

LOGITS_AT_ONCE = 2**24
"""Elements of the largest logits tensor: 64 MiB in float32."""


def precision(device: torch.device, dtype: Dtype) -> AbstractContextManager[Any]:
    """Autocast for bfloat16 over float32 weights; entered anew for every pass, since its cache
    of cast weights must not outlive an update or cross from no_grad into grad."""
    return torch.autocast(device.type, torch.bfloat16) if dtype == "bfloat16" else nullcontext()


def log_probs(
    model: Any, packs: Sequence[Pack], *, temperature: float = 1.0, dtype: Dtype = "float32"
) -> tuple[Tensor, Tensor]:
    """Natural log-probabilities [N] and entropies [N] (no gradient) of the packs' targets.

    N runs over packs, their branches, their targets, in order. At least float32.
    """
    device = next(model.parameters()).device
    with precision(device, dtype):
        hidden, targets = _hidden_states(model, packs, device)
        head = model.get_output_embeddings()
        vocabulary = head.weight.shape[0]
        size = max(1, LOGITS_AT_ONCE // vocabulary)
        if len(hidden) <= size:
            return _token_log_probs(head, hidden, targets, temperature)
        parts = [
            # Recomputed in the backward pass: otherwise every chunk's logits would be kept.
            checkpoint(_token_log_probs, head, rows, ids, temperature, use_reentrant=False)
            for rows, ids in zip(hidden.split(size), targets.split(size), strict=True)
        ]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _token_log_probs(
    head: Any, hidden: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    logits = head(hidden)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    every = functional.log_softmax(logits, dim=-1)
    with torch.no_grad():
        entropy = -(every.exp() * every).sum(-1)
    return every.gather(-1, targets[:, None])[:, 0], entropy


def _hidden_states(
    model: Any, packs: Sequence[Pack], device: torch.device
) -> tuple[Tensor, Tensor]:
    """The decoder's output [N, width] at the positions that predict, and the target ids [N]."""
    width = max(len(pack.prefix) for pack in packs)
    length = max(pack.tokens - len(pack.prefix) for pack in packs)
    ids, positions, branch, targets = (
        torch.full((len(packs), length), fill) for fill in (0, 0, -1, NO_TARGET)
    )
    for row, pack in enumerate(packs):
        start = 0
        for number, part in enumerate(pack.branches):
            span = slice(start, start := start + len(part.inputs))
            ids[row, span] = torch.tensor(part.inputs)
            positions[row, span] = torch.arange(len(part.inputs)) + len(pack.prefix)
            branch[row, span] = number
            targets[row, span] = torch.tensor(part.targets)
    inputs: dict[str, Any] = {}
    if width:
        prefix = torch.zeros((len(packs), width), dtype=torch.long)
        for row, pack in enumerate(packs):
            prefix[row, : len(pack.prefix)] = torch.tensor(pack.prefix)
        # Right padding needs no mask here: no real token looks to the right.
        read = model.base_model(input_ids=prefix.to(device), use_cache=True)
        inputs = {"past_key_values": read.past_key_values}
    if width or any(len(pack.branches) > 1 for pack in packs):
        inputs["attention_mask"] = _mask(packs, width, branch).to(device)
    hidden = model.base_model(
        input_ids=ids.to(device),
        position_ids=positions.to(device),
        use_cache=bool(width),
        **inputs,
    ).last_hidden_state
    chosen = (targets.flatten() != NO_TARGET).nonzero()[:, 0].to(device)
    # index_select: its backward adds in a fixed order on a CPU, that of plain indexing does not.
    return hidden.flatten(0, 1).index_select(0, chosen), targets.flatten().to(device)[chosen]


def _mask(packs: Sequence[Pack], width: int, branch: Tensor) -> Tensor:
    """Boolean [packs, 1, length, width + length]: who may be seen; padding sees padding."""
    length = branch.shape[1]
    prefix = torch.tensor([len(pack.prefix) for pack in packs])
    seen = (torch.arange(width)[None] < prefix[:, None])[:, None].expand(-1, length, -1)
    earlier = torch.arange(length)[:, None] >= torch.arange(length)[None]
    own = earlier[None] & (branch[:, :, None] == branch[:, None, :])
    return torch.cat([seen, own], dim=-1)[:, None]


@torch.no_grad()
def can_share_prefix(model: Any) -> bool:
    """Whether packs are exact on this model, found by trying; else it is trained row by row.

    Raises PivotRLError for a model whose logits are more than a linear head on its decoder.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    prompt = [(7 * i + 1) % vocabulary for i in range(9)]
    completions = [(0, [(5 * i + 2) % vocabulary for i in range(4)]), (1, [3 % vocabulary] * 2)]
    rows, _ = log_probs(model, pack_rows(prompt, completions))
    device = next(model.parameters()).device
    sequence = torch.tensor([prompt + completions[0][1]], device=device)
    logits = model(input_ids=sequence, use_cache=False).logits[0, len(prompt) - 1 : -1]
    every = functional.log_softmax(logits.float(), dim=-1)
    wanted = every.gather(-1, sequence[0, len(prompt) :, None])[:, 0]
    if not torch.allclose(rows[:4].float(), wanted, atol=1e-3):
        raise PivotRLError(
            f"{type(model).__name__} changes its logits after the output layer, which training "
            "does not support; choose a model with a plain linear head"
        )
    config = model.config.get_text_config()
    if getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None):
        return False
    try:
        shared, _ = log_probs(model, pack_shared(prompt, completions, max_tokens=10**6))
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        return False
    return torch.allclose(shared, rows, atol=1e-3)
