"""vLLM in this process, on a CPU, against plain forward passes and the transformers engine."""

from __future__ import annotations

import os
import statistics
import sys
import time
from importlib.util import find_spec

import psutil
import pytest
import torch
from tiny_model import make_tiny_model
from transformers import PreTrainedTokenizerFast

from pivotrl.engines.hf import HFEngine, load_model
from pivotrl.engines.vllm import VLLMEngine
from pivotrl.tracking.registry import load_path
from pivotrl.tracking.runs import TrackedRun, log_run
from pivotrl.types import (
    ConfigError,
    FinishReason,
    PivotRLError,
    RolloutStatus,
    SamplingParams,
    seed_of,
)

pytestmark = pytest.mark.skipif(
    find_spec("vllm") is None and os.environ.get("CI") != "true",
    reason="vLLM is not installed on this machine",
)

CONTEXT = 512
SHAPE = {"hidden": 128, "layers": 3, "context": CONTEXT}
STOP = frozenset(range(20, 28))
POISON = 300
COMMON = [(7 * j) % 191 + 32 for j in range(260)]  # two whole blocks and a part
PROMPTS = [
    [*COMMON, 41, 42, 43],
    [30, 31],
    [*COMMON, 41, 42, 43, 44, 45, 46],
    COMMON,
    [*COMMON[:140], 99],
    [*COMMON, 41, 42, 43],
    [5] * 395,  # the first in order: with the next too many tokens for one step
    [6] * 395,
]
SEEDS = [seed_of("test", index) for index in range(len(PROMPTS))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """As the registry gives it back: what was registered is what vLLM and transformers load."""
    torch.set_num_threads(1)
    made = make_tiny_model(tmp_path_factory.mktemp("model"), **SHAPE)
    home = tmp_path_factory.mktemp("home")
    log_run(
        home,
        TrackedRun(name="tiny", key="00aa", parameters={}, checkpoint=made, registered_name="tiny"),
    )
    return load_path(home, "tiny@challenger")


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    path = make_tiny_model(tmp_path_factory.mktemp("other"), seed=1, **SHAPE)
    return load_model(path)


@pytest.fixture(scope="module")
def decode(folder):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=False)


@pytest.fixture(scope="module")
def loaded(folder, decode):
    """The one load of vLLM in the whole test session."""
    yield VLLMEngine(
        folder, stop_ids=STOP, decode=decode, dtype="float32", context=CONTEXT, max_rows=16
    )
    from vllm.distributed import cleanup_dist_env_and_memory

    cleanup_dist_env_and_memory()


@pytest.fixture
def engine(loaded, model):
    yield loaded
    loaded.load_weights(model.state_dict())


@pytest.fixture
def outputs(engine, monkeypatch):
    """vLLM's own outputs, as they come."""
    seen = []
    step = engine._llm.llm_engine.step
    monkeypatch.setattr(
        engine._llm.llm_engine, "step", lambda: [seen.append(one) or one for one in step()]
    )
    return seen


def check_samples(model, groups, params, decode):
    """Against a plain forward pass over prompt and completion."""
    for prompt, group in zip(PROMPTS, groups, strict=True):
        for sample in group:
            ids = torch.tensor([[*prompt, *sample.token_ids]])
            with torch.inference_mode():
                logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
            expected = torch.log_softmax(logits / params.temperature, -1)
            expected = expected.gather(1, ids[0, len(prompt) :, None])[:, 0]
            torch.testing.assert_close(
                torch.tensor(sample.logprobs), expected, atol=1e-4, rtol=0, check_dtype=False
            )
            stopped = sample.token_ids[-1] in STOP
            assert not STOP & set(sample.token_ids[:-1])
            assert stopped or len(sample.token_ids) == params.max_tokens
            assert sample.finish_reason == (FinishReason.STOP if stopped else FinishReason.LENGTH)
            assert sample.text == decode(sample.token_ids[: -1 if stopped else None])
            assert sample.status == RolloutStatus.OK
    return {sample.finish_reason for group in groups for sample in group}


def test_samples_are_those_of_a_plain_forward_pass(engine, model, decode, caplog):
    """Log-probs, stop ids, ends by length, markup kept in the text, progress."""
    params = SamplingParams(max_tokens=40, temperature=1.3)
    calls = []
    groups = engine.sample(PROMPTS, 8, params, SEEDS, lambda *call: calls.append(call))
    assert check_samples(model, groups, params, decode) == set(FinishReason)
    assert "pivotrl.engines" not in {record.name for record in caplog.records}  # no second try
    samples = [sample for group in groups for sample in group]
    assert any("<tool_call>" in sample.text for sample in samples)
    assert any("<|im_end|>" in sample.text for sample in samples)  # it ends no turn here
    tokens = sum(len(sample.token_ids) for sample in samples)
    assert [sum(column) for column in zip(*calls, strict=True)] == [len(samples), tokens]


def test_greedy_is_what_the_transformers_engine_does(engine, model, decode):
    params = SamplingParams(max_tokens=24, temperature=0)
    expected = HFEngine(model, stop_ids=STOP, pad_id=0, decode=decode)
    groups = engine.sample(PROMPTS, 1, params, SEEDS)
    assert groups == expected.sample(PROMPTS, 1, params, SEEDS)
    assert {logprob for (sample,) in groups for logprob in sample.logprobs} == {0.0}


def test_means_agree_with_the_transformers_engine(engine, model, decode):
    """A nucleus of 0.8; four standard errors, with fixed seeds."""
    count, params = 500, SamplingParams(max_tokens=4, temperature=0.7, top_p=0.8)
    hf = HFEngine(model, stop_ids=frozenset(), pad_id=0, decode=decode)
    (ours,), (theirs,) = (one.sample([COMMON], count, params, [3]) for one in (engine, hf))
    for measure in (
        lambda sample: sample.logprobs[0],
        lambda sample: sum(sample.logprobs),
        lambda sample: sample.token_ids[0] % 2,
        lambda sample: sample.token_ids[-1] / 512,
    ):
        a, b = ([measure(sample) for sample in group] for group in (ours, theirs))
        error = ((statistics.variance(a) + statistics.variance(b)) / count) ** 0.5
        assert abs(statistics.mean(a) - statistics.mean(b)) < 4 * error


def test_a_sample_depends_on_its_seed_and_index_alone(engine):
    """Not on the call's other prompts, their order, n or what was asked before."""
    params = SamplingParams(max_tokens=12)
    together = engine.sample(PROMPTS, 4, params, SEEDS)
    assert engine.sample(PROMPTS, 4, params, SEEDS) == together
    assert together[0] != together[5]  # the same prompt, another seed
    assert together[2][1].seed == seed_of(SEEDS[2], 1)
    for index in (4, 0, 1):
        (start,) = engine.sample([PROMPTS[index]], 1, params, [SEEDS[index]])
        (rest,) = engine.sample([PROMPTS[index]], 3, params, [SEEDS[index]], None, 1)
        alone = [sample.token_ids for sample in start + rest]
        assert alone == [sample.token_ids for sample in together[index]]


def test_new_weights_meet_no_old_prefix(engine, model, other, outputs, monkeypatch, decode):
    params = SamplingParams(max_tokens=8)

    def cached():
        numbers = [output.num_cached_tokens for output in outputs]
        outputs.clear()
        return numbers

    engine.sample([COMMON], 2, params, [1])
    cached()
    engine.sample([COMMON], 2, params, [1])
    assert cached() == [256, 256]
    state = dict(other.named_parameters())  # without the second name of tied tensors
    engine.load_weights(state)
    groups = engine.sample(PROMPTS, 2, params, SEEDS)
    check_samples(other, groups, params, decode)
    assert min(cached()) == 0
    engine.load_weights(model.state_dict())
    engine.sample([COMMON], 1, params, [1])
    assert cached() == [0]
    monkeypatch.setattr(engine, "_forget_prefixes", lambda: None)  # the check would notice
    engine.load_weights(state)
    groups = engine.sample(PROMPTS, 2, params, SEEDS)
    with pytest.raises(AssertionError):
        check_samples(other, groups, params, decode)


def test_weights_that_do_not_fit_change_nothing(engine, model, other):
    params = SamplingParams(max_tokens=8)
    before = engine.sample(PROMPTS, 1, params, SEEDS)
    state = other.state_dict()
    for name, tensor in (("model.norm.weight", torch.zeros(3)), ("more", torch.zeros(1))):
        with pytest.raises(PivotRLError, match=name):
            engine.load_weights(state | {name: tensor})
    del state["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(PivotRLError, match="up_proj"):
        engine.load_weights(state)
    assert engine.sample(PROMPTS, 1, params, SEEDS) == before


def test_broken_weights_are_a_status_not_a_text(engine, model):
    broken = {"model.norm.weight": torch.full((128,), torch.nan)}
    engine.load_weights(model.state_dict() | broken)
    for temperature in (0.0, 1.0):
        params = SamplingParams(max_tokens=5, temperature=temperature)
        (group,) = engine.sample([COMMON], 2, params, [0])
        assert [sample.status for sample in group] == [RolloutStatus.ENGINE_ERROR] * 2
        assert [sample.token_ids for sample in group] == [(), ()]


def test_an_exception_of_the_engine_is_a_status_of_the_prompts_concerned(engine, model, decode):
    """It is raised in the middle of a step, in which keys of other prompts are not written."""

    def raise_for_poison(module, args, kwargs):
        if (kwargs["input_ids"] == POISON).sum() >= 3:
            raise RuntimeError("CUDA error: device-side assert")

    params = SamplingParams(max_tokens=6)
    (network,) = engine._llm.apply_model(lambda module: module)
    handle = network.register_forward_pre_hook(raise_for_poison, with_kwargs=True)
    try:
        poisoned = [*COMMON, POISON, POISON, POISON]
        groups = engine.sample([poisoned, *PROMPTS], 2, params, [7, *SEEDS])
        assert [sample.status for sample in groups[0]] == [RolloutStatus.ENGINE_ERROR] * 2
        assert [sample.seed for sample in groups[0]] == [seed_of(7, 0), seed_of(7, 1)]
        with pytest.raises(PivotRLError, match="failed on all 3 samples"):
            engine.sample([poisoned], 3, params, [7])
    finally:
        handle.remove()
    check_samples(model, groups[1:], params, decode)
    check_samples(model, engine.sample(PROMPTS, 1, params, SEEDS), params, decode)


def test_what_is_not_done_in_time_is_a_status(engine, model, monkeypatch, decode):
    """The limit is a sample's: what waits behind those that hang longer has its own."""

    def hang_for_poison(module, args, kwargs):
        if (kwargs["input_ids"] == POISON).sum() >= 3:
            time.sleep(3)

    params = SamplingParams(max_tokens=6)
    monkeypatch.setattr(engine, "_timeout", 2.5)
    poisoned = [0, POISON, POISON, POISON]  # the first in order
    (network,) = engine._llm.apply_model(lambda module: module)
    handle = network.register_forward_pre_hook(hang_for_poison, with_kwargs=True)
    try:
        groups = engine.sample([*PROMPTS, poisoned], 16, params, [*SEEDS, 7])
    finally:
        handle.remove()
    assert [sample.status for sample in groups[-1]] == [RolloutStatus.TIMEOUT] * 16
    assert [sample.seed for sample in groups[-1]] == [seed_of(7, j) for j in range(16)]
    check_samples(model, groups[:-1], params, decode)


def test_calls_that_cannot_be_sampled(engine):
    params = SamplingParams(max_tokens=10)
    with pytest.raises(PivotRLError, match=r"prompt 1 has 503 tokens.*context of 512"):
        engine.sample([COMMON, [31] * 503], 2, params, [0, 1])
    with pytest.raises(PivotRLError, match="prompt 0 has token 512"):
        engine.sample([[512]], 2, params, [0])
    with pytest.raises(ConfigError, match=r"0\.01 and up"):
        engine.sample([COMMON], 2, SamplingParams(max_tokens=1, temperature=0.001), [0])
    assert engine.sample([], 2, params, []) == []


def test_the_process_stays_its_owners(engine):
    """No port beyond this machine, no thread setting lost; sleeping is harmless on a CPU."""
    listening = [c for c in psutil.Process().net_connections() if c.status == psutil.CONN_LISTEN]
    assert {connection.laddr.ip for connection in listening} <= {"127.0.0.1", "::1"}
    torch.set_num_threads(2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    engine.sleep()
    assert engine.sample([COMMON], 1, SamplingParams(max_tokens=1), [0])[0][0].token_ids


def test_errors_of_loading_name_the_remedy(folder, tmp_path, monkeypatch):
    def load(path, **options):
        VLLMEngine(path, stop_ids=STOP, decode=str, dtype="float32", context=CONTEXT, **options)

    with pytest.raises(ConfigError, match="batch_invariant"):
        load(folder, batch_invariant=True)
    with pytest.raises(ConfigError, match="does not load"):
        load(tmp_path)
    monkeypatch.setitem(sys.modules, "vllm.platforms", None)
    with pytest.raises(ConfigError, match="pip install"):
        load(folder)
