"""One engine made of several: replicas on a Ray cluster, each with its own copy of the policy.

Ray Data feeds an actor pool with back-pressure, restarts an actor that dies and repeats the chunk
that it had; a chunk's samples are taken once, by their place. Prompts that share a history lie in
one chunk, so that their prefix is computed on one replica. Samples do not depend on the replica.
This module must never know candidates, verifiers or what an engine computes with.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import orjson

from pivotrl.prefixes import by_prefix, shared_prefix
from pivotrl.types import (
    ConfigError,
    Engine,
    PivotRLError,
    Sample,
    SamplingParams,
)

CHUNK_PROMPTS = 16
"""A chunk is closed at the first new history behind so many prompts."""

HEADER_TOKENS = 16
"""The next turn's prompt repeats the one before up to the header of the turn to sample."""

LOCAL_CPUS = 8
"""Logical ones of a local Ray: actors that took every real one would starve its readers."""


class Replicas:
    """Implements `types.Engine`; `make` builds one replica's engine, in the replica's process.

    Connects to the cluster that RAY_ADDRESS names, else starts a local one behind a token. Raises
    ConfigError where Ray is not installed, or no cluster can be reached or started so.
    """

    def __init__(self, make: Callable[[], Engine], *, replicas: int, gpus: int) -> None:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        try:
            import ray.data
        except ImportError:
            raise ConfigError(
                "engine.replicas: Ray is not installed; pip install 'pivotrl[ray]'"
            ) from None
        self._make, self._replicas, self._gpus = make, replicas, gpus
        if not ray.is_initialized():
            _connect()
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # told here, in one line

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        params: SamplingParams,
        seeds: Sequence[int],
        on_progress: Callable[[int, int], None] | None = None,
        first: int = 0,
    ) -> list[list[Sample]]:
        """See `types.Engine.sample`; `on_progress` hears of each finished chunk.

        Raises PivotRLError where a replica does, or where one cannot be kept alive.
        """
        import ray

        if not prompts:
            return []
        rows = [
            {
                "chunk": orjson.dumps(
                    [chunk, [list(prompts[i]) for i in chunk], [seeds[i] for i in chunk]]
                )
            }
            for chunk in chunks(prompts)
        ]
        found: list[list[Sample]] = [[] for _ in prompts]
        sampled = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Replica,  # type: ignore[arg-type]  # a class is an actor: its annotation lags behind
            fn_constructor_args=(self._make, n, asdict(params), first),
            compute=ray.data.ActorPoolStrategy(size=min(self._replicas, len(rows))),
            num_gpus=self._gpus or None,
            num_cpus=None if self._gpus else 1,
        )
        try:
            for row in sampled.iter_rows():
                if row["error"]:
                    raise PivotRLError(row["error"])
                for index, group in orjson.loads(row["samples"]):
                    found[index] = [Sample.of(one) for one in group]
                    if on_progress is not None:
                        on_progress(n, sum(len(one.token_ids) for one in found[index]))
        except ray.exceptions.RayError as error:
            what = str(error).strip().splitlines()[-1][:300]
            raise PivotRLError(f"a replica on Ray failed: {what}; run again, it goes on") from None
        return found

    def load_weights(self, state: Mapping[str, Any]) -> None:
        """Replicas profile a policy that does not change. Raises PivotRLError."""
        raise PivotRLError("engines on Ray take no new weights; train with engine.replicas = 1")


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

    def __init__(
        self, make: Callable[[], Engine], n: int, params: Mapping[str, Any], first: int
    ) -> None:
        self._make, self._n, self._first = make, n, first
        self._params = SamplingParams(**params)

    @cached_property
    def _engine(self) -> Engine:
        return self._make()

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The chunk's samples as JSON, or what the user can act on, which Ray would bury."""
        indices, prompts, seeds = orjson.loads(row["chunk"])
        try:
            groups = self._engine.sample(prompts, self._n, self._params, seeds, None, self._first)
        except PivotRLError as error:
            return {"samples": b"", "error": str(error)}
        told = [
            [index, [asdict(one) for one in group]]
            for index, group in zip(indices, groups, strict=True)
        ]
        return {"samples": orjson.dumps(told), "error": ""}
