"""Engine over a server: samples from an OpenAI-compatible completions endpoint (vLLM, SGLang, …).

Prompts go out as token ids, one request a sample, since servers differ in how they seed n of them.
What comes back is foreign: it is a sample only if it is a whole completion by the policy's own
rules, else it has a status and no reward. This module must never know candidates, verifiers or chat
templates, and never lets out a word that a server said.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import httpx
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
)
from tenacity.stop import stop_base

from pivotrl.engines.checks import check_call
from pivotrl.engines.completions import BYTES_A_TOKEN, Served, request, sample_of
from pivotrl.engines.isolation import EngineFailure
from pivotrl.http_client import Failure, Refusal, authorization, checked_url, pause, post
from pivotrl.prefixes import by_prefix
from pivotrl.types import (
    ConfigError,
    PivotRLError,
    RolloutStatus,
    Sample,
    SamplingParams,
    seed_of,
)

TRIES = 4
LONGEST = 120.0
"""Seconds of one try where nothing else is set: a server may be gone."""
GIVE_UP_AFTER = 10
"""Prompts in a row that fail, although the server answers a little one."""
LONGEST_OUTAGE = 300.0
"""Seconds that a server which has answered before is waited for: it may be loading again."""
_Job = tuple[tuple[int, int], Sequence[int], int]
"""A sample to make: indices of its prompt and its own in the call, the prompt, the seed."""
_log = logging.getLogger("pivotrl.engines")


class ServerEngine:
    """Implements `types.Engine` for a server that was started with the same policy.

    A server that returns no token ids or no log-probabilities can profile but not train: its
    samples have text and neither. Log-probabilities are of the sampling distribution only if the
    server's are: vLLM needs `--logprobs-mode processed_logprobs` for another temperature than 1 or
    for top_p < 1. Whether equal seeds give equal samples is up to the server.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        stop_ids: frozenset[int],
        decode: Callable[[Sequence[int]], str],
        context: int,
        vocabulary: int,
        api_key_env: str | None = None,
        concurrency: int = 32,
        timeout: float | None = None,
    ) -> None:
        """`url` ends in `/v1`; `context` and `vocabulary` are the policy's own, in tokens.

        `timeout` is in seconds, for one try from the connection to the last byte, the server's
        queue included; without, it is `LONGEST`. Raises ConfigError for an address or a key that
        cannot be used.
        """
        self._url = checked_url(url, "engine.url")
        self._headers = authorization(api_key_env, "engine.api_key_env")
        self._served = Served(model=model, stop_ids=stop_ids, vocabulary=vocabulary, decode=decode)
        self._key_at, self._context = api_key_env, context
        self._concurrency, self._timeout = concurrency, LONGEST if timeout is None else timeout
        self._tls = httpx.create_ssl_context()
        self._gave_up = False
        self._answered = 0.0
        """When it did last."""
        self._failing: set[tuple[int, ...]] = set()
        """Prompts that failed since the last answer."""
        self._outages = 0
        """Their beginnings and ends."""
        self._last_failure = Failure("")

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        params: SamplingParams,
        seeds: Sequence[int],
        on_progress: Callable[[int, int], None] | None = None,
        first: int = 0,
    ) -> list[list[Sample]]:
        """`n` samples for each prompt, in the caller's order; see `types.Engine.sample`.

        What failed `TRIES` times at a server that still answers is a sample with a status. One that
        does not is waited for, and all is tried again. After `LONGEST_OUTAGE`, or at once if it
        never answered, and after `GIVE_UP_AFTER` prompts in a row that fail, the rest of the call
        is not sent and has the status `engine_error`; a warning says so, or an EngineFailure where
        no sample of the call succeeded. At temperature 0 every log-probability is 0. `on_progress`
        is called once a sample. Raises PivotRLError for a prompt that does not fit and for what the
        server refuses for good.
        """
        check_call(
            prompts,
            n,
            params,
            seeds,
            vocabulary=self._served.vocabulary,
            context=self._context,
        )
        jobs = (
            ((index, j), prompts[index], seed_of(seeds[index], first + j))
            for index in by_prefix(prompts)
            for j in range(n)
        )
        found = asyncio.run(self._sample(jobs, params, on_progress))
        self._report([sample.status for sample in found.values()])
        return [[found[index, j] for j in range(n)] for index in range(len(prompts))]

    def load_weights(self, state: Mapping[str, Any]) -> None:
        """Always raises PivotRLError: a server keeps the weights that it was started with."""
        raise PivotRLError(
            f"{self._url}: a server takes no new weights; profile with it, and train with "
            'engine.name = "hf" or "vllm"'
        )

    async def _sample(
        self,
        jobs: Iterator[_Job],
        params: SamplingParams,
        on_progress: Callable[[int, int], None] | None,
    ) -> dict[tuple[int, int], Sample]:
        found: dict[tuple[int, int], Sample] = {}

        async def work(jobs: Iterator[_Job]) -> None:
            for place, prompt, seed in jobs:
                found[place], tokens = await self._one(client, prompt, params, seed)
                if on_progress is not None:
                    on_progress(1, tokens)

        async with httpx.AsyncClient(
            headers=self._headers | {"accept-encoding": "identity"},
            timeout=None,  # `post` has its own, for the whole
            limits=httpx.Limits(max_connections=self._concurrency),
            verify=self._tls,
        ) as client:
            self._asking = asyncio.Lock()
            if self._gave_up:  # whether the server is there again is asked once
                with suppress(Failure):
                    await self._ask_little(client)
                    self._gave_up = False
                    self._failing.clear()
            await asyncio.gather(*(work(jobs) for _ in range(self._concurrency)))
        return found

    async def _one(
        self, client: httpx.AsyncClient, prompt: Sequence[int], params: SamplingParams, seed: int
    ) -> tuple[Sample, int]:
        """A sample, with a status where it failed, and how many tokens it has."""
        met = 0  # outages: a prompt may itself be what ends the server
        while not self._gave_up:
            outages = self._outages
            try:
                tries = _retrying(stop_after_attempt(TRIES))
                done: tuple[Sample, int] = await tries(self._ask, client, prompt, params, seed)
            except Refusal as refusal:
                raise self._refused(refusal.status, prompt) from None
            except Failure as failure:
                failed = time.monotonic()
                async with self._asking:  # one asks, the others wait for what it finds
                    met += 1
                    there = self._outages == outages and (
                        self._answered > failed or await self._answers(client)
                    )
                    if there or (met == TRIES and not self._gave_up):
                        self._last_failure = failure
                        self._failing.add(tuple(prompt))
                        self._gave_up |= len(self._failing) >= GIVE_UP_AFTER
                        return Sample.lost(_status(failure), seed), 0
            else:
                self._answered = time.monotonic()
                self._failing.clear()
                return done
        return Sample.lost(RolloutStatus.ENGINE_ERROR, seed), 0

    async def _answers(self, client: httpx.AsyncClient) -> bool:
        """Whether the server answers now, so that a prompt which failed did so by itself.

        If not, waits until it does, or gives the call up.
        """
        try:
            await self._ask_little(client)
        except Failure as failure:
            self._outages += 1
            self._last_failure = failure
        else:
            return True
        if self._answered:
            told = "%s does not answer (%s); it is waited for, %.0f seconds at most"
            _log.warning(told, self._url, self._last_failure, LONGEST_OUTAGE)
            with suppress(Failure, TimeoutError):
                async with asyncio.timeout(LONGEST_OUTAGE):
                    await _retrying(stop_after_delay(LONGEST_OUTAGE))(self._ask_little, client)
                self._outages += 1  # also what began meanwhile is tried again
                return False
        self._gave_up = True
        return False

    async def _ask_little(self, client: httpx.AsyncClient) -> None:
        """A token after a prompt of one, which says whether the server is there. Raises Failure."""
        with suppress(Refusal):  # an answer, too
            await self._ask(client, [0], SamplingParams(max_tokens=1), 0, LONGEST_OUTAGE)
        self._answered = time.monotonic()

    async def _ask(
        self,
        client: httpx.AsyncClient,
        prompt: Sequence[int],
        params: SamplingParams,
        seed: int,
        longest: float = math.inf,
    ) -> tuple[Sample, int]:
        answer = await post(
            client,
            f"{self._url}/completions",
            request(self._served, prompt, params, seed),
            seconds=min(self._timeout, longest),
            longest=BYTES_A_TOKEN * (len(prompt) + params.max_tokens + 64),
        )
        return sample_of(answer, self._served, prompt, params, seed)

    def _refused(self, status: int, prompt: Sequence[int]) -> PivotRLError:
        said = f"{self._url} answers HTTP {status}"
        if status in (401, 403):
            key = f"the key in {self._key_at} is wrong" if self._key_at else "it wants a key"
            return ConfigError(f"{said}: {key}; see engine.api_key_env")
        if status in (404, 405):
            return ConfigError(
                f"{said}: check engine.url, which ends in /v1, and that the server has "
                f"engine.model = {self._served.model!r}"
            )
        return PivotRLError(
            f"{said} to a prompt of {len(prompt)} tokens: check that the server's context is "
            f"{self._context} tokens, the policy's, and that its completions take token ids"
        )

    def _report(self, statuses: Sequence[RolloutStatus]) -> None:
        """Says what failed. Raises EngineFailure for a call that was given up and gave nothing."""
        lost = sum(status != RolloutStatus.OK for status in statuses)
        if not lost:
            return
        remedy = (
            "raise engine.timeout or lower engine.concurrency"
            if self._last_failure.timeout
            else f"check that it serves engine.model = {self._served.model!r}"
        )
        failed = f"{lost} of {len(statuses)} samples failed ({self._last_failure})"
        told = f"{self._url}: {failed}; {remedy}"
        if self._gave_up and lost == len(statuses):
            raise EngineFailure(f"{told}, and run again")
        unsent = "; no more was sent" if self._gave_up else ""
        _log.warning("%s%s, and what failed has no reward", told, unsent)


def _retrying(stop: stop_base) -> AsyncRetrying:
    return AsyncRetrying(
        stop=stop, wait=pause, retry=retry_if_exception_type(Failure), reraise=True
    )


def _status(failure: Failure) -> RolloutStatus:
    return RolloutStatus.TIMEOUT if failure.timeout else RolloutStatus.ENGINE_ERROR
