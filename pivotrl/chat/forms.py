"""The forms in which models write tool calls; each reads one block of calls, strict and bounded.

The parsers that vLLM and transformers ship are made for serving: they repair or drop what they
cannot read, hand on NaN and doubled keys, and take quadratic time on hostile text (vLLM: 27 s for
26 KB). vLLM's are the oracle of a test; here what cannot be read is a ValueError with its place.
This module must never know a tokenizer, a chat template or a verifier.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pivotrl.chat.strict_json import decode, skip_space
from pivotrl.types import JSON, ToolCall, ToolSpec

Read = Callable[[str, int, Sequence[ToolSpec]], tuple[list[ToolCall], int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallForm:
    name: str
    """As an error names it."""
    opening: re.Pattern[str]
    """Where a block of calls begins."""
    markup: re.Pattern[str]
    """Any piece of the form's markup, broken tags too: outside a call it is malformed."""
    edge: re.Pattern[str]
    """Where reading goes on after a block that is malformed: here, or after a match of `end`."""
    read: Read
    """The calls of the block whose opening ends at a character, and where the block ends.

    Raises ValueError or RecursionError. `tools` give values that are written bare their types.
    """


def _hermes(text: str, position: int, tools: Sequence[ToolSpec]) -> tuple[list[ToolCall], int]:
    value, end = decode(text, skip_space(text, position))
    end = _expect(_TAG_END, text, end, "</tool_call>")
    return [_call_of(value, "arguments")], end


def _qwen_coder(text: str, position: int, tools: Sequence[ToolSpec]) -> tuple[list[ToolCall], int]:
    head = _FUNCTION.match(text, position)
    if head is None:
        raise ValueError(f"no <function=...> at character {position}")
    name, position = head.group(1), head.end()
    schemas = _properties(name, tools)
    arguments: dict[str, JSON] = {}
    while found := _PARAMETER.match(text, position):
        key, start, end = found[1], found.end(), text.find(_PARAMETER_END, found.end())
        if key in arguments:
            raise ValueError(f"parameter {key[:40]} occurs twice")
        if end < 0 or _NESTED.search(text, start, end):
            raise ValueError(f"unclosed parameter {key[:40]} at character {found.start()}")
        written = text[start:end].removeprefix("\n").removesuffix("\n")
        arguments[key] = typed(written, schemas.get(key))
        position = end + len(_PARAMETER_END)
    end = _expect(_FUNCTION_END, text, position, "</function> </tool_call>")
    return [ToolCall(name=name, arguments=arguments)], end


def _llama(text: str, position: int, tools: Sequence[ToolSpec]) -> tuple[list[ToolCall], int]:
    value, end = decode(text, position)
    other = isinstance(value, dict) and "parameters" not in value
    return [_call_of(value, "arguments" if other else "parameters")], end


def _mistral(text: str, position: int, tools: Sequence[ToolSpec]) -> tuple[list[ToolCall], int]:
    position = skip_space(text, position)
    head = _NAMED.match(text, position)
    if head is not None:  # tokenizers of version 11 and later
        arguments, end = decode(text, head.end())
        return [_call_of({"name": head[1], "arguments": arguments}, "arguments", id=head[2])], end
    values, end = decode(text, position)
    if not isinstance(values, list) or not values:
        raise ValueError("not a list of calls")
    calls = []
    for value in values:
        id = value.pop("id", None) if isinstance(value, dict) else None
        calls.append(_call_of(value, "arguments", id=id))
    return calls, end


def _deepseek(text: str, position: int, tools: Sequence[ToolSpec]) -> tuple[list[ToolCall], int]:
    calls = []
    while head := _DEEPSEEK_CALL.match(text, position):
        arguments, end = decode(text, head.end())
        fenced = head[1] is not None
        tail, wanted = (_FENCE_END, "``` and its end") if fenced else (_CALL_END, "its end")
        position = _expect(tail, text, end, wanted)
        calls.append(_call_of({"name": head[1] or head[2], "arguments": arguments}, "arguments"))
    return calls, _expect(_CALLS_END, text, position, "<｜tool▁calls▁end｜>")


def _call_of(value: JSON, key: str, *, id: JSON = None) -> ToolCall:
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    name, arguments = value.get("name"), value.get(key)
    if not isinstance(name, str) or not name:
        raise ValueError("no name")
    if not isinstance(arguments, dict):
        raise ValueError(f"{key} are not an object")
    if len(value) > 2:
        raise ValueError(f"keys other than name and {key}")
    if id is not None and not isinstance(id, str):
        raise ValueError("an id that is no text")
    return ToolCall(name=name, arguments=arguments, id=id)


def typed(written: str, schema: JSON) -> JSON:
    """The value that text written bare is under a JSON Schema; the text where it fits none.

    As the shipped parsers do it: a declared type goes before text, truth values in any case,
    `None` for null. A parameter without a declared type is text.
    """
    kinds = _kinds(schema)
    if "null" in kinds and written in ("null", "None"):
        return None
    wanted = tuple(_JSON_TYPES[kind] for kind in kinds & _JSON_TYPES.keys())
    try:
        value, end = decode(written, skip_space(written, 0))
        if isinstance(value, wanted) and not isinstance(value, bool) and not written[end:].strip():
            return value
    except (ValueError, RecursionError):
        pass
    return _TRUTHS.get(written.lower(), written) if "boolean" in kinds else written


def _kinds(schema: JSON) -> set[str]:
    """The JSON types that a schema declares, its alternatives' too."""
    if not isinstance(schema, dict):
        return set()
    kind = schema.get("type")
    found = {item for item in (kind if isinstance(kind, list) else [kind]) if isinstance(item, str)}
    for several in ("anyOf", "oneOf"):
        branches = schema.get(several)
        found.update(*(map(_kinds, branches) if isinstance(branches, list) else ()))
    found |= {"integer"} if "number" in found else set()
    return found | ({"null"} if schema.get("nullable") is True else set())


def _properties(name: str, tools: Sequence[ToolSpec]) -> dict[str, JSON]:
    tool = next((tool for tool in tools if tool.name == name), None)
    properties = tool.parameters.get("properties") if tool is not None else None
    return properties if isinstance(properties, dict) else {}


def _expect(pattern: re.Pattern[str], text: str, position: int, name: str) -> int:
    found = pattern.match(text, position)
    if found is None:
        raise ValueError(f"no {name} at character {position}")
    return found.end()


_TAG_END = re.compile(r"\s*</tool_call>")
_FUNCTION = re.compile(r"\s*<function=([^<>\s]+)>")
_PARAMETER = re.compile(r"\s*<parameter=([^<>\n]+)>")
_PARAMETER_END = "</parameter>"
_NESTED = re.compile(r"<parameter=|<function=|</?tool_call>")
_FUNCTION_END = re.compile(r"\s*</function>\s*</tool_call>")
_NAMED = re.compile(r"([^\s\[\]{}]+)(?:\[CALL_ID\](\w+))?\[ARGS\]\s*")
_DEEPSEEK_CALL = re.compile(
    r"\s*<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>([^\n<]+)\n```json\n|([^\n<]+)<｜tool▁sep｜>)\s*"
)
_FENCE_END = re.compile(r"\s*```<｜tool▁call▁end｜>")
_CALL_END = re.compile(r"\s*<｜tool▁call▁end｜>")
_CALLS_END = re.compile(r"\s*<｜tool▁calls▁end｜>")
_JSON_TYPES: dict[str, type] = {"integer": int, "number": float, "object": dict, "array": list}
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}
_TAG = re.compile(r"<tool_call>")
_TAG_EDGE = re.compile(r"<tool_call>|(?P<end></tool_call>)")
# The format has no mark of its own: an answer in JSON that begins with one of these keys is a call.
_LLAMA_OPENING = re.compile(
    r'<\|python_tag\|>\s*|(?=\{\s*"(?:name|parameters|arguments|function)"\s*:)'
)

HERMES = CallForm(
    name="Hermes/Qwen <tool_call> JSON",
    opening=_TAG,
    markup=re.compile(r"</?(?:tool_call|tool_response|think)\b>?"),
    edge=_TAG_EDGE,
    read=_hermes,
)
FORMS = (
    HERMES,
    CallForm(
        name="Qwen3-Coder <tool_call> XML",
        opening=_TAG,
        markup=re.compile(
            r"</?(?:tool_call|tool_response|think)\b>?|<(?:function|parameter)=|</(?:function|parameter)>"
        ),
        edge=_TAG_EDGE,
        read=_qwen_coder,
    ),
    CallForm(
        name="Llama 3 JSON",
        opening=_LLAMA_OPENING,
        markup=re.compile(r"<\|python_tag\|>|</?think\b>?"),
        edge=_LLAMA_OPENING,
        read=_llama,
    ),
    CallForm(
        name="Mistral [TOOL_CALLS]",
        opening=re.compile(r"\[TOOL_CALLS\]"),
        markup=re.compile(r"\[(?:TOOL_CALLS|ARGS|CALL_ID)\]|</?think\b>?"),
        edge=re.compile(r"\[TOOL_CALLS\]"),
        read=_mistral,
    ),
    CallForm(
        name="DeepSeek <｜tool▁calls▁begin｜>",
        opening=re.compile(r"<｜tool▁calls▁begin｜>"),
        markup=re.compile(r"<｜tool▁[^<>｜]{1,40}｜>|</?think\b>?"),
        edge=re.compile(r"<｜tool▁calls▁begin｜>|(?P<end><｜tool▁calls▁end｜>)"),
        read=_deepseek,
    ),
)
