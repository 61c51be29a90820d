"""A draft to a row of `trajectories`: every check that all formats share, and the content's id.

Messages keep their places, so an index in the source is an index here. Rows are built as decoded
JSON, typed only where they are read (`columns.from_row`). This module must never know a file or a
format.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

import orjson

from pivotrl.trajectories.domains import infer
from pivotrl.trajectories.draft import Draft
from pivotrl.trajectories.messages import number_calls, read_message, tie_calls
from pivotrl.trajectories.rows import RowError
from pivotrl.trajectories.tool_specs import NO_TOOLS, canonical_tools, names_of, parse_tools
from pivotrl.types import JSON, canonical

MAX_FILES, MAX_FILE_BYTES = 200, 1_000_000
"""Of a row's snapshots, all together."""


def build(
    draft: Draft,
    *,
    given_tools: str,
    given_domain: str | None,
    source_file: str,
    source_row: int,
) -> dict[str, JSON]:
    """The checked row; the draft's own tools win, and the given domain. Raises RowError.

    `given_tools`: JSON text as `parse_tools` makes it. JSON columns keep the order of keys:
    templates render it, so it is part of what the model sees.
    """
    tools = parse_tools(draft.tools) if draft.tools else NO_TOOLS
    tools = given_tools if tools == NO_TOOLS else tools
    if not isinstance(draft.messages, list):
        raise RowError("unreadable message", "the messages are not a list")
    messages = [read_message(i, m) for i, m in enumerate(draft.messages)]
    tie_calls(messages)
    turns = sum(m["role"] == "assistant" for m in messages)
    if not turns:
        raise RowError("no assistant turn", "leave the row out: there is nothing to learn from")
    accepted = _accepted_actions(draft.accepted_actions, messages)
    called = _called_tools(enumerate(messages), "message")
    for turn, actions in accepted.items():
        called |= _called_tools([(turn, a) for a in actions], "accepted action of message")
    declared = names_of(tools)
    for name, place in called.items():
        if declared and name not in declared:
            remedy = f"{place} calls {name!r}: declare it in the row's `tools` or in data.tools"
            raise RowError("undeclared tool", remedy)
    not_actions = sorted(draft.not_actions)
    return {
        "trajectory_id": _id(messages, tools, not_actions),
        "domain": given_domain
        or _text(draft.domain, "domain")
        or infer(declared or frozenset(called)),
        "task": _text(draft.task, "task"),
        "reward": _reward(draft.reward),
        "turns": turns,
        "messages": orjson.dumps(messages).decode(),
        "tools": tools,
        "tools_declared": bool(declared) or not called,
        "accepted_actions": orjson.dumps(accepted, option=orjson.OPT_NON_STR_KEYS).decode(),
        "files": orjson.dumps(
            _files(draft.files, messages), option=orjson.OPT_NON_STR_KEYS
        ).decode(),
        "not_actions": orjson.dumps(not_actions).decode(),
        "source_file": source_file,
        "source_row": source_row,
    }


def _id(messages: Sequence[JSON], tools: str, not_actions: Sequence[int]) -> str:
    """Hash of the content, as `digest` of the three (of two where nothing is left out)."""
    content = [canonical(messages), canonical_tools(tools)]
    content += [canonical(not_actions)] if not_actions else []
    return hashlib.sha256(b"[" + b",".join(content) + b"]").hexdigest()[:16]


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
    value: JSON, messages: Sequence[Mapping[str, JSON]]
) -> dict[int, list[dict[str, JSON]]]:
    if value is None:
        return {}
    reason = "unreadable accepted_actions"
    if not isinstance(value, Mapping):
        raise RowError(reason, '`accepted_actions` is not {"<message index>": [messages]}')
    accepted: dict[int, list[dict[str, JSON]]] = {}
    starts = [0, *accumulate(len(m.get("tool_calls", ())) for m in messages)]
    for key, actions in value.items():
        turn = _turn(key, messages, reason)
        if not isinstance(actions, list):
            raise RowError(reason, f"the actions accepted at message {key} are not a list")
        accepted[turn] = [read_message(turn, action) for action in actions]
        for action in accepted[turn]:
            if action["role"] != "assistant":
                raise RowError(reason, f"an action accepted at message {key} is not an assistant's")
            number_calls(action.get("tool_calls", ()), starts[turn])
    return accepted


def _files(value: JSON, messages: Sequence[Mapping[str, JSON]]) -> dict[int, dict[str, str]]:
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


def _turn(key: str, messages: Sequence[Mapping[str, JSON]], reason: str) -> int:
    turn = int(key) if key.isascii() and key.isdigit() and len(key) < 9 else len(messages)
    if turn >= len(messages) or messages[turn]["role"] != "assistant":
        raise RowError(reason, f"{key!r} is not the index of an assistant message")
    return turn


def _called_tools(messages: Iterable[tuple[int, Mapping[str, JSON]]], what: str) -> dict[str, str]:
    """Name of each called tool -> the first place that calls it."""
    called: dict[str, str] = {}
    for index, message in messages:
        for call in message.get("tool_calls", ()):
            called.setdefault(call["function"]["name"], f"{what} {index}")
    return called
