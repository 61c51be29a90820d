"""Log-probabilities and gradients of trees against rows of their own, and against the model."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from test_training_tree import some_rows
from training_models import one_thread, random_model
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from pivotrl.training import logprobs
from pivotrl.training.logprobs import choose, log_probs
from pivotrl.training.records import Backend
from pivotrl.training.tree import Layout, Row, bins, in_order
from pivotrl.types import PivotRLError

__all__ = ["one_thread"]
SMALL = {
    "vocab_size": 32,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
}
WINDOW = {"sliding_window": 7}
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "qwen2": (Qwen2ForCausalLM, {"config": Qwen2Config(**SMALL)}),
    "llama": (LlamaForCausalLM, {"config": LlamaConfig(**SMALL)}),
    "gemma": (GemmaForCausalLM, {"config": GemmaConfig(**SMALL)}),
    "qwen3_moe": (
        Qwen3MoeForCausalLM,
        {
            "config": Qwen3MoeConfig(
                **SMALL,
                num_experts=4,
                num_experts_per_tok=2,
                moe_intermediate_size=16,
                experts_implementation="eager",
            )
        },
    ),
    "mistral": (MistralForCausalLM, {"config": MistralConfig(**SMALL, **WINDOW)}),
    "qwen2_window": (
        Qwen2ForCausalLM,
        {"config": Qwen2Config(**SMALL, **WINDOW, use_sliding_window=True, max_window_layers=1)},
    ),
    "gemma3": (Gemma3ForCausalLM, {"config": Gemma3TextConfig(**SMALL, **WINDOW)}),
}


def model_of(name: str) -> Any:
    torch.manual_seed(0)
    kind, given_ = MODELS[name]
    return kind(**given_).eval()


def trajectory(seed: int = 0, pivots: int = 4, group: int = 8) -> list[Row]:
    """Pivots of one trajectory, and one prompt of another that begins alike."""
    source = random.Random(seed)

    def some(count: int) -> tuple[int, ...]:
        return tuple(source.randrange(2, 32) for _ in range(count))

    prompts, history = [], some(12)
    for _ in range(pivots):
        history += some(9)
        prompts.append(history)
    prompts.append(history[:8] + some(6))
    return [
        Row(sample=i, prompt=prompt, completion=some(source.randrange(1, 8)))
        for i, prompt in enumerate(p for p in prompts for _ in range(group))
    ]


def values_and_gradient(
    model: Any, layout: Layout, backend: Backend
) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    found, entropy = log_probs(model, layout, backend)
    assert found.shape == entropy.shape
    assert not entropy.requires_grad
    weights = torch.linspace(0.5, 2, len(found), dtype=found.dtype)  # they never cancel
    (weights * found).sum().backward()
    grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return found.detach(), torch.cat(grads)


def check_equal(model: Any, layout: Layout, *backends: Backend) -> None:
    values, gradient = values_and_gradient(model, layout, "rows")
    for backend in backends:
        found, slope = values_and_gradient(model, layout, backend)
        assert (found - values).abs().max() <= 1e-10
        assert torch.dist(slope, gradient) <= 1e-6 * gradient.norm()


@pytest.mark.parametrize("name", ["qwen2", "llama", "gemma", "qwen3_moe"])
def test_a_tree_of_pivots_equals_rows(name: str) -> None:
    model = model_of(name).double()
    layout = Layout(in_order(trajectory()))
    assert layout.row_tokens > 4 * len(layout.ids)
    check_equal(model, layout, "split", "mask")
    assert choose(model, [row.prompt for row in layout.rows]) == "split"


@pytest.mark.parametrize("name", ["mistral", "qwen2_window", "gemma3"])
def test_sliding_windows_are_exact_under_a_mask(name: str) -> None:
    model = model_of(name).double()
    layout = Layout(in_order(trajectory()))
    check_equal(model, layout, "mask")
    whole, _ = log_probs(model, layout, "split")
    by_rows, _ = log_probs(model, layout, "rows")
    assert (whole - by_rows).abs().max() > 1e-4  # or the window would not be tested
    assert choose(model, [row.prompt for row in layout.rows]) == "mask"


@settings(deadline=None, max_examples=40)
@given(some_rows())
def test_any_tree_equals_rows(rows: list[Row]) -> None:
    layouts = [*bins(rows, 25)]
    model = random_model().double()
    for layout in layouts:
        check_equal(model, layout, "split", "mask")


def test_experts_are_chosen_alike_in_a_tree() -> None:
    model = model_of("qwen3_moe").double()
    layout = Layout(in_order(trajectory(group=2)))
    chosen: list[torch.Tensor] = []
    gate = model.model.layers[1].mlp.gate
    gate.register_forward_hook(lambda _module, _inputs, out: chosen.append(out[-1]))
    log_probs(model, layout, "split")
    (in_tree,) = chosen
    chosen.clear()
    for row in layout.rows:
        log_probs(model, Layout([row]), "rows")
    places = {}
    for row, by_row in zip(layout.rows, chosen, strict=True):
        for position, experts in enumerate(by_row):
            places[row.inputs[: position + 1]] = sorted(experts.tolist())
    node_of = {place: node for node in layout.nodes for place in range(node.start, node.stop)}
    for place, experts in enumerate(in_tree):
        node = node_of[place]
        seen = [i for span in node.seen for i in range(*span)] + [*range(node.start, place + 1)]
        assert places[tuple(layout.ids[i] for i in seen)] == sorted(experts.tolist())


def test_adapters_learn_the_same_from_a_tree() -> None:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(
        random_model(),
        LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False),
    ).double()
    layout = Layout(in_order(trajectory()))
    check_equal(adapted.eval(), layout, "split", "mask")


def test_rows_equal_the_model() -> None:
    model = random_model().double()
    row = Row(sample=0, prompt=(3, 4, 5, 6, 7), completion=(10, 14, 15, 1))
    longer = Row(sample=1, prompt=(2,) * 12, completion=(8,))
    found, _ = log_probs(model, Layout([longer, row]), "rows")
    every = model(input_ids=torch.tensor([row.inputs])).logits[0].log_softmax(-1)
    wanted = every[4:].gather(-1, torch.tensor(row.completion)[:, None])[:, 0]
    assert (found[1:] - wanted).abs().max() <= 1e-10


def test_gradient_is_that_of_finite_differences() -> None:
    model = random_model().double()
    layout = Layout(in_order(trajectory(group=2)))
    weight = model.model.layers[0].mlp.up_proj.weight

    def value() -> torch.Tensor:
        return log_probs(model, layout, "split")[0].sum()

    value().backward()
    for place in ((0, 0), (5, 3)):
        step = 1e-3  # coarse: Qwen3's norms compute in float32 in any model
        with torch.no_grad():
            weight[place] += step
            above = value()
            weight[place] -= 2 * step
            below = value()
            weight[place] += step
        numeric = float((above - below) / (2 * step))
        assert float(weight.grad[place]) == pytest.approx(numeric, rel=1e-2, abs=1e-3)


def test_chunks_of_logits_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model().double()
    layout = Layout(in_order(trajectory(group=2)))
    whole = values_and_gradient(model, layout, "split")
    monkeypatch.setattr(logprobs, "LOGITS_AT_ONCE", 3 * 32)
    parts = values_and_gradient(model, layout, "split")
    torch.testing.assert_close(whole, parts, atol=1e-12, rtol=1e-7)


def test_temperature_and_entropy() -> None:
    model = random_model()
    every = (model(input_ids=torch.tensor([[3, 4, 5]])).logits[0, -1] / 0.7).log_softmax(-1)
    layout = Layout([Row(sample=0, prompt=(3, 4, 5), completion=(9,))])
    found, entropy = log_probs(model, layout, "split", temperature=0.7)
    torch.testing.assert_close(found[0], every[9])
    torch.testing.assert_close(entropy[0], -(every.exp() * every).sum())


@pytest.mark.parametrize("backend", ["split", "mask", "rows"])
def test_bfloat16_stays_near_float32(backend: Backend) -> None:
    model = random_model()
    layout = Layout(in_order(trajectory(group=2)))
    exact = values_and_gradient(model, layout, backend)
    near, _ = log_probs(model, layout, backend, dtype="bfloat16")
    near.sum().backward()
    assert near.dtype == torch.float32
    assert not torch.equal(near, exact[0])
    torch.testing.assert_close(near.detach(), exact[0], atol=0.05, rtol=0.05)


def test_gradient_checkpointing_changes_nothing() -> None:
    model = random_model().double()
    layout = Layout(in_order(trajectory(group=2)))
    whole = values_and_gradient(model, layout, "split")
    model.gradient_checkpointing_enable()
    model.train()
    torch.testing.assert_close(values_and_gradient(model, layout, "split"), whole)


def test_split_builds_no_mask_of_tokens_by_tokens() -> None:
    model = random_model()
    layout = Layout(in_order(trajectory(group=40)))
    size = len(layout.ids)

    class Watched(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                assert out.shape[-2:] != (size, size), func
            return out

    with Watched():
        log_probs(model, layout, "split")
        with pytest.raises(AssertionError):
            log_probs(model, layout, "mask")


def test_a_backend_that_is_wrong_is_left_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    monkeypatch.setattr(logprobs.attention, "parts", lambda nodes, device: [])
    with pytest.warns(RuntimeWarning, match="'split' is not used"):
        assert choose(model, [(3, 4, 5, 6), (3, 4, 9)]) == "mask"
    monkeypatch.setattr(logprobs, "_masks", lambda *_: torch.ones(1, 1, 1, 1, dtype=torch.bool))
    with pytest.warns(RuntimeWarning, match="'mask' is not used"):
        assert choose(model, [(3, 4, 5, 6), (3, 4, 9)]) == "rows"


def test_a_trial_on_long_prompts_is_as_small_as_one_on_short_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logprobs, "TRIED_TOKENS", 64)
    model, read, logits = random_model(), [], []
    model.model.embed_tokens.register_forward_hook(lambda _m, _i, out: read.append(out.shape[:-1]))
    model.lm_head.register_forward_hook(lambda _m, _i, out: logits.append(out.numel()))
    prompts = [tuple(range(2, 30)) * 36 + (i,) for i in range(5)]
    assert choose(model, prompts) == "split"
    rows = 3 * logprobs.TRIED
    assert max(shape.numel() for shape in read) <= rows * (64 + 8)
    assert max(logits) <= rows * 8 * 32, "no logits of a prompt's tokens"


def test_learned_positions_are_those_of_the_tree() -> None:
    config = GPT2Config(
        vocab_size=32,
        n_embd=32,
        n_layer=2,
        n_head=4,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        bos_token_id=0,
        eos_token_id=1,
    )
    assert choose(GPT2LMHeadModel(config).eval(), [(3, 4, 5, 6), (3, 4, 9)]) == "split"


def test_models_that_cannot_be_exact_are_refused() -> None:
    from transformers import (
        GptOssConfig,
        GptOssForCausalLM,
        Qwen3NextConfig,
        Qwen3NextForCausalLM,
        RecurrentGemmaConfig,
        RecurrentGemmaForCausalLM,
        RwkvConfig,
        RwkvForCausalLM,
    )

    def refused(model: Any, what: str) -> None:
        with pytest.raises(PivotRLError, match=what):
            choose(model.eval(), [(3, 4, 5)])

    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    linear = {
        "linear_num_value_heads": 2,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "shared_expert_intermediate_size": 16,
    }
    refused(Qwen3NextForCausalLM(Qwen3NextConfig(**SMALL, **experts, **linear)), "linear_attention")
    sinks = GptOssConfig(**SMALL, num_local_experts=2, num_experts_per_tok=1)
    refused(GptOssForCausalLM(sinks), "sinks")
    recurrent = RecurrentGemmaConfig(**SMALL, lru_width=32, attention_window_size=16)
    refused(RecurrentGemmaForCausalLM(recurrent), "recurrent")
    states = RwkvConfig(vocab_size=32, hidden_size=32, num_hidden_layers=2)
    refused(RwkvForCausalLM(states), "no attention")
    refused(random_model(attention_dropout=0.1), "drops out")
    capped = Gemma2Config(**SMALL, final_logit_softcapping=0.01)
    refused(Gemma2ForCausalLM(capped), "plain linear head")
