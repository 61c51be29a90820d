"""Reads one assistant turn: `<think>` reasoning, text, then tool calls in the model's own form.

Model output is hostile: every piece of markup is either read whole, under strict and bounded JSON,
or reported as malformed with its place; it never falls through as text, and nothing raises.
This module must never know a tokenizer or a verifier.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pivotrl.chat.forms import HERMES, CallForm
from pivotrl.chat.strict_json import skip_space
from pivotrl.types import Action, FinishReason, ToolCall, ToolSpec

MAX_CHARACTERS = 1_000_000
MAX_CALLS = 64

CONTROL_TOKENS = re.compile(r"<\|\w+\|>")
"""Of ChatML and its relatives, for callers that know no tokenizer."""

_THINK, _THINK_END = "<think>", "</think>"


def parse_completion(
    text: str,
    finish_reason: FinishReason,
    tools: Sequence[ToolSpec] = (),
    *,
    form: CallForm = HERMES,
    opened_reasoning: bool = False,
    control_tokens: re.Pattern[str] | None = CONTROL_TOKENS,
) -> Action:
    """The action that `text` (without its end-of-turn token) is; never raises.

    `opened_reasoning`: the prompt already ended inside `<think>`. `control_tokens` matches the chat
    format's own control tokens, which no turn may contain. Text is stripped at both ends. Text
    after a call is malformed: no template could render it there again. A call has exactly a name
    (a non-empty string) and arguments (an object); duplicate keys, NaN, infinite or over-long
    numbers, lone surrogates and nesting beyond `MAX_DEPTH` are malformed. `tools` give values
    their types in forms that write them without (Qwen3-Coder).
    """
    if len(text) > MAX_CHARACTERS:
        reason = f"{len(text)} characters, more than the {MAX_CHARACTERS} that are read"
        return Action(malformed=(reason,), finish_reason=finish_reason)
    text = text.encode("utf-8", "replace").decode("utf-8")
    malformed: list[str] = []
    control = control_tokens.search(text) if control_tokens is not None else None
    if control is not None:
        malformed.append(f"control token {control.group()} at character {control.start()}")
    reasoning, position = _split_reasoning(text, opened_reasoning, malformed)
    first_call = form.opening.search(text, position)
    end_of_text = len(text) if first_call is None else first_call.start()
    body = text[position:end_of_text]
    stray = form.markup.search(body)
    if stray is not None:
        malformed.append(f"stray {stray.group()} at character {position + stray.start()}")
        body = body[: stray.start()]
    calls = _read_calls(text, end_of_text, tools, form, malformed)
    if control_tokens is not None:  # taking them out could join what is around them to markup
        body = control_tokens.split(body, maxsplit=1)[0]
    return Action(
        text=body.strip(),
        reasoning=reasoning,
        tool_calls=tuple(calls),
        malformed=tuple(malformed),
        finish_reason=finish_reason,
    )


def _split_reasoning(text: str, opened: bool, malformed: list[str]) -> tuple[str | None, int]:
    """The reasoning and the character where what follows it begins."""
    start = skip_space(text, 0)
    if text.startswith(_THINK, start):
        start += len(_THINK)
    elif not opened:
        return None, 0
    end = text.find(_THINK_END, start)
    if end < 0:
        malformed.append(f"unclosed {_THINK} at character {max(start - len(_THINK), 0)}")
        return text[start:].strip(), len(text)
    return text[start:end].strip() or None, end + len(_THINK_END)


def _read_calls(
    text: str, position: int, tools: Sequence[ToolSpec], form: CallForm, malformed: list[str]
) -> list[ToolCall]:
    """All well-formed calls from `position` on; what lies between them is malformed."""
    calls: list[ToolCall] = []
    while (position := skip_space(text, position)) < len(text) or len(calls) > MAX_CALLS:
        if len(calls) + len(malformed) >= MAX_CALLS:
            malformed.append(f"more than {MAX_CALLS} tool calls, from character {position}")
            break
        opened = form.opening.match(text, position)
        if opened is None:
            found = form.markup.match(text, position)
            what = "text" if found is None else found.group()
            malformed.append(f"{what} outside a tool call at character {position}")
            following = form.opening.search(text, position + 1)
        else:
            try:
                read, position = form.read(text, opened.end(), tools)
                calls += read
                continue
            except (ValueError, RecursionError) as error:
                reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
                what = opened.group().strip() or "call"
                malformed.append(f"{what} at character {position}: {reason}")
            following = form.edge.search(text, max(opened.end(), position + 1))
        if following is None:
            break
        position = following.end() if following.lastgroup == "end" else following.start()
    return calls[:MAX_CALLS]
