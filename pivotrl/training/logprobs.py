"""Log-probabilities of completion tokens under a stock Hugging Face causal model.

Three ways to the same numbers. `split`: a whole tree in one sequence, attention node by node.
`mask`: the same sequence under a 4-D mask, which stock SDPA computes exactly; for sliding windows,
and where no fused kernel takes the precision. `rows`: a sequence of its own for every completion,
the reference. Logits exist at predicting positions only, a bounded number at a time. This module
must never know a reward or an advantage.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pivotrl.training import attention, ranks
from pivotrl.training.records import Backend, Dtype
from pivotrl.training.tree import Layout, Row, bins
from pivotrl.types import PivotRLError

LOGITS_AT_ONCE = 2**26
"""Elements of the largest logits tensor: 256 MiB in float32."""
TOLERANCE = 1e-4
"""Nats that a backend may differ from `rows` in float32."""
COARSE_TOLERANCE = 0.1
"""Where the weights themselves are in half precision."""
TRIED = 3
"""Prompts on which a backend is tried."""
TRIED_TOKENS = 2048
"""Of each, its beginning, which prompts share: a trial must fit where a step does."""
BEYOND = 64
"""Tokens by which a trial is longer than a sliding window."""
SLIDING = "sliding_attention"


def precision(device: torch.device, dtype: Dtype) -> AbstractContextManager[Any]:
    """Autocast for bfloat16 over float32 weights; entered anew for every pass, since its cache
    of cast weights must not outlive an update or cross from no_grad into grad."""
    return torch.autocast(device.type, torch.bfloat16) if dtype == "bfloat16" else nullcontext()


def log_probs(
    model: Any,
    layout: Layout,
    backend: Backend,
    *,
    temperature: float = 1.0,
    dtype: Dtype = "float32",
) -> tuple[Tensor, Tensor]:
    """Natural log-probabilities [N] and entropies [N] (no gradient) of the rows' completions.

    N runs over `layout.rows`, their completions' tokens, in order. At least float32. Where the
    model is in shards, all processes must call together.
    """
    return ranks.run(model, _log_probs, layout, backend, temperature, dtype)


def _log_probs(
    model: Any, layout: Layout, backend: Backend, temperature: float, dtype: Dtype
) -> tuple[Tensor, Tensor]:
    device = next(model.parameters()).device
    targets = torch.tensor([i for row in layout.rows for i in row.completion], device=device)
    with precision(device, dtype):
        if backend == "rows":
            hidden = _hidden_of_rows(model, layout, device)
        else:
            hidden = _hidden_of_tree(model, layout, backend, device)
        head = model.get_output_embeddings()
        size = max(1, LOGITS_AT_ONCE // head.weight.shape[0])
        if len(hidden) <= size:
            return _token_log_probs(head, hidden, targets, temperature)
        found = [
            # Recomputed in the backward pass: otherwise every chunk's logits would be kept.
            checkpoint(_token_log_probs, head, rows, ids, temperature, use_reentrant=False)
            for rows, ids in zip(hidden.split(size), targets.split(size), strict=True)
        ]
    return torch.cat([part[0] for part in found]), torch.cat([part[1] for part in found])


def _token_log_probs(
    head: Any, hidden: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    logits = head(hidden)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    every = functional.log_softmax(logits, dim=-1)
    with torch.no_grad():
        entropy = -(every.exp() * every).sum(-1)
    return every.gather(-1, targets[:, None])[:, 0], entropy


def decoder(model: Any) -> Any:
    """The model without its head, under adapters or not."""
    return getattr(model, "get_base_model", lambda: model)().base_model


def _hidden_of_rows(model: Any, layout: Layout, device: torch.device) -> Tensor:
    """The decoder's output [N, width] at the tokens that predict."""
    length = max(len(row.inputs) for row in layout.rows)
    ids = torch.zeros((len(layout.rows), length), dtype=torch.long)
    chosen: list[int] = []
    for number, row in enumerate(layout.rows):
        ids[number, : len(row.inputs)] = torch.tensor(row.inputs)
        start = number * length
        chosen += range(start + len(row.prompt) - 1, start + len(row.inputs))
    # Right padding needs no mask: no real token looks to the right.
    hidden = decoder(model)(input_ids=ids.to(device), use_cache=False).last_hidden_state
    return _at(hidden.flatten(0, 1), chosen, device)


def _hidden_of_tree(model: Any, layout: Layout, backend: Backend, device: torch.device) -> Tensor:
    if model.config._attn_implementation != attention.NAME:
        model.set_attn_implementation(attention.NAME)  # as before for all but trees
    inputs: dict[str, Any] = {}
    if backend == "split":
        inputs["tree"] = attention.parts(layout.nodes, device)
        # Nobody reads it: given one, transformers builds no mask of tokens by tokens.
        inputs["attention_mask"] = torch.ones((1, 1, 1, 1), dtype=torch.bool, device=device)
    else:
        inputs["attention_mask"] = _masks(model, layout, device)
    hidden = decoder(model)(
        input_ids=torch.tensor([layout.ids], device=device),
        position_ids=torch.tensor([layout.positions], device=device),
        use_cache=False,
        **inputs,
    ).last_hidden_state
    return _at(hidden[0], layout.predicting, device)


def _at(hidden: Tensor, places: list[int], device: torch.device) -> Tensor:
    # index_select: its backward adds in a fixed order on a CPU, that of plain indexing does not.
    return hidden.index_select(0, torch.tensor(places, device=device))


def _masks(model: Any, layout: Layout, device: torch.device) -> Tensor | dict[str, Tensor]:
    """Boolean [1, 1, T, T]: who may be seen; for models of several layer types, one a type."""
    size = len(layout.ids)
    full = torch.zeros((size, size), dtype=torch.bool, device=device)
    for node in layout.nodes:
        length = node.stop - node.start
        own = torch.ones((length, length), dtype=torch.bool, device=device).tril()
        full[node.start : node.stop, node.start : node.stop] = own
        for start, stop in node.seen:
            full[node.start : node.stop, start:stop] = True
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None)
    near = full
    if window and (types is None or SLIDING in types):
        positions = torch.tensor(layout.positions, device=device)
        near = full & (positions[:, None] - positions[None] < window)
    if types is None:
        return near[None, None]
    return {kind: (near if kind == SLIDING else full)[None, None] for kind in set(types)}


@torch.no_grad()
def choose(model: Any, prompts: Sequence[Sequence[int]], dtype: Dtype = "float32") -> Backend:
    """The fastest backend that is exact on this model, tried on the beginnings of some prompts.

    `dtype`: of training; a model in shards computes in it here too.
    Warns of each that is not. Raises PivotRLError for models whose numbers cannot be exact:
    attention that no mask describes, sinks, dropout, logits changed after a linear head.
    """
    _refuse(model)
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    longest = max(TRIED_TOKENS, (window or 0) + BEYOND)
    rows = [
        Row(sample=0, prompt=tuple(prompt), completion=tuple(completion))
        for prompt in (whole[:longest] for whole in prompts[:TRIED])
        for completion in (prompt[-8:], prompt[:3], prompt[1:2] or prompt[:1])
    ]
    layout = next(bins(rows, sum(len(row.inputs) for row in rows)))
    exact = model.dtype in (torch.float32, torch.float64)
    exact = exact and not (ranks.is_sharded(model) and dtype == "bfloat16")
    tolerance = TOLERANCE if exact else COARSE_TOLERANCE
    by_rows, _ = log_probs(model, layout, "rows")
    plain = ranks.run(model, _of_the_model, layout)
    if not all(ranks.gathered(torch.allclose(by_rows, plain, atol=10 * tolerance))):
        raise PivotRLError(
            f"{type(model).__name__} changes its logits after the output layer, which training "
            "does not support; choose a model with a plain linear head"
        )
    tried: tuple[Backend, ...] = ("split", "mask") if window is None else ("mask",)
    for backend in tried:
        try:
            found, _ = log_probs(model, layout, backend)
            worst = max(ranks.gathered(float((found - by_rows).abs().max())))
            problem = f"differs by {worst:.1e} nats"
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            if ranks.is_sharded(model):
                raise  # amid a pass, nobody knows where the others are
            worst, problem = math.inf, f"fails: {str(error).splitlines()[0][:100]}"
        if worst <= tolerance:
            return backend
        complaint = f"backend {backend!r} is not used, since on this model it {problem}"
        warnings.warn(complaint, RuntimeWarning, stacklevel=3)
    return "rows"


def _of_the_model(model: Any, layout: Layout) -> Tensor:
    """The same from the model's own logits, row by row."""
    found = []
    device = next(model.parameters()).device
    for row in layout.rows:
        ids = torch.tensor([row.inputs], device=device)
        targets = torch.tensor(row.completion, device=device)
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(targets)).logits[0]
        found.append(_token_log_probs(torch.nn.Identity(), logits, targets, 1.0)[0])
    return torch.cat(found)


def _refuse(model: Any) -> None:
    name = type(model).__name__
    config = model.config.get_text_config()
    kinds = {*(getattr(config, "layer_types", None) or ())}
    kinds |= {*(getattr(config, "layers_block_type", None) or ())}  # as older models call them
    odd = kinds - {"full_attention", SLIDING, "attention"}
    if not getattr(config, "num_attention_heads", None):
        odd = {"no attention"}
    if odd or getattr(config, "attention_chunk_size", None):
        what = ", ".join(sorted(odd)) or "chunked attention"
        raise PivotRLError(f"{name} has {what}: training needs full or sliding attention")
    if any("sinks" in parameter for parameter, _ in model.named_parameters()):
        raise PivotRLError(f"{name} has attention sinks, which training does not support")
    drops = any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in model.modules())
    if drops or getattr(config, "attention_dropout", False):
        raise PivotRLError(
            f"{name} drops out: a log-probability would be of another network each time; set "
            "dropout to 0 in its configuration"
        )
