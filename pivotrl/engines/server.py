"""Engine over a server: samples from an OpenAI-compatible completions endpoint (vLLM, SGLang, …).

Prompts go out as token ids, one request a sample, since servers differ in how they seed n of them.
What comes back is foreign: it is a sample only if it is a whole completion by the policy's own
rules, else it has a status and no reward. This module must never know candidates, verifiers or chat
templates, and never lets out a word that a server said.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from pivotrl.engines.checks import check_call
from pivotrl.engines.completions import BYTES_A_TOKEN, Served, request, sample_of
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
"""Samples in a row that fail; then nothing is sent until one request, alone, has an answer."""
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
        self._failed_in_row = 0
        self._last_failure = ""

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

        What failed `TRIES` times is a sample with a status. After `GIVE_UP_AFTER` such in a row the
        rest of the call is not sent and has the status `engine_error`; a warning says so, or a
        PivotRLError where no sample of the call succeeded. At temperature 0 every log-probability
        is 0. `on_progress` is called once a sample. Raises PivotRLError for a prompt that does not
        fit and for what the server refuses for good.
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
            if self._failed_in_row >= GIVE_UP_AFTER:
                self._failed_in_row = GIVE_UP_AFTER - 1  # the next request decides
                await work(islice(jobs, 1))
            await asyncio.gather(*(work(jobs) for _ in range(self._concurrency)))
        return found

    async def _one(
        self, client: httpx.AsyncClient, prompt: Sequence[int], params: SamplingParams, seed: int
    ) -> tuple[Sample, int]:
        """A sample, with a status where it failed, and how many tokens it has."""
        status = RolloutStatus.ENGINE_ERROR
        if self._failed_in_row < GIVE_UP_AFTER:
            retrying = AsyncRetrying(
                stop=stop_after_attempt(TRIES),
                wait=pause,
                retry=retry_if_exception_type(Failure),
                reraise=True,
            )
            try:
                done: tuple[Sample, int] = await retrying(self._ask, client, prompt, params, seed)
            except Refusal as refusal:
                raise self._refused(refusal.status, prompt) from None
            except Failure as failure:
                self._failed_in_row += 1
                self._last_failure = str(failure)
                if failure.timeout:
                    status = RolloutStatus.TIMEOUT
            else:
                self._failed_in_row = 0
                return done
        return Sample.lost(status, seed), 0

    async def _ask(
        self, client: httpx.AsyncClient, prompt: Sequence[int], params: SamplingParams, seed: int
    ) -> tuple[Sample, int]:
        answer = await post(
            client,
            f"{self._url}/completions",
            request(self._served, prompt, params, seed),
            seconds=self._timeout,
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
        """Says that the endpoint is gone. Raises PivotRLError where it gave nothing at all."""
        if not statuses or self._failed_in_row < GIVE_UP_AFTER:
            return
        lost = sum(status != RolloutStatus.OK for status in statuses)
        told = (
            f"{self._url}: {lost} of {len(statuses)} samples failed, the last "
            f"{GIVE_UP_AFTER} in a row ({self._last_failure}); check that it serves engine.model = "
            f"{self._served.model!r}"
        )
        if lost == len(statuses):
            raise PivotRLError(f"{told}, and run again")
        _log.warning("%s; no more was sent, and what failed has no reward", told)
