"""JSON over HTTP to a server that may be slow, busy, gone or hostile: bounded, patient, discreet.

Nothing that a server said and no header ever gets into an error, since a server may echo the key.
This module must never know what is asked or answered.
"""

from __future__ import annotations

import asyncio
import os
from email.utils import parsedate_to_datetime
from time import time

import httpx
from tenacity import RetryCallState, wait_exponential_jitter

from pivotrl.types import JSON, ConfigError

BACK_OFF = wait_exponential_jitter(multiplier=0.5, max=8.0, jitter=0.5)
"""Seconds between two tries, where the server does not say how long."""
LONGEST_PAUSE = 60.0
"""Seconds; a server that asks for more is not waited for so long."""

_PASSING = frozenset({408, 409, 425, 429})


class Failure(Exception):
    """A try failed for reasons that may pass. `pause` in seconds is what the server asked for."""

    def __init__(self, reason: str, *, timeout: bool = False, pause: float | None = None) -> None:
        super().__init__(reason)
        self.timeout, self.pause = timeout, pause


class Refusal(Exception):
    """The server answered with an HTTP status that no retry changes."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


async def post(
    client: httpx.AsyncClient, url: str, body: JSON, *, seconds: float, longest: int
) -> bytes:
    """The body of a 200 answer, at most `longest` bytes, whole within `seconds`.

    Raises Failure where another try may help and Refusal where none does.
    """
    try:
        async with asyncio.timeout(seconds), client.stream("POST", url, json=body) as response:
            if response.status_code in _PASSING or response.status_code >= 500:
                pause = _pause(response.headers.get("retry-after"))
                raise Failure(f"HTTP {response.status_code}", pause=pause)
            if response.status_code != 200:
                raise Refusal(response.status_code)
            answer = bytearray()
            async for piece in response.aiter_raw():  # raw: a small body may inflate without end
                answer += piece
                if len(answer) > longest:
                    raise Failure(f"an answer of more than {longest} bytes")
            return bytes(answer)
    except TimeoutError:
        raise Failure(f"no whole answer within {seconds:g} s", timeout=True) from None
    except httpx.TransportError as error:
        raise Failure(type(error).__name__) from None


def pause(state: RetryCallState) -> float:
    """For tenacity: seconds until the next try, as the server asked or growing with each."""
    failure = state.outcome and state.outcome.exception()
    asked = failure.pause if isinstance(failure, Failure) else None
    return BACK_OFF(state) if asked is None else asked


def checked_url(url: str, place: str) -> str:
    """`url` without a slash at its end. `place` names the setting. Raises ConfigError."""
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        parts = httpx.URL("")
    if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo or parts.query:
        raise ConfigError(
            f"{place}: give a plain address such as http://127.0.0.1:8000/v1; a key belongs into "
            "an environment variable"
        )
    return url.rstrip("/")


def authorization(variable: str | None, place: str) -> dict[str, str]:
    """The header with the key that the environment holds; none without a variable's name.

    `place` names the setting. Raises ConfigError, never with the key.
    """
    if variable is None:
        return {}
    key = os.environ.get(variable, "")
    if not key:
        raise ConfigError(
            f"{place} = {variable!r}: no such environment variable; export it with the key, or "
            "leave this out where no key is needed"
        )
    if not key.isascii() or not key.isprintable():  # else the HTTP library's error would show it
        raise ConfigError(f"{place} = {variable!r}: the key has characters that no header can have")
    return {"authorization": f"Bearer {key}"}


def _pause(retry_after: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    try:
        if retry_after.isascii() and retry_after.isdigit():
            seconds = float(retry_after)
        else:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_PAUSE)
