"""Random tiny models and in-process engines for the training tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from pivotrl.engines.hf import HFEngine
from pivotrl.training import TrainPivot, TrainSettings
from pivotrl.types import Sample, Verdict, VerdictStatus

STOP, REWARDED = 1, 7


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors on several threads are slow, and very slow on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_model(
    *, vocabulary: int = 32, hidden: int = 32, layers: int = 2, seed: int = 0, **config: Any
) -> Any:
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            tie_word_embeddings=True,
            max_position_embeddings=4096,
            initializer_range=0.1,
            **config,
        )
    )
    return model.eval()


def random_experts(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = Qwen3MoeConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=16,
        num_experts=4,
        num_experts_per_tok=2,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=4096,
        initializer_range=0.1,
    )
    return Qwen3MoeForCausalLM(config).eval()


def engine_of(model: Any) -> HFEngine:
    return HFEngine(
        model,
        stop_ids=frozenset({STOP}),
        pad_id=0,
        decode=lambda ids: " ".join(map(str, ids)),
    )


def reward_token(candidate_id: str, sample: Sample) -> Verdict:
    """1 where the sample begins with the rewarded token."""
    right = sample.token_ids[0] == REWARDED
    return Verdict(
        status=VerdictStatus.OK,
        reward=float(right),
        category="accepted" if right else "wrong_tool",
    )


def some_pivots(count: int, *, seed: int = 0) -> list[TrainPivot]:
    generator = torch.Generator().manual_seed(seed)
    return [
        TrainPivot(
            candidate_id=f"candidate-{seed}-{i}",
            trajectory_id=f"trajectory-{seed}-{i // 2}",
            prompt_ids=tuple(torch.randint(2, 32, (5 + i % 4,), generator=generator).tolist()),
            domain="retail",
        )
        for i in range(count)
    ]


def train_settings(**changes: Any) -> TrainSettings:
    given: dict[str, Any] = {
        "steps": 4,
        "pivots_per_step": 3,
        "group_size": 6,
        "learning_rate": 5e-3,
        "max_tokens": 4,
        "micro_batch_tokens": 80,
    }
    return TrainSettings(**given | changes)


def no_record(record: Any) -> None:
    pass
