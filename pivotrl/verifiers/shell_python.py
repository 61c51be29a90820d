"""Small Python programs without what only names things: `import numpy as np`, a value used once.

Nothing is executed. This module must never know a command line.
"""

from __future__ import annotations

import ast
from collections.abc import Container

MAX_STATEMENTS, MAX_DOTS = 60, 4
_INNER = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.BoolOp,
          ast.IfExp)  # fmt: skip
"""What may run often, later or never."""


class _Put(ast.NodeTransformer):
    """Expressions in place of names that are read."""

    def __init__(self, known: dict[str, ast.expr]) -> None:
        self.known = known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        known = self.known.get(node.id) if isinstance(node.ctx, ast.Load) else None
        return node if known is None else known


def with_whole_names(tree: ast.Module, own: Container[str]) -> list[ast.stmt]:
    """The statements, with modules first and their names in full: `np.load` is `numpy.load`."""
    known: dict[str, str] = {}
    modules, others = set[str](), list[ast.stmt]()
    for node in tree.body:
        match node:
            case ast.Import(names=names):
                modules |= {alias.name for alias in names}
                known |= {alias.asname: alias.name for alias in names if alias.asname}
            case ast.ImportFrom(module=str(module), names=names, level=0) if names[0].name != "*":
                modules.add(module)
                known |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in names}
            case _:
                others.append(node)
    if any(name in own or whole.count(".") > MAX_DOTS for name, whole in known.items()):
        return tree.body
    put = _Put({name: _dotted(whole) for name, whole in known.items()})
    imported: list[ast.stmt] = [ast.Import([ast.alias(name)]) for name in sorted(modules)]
    return [*imported, *map(put.visit, others)]


def _dotted(name: str) -> ast.expr:
    owner, _, last = name.rpartition(".")
    return ast.Attribute(_dotted(owner), last, ast.Load()) if owner else ast.Name(last, ast.Load())


def inlined(statements: list[ast.stmt]) -> list[ast.stmt]:
    """With values that the next statement alone uses, once, put there."""
    done = list(statements)
    if len(done) > MAX_STATEMENTS:
        return done
    index = 0
    while index < len(done):
        node = done[index]
        match node:
            case ast.With(items=[ast.withitem(value, ast.Name(name))], body=[ast.stmt() as only]):
                use, rest = only, done[index + 1 :]
            case ast.Assign(targets=[ast.Name(name)], value=value) if index + 1 < len(done):
                use, rest = done[index + 1], done[index + 2 :]
            case _:
                index += 1
                continue
        if _once(name, use) and not any(_uses(name, other) for other in rest):
            done[index:] = [_Put({name: value}).visit(use), *rest]
            index = max(index - 1, 0)
        else:
            index += 1
    return done


def _uses(name: str, node: ast.AST) -> int:
    return sum(isinstance(n, ast.Name) and n.id == name for n in ast.walk(node))


def _once(name: str, node: ast.stmt) -> bool:
    """Whether a plain statement reads a name just once, surely, and runs nothing else before."""
    if not isinstance(node, ast.Expr | ast.Assign) or _uses(name, node) != 1:
        return False
    nodes = list(ast.walk(node))
    others = any(isinstance(n, ast.Call) and not _uses(name, n) for n in nodes)
    return not others and not any(isinstance(n, _INNER) and _uses(name, n) for n in nodes)
