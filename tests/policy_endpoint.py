"""An OpenAI-compatible completions endpoint with a made-up policy, and with any fault."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

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
            reply = state.reply(body)
            with lock:
                now[0] -= 1  # before the answer, which lets the client ask again
            self.answer(*reply)

        def answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.close_connection = status < 100
            if status == HANG_UP or (status == HANG and closing.wait()):
                return
            self.send_response(status if status >= 100 else 200)
            for name, value in ({"content-length": str(len(raw))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            if status == HALF:
                self.wfile.write(raw[: len(raw) // 2])
            elif status == DRIP:
                for place in range(len(raw)):
                    if closing.wait(0.05):
                        return
                    self.wfile.write(raw[place : place + 1])
            else:
                self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            pass  # a client may give up on us

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield state
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
