"""Engines on Ray: a local cluster with two actors, and one of them killed in the middle."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial

import psutil
import pytest
from tiny_model import make_tiny_model

from pivotrl.config import EngineConfig, ModelConfig
from pivotrl.engines.replicas import CHUNK_PROMPTS, Replicas, chunks
from pivotrl.types import PivotRLError, SamplingParams
from tasks.policy import make_engine

SYSTEM = list(range(30, 60))
PROMPTS = [
    [*SYSTEM, 100 + task, *range(120, 120 + 12 * turn)]
    for task in range(30)
    for turn in range(1, 5)
]
PARAMS = SamplingParams(max_tokens=6)
SEEDS = list(range(len(PROMPTS)))


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[partial]:
    if importlib.util.find_spec("ray") is None and os.environ.get("CI") != "true":
        pytest.skip("Ray is not installed")
    folder = make_tiny_model(tmp_path_factory.mktemp("model"), context=256)
    yield partial(make_engine, EngineConfig(), ModelConfig(path=folder), folder)
    sys.modules["ray"].shutdown()


def test_a_history_lies_in_one_chunk() -> None:
    found = chunks(PROMPTS)
    assert sorted(index for chunk in found for index in chunk) == list(range(len(PROMPTS)))
    assert all(CHUNK_PROMPTS <= len(chunk) < CHUNK_PROMPTS + 4 for chunk in found[:-1])
    place = {index: number for number, chunk in enumerate(found) for index in chunk}
    for task in range(30):
        assert len({place[4 * task + turn] for turn in range(4)}) == 1


def replicas_running() -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any("ray::MapWorker" in word for word in process.info["cmdline"] or ())
    ]


@pytest.mark.long
def test_two_replicas_sample_what_one_engine_does_also_when_one_is_killed(make: partial) -> None:
    engine = Replicas(make, replicas=2, gpus=0)
    killed: list[int] = []
    done: list[int] = []

    def kill_one(rows: int, tokens: int) -> None:
        done.append(rows)
        if not killed:
            killed.append(max(replicas_running()))
            os.kill(killed[0], signal.SIGKILL)

    found = engine.sample(PROMPTS, 3, PARAMS, SEEDS, kill_one)
    assert killed and sum(done) == 3 * len(PROMPTS)  # nothing lost, nothing twice
    alone = make().sample(PROMPTS, 3, PARAMS, SEEDS)
    assert [[s.token_ids for s in group] for group in found] == [
        [s.token_ids for s in group] for group in alone
    ]


def test_what_a_replica_refuses_is_told_in_one_line(make: partial) -> None:
    with pytest.raises(PivotRLError, match="context of 256") as caught:
        Replicas(make, replicas=2, gpus=0).sample([[1] * 300], 1, PARAMS, [0])
    assert "\n" not in str(caught.value)
