"""Engines on Ray: a local cluster with two actors, which are killed, raise and hang."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import uuid4

import psutil
import pytest
from tiny_model import make_tiny_model

from pivotrl.config import Config, DataConfig, EngineConfig, ModelConfig, RunConfig
from pivotrl.engines import replicas
from pivotrl.engines.isolation import EngineFailure
from pivotrl.engines.replicas import CHUNK_PROMPTS, Replicas, chunks
from pivotrl.types import ConfigError, PivotRLError, RolloutStatus, Sample, SamplingParams, seed_of
from tasks import policy
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
def ray() -> Iterator[None]:
    if importlib.util.find_spec("ray") is None and os.environ.get("CI") != "true":
        pytest.skip("Ray is not installed")
    yield
    sys.modules["ray"].shutdown()


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, ray: None) -> partial:
    folder = make_tiny_model(tmp_path_factory.mktemp("model"), context=256)
    return partial(make_engine, EngineConfig(), ModelConfig(path=folder), folder)


def troubled(folder: Path, trouble: Callable[[Path, list[int]], None]) -> Callable[[], Any]:
    """Makes engines without a model, which count themselves in `folder` and meet `trouble`."""

    class Stub:
        def sample(self, prompts, n, params, seeds, on_progress, first):  # type: ignore[no-untyped-def]
            for prompt in prompts:
                trouble(folder, prompt)
            return [[Sample.lost(RolloutStatus.OK, seed)] * n for seed in seeds]

    def make() -> Stub:
        (folder / f"loaded {uuid4()}").touch()
        return Stub()

    return make


@pytest.fixture
def started(ray: None) -> Iterator[Callable[..., Replicas]]:
    """Two replicas, whose processes end with the test."""
    found: list[Replicas] = []

    def start(make: Callable[[], Any], **options: Any) -> Replicas:
        found.append(Replicas(make, replicas=2, gpus=0, **options))
        return found[-1]

    yield start
    for one in found:
        one.close()


def statuses(groups: list[list[Sample]]) -> list[set[RolloutStatus]]:
    return [{sample.status for sample in group} for group in groups]


def whole_chunk_of(index: int) -> list[int]:
    return next(chunk for chunk in chunks(PROMPTS) if index in chunk)


def test_replicas_are_loaded_once_whatever_the_number_of_calls(
    started: Callable[..., Replicas], tmp_path: Path
) -> None:
    engine = started(troubled(tmp_path, lambda folder, prompt: None))
    for first in (0, 2):
        groups = engine.sample(PROMPTS, 2, PARAMS, SEEDS, None, first)
        assert [group[0].seed for group in groups] == SEEDS
    assert len(list(tmp_path.iterdir())) <= 2
    engine.close()
    engine.sample(PROMPTS[:1], 1, PARAMS, SEEDS[:1])
    assert len(list(tmp_path.iterdir())) <= 3


def test_an_exception_of_a_replica_is_a_status_of_its_chunk(
    started: Callable[..., Replicas], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="pivotrl.engines")
    once, always = PROMPTS[0], PROMPTS[-1]

    def trouble(folder: Path, prompt: list[int]) -> None:
        if prompt == always or (prompt == once and not (folder / "met").exists()):
            (folder / "met").touch()
            raise RuntimeError("CUDA error: device-side assert\nSearch for it somewhere")

    engine = started(troubled(tmp_path, trouble))
    done: list[int] = []
    found = engine.sample(PROMPTS, 2, PARAMS, SEEDS, lambda rows, _: done.append(rows))
    lost = whole_chunk_of(len(PROMPTS) - 1)
    assert statuses(found) == [
        {RolloutStatus.ENGINE_ERROR if i in lost else RolloutStatus.OK} for i in range(len(PROMPTS))
    ]
    assert found[-1][1].seed == seed_of(SEEDS[-1], 1)
    assert sum(done) == 2 * (len(PROMPTS) - len(lost))
    assert "CUDA error: device-side assert" in caplog.text
    with pytest.raises(EngineFailure, match="CUDA error") as caught:
        engine.sample([always], 2, PARAMS, [0])
    assert "\n" not in str(caught.value)


def test_a_replica_that_hangs_is_replaced(started: Callable[..., Replicas], tmp_path: Path) -> None:
    once, always = PROMPTS[0], PROMPTS[-1]

    def trouble(folder: Path, prompt: list[int]) -> None:
        if prompt == always or (prompt == once and not (folder / "met").exists()):
            (folder / "met").touch()
            time.sleep(3600)

    found = started(troubled(tmp_path, trouble), timeout=0.5).sample(PROMPTS, 2, PARAMS, SEEDS)
    lost = whole_chunk_of(len(PROMPTS) - 1)
    assert statuses(found) == [
        {RolloutStatus.TIMEOUT if i in lost else RolloutStatus.OK} for i in range(len(PROMPTS))
    ]


class Cluster(ModuleType):
    """Stands for the module `ray`: an actor's `load` and `sample` do as `fate` says, at once.

    `fate` is given what is asked of which actor; None is a process that no node has room for.
    """

    def __init__(self, fate: Callable[[str, int], Callable[[], Any] | None]) -> None:
        super().__init__("ray")
        self.exceptions = SimpleNamespace(RayError=OSError, RayTaskError=LookupError)
        self.fate, self.hired, self.asked = fate, 0, 0

    def is_initialized(self) -> bool:
        return True

    def remote(self, _kind: type) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._actor))

    def _actor(self, _make: Any) -> Any:
        self.hired += 1
        load, sample = (self.fate(what, self.hired) for what in ("load", "sample"))

        def ends(seeds: Any) -> Callable[[], Any] | None:
            found = [[Sample.lost(RolloutStatus.OK, 0)]] * len(seeds)
            return sample and (lambda: sample() or found)

        return SimpleNamespace(
            load=SimpleNamespace(remote=lambda: _Ref(load)),
            finished=SimpleNamespace(remote=lambda: _Ref(load)),
            sample=SimpleNamespace(remote=lambda _p, _n, _params, seeds, _first: _Ref(ends(seeds))),
        )

    def wait(self, refs: list[_Ref], timeout: float | None = None) -> tuple[list[_Ref], list[_Ref]]:
        self.asked += 1
        assert timeout is not None and self.asked < 1000, "it never ends"
        if not (done := [ref for ref in refs if ref.end is not None]):
            time.sleep(min(timeout, 0.01))
        return done[:1], refs

    def get(self, ref: _Ref) -> Any:
        assert ref.end is not None
        return ref.end()

    def kill(self, _actor: Any) -> None:
        pass

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 8.0}


class _Ref:
    def __init__(self, end: Callable[[], Any] | None) -> None:
        self.end = end


def dies() -> None:
    raise OSError


@pytest.mark.parametrize("timeout", [None, 0.1])
def test_a_cluster_without_room_is_told_of_and_waited_for_so_long(
    timeout: float | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="pivotrl.engines")
    monkeypatch.setitem(sys.modules, "ray", Cluster(lambda what, number: None))
    monkeypatch.setattr(replicas, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(replicas, "LONGEST_WAIT", 0.05)
    engine = Replicas(lambda: None, replicas=2, gpus=1, timeout=timeout)  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigError, match=r"1 GPUs of one node; the cluster has 8 CPUs and 0 GPUs"):
        engine.sample(PROMPTS, 1, PARAMS, SEEDS)
    assert 1 <= len(caplog.records) <= 5


def test_replicas_that_die_while_they_load_are_replaced_so_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sampled(ray: Cluster) -> int:
        monkeypatch.setitem(sys.modules, "ray", ray)
        engine = Replicas(lambda: None, replicas=2, gpus=1)  # type: ignore[arg-type, return-value]
        return len(engine.sample(PROMPTS, 1, PARAMS, SEEDS))

    def samples() -> None:
        pass

    once = iter([samples])
    ray = Cluster(
        lambda what, number: (
            (lambda: next(once, dies)()) if what == "sample" else (samples if number <= 2 else dies)
        )
    )
    with pytest.raises(EngineFailure, match="a replica died"):
        sampled(ray)
    assert ray.hired == 2 + 3 * 2

    ray = Cluster(lambda what, number: dies if what == "load" and number > 1 else samples)
    assert sampled(ray) == len(PROMPTS)  # the first does it alone


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
        if any("ray::_Replica" in word for word in process.info["cmdline"] or ())
    ]


@pytest.mark.long
def test_two_replicas_sample_what_one_engine_does_also_when_one_is_killed(
    started: Callable[..., Replicas], make: partial
) -> None:
    engine = started(make)
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


def test_a_replica_finds_the_policy_from_whichever_folder_it_works_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(replicas, "Replicas", lambda make, **how: asked.update(how, make=make))
    make_tiny_model(tmp_path / "here" / "model", context=256)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    model = ModelConfig(path=Path("model"))
    policy.load_policy(
        Config(
            run=RunConfig(name="r"),
            data=DataConfig(trajectories=()),
            model=model,
            engine=EngineConfig(replicas=2),
        ),
        model.path,
        "weights",
        profiling=True,
    )
    policy.forget_policy()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert asked["replicas"] == 2
    assert len(asked["make"]().sample([[1, 2]], 1, PARAMS, [0])) == 1


def test_replicas_ask_for_the_cards_that_their_engine_computes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_cpu, on_gpu = ModelConfig(path=Path("m")), ModelConfig(path=Path("m"), device="cuda:0")
    served = EngineConfig(name="server", url="http://h/v1", model="m")
    vllm = EngineConfig(name="vllm", tensor_parallel=2)
    asked = policy.gpus_of_replica
    assert [asked(EngineConfig(), m) for m in (on_cpu, on_gpu)] == [0, 1]
    assert asked(served, on_gpu) == 0
    monkeypatch.setattr(policy, "versions", lambda names: dict.fromkeys(names, "0.32.0"))
    assert [asked(vllm, m) for m in (on_cpu, on_gpu)] == [2, 2]
    monkeypatch.setattr(policy, "versions", lambda names: {})  # the build for CPUs
    assert [asked(vllm, m) for m in (on_cpu, on_gpu)] == [0, 0]


def test_what_a_replica_refuses_is_told_in_one_line(
    started: Callable[..., Replicas], make: partial
) -> None:
    with pytest.raises(PivotRLError, match="context of 256") as caught:
        started(make).sample([[1] * 300], 1, PARAMS, [0])
    assert "\n" not in str(caught.value)
