"""A draft to a `Trajectory`: every check that all formats share, and the content that ids hash.

Calls are numbered by their place in the conversation, since foreign call ids are random, reused or
missing; results are tied to calls by id, else by order. Messages keep their places, so an index in
the source is an index here. This module must never know a file or a format.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace

import orjson

from pivotrl.trajectories.domains import infer
from pivotrl.trajectories.draft import Draft
from pivotrl.trajectories.rows import RowError
from pivotrl.trajectories.tool_specs import parse_tools
from pivotrl.types import (
    JSON,
    Message,
    Role,
    ToolCall,
    ToolSpec,
    Trajectory,
    digest,
    message_to_json,
    tool_to_json,
)

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
_THINK, _END_THINK = "<think>", "</think>"
MAX_FILES, MAX_FILE_BYTES = 200, 1_000_000
"""Of a row's snapshots, all together."""


def build(
    draft: Draft,
    *,
    given_tools: tuple[ToolSpec, ...] | None,
    given_domain: str | None,
    source_file: str,
    source_row: int,
) -> Trajectory:
    """The checked trajectory; what the row says wins over what was given. Raises RowError."""
    tools = (parse_tools(draft.tools) if draft.tools else ()) or given_tools or ()
    if not isinstance(draft.messages, list):
        raise RowError("unreadable message", "the messages are not a list")
    messages = tie_calls([_message(i, m) for i, m in enumerate(draft.messages)])
    if not any(m.role == Role.ASSISTANT for m in messages):
        raise RowError("no assistant turn", "leave the row out: there is nothing to learn from")
    accepted = _accepted_actions(draft.accepted_actions, messages)
    called = _called_tools([*enumerate(messages)], "message")
    for turn, actions in accepted.items():
        called |= _called_tools(
            [(turn, action) for action in actions], "accepted action of message"
        )
    declared = {tool.name for tool in tools}
    for name, place in called.items():
        if tools and name not in declared:
            remedy = f"{place} calls {name!r}: declare it in the row's `tools` or in data.tools"
            raise RowError("undeclared tool", remedy)
    return Trajectory(
        id=trajectory_id(messages, tools, draft.not_actions),
        messages=messages,
        tools=tools,
        tools_declared=bool(tools) or not called,
        domain=_text(draft.domain, "domain") or given_domain or infer(declared or called),
        task=_text(draft.task, "task"),
        reward=_reward(draft.reward),
        accepted_actions=accepted,
        files=_files(draft.files, messages),
        not_actions=frozenset(draft.not_actions),
        source_file=source_file,
        source_row=source_row,
    )


def trajectory_id(
    messages: Sequence[Message], tools: Sequence[ToolSpec], not_actions: Set[int] = frozenset()
) -> str:
    """Hash of the content; messages as `tie_calls` leaves them."""
    content = [[message_to_json(m) for m in messages], [tool_to_json(t) for t in tools]]
    return digest([*content, sorted(not_actions)] if not_actions else content)


def call_id(position: int) -> str:
    """The id of the trajectory's call number `position`; nine characters, as Mistral's asks for."""
    return f"call{position:05d}"


def tie_calls(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The messages with calls numbered by position, each result naming its call and its tool.

    A result without an id answers the oldest open call (of that name, if it has one).
    Raises RowError where a result has no call before it.
    """
    position = 0
    open_calls: list[tuple[str | None, ToolCall]] = []
    tied: list[Message] = []
    for index, message in enumerate(messages):
        if message.tool_calls:
            calls = number_calls(message.tool_calls, position)
            open_calls += zip((c.id for c in message.tool_calls), calls, strict=True)
            position += len(calls)
            tied.append(
                Message(  # not `replace`, which takes four times as long
                    role=Role.ASSISTANT,
                    content=message.content,
                    reasoning=message.reasoning,
                    tool_calls=calls,
                    name=message.name,
                )
            )
        elif message.role == Role.TOOL:
            found = next((pair for pair in open_calls if _answers(message, *pair)), None)
            if found is None:
                wanted = message.tool_call_id or message.name or "unnamed"
                remedy = f"message {index} answers {wanted!r}, which no turn before it calls"
                raise RowError("tool result without its call", remedy)
            open_calls.remove(found)
            call = found[1]
            tied.append(
                Message(
                    role=Role.TOOL, content=message.content, tool_call_id=call.id, name=call.name
                )
            )
        else:
            tied.append(message)
    return tuple(tied)


def number_calls(calls: Sequence[ToolCall], start: int) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(name=call.name, arguments=call.arguments, id=call_id(start + i))
        for i, call in enumerate(calls)
    )


def _answers(result: Message, source_id: str | None, call: ToolCall) -> bool:
    if result.tool_call_id is not None:
        return result.tool_call_id == source_id
    return result.name is None or result.name == call.name


def _message(index: int, message: JSON) -> Message:
    role = _ROLES.get(str(message.get("role"))) if isinstance(message, dict) else None
    if role is None:
        raise RowError("unreadable message", f"message {index} has none of the roles {[*_ROLES]}")
    content = _content(index, message.get("content"))
    called = "tool_calls" in message or "function_call" in message
    calls = _calls(index, message) if called else ()
    if role != Role.ASSISTANT:
        if calls:
            raise RowError("unreadable message", f"message {index}: only an assistant calls tools")
        return Message(
            role=role,
            content=content,
            tool_call_id=_label(index, message, "tool_call_id") if role == Role.TOOL else None,
            name=_label(index, message, "name"),
        )
    reasoning = message.get("reasoning_content") or message.get("reasoning") or None
    if reasoning is not None and not isinstance(reasoning, str):
        raise RowError("content is not text", f"the reasoning of message {index} is not a string")
    if reasoning is None and content.lstrip().startswith(_THINK) and _END_THINK in content:
        thought, _, content = content.lstrip().removeprefix(_THINK).partition(_END_THINK)
        reasoning, content = thought.strip("\n"), content.lstrip("\n")
    if not content and not calls:
        content = _content(index, message.get("refusal"))
    return Message(
        role=role,
        content=content,
        reasoning=reasoning,
        tool_calls=calls,
        name=_label(index, message, "name"),
    )


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


def _calls(index: int, message: Mapping[str, JSON]) -> tuple[ToolCall, ...]:
    calls = message.get("tool_calls") or []
    legacy = message.get("function_call")
    if legacy and not calls:
        calls = [{"function": legacy}]
    if not isinstance(calls, list):
        raise RowError("unreadable call", f"`tool_calls` of message {index} is not a list")
    return tuple(_call(index, call) for call in calls)


def _call(index: int, call: JSON) -> ToolCall:
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
    return ToolCall(name=name, arguments=arguments, id=source_id)


def _label(index: int, message: Mapping[str, JSON], key: str) -> str | None:
    value = message.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise RowError("unreadable message", f"`{key}` of message {index} is not a string")
    return value


def _text(value: JSON, key: str) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise RowError(f"unreadable {key}", f"`{key}` is {type(value).__name__}: use a string")


def _reward(value: JSON) -> float | None:
    if value is None:
        return None
    if not isinstance(value, bool | int | float) or not math.isfinite(value):
        raise RowError("unreadable reward", f"`reward` is {type(value).__name__}: use a number")
    return float(value)


def _accepted_actions(
    value: JSON, messages: Sequence[Message]
) -> Mapping[int, tuple[Message, ...]]:
    if value is None:
        return {}
    reason = "unreadable accepted_actions"
    if not isinstance(value, Mapping):
        raise RowError(reason, '`accepted_actions` is not {"<message index>": [messages]}')
    accepted: dict[int, tuple[Message, ...]] = {}
    for key, actions in value.items():
        turn = _turn(key, messages, reason)
        if not isinstance(actions, list):
            raise RowError(reason, f"the actions accepted at message {key} are not a list")
        read = [_message(turn, action) for action in actions]
        if any(action.role != Role.ASSISTANT for action in read):
            raise RowError(reason, f"an action accepted at message {key} is not an assistant's")
        start = sum(len(m.tool_calls) for m in messages[:turn])
        accepted[turn] = tuple(
            replace(action, tool_calls=number_calls(action.tool_calls, start)) for action in read
        )
    return accepted


def _files(value: JSON, messages: Sequence[Message]) -> Mapping[int, Mapping[str, str]]:
    if value is None:
        return {}
    reason = "unreadable files"
    if not isinstance(value, Mapping) or not all(
        isinstance(files, Mapping) and all(isinstance(text, str) for text in files.values())
        for files in value.values()
    ):
        raise RowError(reason, '`files` is not {"<message index>": {"<path>": "<text>"}}')
    paths = [path for files in value.values() for path in files]
    size = sum(len(text.encode()) for files in value.values() for text in files.values())
    if len(paths) > MAX_FILES or size > MAX_FILE_BYTES:
        limit = f"at most {MAX_FILES} of {MAX_FILE_BYTES:,} bytes in all"
        raise RowError(reason, f"{len(paths)} files of {size:,} bytes: keep {limit}")
    for key, files in value.items():
        for path in files:
            parts = path.split("/")
            odd = any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)
            if odd or "\0" in path or len(path) > 1000:
                raise RowError(reason, f"{path[:80]!r} of message {key}: use a relative path")
            if any(other.startswith(path + "/") for other in files):
                raise RowError(reason, f"{path[:80]!r} of message {key} is a file and a folder")
    return {_turn(key, messages, reason): dict(files) for key, files in value.items()}


def _turn(key: str, messages: Sequence[Message], reason: str) -> int:
    turn = int(key) if key.isascii() and key.isdigit() and len(key) < 9 else len(messages)
    if turn >= len(messages) or messages[turn].role != Role.ASSISTANT:
        raise RowError(reason, f"{key!r} is not the index of an assistant message")
    return turn


def _called_tools(messages: Iterable[tuple[int, Message]], what: str) -> dict[str, str]:
    """Name of each called tool -> the first place that calls it."""
    called: dict[str, str] = {}
    for index, message in messages:
        for call in message.tool_calls:
            called.setdefault(call.name, f"{what} {index}")
    return called
