"""What Python code says, apart from its layout, comments, docstrings and the order of keywords.

Nothing is executed. This module must never know a file or an edit.
"""

from __future__ import annotations

import ast
import warnings
from functools import lru_cache

MAX_READ = 20_000
"""Characters of a text of which the form is made."""


def parsed(text: str) -> ast.Module | None:
    """None where the text is no Python; what is odd in it is nobody's warning."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


@lru_cache(maxsize=64)
def exact(text: str) -> str | None:
    """The syntax tree of Python; None where it is none."""
    return _dumped(parsed(text))


@lru_cache(maxsize=64)
def canonical(text: str) -> str | None:
    """The syntax tree without what does not count; None where the text is no Python."""
    tree = parsed(text) if len(text) <= MAX_READ else None
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Call) and all(keyword.arg for keyword in node.keywords):
            node.keywords.sort(key=lambda keyword: str(keyword.arg))
        body = getattr(node, "body", None)
        if isinstance(body, list) and len(body) > 1 and _is_text(body[0]):
            del body[0]
    return _dumped(tree)


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _dumped(tree: ast.Module | None) -> str | None:
    try:
        return None if tree is None else ast.dump(tree)
    except (RecursionError, MemoryError):
        return None
