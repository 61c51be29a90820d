"""An OpenAI-compatible endpoint for the judge, with any answer and any fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from loopback import Handler, serving_with

Reply = tuple[int, Any]


def says(equivalent: Any, **more: Any) -> Reply:
    return completion(json.dumps({"reason": "because", "equivalent": equivalent} | more))


def completion(content: Any) -> Reply:
    message = {"role": "assistant", "content": content}
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    return 200, {"id": "x", "choices": [{"index": 0, "message": message}], "usage": usage}


def honest(asked: dict[str, Any]) -> Reply:
    """Alike if the same colours occur."""
    colours = [{c for c in ("red", "blue") if c in asked[k]["text"]} for k in ("first", "second")]
    return says(colours[0] == colours[1])


@dataclass
class Endpoint:
    """What the server was asked, and how it answers; `reply` is given the question."""

    url: str = ""
    reply: Callable[[dict[str, Any]], Reply] = honest
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)

    @property
    def questions(self) -> list[dict[str, Any]]:
        return [json.loads(body["messages"][1]["content"]) for body in self.bodies]


@contextmanager
def serving() -> Iterator[Endpoint]:
    """A real server on loopback."""
    state = Endpoint()

    class Judge(Handler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert self.path == "/v1/chat/completions"
            state.bodies.append(body)
            state.keys.add(self.headers["authorization"])
            status, answer = state.reply(json.loads(body["messages"][1]["content"]))
            if status == 0:
                self.close_connection = True  # hangs up
                return
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.answer(status, raw, {"content-type": "application/json"})

    with serving_with(Judge) as url:
        state.url = f"{url}/v1"
        yield state
