"""One engine made of several: replicas on a Ray cluster, each with its own copy of the policy.

Plain actors, which live as long as this engine: Ray Data starts its own for every call, and with
them the policy. Each has one chunk at a time; what an actor that raised, died or hangs had goes to
another, and a new one takes its place. Prompts that share a history lie in one chunk, so that their
prefix is computed on one replica. Samples do not depend on the replica.
This module must never know candidates, verifiers or what an engine computes with.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pivotrl.engines.isolation import EngineFailure, reason
from pivotrl.prefixes import by_prefix, shared_prefix
from pivotrl.types import (
    ConfigError,
    Engine,
    PivotRLError,
    RolloutStatus,
    Sample,
    SamplingParams,
    seed_of,
)

CHUNK_PROMPTS = 16
"""A chunk is closed at the first new history behind so many prompts."""

HEADER_TOKENS = 16
"""The next turn's prompt repeats the one before up to the header of the turn to sample."""

LOCAL_CPUS = 8
"""Logical ones of a local Ray, whatever the machine has: each replica takes one."""

TRIES = 3
"""Of a chunk; then its samples have a status."""

LOOK_SECONDS = 30.0
"""Between two looks at a cluster on which nothing happens."""

LONGEST_WAIT = 600.0
"""Seconds without room for a single replica: machines of a cluster may still be starting."""

_log = logging.getLogger("pivotrl.engines")


class Replicas:
    """Implements `types.Engine`; `make` builds one replica's engine, in the replica's process.

    Connects to the cluster that RAY_ADDRESS names, else starts a local one behind a token.
    `timeout` is the engines' own limit for a sample, in seconds: a replica that finishes none in
    twice that time hangs. Raises ConfigError where Ray is not installed, or no cluster can be
    reached or started so.
    """

    def __init__(
        self,
        make: Callable[[], Engine],
        *,
        replicas: int,
        gpus: int,
        timeout: float | None = None,
    ) -> None:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        try:
            import ray
        except ImportError:
            raise ConfigError(
                "engine.replicas: Ray is not installed; pip install 'pivotrl[ray]'"
            ) from None
        if not ray.is_initialized():
            _connect()
        # The second thread answers how far the first is.
        kind: Any = ray.remote(_Replica)
        self._actor = kind.options(num_gpus=gpus, num_cpus=0 if gpus else 1, max_concurrency=2)
        self._takes = f"{gpus} GPUs of one node" if gpus else "1 CPU"
        self._make, self._replicas, self._timeout = make, replicas, timeout
        self._idle: list[Any] = []
        self._loading: dict[Any, Any] = {}
        """What tells that an actor has its engine -> the actor, which gets no chunk before."""

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        params: SamplingParams,
        seeds: Sequence[int],
        on_progress: Callable[[int, int], None] | None = None,
        first: int = 0,
    ) -> list[list[Sample]]:
        """See `types.Engine.sample`; `on_progress` hears of each prompt of a finished chunk.

        Samples of a chunk that failed `TRIES` times have a status. A replica that dies while it
        loads is replaced as often, in a row, and no more while others sample. Raises PivotRLError
        for what a replica refuses, EngineFailure where replicas fail and none has sampled anything
        or none is left, ConfigError where the cluster has no room for one in `LONGEST_WAIT`.
        """
        import ray

        found: dict[int, list[Sample]] = {}
        waiting = deque(_Chunk(prompts=chunk) for chunk in chunks(prompts))
        busy: dict[Any, _Chunk] = {}
        longest = patience = TRIES * min(self._replicas, len(waiting))
        has_sampled, since, looked = False, time.monotonic(), time.monotonic()

        def failed(error: Exception, actor: Any, chunk: _Chunk | None) -> None:
            nonlocal patience
            why = _refused_or_reason(error)
            ray.kill(actor)  # a process that met an exception of a GPU is of no more use
            patience -= chunk is None or not has_sampled
            others = busy or self._idle or self._loading
            if patience <= 0 and not (others and (has_sampled or chunk is None)):
                raise EngineFailure(f"replicas on Ray fail: {why}; mend that and run again")
            if chunk is None:
                return
            chunk.failures += 1
            if chunk.failures < TRIES:
                waiting.append(chunk)
                return
            _log.warning("%d prompts failed on Ray and have no reward: %s", len(chunk.prompts), why)
            status = RolloutStatus.TIMEOUT if chunk.hung else RolloutStatus.ENGINE_ERROR
            for i in chunk.prompts:
                own = [seed_of(seeds[i], j) for j in range(first, first + n)]
                found[i] = [Sample.lost(status, seed) for seed in own]

        try:
            while waiting or busy:
                if patience > 0:
                    self._hire(min(self._replicas, len(waiting) + len(busy)) - len(busy))
                while waiting and self._idle:
                    chunk = waiting.popleft()
                    chunk.start(self._idle.pop(), prompts, n, params, seeds, first)
                    busy[chunk.result] = chunk
                asked = [*self._loading, *busy]
                look = min(LOOK_SECONDS, (self._timeout or math.inf) / 4)
                finished = ray.wait(asked, timeout=look)[0]
                now = time.monotonic()
                if finished or busy:
                    since = looked = now
                elif now - looked >= LOOK_SECONDS:
                    looked = now
                    since = now if self._loads(now - since) else since
                for done in finished:
                    chunk_ = busy.pop(done, None)
                    actor = chunk_.actor if chunk_ else self._loading.pop(done)
                    try:
                        groups = ray.get(done)
                    except ray.exceptions.RayError as error:
                        failed(error, actor, chunk_)
                        continue
                    self._idle.append(actor)
                    has_sampled = has_sampled or chunk_ is not None
                    patience = longest if has_sampled else patience
                    for i, group in zip(
                        chunk_.prompts if chunk_ else [], groups or [], strict=True
                    ):
                        found[i] = group
                        if on_progress is not None:
                            on_progress(n, sum(len(one.token_ids) for one in group))
                if self._timeout is not None:
                    for chunk in busy.values():
                        chunk.look(2 * self._timeout)
        finally:
            for chunk in busy.values():  # after an exception: what they do is nobody's any more
                ray.kill(chunk.actor)
        return [found[index] for index in range(len(prompts))]

    def load_weights(self, state: Mapping[str, Any]) -> None:
        """Replicas profile a policy that does not change. Raises PivotRLError."""
        raise PivotRLError("engines on Ray take no new weights; train with engine.replicas = 1")

    def close(self) -> None:
        """Ends the replicas; the next call of `sample` starts others."""
        import ray

        for actor in (*self._idle, *self._loading.values()):
            ray.kill(actor)
        self._idle, self._loading = [], {}

    def _hire(self, wanted: int) -> None:
        """Sees to so many replicas that are free or will be."""
        for _ in range(wanted - len(self._idle) - len(self._loading)):
            actor = self._actor.remote(self._make)
            self._loading[actor.load.remote()] = actor

    def _loads(self, waited: float) -> bool:
        """Whether a replica loads; says that no node takes one, and at last raises ConfigError."""
        import ray

        if ray.wait([actor.finished.remote() for actor in self._loading.values()], timeout=1)[0]:
            return True
        has = ray.cluster_resources()
        told = (
            f"no node of the Ray cluster has room for a replica, which takes {self._takes}; the "
            f"cluster has {has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs"
        )
        if waited >= LONGEST_WAIT:
            raise ConfigError(f"{told} (engine.replicas, engine.tensor_parallel, model.device)")
        _log.warning("%s; waiting for it, %.0f seconds at most", told, LONGEST_WAIT)
        return False


@dataclass(slots=True, kw_only=True)
class _Chunk:
    """Prompts by their index in the call, and how a replica gets on with them."""

    prompts: list[int]
    failures: int = 0
    hung: bool = False
    actor: Any = None
    result: Any = None
    question: Any = None
    told: int = 0
    """How often the replica had told of progress when it answered last."""
    since: float = 0.0
    """When it began, or had told again."""

    def start(
        self,
        actor: Any,
        prompts: Sequence[Sequence[int]],
        n: int,
        params: SamplingParams,
        seeds: Sequence[int],
        first: int,
    ) -> None:
        own = [list(prompts[i]) for i in self.prompts]
        self.actor, self.hung, self.told, self.since = actor, False, 0, time.monotonic()
        self.result = actor.sample.remote(own, n, params, [seeds[i] for i in self.prompts], first)
        self.question = actor.finished.remote()

    def look(self, limit: float) -> None:
        """Kills a replica that has finished no sample for so many seconds."""
        import ray

        if ray.wait([self.question], timeout=0)[0]:
            with suppress(ray.exceptions.RayError):  # it died: `result` says so
                if (told := ray.get(self.question)) != self.told:
                    self.told, self.since = told, time.monotonic()
                self.question = self.actor.finished.remote()
        if time.monotonic() - self.since > limit:
            self.hung = True
            ray.kill(self.actor)


def _refused_or_reason(error: Exception) -> str:
    """Why a replica failed, in one line; raises what a replica refused."""
    import ray

    if not isinstance(error, ray.exceptions.RayTaskError):
        return "a replica died"
    if isinstance(error.cause, PivotRLError) and not isinstance(error.cause, EngineFailure):
        raise error.cause from None
    return reason(error.cause)


def _connect() -> None:
    import ray

    is_local = "RAY_ADDRESS" not in os.environ
    if is_local and os.environ.get("RAY_AUTH_MODE") != "token":
        raise ConfigError("a local Ray is open to others without RAY_AUTH_MODE=token; set it")
    local = {"num_cpus": LOCAL_CPUS, "include_dashboard": False} if is_local else {}
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **local)  # type: ignore[arg-type]
    except (ConnectionError, RuntimeError, ValueError) as error:
        what = " ".join(str(error).split())[:200]
        raise ConfigError(f"RAY_ADDRESS: no cluster to reach there ({what})") from None


def chunks(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Indices of prompts, whole histories together, in the order in which neighbours share most."""
    out: list[list[int]] = []
    for index in by_prefix(prompts):
        if not out or (len(out[-1]) >= CHUNK_PROMPTS and not _goes_on(prompts, out[-1], index)):
            out.append([])
        out[-1].append(index)
    return out


def _goes_on(prompts: Sequence[Sequence[int]], chunk: Sequence[int], index: int) -> bool:
    before = prompts[chunk[-1]]
    return shared_prefix(before, prompts[index]) >= max(len(before) - HEADER_TOKENS, 1)


class _Replica:
    """One actor: its engine lives as long as it does."""

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make, self._finished = make, 0

    def load(self) -> None:
        self._engine = self._make()

    def sample(
        self,
        prompts: list[list[int]],
        n: int,
        params: SamplingParams,
        seeds: list[int],
        first: int,
    ) -> list[list[Sample]]:
        self._finished = 0
        return self._engine.sample(prompts, n, params, seeds, self._count, first)

    def finished(self) -> int:
        return self._finished

    def _count(self, _rows: int, _tokens: int) -> None:
        self._finished += 1  # a sample that is late and tried again is progress too
