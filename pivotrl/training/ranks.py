"""Several processes at one round: who has what, and one model in shards over all (FSDP2).

Under `torchrun` each process holds a shard of weights, gradients and moments, samples and learns
its own part of a step's groups, and knows every group: so all take the same decisions. Alone,
every function here does nothing. What processes of one round tell each other is theirs alone. It
must never know an algorithm.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import chain, zip_longest
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

T = TypeVar("T")
PATIENCE = timedelta(hours=2)
"""The first writes a policy, somebody waits for a judge: the others wait for them."""


def join(device: str) -> str:
    """Enter the process group that `torchrun` describes; this process's own device."""
    kind = torch.device(device).type
    if kind == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=PATIENCE)
    return device


def number() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def wait() -> None:
    """Until everybody is here."""
    if count() > 1:
        distributed.barrier()


def gathered(own: T) -> list[T]:
    """What everybody has, in the order of the ranks."""
    if count() == 1:
        return [own]
    found: list[Any] = [None] * count()
    distributed.all_gather_object(found, own)
    return found


def dealt(items: Sequence[T]) -> Sequence[T]:
    """This process's part of what everybody has; `collected` puts results in order again."""
    return items[number() :: count()]


def collected(own: Sequence[T]) -> list[T]:
    """One result for each item that was dealt, in the items' order."""
    rows = zip_longest(*([[item] for item in part] for part in gathered(own)), fillvalue=[])
    return [*chain.from_iterable(chain.from_iterable(rows))]


def balanced(costs: Sequence[float], parts: int) -> list[list[int]]:
    """Items into parts of like cost: the largest first, each to the part that has least.

    At most 4/3 of the best possible heaviest part (Graham, 1969).
    """
    shares: list[list[int]] = [[] for _ in range(parts)]
    loads = [0.0] * parts
    for item in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        lightest = loads.index(min(loads))
        shares[lightest].append(item)
        loads[lightest] += costs[item]
    return [sorted(share) for share in shares]


def sharded(load: Callable[[], Any], hollow: Callable[[], Any], device: str, dtype: str) -> Any:
    """A model in shards over all processes; only the first ever holds it whole, on the CPU.

    `load` makes it with its weights, `hollow` the same without any (on the `meta` device). Passes
    go through `run` and compute in `dtype`; shards, gradients and their sums are what `load` made,
    float32 as a rule.
    """
    first = number() == 0
    model = load() if first else hollow()
    state = model.state_dict() if first else {}
    mesh = init_device_mesh(torch.device(device).type, (count(),))
    half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    policy = half if dtype == "bfloat16" else MixedPrecisionPolicy()
    buffers = {
        name: buffer.to(device) if first else torch.empty_like(buffer, device=device)
        for name, buffer in model.named_buffers()
    }
    for layer in [m for m in model.modules() if type(m).__name__ in model._no_split_modules]:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    model.to_empty(device=device)
    set_model_state_dict(
        model, state, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    )
    for name, buffer in buffers.items():  # a state dict lacks those of rotations
        distributed.broadcast(buffer, 0)
        owner, _, own = name.rpartition(".")
        setattr(model.get_submodule(owner), own, buffer)
    model.tie_weights()
    for part in filter(is_sharded, model.modules()):
        part.set_gradient_divide_factor(1.0)  # a loss is divided by what counts in the whole step
        part.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    model.run_whole = MethodType(_call, model)
    register_fsdp_forward_method(model, "run_whole")
    return model.eval()


def _call(model: Any, function: Callable[..., T], *inputs: Any) -> T:
    return function(model, *inputs)


def run(model: Any, function: Callable[..., T], *inputs: Any) -> T:
    """`function(model, *inputs)`, a pass; shards are gathered layer by layer, by all together."""
    if not is_sharded(model):
        return function(model, *inputs)
    found = model.run_whole(function, *inputs)
    if not torch.is_grad_enabled():
        model.reshard()  # else it waits for a backward pass
    return found


def is_sharded(model: Any) -> bool:
    return isinstance(model, FSDPModule)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; everybody must ask together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, in its memory: to read or to write."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
