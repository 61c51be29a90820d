"""Log-probabilities and gradients of shared prompts against plain rows and against the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from training_models import one_thread, random_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from pivotrl.training import logprobs
from pivotrl.training.logprobs import can_share_prefix, log_probs
from pivotrl.training.packing import Pack, micro_batches, pack_rows, pack_shared
from pivotrl.types import PivotRLError

__all__ = ["one_thread"]

GROUPS = [
    ([3, 4, 5, 6, 7, 8, 9], [[10, 11, 12], [13], [], [10, 14, 15, 16, 1]]),
    ([2, 9], [[5, 5], [6, 1]]),
    ([4], [[8, 1], [9, 10, 1]]),
]


def packs_of(kind: str, max_tokens: int = 10**6) -> list[Pack]:
    out, start = [], 0
    for prompt, completions in GROUPS:
        numbered = [(start + i, c) for i, c in enumerate(completions)]
        start += len(completions)
        out += (
            pack_rows(prompt, numbered)
            if kind == "rows"
            else pack_shared(prompt, numbered, max_tokens)
        )
    return out


def by_sample(
    model: Any, packs: list[Pack], micro_batch_tokens: int = 10**6, temperature: float = 1.0
) -> dict[int, torch.Tensor]:
    out: dict[int, torch.Tensor] = {}
    for part in micro_batches(packs, micro_batch_tokens):
        found, entropy = log_probs(model, part, temperature=temperature)
        assert found.shape == entropy.shape
        assert not entropy.requires_grad
        for pack in part:
            for index, branch in zip(pack.samples, pack.branches, strict=True):
                length = sum(t >= 0 for t in branch.targets)
                out[index], found = found[:length], found[length:]
        assert len(found) == 0
    return out


def gradient(model: Any, found: dict[int, torch.Tensor]) -> torch.Tensor:
    model.zero_grad()
    sum((index + 1) * values.sum() for index, values in found.items()).backward()  # type: ignore[union-attr]
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("max_tokens", "micro_batch_tokens"), [(1, 1), (10, 20), (10, 10**6), (10**6, 10**6)]
)
def test_shared_prompt_equals_rows_equals_the_model(
    max_tokens: int, micro_batch_tokens: int
) -> None:
    model = random_model().double()
    rows = by_sample(model, packs_of("rows"), 1)
    shared = by_sample(model, packs_of("shared", max_tokens), micro_batch_tokens)
    assert rows.keys() == shared.keys()
    for index, values in rows.items():
        assert (values - shared[index]).abs().max() <= 1e-10
    assert torch.dist(g := gradient(model, rows), gradient(model, shared)) <= 1e-6 * g.norm()
    ids = torch.tensor([GROUPS[0][0] + GROUPS[0][1][3]])
    every = model(input_ids=ids).logits[0].log_softmax(-1)
    wanted = every[6:-1].gather(-1, ids[0, 7:, None])[:, 0]
    assert (rows[3] - wanted).abs().max() <= 1e-10


def test_gradient_is_that_of_finite_differences() -> None:
    model = random_model().double()
    weight = model.model.layers[0].mlp.up_proj.weight

    def value() -> torch.Tensor:
        return torch.stack([v.sum() for v in by_sample(model, packs_of("shared")).values()]).sum()

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
    whole = by_sample(model, packs_of("shared"))
    wanted = gradient(model, whole)
    monkeypatch.setattr(logprobs, "LOGITS_AT_ONCE", 3 * 32)
    parts = by_sample(model, packs_of("shared"))
    assert all(torch.allclose(whole[i], parts[i], atol=1e-12) for i in whole)
    torch.testing.assert_close(gradient(model, parts), wanted)


def test_temperature_and_entropy() -> None:
    model = random_model()
    ids = torch.tensor([[3, 4, 5]])
    every = (model(input_ids=ids).logits[0, -1] / 0.7).log_softmax(-1)
    found, entropy = log_probs(model, pack_shared([3, 4, 5], [(0, [9])], 99), temperature=0.7)
    torch.testing.assert_close(found[0], every[9])
    torch.testing.assert_close(entropy[0], -(every.exp() * every).sum())


def test_bfloat16_stays_near_float32() -> None:
    model = random_model()
    exact, _ = log_probs(model, packs_of("shared"))
    near, _ = log_probs(model, packs_of("shared"), dtype="bfloat16")
    assert near.dtype == torch.float32
    assert not torch.equal(near, exact)
    torch.testing.assert_close(near, exact, atol=0.05, rtol=0.05)


def test_which_models_share_a_prompt() -> None:
    assert can_share_prefix(random_model())
    llama = {"vocab_size": 32, "hidden_size": 32, "intermediate_size": 64}
    torch.manual_seed(0)
    config = LlamaConfig(**llama, num_hidden_layers=2, num_attention_heads=4)
    assert can_share_prefix(LlamaForCausalLM(config).eval())
    gpt2 = GPT2Config(vocab_size=32, n_embd=32, n_layer=2, n_head=4)
    assert can_share_prefix(GPT2LMHeadModel(gpt2).eval())
    window = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}
    assert not can_share_prefix(random_model(**window))


def test_a_sliding_window_is_exact_by_rows() -> None:
    window = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}
    model = random_model(**window)
    found = by_sample(model, packs_of("rows"))
    ids = torch.tensor([GROUPS[0][0] + GROUPS[0][1][3]])
    every = model(input_ids=ids).logits[0].log_softmax(-1)
    torch.testing.assert_close(found[3], every[6:-1].gather(-1, ids[0, 7:, None])[:, 0])


def test_a_model_that_changes_its_logits_is_refused() -> None:
    model = random_model()
    forward = model.forward

    def capped(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs)
        out.logits = 0.1 * torch.tanh(out.logits / 0.1)
        return out

    model.forward = capped
    with pytest.raises(PivotRLError, match="plain linear head"):
        can_share_prefix(model)
