"""The in-process engine against plain forward passes and `generate` of transformers."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tiny_model import make_tiny_model
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from pivotrl.engines import decoding, shared_prompt
from pivotrl.engines.drawing import draw
from pivotrl.engines.hf import HFEngine, load_model
from pivotrl.types import (
    ConfigError,
    FinishReason,
    PivotRLError,
    RolloutStatus,
    SamplingParams,
    seed_of,
)

VOCABULARY = 300
STOP = frozenset({2, 3, 4, 5, 6, 7, 8, 9})
COMMON = [11, 12, 13, 14, 15, 16, 17, 18, 19, 20]
PROMPTS = [
    [*COMMON, 21, 22, 23],
    [10, 11],
    [*COMMON, 21, 22, 23, 24, 25, 26, 27, 28],
    [*COMMON, 40],
    COMMON,
    [*COMMON, 21, 22, 23],
    [*COMMON, 90, 91, 92, 93],
]
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "eos_token_id": 2,
    "bos_token_id": None,
    "pad_token_id": 0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_tiny_model(tmp_path_factory.mktemp("model"), vocab=VOCABULARY, context=256)


@pytest.fixture
def model(folder: Path):
    return load_model(folder)


def engine_of(model, stop_ids=STOP, **options) -> HFEngine:
    return HFEngine(
        model, stop_ids=stop_ids, pad_id=0, decode=lambda ids: str(list(ids)), **options
    )


def forward_logprobs(model, prompt, token_ids, temperature=1.0):
    ids = torch.tensor([[*prompt, *token_ids]])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float() / temperature
    chosen = torch.log_softmax(logits, -1).gather(1, ids[0, len(prompt) :, None])
    return chosen[:, 0]


def check_samples(model, groups, n, max_tokens, temperature=1.0):
    lengths = set()
    for prompt, group in zip(PROMPTS, groups, strict=True):
        assert len(group) == n
        for sample in group:
            expected = forward_logprobs(model, prompt, sample.token_ids, temperature)
            torch.testing.assert_close(
                torch.tensor(sample.logprobs), expected, atol=1e-4, rtol=0, check_dtype=False
            )
            stopped = sample.token_ids[-1] in STOP
            assert not STOP & set(sample.token_ids[:-1])
            assert stopped or len(sample.token_ids) == max_tokens
            assert sample.finish_reason == (FinishReason.STOP if stopped else FinishReason.LENGTH)
            assert sample.text == str(list(sample.token_ids[: -1 if stopped else None]))
            assert sample.status == RolloutStatus.OK
            lengths.add(len(sample.token_ids))
    return lengths


@pytest.mark.parametrize("max_batch_rows", [3, 16, 256])
def test_logprobs_are_those_of_a_plain_forward_pass(model, max_batch_rows):
    """Rows that end at different times, refills, shares and compaction included."""
    engine = engine_of(model, max_batch_rows=max_batch_rows)
    params = SamplingParams(max_tokens=70, temperature=1.3)
    groups = engine.sample(PROMPTS, 5, params, list(range(len(PROMPTS))))
    lengths = check_samples(model, groups, 5, 70, temperature=1.3)
    assert len(lengths) > 10 and max(lengths) > 66  # beyond the store's first capacity


def test_little_memory_makes_the_batch_smaller(model, monkeypatch):
    params, seeds = SamplingParams(max_tokens=20), list(range(len(PROMPTS)))
    expected = engine_of(model).sample(PROMPTS, 3, params, seeds)
    monkeypatch.setattr(decoding, "CPU_BYTES_FOR_KEYS", 1)
    rows = []
    step = decoding.Decoding._step
    monkeypatch.setattr(
        decoding.Decoding, "_step", lambda self: (rows.append(len(self._rows)), step(self))
    )
    groups = engine_of(model).sample(PROMPTS, 3, params, seeds)
    assert [[s.token_ids for s in g] for g in groups] == [
        [s.token_ids for s in g] for g in expected
    ]
    assert max(rows) == 3


@pytest.mark.parametrize(
    ("configuration", "architecture"),
    [
        (Qwen2Config(**SHAPE), Qwen2ForCausalLM),
        (LlamaConfig(**SHAPE), LlamaForCausalLM),
        (MistralConfig(**SHAPE, head_dim=16, sliding_window=64), MistralForCausalLM),
        (
            Qwen3MoeConfig(**SHAPE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32),
            Qwen3MoeForCausalLM,
        ),
    ],
)
def test_other_architectures(configuration, architecture):
    torch.manual_seed(0)
    model = architecture(configuration).eval()
    groups = engine_of(model).sample(PROMPTS, 2, SamplingParams(max_tokens=30), [1] * len(PROMPTS))
    check_samples(model, groups, 2, 30)


def test_bfloat16_stays_near_a_plain_forward_pass(folder):
    model = load_model(folder, dtype="bfloat16")
    params = SamplingParams(max_tokens=20)
    groups = engine_of(model).sample(PROMPTS, 3, params, [0] * len(PROMPTS))
    differences = [
        (torch.tensor(s.logprobs) - forward_logprobs(model, prompt, s.token_ids)).abs().mean()
        for prompt, group in zip(PROMPTS, groups, strict=True)
        for s in group
    ]
    assert sum(differences) / len(differences) < 0.05


def test_broken_attention_is_noticed_before_the_first_sample(model, monkeypatch):
    monkeypatch.setattr(shared_prompt, "_merge", lambda parts: parts[0][0] / parts[0][2])
    with pytest.raises(ConfigError, match="off by"):
        engine_of(model)


def test_a_window_that_binds_is_refused():
    model = MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=16)).eval()
    with pytest.raises(PivotRLError, match="sliding window 16"):
        engine_of(model).sample(PROMPTS, 2, SamplingParams(max_tokens=30), [1] * len(PROMPTS))


def test_an_attention_that_the_engine_does_not_compute_is_refused():
    model = Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=16)).eval()
    with pytest.raises(PivotRLError, match="softcap"):
        engine_of(model)


def test_greedy_is_what_generate_does(model):
    engine = engine_of(model, stop_ids=frozenset({2}), max_batch_rows=4)
    params = SamplingParams(max_tokens=24, temperature=0)
    groups = engine.sample(PROMPTS, 1, params, [0] * len(PROMPTS))
    for prompt, (sample,) in zip(PROMPTS, groups, strict=True):
        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids)
        output = model.generate(
            ids, attention_mask=mask, do_sample=False, max_new_tokens=24, pad_token_id=0
        )
        assert list(sample.token_ids) == output[0, len(prompt) :].tolist()
        assert set(sample.logprobs) == {0.0}


def test_the_same_call_gives_the_same_bytes(model):
    params = SamplingParams(max_tokens=20)
    seeds = [seed_of("test", index) for index in range(len(PROMPTS))]
    first = engine_of(model, max_batch_rows=8).sample(PROMPTS, 3, params, seeds)
    assert engine_of(model, max_batch_rows=8).sample(PROMPTS, 3, params, seeds) == first
    assert first[0] != first[5]  # same prompt, other seed
    assert first[2][1].seed == seed_of(seeds[2], 1)


def test_a_sample_depends_on_its_seed_and_index_alone(model):
    """Not on the batch's other prompts, their order, n or the number of rows."""
    params = SamplingParams(max_tokens=12)
    seeds = list(range(len(PROMPTS)))
    together = engine_of(model, max_batch_rows=16).sample(PROMPTS, 4, params, seeds)
    for index, prompt in enumerate(PROMPTS):
        (alone,) = engine_of(model).sample([prompt], 2, params, [seeds[index]])
        assert [s.token_ids for s in alone] == [s.token_ids for s in together[index][:2]]


@pytest.mark.parametrize("top_p", [1.0, 0.6])
def test_first_tokens_follow_the_softmax(model, top_p):
    count = 4000
    temperature = 0.5
    engine = engine_of(model, stop_ids=frozenset())
    params = SamplingParams(max_tokens=1, temperature=temperature, top_p=top_p)
    (group,) = engine.sample([COMMON], count, params, [0])
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([COMMON])).logits[0, -1].double()
    expected = torch.softmax(logits / temperature, -1)
    ordered, ids = expected.sort(descending=True)
    kept = ids[: int((ordered.cumsum(0) < top_p).sum()) + 1] if top_p < 1 else ids
    masked = torch.zeros_like(expected)
    masked[kept] = expected[kept]
    masked /= masked.sum()
    seen = torch.zeros(VOCABULARY, dtype=torch.double)
    for sample in group:
        seen[sample.token_ids[0]] += 1
        assert sample.logprobs[0] == pytest.approx(
            float(masked[sample.token_ids[0]].log()), abs=1e-4
        )
    often = masked * count >= 5
    pooled_expected = torch.cat([masked[often], masked[~often].sum()[None]]) * count
    pooled_seen = torch.cat([seen[often], seen[~often].sum()[None]])
    used = pooled_expected > 0
    assert seen[masked == 0].sum() == 0
    statistic = ((pooled_seen - pooled_expected)[used] ** 2 / pooled_expected[used]).sum()
    freedom = int(used.sum()) - 1
    assert freedom > 5
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5  # four standard deviations


def test_draw_never_takes_an_impossible_token():
    logits = torch.full((4, 6), -torch.inf)
    logits[:, 3] = 0.0
    for uniform in (0.0, 0.5, 1 - 2**-53):
        ids, logprobs = draw(
            logits, torch.full((4,), uniform, dtype=torch.double), SamplingParams(max_tokens=1)
        )
        assert ids.tolist() == [3] * 4 and logprobs.tolist() == [0.0] * 4


def test_progress_adds_up(model):
    calls = []
    groups = engine_of(model, max_batch_rows=8).sample(
        PROMPTS, 3, SamplingParams(max_tokens=10), [0] * len(PROMPTS), lambda *c: calls.append(c)
    )
    tokens = sum(len(s.token_ids) for group in groups for s in group)
    assert [sum(column) for column in zip(*calls, strict=True)] == [3 * len(PROMPTS), tokens]


def test_broken_weights_are_a_status_not_a_text(model):
    engine = engine_of(model)
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    (group,) = engine.sample([COMMON], 2, SamplingParams(max_tokens=5), [0])
    assert [sample.status for sample in group] == [RolloutStatus.ENGINE_ERROR] * 2
    assert group[0].token_ids == ()


POISON = 299


@contextmanager
def trouble(model, happens):
    """`happens` before each pass over a prompt with three of the token POISON."""

    def check(module, args, kwargs):
        if (kwargs["input_ids"] == POISON).sum() >= 3:
            happens()

    handle = model.register_forward_pre_hook(check, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def test_an_exception_is_a_status_of_the_prompts_concerned(model, caplog):
    caplog.set_level(logging.WARNING, logger="pivotrl.engines")
    params, seeds = SamplingParams(max_tokens=20), list(range(len(PROMPTS)))
    engine, poisoned, calls = engine_of(model, max_batch_rows=8), [*COMMON, *[POISON] * 3], []

    def fail():
        raise RuntimeError("CUDA error: device-side assert\nmore")

    with trouble(model, fail):
        groups = engine.sample(
            [poisoned, *PROMPTS], 3, params, [7, *seeds], lambda *call: calls.append(call), 2
        )
        assert [s.status for s in groups[0]] == [RolloutStatus.ENGINE_ERROR] * 3
        assert [s.seed for s in groups[0]] == [seed_of(7, j) for j in (2, 3, 4)]
        assert sum(rows for rows, _ in calls) == 3 * (1 + len(PROMPTS))  # each told once
        assert "3 of 24 samples have no reward" in caplog.text
        with pytest.raises(PivotRLError, match=r"failed on all 2 samples: CUDA error[^\n]*$"):
            engine.sample([poisoned], 2, params, [7])
    check_samples(model, groups[1:], 3, 20)
    whole = engine.sample(PROMPTS, 3, params, seeds, None, 2)
    assert [[s.token_ids for s in g] for g in groups[1:]] == [
        [s.token_ids for s in g] for g in whole
    ]


def test_what_is_not_done_in_time_is_a_status(model):
    """The limit is a sample's: what begins behind those that hang longer has its own."""
    params, seeds = SamplingParams(max_tokens=6), list(range(len(PROMPTS)))
    poisoned = [*PROMPTS[1], *[POISON] * 3]  # prefilled while the samples of PROMPTS[1] decode
    engine = engine_of(model, frozenset(), max_batch_rows=32, timeout=2.5)
    expected = engine.sample(PROMPTS, 4, params, seeds)
    with trouble(model, lambda: time.sleep(3)):
        *groups, hung = engine.sample([*PROMPTS, poisoned], 4, params, [*seeds, 7])
    for late in (groups[1], hung):
        assert {s.status for s in late} == {RolloutStatus.TIMEOUT}
    assert [s.seed for s in hung] == [seed_of(7, j) for j in range(4)]
    del groups[1], expected[1]
    assert [[s.token_ids for s in g] for g in groups] == [
        [s.token_ids for s in g] for g in expected
    ]


def test_one_pause_of_the_machine_loses_nothing(model):
    params, pauses = SamplingParams(max_tokens=6), [3.0]
    engine = engine_of(model, frozenset(), timeout=2.5)
    poisoned = [*PROMPTS[1], *[POISON] * 3]
    expected = engine.sample([*PROMPTS[:2], poisoned], 4, params, [0, 1, 2])
    calls: list[int] = []
    with trouble(model, lambda: pauses and time.sleep(pauses.pop())):
        found = engine.sample(
            [*PROMPTS[:2], poisoned], 4, params, [0, 1, 2], lambda rows, _: calls.append(rows)
        )
    assert not pauses and sum(calls) == 12
    assert [[s.token_ids for s in g] for g in found] == [[s.token_ids for s in g] for g in expected]


def test_full_memory_names_the_key_that_helps(model):
    def fail():
        raise torch.OutOfMemoryError

    with trouble(model, fail), pytest.raises(PivotRLError, match=r"lower model\.batch_rows"):
        engine_of(model).sample([[POISON] * 3], 1, SamplingParams(max_tokens=2), [0])


def test_load_weights_replaces_the_policy_at_once(model, tmp_path):
    other = load_model(make_tiny_model(tmp_path / "other", seed=1, vocab=VOCABULARY))
    params, seeds = SamplingParams(max_tokens=10), [0] * len(PROMPTS)
    expected = engine_of(other).sample(PROMPTS, 2, params, seeds)
    engine = engine_of(model)
    before = engine.sample(PROMPTS, 2, params, seeds)
    engine.load_weights(other.state_dict())
    assert before != expected
    assert engine.sample(PROMPTS, 2, params, seeds) == expected
    state = dict(other.named_parameters())
    engine.load_weights(state)  # without the second name of tied tensors
    state["model.norm.weight"] = torch.zeros(3)
    with pytest.raises(PivotRLError, match=r"model\.norm\.weight"):
        engine.load_weights(state)
    assert engine.sample(PROMPTS, 2, params, seeds) == expected


def test_the_model_is_left_as_it_was(model):
    model.train()
    attention = model.config._attn_implementation
    engine_of(model).sample([COMMON], 2, SamplingParams(max_tokens=3), [0])
    assert model.training and model.config._attn_implementation == attention
    model(input_ids=torch.tensor([COMMON]), labels=torch.tensor([COMMON])).loss.backward()


def test_prompts_that_cannot_be_sampled(model):
    engine = engine_of(model)
    params = SamplingParams(max_tokens=10)
    with pytest.raises(PivotRLError, match=r"prompt 1 has 250 tokens.*context of 256"):
        engine.sample([COMMON, [11] * 250], 2, params, [0, 1])
    with pytest.raises(PivotRLError, match="prompt 0 has token 300"):
        engine.sample([[300]], 2, params, [0])
    with pytest.raises(PivotRLError, match="prompt 0 is empty"):
        engine.sample([[]], 2, params, [0])
    with pytest.raises(ConfigError, match="temperature"):
        engine.sample([COMMON], 2, SamplingParams(max_tokens=1, temperature=-1), [0])
    assert engine.sample([], 2, params, []) == []


def test_load_model_errors_name_the_remedy(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ConfigError, match=r"no \*\.safetensors"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ConfigError, match="does not load"):
        load_model(tmp_path)
    with pytest.raises(ConfigError, match="float33"):
        load_model(folder, dtype="float33")
    with pytest.raises(ConfigError, match="GPU"):
        load_model(folder, device="cuda:99")


def test_load_model_refuses_a_checkpoint_with_a_missing_tensor(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ConfigError, match="lack"):
        load_model(tmp_path)


def test_imports_with_torch_and_transformers_alone():
    code = """
import sys
for name in ("pydantic", "polars", "pandera", "duckdb", "rich", "prefect", "mlflow", "typer"):
    sys.modules[name] = None
import pivotrl.engines.hf, pivotrl.chat
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
