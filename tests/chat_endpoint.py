"""An OpenAI-compatible chat endpoint on loopback that answers with any function of the request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from loopback import Handler, serving_with

Body = dict[str, Any]


@dataclass
class ChatEndpoint:
    """What it was asked, and with which keys; `reply` gives the assistant's message, or a status
    and a body."""

    reply: Callable[[Body], Body | tuple[int, Body]]
    url: str = ""
    bodies: list[Body] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)


@contextmanager
def serving(reply: Callable[[Body], Body | tuple[int, Body]]) -> Iterator[ChatEndpoint]:
    state = ChatEndpoint(reply=reply)

    class Chat(Handler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert self.path == "/v1/chat/completions"
            state.bodies.append(body)
            state.keys.add(self.headers["authorization"])
            answer = state.reply(body)
            status, content = answer if isinstance(answer, tuple) else (200, completion(answer))
            raw = json.dumps(content).encode()
            self.answer(status, raw, {"content-type": "application/json"})

    with serving_with(Chat) as url:
        state.url = f"{url}/v1"
        yield state


def completion(message: Body) -> Body:
    """An answer's body; a call's arguments may be an object."""
    calls = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])},
        }
        for call in message.get("tool_calls") or []
    ]
    told = {"role": "assistant", "content": message.get("content")}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": [
            {
                "index": 0,
                "message": told | ({"tool_calls": calls} if calls else {}),
                "finish_reason": "tool_calls" if calls else "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
