"""Python's own parser, whatever other threads do."""

from __future__ import annotations

import ast

TRIES = 5


def parse(text: str) -> ast.Module:
    """The syntax tree of a text; nothing is executed. Raises what `ast.parse` does.

    CPython before 3.11.8 at times takes another thread's depth for its own and raises SystemError
    (python/cpython#106905): then it is asked again.
    """
    for _ in range(TRIES - 1):
        try:
            return ast.parse(text)
        except SystemError:
            continue
    return ast.parse(text)
