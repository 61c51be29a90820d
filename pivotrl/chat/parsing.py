"""Reads one assistant turn in Hermes/Qwen form: `<think>` reasoning, text, `<tool_call>` JSON.

Model output is hostile: every piece of markup is either read whole, under strict and bounded JSON,
or reported as malformed with its place; it never falls through as text, and nothing raises.
This module must never know a tokenizer, a tool's schema or a verifier.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from pivotrl.types import JSON, Action, FinishReason, ToolCall

MAX_CHARACTERS = 1_000_000
MAX_CALLS = 64
MAX_DEPTH = 32
INTEGER_RANGE = range(-(2**63), 2**64)
"""What canonical JSON (orjson) can hold."""

CONTROL_TOKENS = re.compile(r"<\|\w+\|>")
"""Of ChatML and its relatives, for callers that know no tokenizer."""

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_THINK, _THINK_END = "<think>", "</think>"
_MARKUP = re.compile(r"</?(?:tool_call|tool_response|think)\b>?")
_CALL_EDGE = re.compile(r"</?tool_call>")
_SPACE = re.compile(r"\s*")


def parse_completion(
    text: str,
    finish_reason: FinishReason,
    *,
    opened_reasoning: bool = False,
    control_tokens: re.Pattern[str] | None = CONTROL_TOKENS,
) -> Action:
    """The action that `text` (without its end-of-turn token) is; never raises.

    `opened_reasoning`: the prompt already ended inside `<think>`. `control_tokens` matches the chat
    format's own control tokens, which no turn may contain. Text is stripped at both ends. Text
    after a call is malformed: no template could render it there again. A call is an object with
    exactly `name` (a non-empty string) and `arguments` (an object); duplicate keys, NaN, infinite
    or over-long numbers, lone surrogates and nesting beyond `MAX_DEPTH` are malformed.
    """
    if len(text) > MAX_CHARACTERS:
        reason = f"{len(text)} characters, more than the {MAX_CHARACTERS} that are read"
        return Action(malformed=(reason,), finish_reason=finish_reason)
    text = text.encode("utf-8", "replace").decode("utf-8")
    malformed: list[str] = []
    if control_tokens is not None:
        malformed += [
            f"control token {found.group()} at character {found.start()}"
            for found in control_tokens.finditer(text)
        ][:1]
    reasoning, position = _split_reasoning(text, opened_reasoning, malformed)
    first_call = text.find("<tool_call", position)
    end_of_text = len(text) if first_call < 0 else first_call
    body = text[position:end_of_text]
    stray = _MARKUP.search(body)
    if stray is not None:
        malformed.append(f"stray {stray.group()} at character {position + stray.start()}")
        body = body[: stray.start()]
    calls = _read_calls(text, end_of_text, malformed)
    if control_tokens is not None:
        body = control_tokens.sub("", body)
    return Action(
        text=body.strip(),
        reasoning=reasoning,
        tool_calls=tuple(calls),
        malformed=tuple(malformed),
        finish_reason=finish_reason,
    )


def _split_reasoning(text: str, opened: bool, malformed: list[str]) -> tuple[str | None, int]:
    """The reasoning and the character where what follows it begins."""
    start = _skip_space(text, 0)
    if text.startswith(_THINK, start):
        start += len(_THINK)
    elif not opened:
        return None, 0
    end = text.find(_THINK_END, start)
    if end < 0:
        malformed.append(f"unclosed {_THINK} at character {max(start - len(_THINK), 0)}")
        return text[start:].strip(), len(text)
    return text[start:end].strip() or None, end + len(_THINK_END)


def _read_calls(text: str, position: int, malformed: list[str]) -> list[ToolCall]:
    """All well-formed calls from `position` on; what lies between them is malformed."""
    calls: list[ToolCall] = []
    while (position := _skip_space(text, position)) < len(text):
        if len(calls) + len(malformed) >= MAX_CALLS:
            malformed.append(f"more than {MAX_CALLS} tool calls, from character {position}")
            break
        start = position
        if not text.startswith(_OPEN, start):
            edge = _MARKUP.search(text, start)
            what = edge.group() if edge is not None and edge.start() == start else "text"
            malformed.append(f"{what} outside a tool call at character {start}")
            position = text.find(_OPEN, start + 1)
            if position < 0:
                break
            continue
        try:
            value, end = _decode(text, _skip_space(text, start + len(_OPEN)))
            end = _skip_space(text, end)
            if not text.startswith(_CLOSE, end):
                raise ValueError(f"no {_CLOSE} at character {end}")
            calls.append(_call_of(value))
            position = end + len(_CLOSE)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            malformed.append(f"{_OPEN} at character {start}: {reason}")
            following = _CALL_EDGE.search(text, start + len(_OPEN))
            if following is None:
                break
            closes = following.group() == _CLOSE
            position = following.end() if closes else following.start()
    return calls


def _call_of(value: JSON) -> ToolCall:
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    name, arguments = value.get("name"), value.get("arguments")
    if not isinstance(name, str) or not name:
        raise ValueError("no name")
    if not isinstance(arguments, dict):
        raise ValueError("arguments are not an object")
    if len(value) > 2:
        raise ValueError("keys other than name and arguments")
    return ToolCall(name=name, arguments=arguments)


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found is not None else position


def _decode(text: str, start: int) -> tuple[JSON, int]:
    """One JSON value and where it ends; raises ValueError or RecursionError."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos}") from None
    _check(value)
    return value, end


def _check(value: JSON) -> None:
    """Refuses depth beyond `MAX_DEPTH` and strings that are not Unicode text."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        following: list[JSON] = []
        for item in level:
            if isinstance(item, str):
                item.encode("utf-8")
            elif isinstance(item, list):
                following += item
            elif isinstance(item, dict):
                following += item.keys()
                following += item.values()
        level = following


def _number(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"number {digits[:20]} out of range")
    return value


def _integer(digits: str) -> int:
    if len(digits) > 20 or int(digits) not in INTEGER_RANGE:
        raise ValueError(f"integer {digits[:20]} out of range")
    return int(digits)


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def _unique(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key occurs twice")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_float=_number,
    parse_int=_integer,
    parse_constant=_refuse_constant,
    strict=True,
)
