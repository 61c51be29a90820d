"""Tool declarations to `ToolSpec`: OpenAI's nested form, the flat form, and lists in a file.

This module must never know a trajectory.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import orjson

from pivotrl.trajectories.rows import RowError
from pivotrl.types import JSON, ConfigError, ToolSpec

REASON = "unreadable tools"


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
        tools = parse_tools(value)
    except RowError as error:
        raise ConfigError(f"{path}: {error.remedy}") from None
    if not tools:
        raise ConfigError(f"{path}: declares no tool; remove data.tools or fill the list")
    return tools


def parse_tools(value: JSON) -> tuple[ToolSpec, ...]:
    """Tools of a decoded list (or of its JSON text). Raises RowError."""
    text = value if isinstance(value, str | bytes) else orjson.dumps(value)
    return _parse_tools(text)


@lru_cache(maxsize=64)
def _parse_tools(text: str | bytes) -> tuple[ToolSpec, ...]:
    """Shared between the rows of a file, which often all carry the same tools."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RowError(REASON, f"`tools` is text but not JSON: {error}") from None
    if not isinstance(value, list):
        raise RowError(REASON, "`tools` must be a list of OpenAI tools")
    tools = tuple(_parse_tool(index, tool) for index, tool in enumerate(value))
    names = [tool.name for tool in tools]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RowError(REASON, f"`tools` declares {twice!r} twice: keep one")
    return tools


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
