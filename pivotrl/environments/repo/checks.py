"""A repository's tests: calls of its functions and the values that they must give.

Sources are walked by the bounded interpreter: nothing is compiled, executed or imported, and all
functions of a repository see each other. This module must never know who wrote a source.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from typing import Any

from pivotrl.benchmarks import interpreter
from pivotrl.types import JSON

MAX_FILE = 600
"""Characters of a source."""
MAX_SHOWN = 40
"""Characters of a value in a report."""


class _Watched(Mapping[str, ast.FunctionDef]):
    """Functions by name that remember which was called last: an error is reported there."""

    def __init__(self, functions: Mapping[str, ast.FunctionDef]) -> None:
        self._functions = functions
        self.last = ""

    def __getitem__(self, name: str) -> ast.FunctionDef:
        function = self._functions[name]
        self.last = name
        return function

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)


def functions_of(source: str) -> Mapping[str, ast.FunctionDef] | None:
    """The functions of a source; None where it is too long or not of the subset of Python."""
    if len(source) > MAX_FILE:
        return None
    try:
        return _parsed(source)
    except Exception:  # whatever a hostile source provokes, it is no source
        return None


@lru_cache(maxsize=4096)
def _parsed(source: str) -> Mapping[str, ast.FunctionDef]:
    return interpreter.parse(source)


def cases_of(task: JSON) -> list[JSON]:
    """A test for each bug: its `issue`, the `function` and, for arguments `given`, `expected`.

    What is expected is what the repaired repository gives.
    """
    functions, _ = _repository(task["goal"])
    return [
        {
            "issue": bug["issue"],
            "function": bug["function"],
            "given": bug["given"],
            "expected": [interpreter.call(functions, bug["function"], g) for g in bug["given"]],
        }
        for bug in task["bugs"]
    ]


def failures(files: Mapping[str, str], tests: Sequence[JSON]) -> list[JSON]:
    """For each test that fails: `issue`, `text` of the report, `path` of an error or None.

    `files` are sources that `functions_of` reads, and documents. Never raises; each call is
    bounded by the interpreter.
    """
    functions, homes = _repository(files)
    reports = (_report(functions, homes, test) for test in tests)
    return [report for report in reports if report is not None]


def _repository(
    files: Mapping[str, str],
) -> tuple[Mapping[str, ast.FunctionDef], Mapping[str, str]]:
    """All functions by name, and the path of each."""
    functions: dict[str, ast.FunctionDef] = {}
    homes: dict[str, str] = {}
    for path, text in files.items():
        if path.endswith(".py"):
            functions |= _parsed(text)
            homes |= dict.fromkeys(_parsed(text), path)
    return functions, homes


def _report(
    functions: Mapping[str, ast.FunctionDef], homes: Mapping[str, str], test: JSON
) -> JSON | None:
    """On the first of its calls that fails."""
    for given, expected in zip(test["given"], test["expected"], strict=True):
        watched = _Watched(functions)
        failed = f"{test['issue']} failed: {test['function']}({', '.join(map(repr, given))})"
        try:
            got: Any = interpreter.call(watched, test["function"], deepcopy(given))  # it may append
        except Exception as error:  # whatever a hostile source provokes, it is a failure
            path = homes[watched.last]
            text = f"{failed}: {type(error).__name__} in {path}"
            return {"issue": test["issue"], "text": text, "path": path}
        if type(got) is not type(expected) or got != expected:
            text = f"{failed} is {repr(got)[:MAX_SHOWN]}, not {expected!r}"
            return {"issue": test["issue"], "text": text, "path": None}
    return None
