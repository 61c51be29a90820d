"""Tool declarations to `ToolSpec`: OpenAI's nested form, the flat form, and lists in a file.

This module must never know a trajectory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import orjson

from pivotrl.trajectories.rows import RowError
from pivotrl.types import JSON, ConfigError, ToolSpec, canonical, tool_from_json, tool_to_json

REASON = "unreadable tools"
NO_TOOLS = "[]"


def read_tools(path: Path) -> tuple[ToolSpec, ...]:
    """The tools in a JSON list, `[{"type": "function", "function": {...}}]` or flat.

    Raises ConfigError with the place and the remedy.
    """
    try:
        value = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: tools cannot be read: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{path}: tools are not JSON: {error}") from None
    try:
        tools = load_tools(parse_tools(value))
    except RowError as error:
        raise ConfigError(f"{path}: {error.remedy}") from None
    if not tools:
        raise ConfigError(f"{path}: declares no tool; remove data.tools or fill the list")
    return tools


def parse_tools(value: JSON) -> str:
    """A decoded list of tools (or its JSON text), checked, as rows store it. Raises RowError."""
    return _parse_tools(value if isinstance(value, str | bytes) else orjson.dumps(value))


@lru_cache(maxsize=64)
def _parse_tools(text: str | bytes) -> str:
    """Cached: the rows of a file often all carry the same tools."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RowError(REASON, f"`tools` is text but not JSON: {error}") from None
    if not isinstance(value, list):
        raise RowError(REASON, "`tools` must be a list of OpenAI tools")
    tools = [_parse_tool(index, tool) for index, tool in enumerate(value)]
    names = [tool.name for tool in tools]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RowError(REASON, f"`tools` declares {twice!r} twice: keep one")
    return store_tools(tools)


def store_tools(tools: Iterable[ToolSpec]) -> str:
    return orjson.dumps([tool_to_json(tool) for tool in tools]).decode()


@lru_cache(maxsize=64)
def load_tools(text: str) -> tuple[ToolSpec, ...]:
    """The inverse of `store_tools`: one object for all rows of the same tools."""
    return tuple(tool_from_json(tool) for tool in orjson.loads(text))


@lru_cache(maxsize=64)
def names_of(text: str) -> frozenset[str]:
    return frozenset(tool.name for tool in load_tools(text))


@lru_cache(maxsize=64)
def canonical_tools(text: str) -> bytes:
    return canonical(orjson.loads(text))


def _parse_tool(index: int, tool: JSON) -> ToolSpec:
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping):
        raise RowError(REASON, f"tool {index} is not an object with a `function`")
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise RowError(REASON, f"tool {index} has no name")
    description = function.get("description") or ""
    parameters = function.get("parameters") or {}
    equivalences = function.get("x-pivotrl") or tool.get("x-pivotrl") or {}
    if not isinstance(description, str):
        raise RowError(REASON, f"the description of tool {name!r} is not text")
    if not isinstance(parameters, Mapping):
        raise RowError(REASON, f"the parameters of tool {name!r} are not a JSON Schema object")
    if not isinstance(equivalences, Mapping):
        raise RowError(REASON, f"x-pivotrl of tool {name!r} is not an object")
    return ToolSpec(
        name=name, description=description, parameters=parameters, x_pivotrl=equivalences
    )
