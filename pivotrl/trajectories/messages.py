"""Chat messages as formats hand them over to messages as rows store them (`message_to_json`).

Calls are numbered by their place in the conversation, since foreign call ids are random, reused or
missing; results are tied to calls by id, else by order. This module must never know a file or a
format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from pivotrl.trajectories.rows import RowError
from pivotrl.types import JSON

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_THINK, _END_THINK = "<think>", "</think>"


def read_message(index: int, message: JSON) -> dict[str, JSON]:
    """The message number `index`, checked; calls keep the ids of the source. Raises RowError."""
    role = _ROLES.get(str(message.get("role"))) if isinstance(message, dict) else None
    if role is None:
        raise RowError("unreadable message", f"message {index} has none of the roles {[*_ROLES]}")
    content = message.get("content")
    if not isinstance(content, str):
        content = _content(index, content)
    called = "tool_calls" in message or "function_call" in message
    calls = _calls(index, message) if called else None
    out: dict[str, JSON] = {"role": role, "content": content}
    if role != "assistant":
        if calls:
            raise RowError("unreadable message", f"message {index}: only an assistant calls tools")
        if role == "tool" and message.get("tool_call_id"):
            out["tool_call_id"] = _label(index, message, "tool_call_id")
        if message.get("name"):
            out["name"] = _label(index, message, "name")
        return out
    reasoning = message.get("reasoning_content") or message.get("reasoning") or None
    if reasoning is not None and not isinstance(reasoning, str):
        raise RowError("content is not text", f"the reasoning of message {index} is not a string")
    if reasoning is None and _END_THINK in content:
        thought, _, said = content.partition(_END_THINK)
        opened = thought.lstrip().startswith(_THINK)
        thought = thought.lstrip().removeprefix(_THINK)
        # Templates may open it in the prompt; then an answer follows on a line of its own.
        alone = said.startswith("\n") and (said.strip() or calls)
        if (opened or alone) and _THINK not in thought:
            reasoning, content = thought.strip("\n"), said.lstrip("\n")
            out["content"] = content
    if not content and not calls:
        out["content"] = _content(index, message.get("refusal"))
    if reasoning is not None:
        out["reasoning_content"] = reasoning
    if calls:
        out["tool_calls"] = calls
    if message.get("name"):
        out["name"] = _label(index, message, "name")
    return out


def tie_calls(messages: Sequence[dict[str, JSON]]) -> None:
    """Numbers the calls by position; each result names its call and its tool. Changes in place.

    A result without an id answers the oldest open call (of that name, if it has one).
    Raises RowError where a result has no call before it.
    """
    position = 0
    open_calls: list[tuple[str | None, dict[str, JSON]]] = []
    for index, message in enumerate(messages):
        if "tool_calls" in message:
            calls = message["tool_calls"]
            open_calls += [(call.get("id"), call) for call in calls]
            number_calls(calls, position)
            position += len(calls)
        elif message["role"] == "tool":
            wanted, name = message.pop("tool_call_id", None), message.pop("name", None)
            for at, (source_id, call) in enumerate(open_calls):
                tool = call["function"]["name"]
                if source_id == wanted if wanted is not None else name in (None, tool):
                    message["tool_call_id"], message["name"] = call["id"], tool
                    del open_calls[at]
                    break
            else:
                what = f"message {index} answers {wanted or name or 'unnamed'!r}"
                raise RowError("tool result without its call", f"{what}, which no turn calls")


def number_calls(calls: Sequence[dict[str, JSON]], start: int) -> None:
    """Gives each call the id of its position; nine characters, as Mistral's template asks for."""
    for position, call in enumerate(calls, start):
        call["id"] = f"call{position:05d}"


def _content(index: int, content: JSON) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part(index, part) for part in content)
    kind = type(content).__name__
    raise RowError("content is not text", f"message {index} has content of type {kind}: use text")


def _part(index: int, part: JSON) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    if not isinstance(text, str):
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        remedy = f"message {index} has a part of type {kind!r}: only text parts can be used"
        raise RowError("content is not text", remedy)
    return text


def _calls(index: int, message: Mapping[str, JSON]) -> list[dict[str, JSON]]:
    calls = message.get("tool_calls") or []
    legacy = message.get("function_call")
    if legacy and not calls:
        calls = [{"function": legacy}]
    if not isinstance(calls, list):
        raise RowError("unreadable call", f"`tool_calls` of message {index} is not a list")
    return [_call(index, call) for call in calls]


def _call(index: int, call: JSON) -> dict[str, JSON]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise RowError("unreadable call", f"a call of message {index} has no `function`")
    name, source_id = function.get("name"), call.get("id")
    if not isinstance(name, str) or not name:
        raise RowError("unreadable call", f"a call of message {index} has no name")
    if source_id is not None and not isinstance(source_id, str):
        raise RowError("unreadable call", f"the id of a call of message {index} is not a string")
    arguments = function.get("arguments")
    if isinstance(arguments, str) and arguments.strip():
        try:
            arguments = orjson.loads(arguments)
        except orjson.JSONDecodeError as error:
            remedy = f"message {index} calls {name!r} with arguments that are no JSON: {error}"
            raise RowError("undecodable arguments", remedy) from None
    elif arguments is None or isinstance(arguments, str):
        arguments = {}  # servers write "" or null for a call without arguments
    if not isinstance(arguments, dict):
        remedy = f"message {index} calls {name!r} with arguments that are no JSON object"
        raise RowError("undecodable arguments", remedy)
    out = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return out if source_id is None else out | {"id": source_id}


def _label(index: int, message: Mapping[str, JSON], key: str) -> str:
    value = message[key]
    if not isinstance(value, str):
        raise RowError("unreadable message", f"`{key}` of message {index} is not a string")
    return value
