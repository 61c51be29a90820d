"""An OpenAI-compatible completions endpoint with a made-up policy, and with any fault."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from loopback import Handler, serving_with

VOCABULARY = 50
STOP = 2
HANG_UP, HALF, HANG, DRIP = range(4)
"""In a status's place: what the server does with an honest answer."""
Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]


def completion(prompt: list[int], seed: int, max_tokens: int) -> tuple[list[int], list[float]]:
    """What the policy does: a pure function; it ends about every eighth turn at each token."""
    drawn = random.Random(f"{prompt}{seed}")
    ids: list[int] = []
    while len(ids) < max_tokens and STOP not in ids:
        ids.append(STOP if drawn.random() < 0.12 else drawn.randrange(3, VOCABULARY))
    return ids, [-1.0 - number / VOCABULARY for number in ids]


def answer(body: dict[str, Any], **other: Any) -> dict[str, Any]:
    """An answer as vLLM's, `other` being different in its choice."""
    ids, logprobs = completion(body["prompt"], body["seed"], body["max_tokens"])
    choice = {
        "index": 0,
        "text": f"text of {len(ids)}",
        "finish_reason": "stop" if ids[-1] == STOP else "length",
        "token_ids": ids,
        "prompt_token_ids": body["prompt"],
        "logprobs": {"tokens": [f"token_id:{x}" for x in ids], "token_logprobs": logprobs},
    }
    return {"choices": [choice | other], "usage": {"completion_tokens": len(ids)}}


@dataclass
class PolicyEndpoint:
    """What the server was asked, and how it answers; `reply` is given the request."""

    url: str = ""
    reply: Callable[[dict[str, Any]], Reply] = lambda body: (200, answer(body))
    bodies: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    most_at_once: int = 0
    asked: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving() -> Iterator[PolicyEndpoint]:
    """A real server on loopback."""
    state = PolicyEndpoint()
    lock, closing, now = threading.Lock(), threading.Event(), [0]

    class Policy(Handler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert self.path == "/v1/completions"
            with lock:
                state.bodies.append(body)
                state.times.append(time.monotonic())
                state.keys.add(self.headers["authorization"])
                now[0] += 1
                state.most_at_once = max(state.most_at_once, now[0])
            state.asked.set()
            status, content, *headers = state.reply(body)
            with lock:
                now[0] -= 1  # before the answer, which lets the client ask again
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            if status >= 100:
                self.answer(status, raw, *headers)
            else:
                self.fail(status, raw)

        def fail(self, how: int, raw: bytes) -> None:
            self.close_connection = True
            if how == HANG:
                closing.wait()
            if how in (HANG, HANG_UP):
                return
            self.send_response(200)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            if how == HALF:
                self.wfile.write(raw[: len(raw) // 2])
                return
            for place in range(len(raw)):
                if closing.wait(0.05):
                    return
                self.wfile.write(raw[place : place + 1])

    with serving_with(Policy) as url:
        state.url = f"{url}/v1"
        try:
            yield state
        finally:
            closing.set()
