"""What `pivotrl plan` computes from shapes, against tensors and operations that are counted."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from test_training_logprobs import MODELS, SMALL
from torch.utils.flop_counter import FlopCounterMode
from training_models import one_thread, random_model

from pivotrl.training.adapters import prepare, with_adapters
from pivotrl.training.estimate import CARDS, Load, memory, pass_bytes, seconds, step_flops
from pivotrl.training.flops import shape_of, tree_flops
from pivotrl.training.logprobs import log_probs
from pivotrl.training.optimizer import adamw, update
from pivotrl.training.tree import Layout, Row

__all__ = ["one_thread"]
LOAD = Load(
    devices=1,
    nodes=1,
    pivots_per_step=1,
    group_size=4,
    prompt_tokens=96,
    action_tokens=16,
    micro_batch_tokens=156,
    batch_rows=64,
    bytes_computed=4,
    checkpointing=False,
    averages=False,
    has_reference=False,
)


def group() -> Layout:
    prompt = tuple(i % 30 for i in range(96))
    return Layout([Row(sample=i, prompt=prompt, completion=(i + 1,) * 16) for i in range(4)])


def wider(name: str) -> Any:
    """A model whose layers outweigh what every pass keeps beside them."""
    make, given = MODELS[name]
    config = type(given["config"])(
        **SMALL
        | {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "num_hidden_layers": 4},
        **({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
           if name == "qwen3_moe" else {}),
    )  # fmt: skip
    torch.manual_seed(0)
    return make(config).eval()


def kept_bytes(model: Any, layout: Layout) -> int:
    """Of the storages that a pass saves for its backward pass, parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept, _ = log_probs(model, layout, "split")
    assert kept.requires_grad
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("name", ["llama", "qwen3_moe"])
def test_a_pass_keeps_what_is_estimated(name: str) -> None:
    model = wider(name)
    measured = kept_bytes(model, group())
    assert pass_bytes(model, LOAD) == pytest.approx(measured, rel=0.25)
    over_budget = dataclasses.replace(LOAD, micro_batch_tokens=40)
    assert 0.5 * measured < pass_bytes(model, over_budget) < pass_bytes(model, LOAD)


@pytest.mark.parametrize("name", ["llama", "qwen3_moe"])
def test_checkpointing_keeps_inputs_and_one_layer_at_a_time(name: str) -> None:
    model = wider(name)
    one_layer = kept_bytes(model, group()) / model.config.num_hidden_layers
    prepare(model, (), True)
    most = kept_bytes(model, group()) + one_layer  # computed again in the backward pass
    load = dataclasses.replace(LOAD, checkpointing=True)
    assert pass_bytes(model, load) == pytest.approx(most, rel=0.1)


def test_what_is_trained_weighs_what_its_tensors_do() -> None:
    for model in (random_model(), with_adapters(random_model(), 4, 8, seed=0)):
        expected = memory(model, LOAD)
        optimizer = adamw(model, 0.0)
        log_probs(model, group(), "split")[0].sum().backward()
        trained = [p for p in model.parameters() if p.requires_grad]
        assert expected["gradients"] == sum(p.grad.nbytes for p in trained)
        update(model, optimizer, step=1, loss=0.0, learning_rate=1e-3, max_grad_norm=1.0)
        moments = [s[k] for s in optimizer.state.values() for k in ("exp_avg", "exp_avg_sq")]
        assert expected["moments"] == sum(m.nbytes for m in moments)
        assert expected["weights"] == sum(p.nbytes for p in model.parameters())


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_operations_are_those_that_torch_counts(name: str) -> None:
    model = random_model(hidden=128, layers=4) if name == "qwen3" else wider(name)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        log_probs(model, group(), "split")
    # Of fused attention on a CPU, torch counts nothing.
    linear = dataclasses.replace(shape_of(model), pair=0)
    assert tree_flops(linear, group()) == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert step_flops(model, LOAD)[0] == tree_flops(shape_of(model), group())


def test_twice_the_devices_hold_half_the_shards_and_take_half_the_time() -> None:
    model = random_model()
    eight, sixteen = (
        dataclasses.replace(LOAD, devices=8 * nodes, nodes=nodes, pivots_per_step=64)
        for nodes in (1, 2)
    )
    for part in ("weights", "gradients", "moments"):
        assert memory(model, eight)[part] == 2 * memory(model, sixteen)[part]
    assert memory(model, eight)["sampler"] == memory(model, sixteen)["sampler"]
    times = [seconds(model, load, CARDS["H100"], 0.4)["train"] for load in (eight, sixteen)]
    assert times[0] == 2 * times[1]
