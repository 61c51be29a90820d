"""What Python code says, apart from layout, comments, docstrings, and the order of what has none.

Nothing is executed. This module must never know a file or an edit.
"""

from __future__ import annotations

import ast
import warnings
from collections import deque
from functools import lru_cache
from itertools import groupby

from pivotrl import syntax

MAX_READ = 20_000
"""Characters of a text of which the form is made."""


def parsed(text: str) -> ast.Module | None:
    """None where the text is no Python; what is odd in it is nobody's warning."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return syntax.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def same(one: ast.AST | None, other: ast.AST | None) -> bool:
    """Whether both are trees of the same nodes, wherever those stand in their texts."""
    if one is None or other is None:
        return False
    pairs: list[tuple[object, object]] = [(one, other)]
    while pairs:
        left, right = pairs.pop()
        if type(left) is not type(right):
            return False
        if isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                return False
            pairs.extend(zip(left, right, strict=True))
        elif isinstance(left, ast.AST):
            pairs.extend((getattr(left, n, None), getattr(right, n, None)) for n in left._fields)
        elif left != right:
            return False
    return True


@lru_cache(maxsize=16)
def exact(text: str) -> ast.Module | None:
    """The syntax tree of Python, not to be changed; None where the text is none."""
    return parsed(text)


def dumped(text: str) -> str | None:
    """The syntax tree in one line; None where the text is no Python or has none that ends."""
    try:
        return ast.dump(tree) if (tree := parsed(text)) else None
    except (RecursionError, MemoryError, ValueError):
        return None


@lru_cache(maxsize=16)
def canonical(text: str) -> ast.Module | None:
    """The syntax tree without what does not count; None where the text is no Python."""
    tree = parsed(text) if len(text) <= MAX_READ else None
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Call) and all(keyword.arg for keyword in node.keywords):
            node.keywords.sort(key=lambda keyword: str(keyword.arg))
        body = getattr(node, "body", None)
        if isinstance(body, list) and len(body) > 1 and _is_text(body[0]):
            del body[0]
        for block in (body, getattr(node, "orelse", None)):
            if isinstance(block, list):
                block[:] = _arranged(block)
        match node:
            case ast.Compare(ops=[ast.Gt() | ast.GtE() as sign], comparators=[right]):
                node.left, node.comparators = right, [node.left]
                node.ops = [ast.Lt() if isinstance(sign, ast.Gt) else ast.LtE()]
            case ast.BinOp(left=ast.Constant(value=int() | float()), op=ast.Add() | ast.Mult()):
                node.left, node.right = node.right, node.left
    return tree


def _arranged(block: list[ast.stmt]) -> list[ast.stmt]:
    """Statements with imports that come together sorted, and no `else` after a `return`."""
    out, queue = list[ast.stmt](), deque(block)
    while queue:
        out.append(queue.popleft())
        match out[-1]:
            case (
                ast.If(body=[*_, ast.Return() | ast.Raise() | ast.Continue() | ast.Break()]) as one
            ):
                queue.extendleft(reversed(one.orelse))
                one.orelse = []
            case ast.Return(value=ast.IfExp() as way):
                out[-1:] = [ast.If(way.test, [ast.Return(way.body)], [])]
                queue.appendleft(ast.Return(way.orelse))
    return [s for may, run in groupby(out, _may_move) for s in (_sorted([*run]) if may else run)]


def _may_move(statement: ast.stmt) -> bool:
    plain = isinstance(statement, ast.Import | ast.ImportFrom) and statement.names[0].name != "*"
    return plain and getattr(statement, "module", "") != "__future__"


def _sorted(imports: list[ast.stmt]) -> list[ast.stmt]:
    """In one order, where each binds names of its own."""
    names = [name.asname or name.name for i in imports for name in getattr(i, "names", ())]
    return sorted(imports, key=ast.dump) if len({*names}) == len(names) else imports


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
