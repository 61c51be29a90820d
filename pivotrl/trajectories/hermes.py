"""Hermes and Qwen text: calls as `<tool_call>` JSON in an assistant's text, tools in `<tools>`.

Results come as tool messages or, as Qwen's template writes them, in a user turn, each within
`<tool_response>`. There are no ids: results answer calls in order. Source: NousResearch's Hermes
function calling, Qwen2.5's and Qwen3's chat templates.
"""

from __future__ import annotations

import ast
import re
from typing import Any

import orjson

from pivotrl.chat.parsing import parse_completion
from pivotrl.chat.strict_json import MAX_DEPTH
from pivotrl.trajectories.draft import Draft, beside
from pivotrl.trajectories.openai_chat import are_messages
from pivotrl.trajectories.rows import RowError
from pivotrl.types import JSON, FinishReason

NAME = "hermes"
MAX_PYTHON_CHARACTERS = 20_000
_TOOLS = re.compile(r"<tools>\s*([\[{].+?)\s*</tools>", re.DOTALL)
_RESPONSE = re.compile(r"<tool_response>\s*(.*?)\s*</tool_response>", re.DOTALL)
_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_PREAMBLES = (
    re.compile(r"(?:\n\n)?# Tools\s+You may call one or more functions.*\Z", re.DOTALL),
    re.compile(r"(?:\n\n)?You are a function calling AI model\. You are provided.*\Z", re.DOTALL),
)
"""What templates write around the tools, up to the end; the model's own template writes it anew."""


def recognises(row: JSON) -> bool:
    messages: JSON = row.get("messages") if isinstance(row, dict) else row
    return are_messages(messages) and any(
        m["role"] == "assistant"
        and not m.get("tool_calls")
        and isinstance(m.get("content"), str)
        and "<tool_call>" in m["content"]
        for m in messages
    )


def parse(row: JSON) -> list[Draft]:
    row = {"messages": row} if isinstance(row, list) else row
    messages, tools = read_text(row["messages"])
    return [
        Draft(
            messages=messages,
            tools=row.get("tools") or tools,
            **beside(row),
        )
    ]


def read_text(messages: list[JSON]) -> tuple[list[JSON], list[JSON] | None]:
    """Messages with calls and results as OpenAI has them, and the tools of the system text."""
    tools: list[JSON] | None = None
    out: list[JSON] = []
    for index, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, str):
            out.append(message)
        elif message["role"] == "system" and (found := _TOOLS.findall(content)):
            tools = [tool for block in found[-1:] for tool in _tools(block)]
            out.append(message | {"content": _without_tools(content)})
        elif message["role"] == "assistant" and "<tool_call>" in content:
            out.append(_call_turn(index, message, content))
        elif message["role"] in ("user", "tool") and (found := _RESPONSE.findall(content)):
            out += [_result(text) for text in found]
            if beside := _RESPONSE.sub("", content).strip():
                out.append({"role": "user", "content": beside})
        else:
            out.append(message)
    return out, tools


def _tools(block: str) -> list[JSON]:
    """A JSON list, or one tool a line."""
    try:
        value = orjson.loads(block)
        return value if isinstance(value, list) else [value]
    except orjson.JSONDecodeError:
        pass
    try:
        return [orjson.loads(line) for line in block.splitlines() if line.strip()]
    except orjson.JSONDecodeError:
        value = _python(block)
    if not isinstance(value, list):
        raise RowError("unreadable tools", "the system text's <tools> hold no JSON")
    return value


def _without_tools(content: str) -> str:
    for preamble in _PREAMBLES:
        shorter = preamble.sub("", content)
        if shorter != content:
            return shorter
    return _TOOLS.sub("", content).rstrip()


def _call_turn(index: int, message: dict[str, Any], content: str) -> dict[str, JSON]:
    action = parse_completion(content, FinishReason.STOP, control_tokens=None)
    if not action.malformed:
        calls = [(c.name, c.arguments) for c in action.tool_calls]
        text, reasoning = action.text, action.reasoning
    else:  # old data: Python's quoting, another order of keys, text between calls
        values = [_python(text) for text in _CALL.findall(content)]
        if not values or not all(isinstance(v, dict) and "name" in v for v in values):
            remedy = f"message {index}: {action.malformed[0]}"
            raise RowError("undecodable arguments", remedy)
        calls = [(v["name"], v.get("arguments")) for v in values]
        text, reasoning = _CALL.sub("", content).strip(), None
    turn = message | {
        "content": text,
        "tool_calls": [{"function": {"name": n, "arguments": a}} for n, a in calls],
    }
    return turn | {"reasoning": reasoning} if reasoning else turn


def _python(text: str) -> JSON:
    """A JSON value or, bounded, a Python literal of strings, numbers, lists and dictionaries."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        if len(text) > MAX_PYTHON_CHARACTERS or text.count("{") + text.count("[") > 50 * MAX_DEPTH:
            return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _result(text: str) -> dict[str, JSON]:
    value = None
    if text.startswith("{"):
        value = _python(text)
    if isinstance(value, dict) and value.keys() == {"name", "content"}:
        content = value["content"]
        text = content if isinstance(content, str) else orjson.dumps(content).decode()
        return {"role": "tool", "name": value["name"], "content": text}
    return {"role": "tool", "content": text}
