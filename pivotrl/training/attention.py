"""Attention over a tree of sequences, exact and without a mask of tokens by tokens.

Every node attends to itself (causal) and to what it sees of the tree (whole), by the fused kernels
of PyTorch; the two parts are merged by their log-sum-exp, and the backward pass hands each part
the merged one, which makes its gradients exact (as in ring attention, arXiv 2310.01889). The
function is registered with transformers, so that stock models run on it. It must never know a loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from pivotrl.training.tree import Node, Span

NAME = "pivotrl_tree"
HALF = (torch.bfloat16, torch.float16)
_aten = torch.ops.aten


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Short nodes side by side; a shorter one is filled up with its own last token."""

    places: Tensor
    """[rows, length]"""
    filling: Tensor | None
    """[rows, 1, length, 1]: 0 where a row is filled up, 1 elsewhere; None where none is."""
    real: Tensor
    """[tokens]: which of the rows' places, counted through, are no filling."""
    tokens: Tensor
    """[tokens]: where these stand in the sequence, each once."""


@dataclass(frozen=True, slots=True)
class Part:
    """One call of the kernel."""

    queries: Span | Rows
    keys: tuple[Span, ...] | None
    """None: the queries' own, causal."""


def parts(nodes: Sequence[Node], device: torch.device) -> list[Part]:
    """The calls that make up a layout's attention; short nodes of like length share one."""
    out = []
    for _, alike in groupby(
        sorted(nodes, key=lambda n: n.start - n.stop), key=lambda n: (n.stop - n.start).bit_length()
    ):
        spans = [(node.start, node.stop) for node in alike]
        out.append(Part(spans[0] if len(spans) == 1 else _rows(spans, device), None))
    for seen, together in groupby(nodes, key=lambda node: node.seen):
        if seen:
            members = [*together]
            out.append(Part((members[0].start, members[-1].stop), seen))
    return out


def _rows(spans: Sequence[Span], device: torch.device) -> Rows:
    starts, stops = torch.tensor(spans, device=device).unbind(1)
    places = starts[:, None] + torch.arange(int((stops - starts).max()), device=device)
    is_real = places < stops[:, None]
    return Rows(
        places=places.minimum(stops[:, None] - 1),
        filling=None if is_real.all() else is_real[:, None, :, None],
        real=is_real.flatten().nonzero()[:, 0],
        tokens=places[is_real],
    )


def tree_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    tree: list[Part] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' interface; without `tree` it is transformers' own SDPA."""
    if tree is None:
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return out, None
    device = query.device.type
    if torch.is_autocast_enabled(device):  # it casts for SDPA, but knows nothing of this function
        dtype = torch.get_autocast_dtype(device)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    repeats = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, repeats), repeat_kv(value, repeats)
    out = _Tree.apply(query, key, value, tree, scaling)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, tree_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


class _Tree(torch.autograd.Function):
    """q, k, v [1, heads, T, width] -> out [1, heads, T, width]."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, tree: list[Part], scale: float | None
    ) -> Tensor:
        out = torch.empty_like(q)
        lse = torch.empty(
            q.shape[:3], dtype=torch.promote_types(q.dtype, torch.float32), device=q.device
        )
        calls = []
        for part in tree:
            found, weight, state = _kernel(
                _take(q, part.queries), _keys(k, part), _keys(v, part), part.keys is None, scale
            )
            calls.append(state)
            if part.keys is None:
                _put(out, part.queries, found)
                _put(lse, part.queries, weight)
                continue
            assert isinstance(part.queries, tuple)
            here = slice(*part.queries)
            both = torch.logaddexp(lse[:, :, here], weight)
            own = (lse[:, :, here] - both).exp()[..., None]
            seen = (weight - both).exp()[..., None]
            out[:, :, here] = (own * out[:, :, here] + seen * found).to(out.dtype)
            lse[:, :, here] = both
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.tree, ctx.scale, ctx.calls = tree, scale, calls
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for part, state in zip(ctx.tree, ctx.calls, strict=True):
            incoming = _take(grad, part.queries)
            if isinstance(part.queries, Rows) and part.queries.filling is not None:
                incoming = incoming * part.queries.filling  # it learns and teaches nothing
            gq, gk, gv = _kernel_backward(
                incoming,
                (_take(q, part.queries), _keys(k, part), _keys(v, part)),
                _take(out, part.queries),
                _take(lse, part.queries),
                part.keys is None,
                ctx.scale,
                state,
            )
            _add(dq, part.queries, gq)
            if part.keys is None:
                _add(dk, part.queries, gk)
                _add(dv, part.queries, gv)
                continue
            start = 0
            for span in part.keys:
                stop = start + span[1] - span[0]
                _add(dk, span, gk[:, :, start:stop])
                _add(dv, span, gv[:, :, start:stop])
                start = stop
        return dq, dk, dv, None, None


def _take(x: Tensor, where: Span | Rows) -> Tensor:
    """The tokens of a part: [1, heads, length, ...] of a span, [rows, heads, length, ...] else."""
    if isinstance(where, tuple):
        return x[:, :, slice(*where)]
    taken = x[0].index_select(1, where.places.flatten())
    return taken.unflatten(1, where.places.shape).transpose(0, 1)


def _keys(x: Tensor, part: Part) -> Tensor:
    if part.keys is None:
        return _take(x, part.queries)
    slices = [x[:, :, slice(*span)] for span in part.keys]
    return slices[0] if len(slices) == 1 else torch.cat(slices, dim=2)


def _put(x: Tensor, where: Span | Rows, values: Tensor) -> None:
    if isinstance(where, tuple):
        x[:, :, slice(*where)] = values
    else:
        x[0].index_copy_(1, where.tokens, _real(values, where))


def _add(x: Tensor, where: Span | Rows, values: Tensor) -> None:
    if isinstance(where, tuple):
        x[:, :, slice(*where)] += values
    else:
        x[0].index_add_(1, where.tokens, _real(values, where))


def _real(values: Tensor, where: Rows) -> Tensor:
    """[rows, heads, length, ...] -> [heads, tokens, ...]"""
    flat = values.transpose(0, 1).flatten(1, 2)
    return flat if where.filling is None else flat.index_select(1, where.real)


def _kernel(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float | None
) -> tuple[Tensor, Tensor, Any]:
    """Output, log-sum-exp [.., length] and what the backward pass needs of the call."""
    if q.device.type == "cpu":
        out, lse = _aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, causal, scale=scale
        )
        return out, lse, None
    if q.dtype in HALF:
        found = _aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, scale=scale)
        return found[0], found[1][..., : q.shape[2]], found[2:8]
    out, lse, seed, offset = _aten._scaled_dot_product_efficient_attention(
        q, k, v, None, True, 0.0, causal, scale=scale
    )
    return out, lse[..., : q.shape[2]], (lse.shape[2], seed, offset)


def _kernel_backward(
    grad: Tensor,
    qkv: tuple[Tensor, Tensor, Tensor],
    out: Tensor,
    lse: Tensor,
    causal: bool,
    scale: float | None,
    state: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    grad = grad.contiguous()
    if grad.device.type == "cpu":
        found = _aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, *qkv, out, lse, 0.0, causal, scale=scale
        )
    elif grad.dtype in HALF:
        *sizes, seed, offset = state
        found = _aten._scaled_dot_product_flash_attention_backward(
            grad, *qkv, out, lse.contiguous(), *sizes, 0.0, causal, seed, offset, scale=scale
        )
    else:
        length, seed, offset = state  # its log-sum-exp is filled up to whole blocks
        filled = torch.nn.functional.pad(lse, (0, length - lse.shape[2]), value=torch.inf)
        found = _aten._scaled_dot_product_efficient_attention_backward(
            grad,
            *qkv,
            None,
            out,
            filled,
            seed,
            offset,
            0.0,
            [True, True, True, False],
            causal,
            scale=scale,
        )
    return found[0], found[1], found[2]
