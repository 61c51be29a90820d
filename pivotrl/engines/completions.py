"""The wire form of `/v1/completions` with token ids: what is asked and what an answer says.

An answer is a completion only if it holds to the policy's own rules; all else is a failure of the
machinery, never an action. This module must never know a connection, a candidate or a verifier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import orjson

from pivotrl.http_client import Failure
from pivotrl.types import JSON, FinishReason, Sample, SamplingParams

BYTES_A_TOKEN = 1024
"""Bound of an answer; an honest one has about 150 for each token of prompt and completion."""

_TOKEN_ID = "token_id:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What the client knows of the policy that a server has under the name `model`."""

    model: str
    stop_ids: frozenset[int]
    vocabulary: int
    decode: Callable[[Sequence[int]], str]


def request(served: Served, prompt: Sequence[int], params: SamplingParams, seed: int) -> JSON:
    """The body for one sample, with vLLM's fields, which SGLang shares and others ignore."""
    return {
        "model": served.model,
        "prompt": list(prompt),
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "seed": seed,
        "stop_token_ids": sorted(served.stop_ids),
        "logprobs": 1,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "skip_special_tokens": False,
        # Else a server takes these from the model's generation_config.json.
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
    }


def sample_of(
    answer: bytes, served: Served, prompt: Sequence[int], params: SamplingParams, seed: int
) -> tuple[Sample, int]:
    """The sample and how many tokens it has, 0 if unknown; it has ids and log-probs, or neither.

    At temperature 0 every log-probability is 0: the sampling distribution has one token. Raises
    Failure, without a word of the answer, for what is no whole completion of `prompt`.
    """
    try:
        told = orjson.loads(answer)  # refuses NaN, lone surrogates and bottomless nesting
        (choice,) = told["choices"]
        logprobs = choice.get("logprobs") or {}
        ids = _ids(choice.get("token_ids"), logprobs.get("tokens"), served.vocabulary)
        numbers = _numbers(logprobs.get("token_logprobs"), ids)
        finish_reason, text = FinishReason(choice["finish_reason"]), choice["text"]
        tokens = (told.get("usage") or {}).get("completion_tokens")
        if not isinstance(text, str) or type(tokens) not in (int, type(None)):
            raise TypeError
        if choice.get("prompt_token_ids") not in (None, list(prompt)):
            raise Failure("an answer to another prompt")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise Failure(f"an answer that is no completion ({type(error).__name__})") from None
    if ids is not None:
        ended = bool(ids) and ids[-1] in served.stop_ids
        finish_reason = FinishReason.STOP if ended else FinishReason.LENGTH
        tokens, text = len(ids), served.decode(ids[:-1] if ended else ids)
    least = 1 if finish_reason == FinishReason.STOP else params.max_tokens
    if (tokens is not None and not least <= tokens <= params.max_tokens) or (
        ids and not served.stop_ids.isdisjoint(ids[:-1])
    ):
        raise Failure(
            f"a completion that neither is one turn nor fills max_tokens = {params.max_tokens}: "
            "the server needs the policy's context and must heed stop_token_ids"
        )
    if ids is None or numbers is None:
        ids, numbers = [], ()
    sample = Sample(
        token_ids=tuple(ids),
        logprobs=(0.0,) * len(numbers) if params.temperature == 0 else numbers,
        text=text,
        finish_reason=finish_reason,
        seed=seed,
    )
    return sample, tokens or 0


def _ids(told: JSON, tokens: JSON, vocabulary: int) -> list[int] | None:
    """The sampled ids, from their own field or from tokens such as `token_id:17`."""
    if told is None and tokens and all(token.startswith(_TOKEN_ID) for token in tokens):
        told = [int(token.removeprefix(_TOKEN_ID)) for token in tokens]
    if told is None:
        return None
    if not all(type(one) is int and 0 <= one < vocabulary for one in told):
        raise ValueError
    return list(told)


def _numbers(told: JSON, ids: list[int] | None) -> tuple[float, ...] | None:
    if told is None or ids is None:
        return None
    if len(told) != len(ids) or not all(type(x) in (float, int) and -inf < x <= 0 for x in told):
        raise ValueError
    return tuple(map(float, told))
