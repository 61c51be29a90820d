"""A test case of SciCode in two halves: what runs beside the program, and what judges its values.

A test is Python that ends in asserts which name `target`, the answer. Whatever does not depend on
the target runs in the program's process, which tells the values; the rest is judged elsewhere, with
the target, on those values. So no program ever shares a process with an answer. This module must
never run anything.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from pivotrl import syntax

TARGET = "target"
VALUES = "_values"
"""In the judge's half: the list of what the program told."""
TELL = "_tell"
"""In the program's half: tells one value."""
HELPERS = frozenset({"are_csc_matrix_close", "are_dicts_close", "cmp_tuple_or_list"})
"""Functions of SciCode's own that tests call; `scicode_values.py` has them."""
_OWN_IMPORT = re.compile(r"^\s*(from\s+scicode\.|import\s+scicode)\b.*$", re.MULTILINE)
_BUILTINS = frozenset(dir(builtins))
_SCOPES = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    program: str
    judge: str


@lru_cache(maxsize=4096)
def halves(test: str, dependencies: str, functions: tuple[str, ...] = ()) -> Halves:
    """The halves of one test case, given the import lines before the program and its functions.

    Raises ValueError if the two cannot be told apart: what is to be judged needs something of the
    program that is no value, or the test is no Python.
    """
    try:
        body = syntax.parse(_OWN_IMPORT.sub("", test)).body
        imports = [s for s in syntax.parse(dependencies).body if _is_import(s)]
    except SyntaxError as error:
        raise ValueError(f"no Python: {error.msg}") from None
    imports += [s for s in body if _is_import(s)]
    known = _BUILTINS | HELPERS | {name for s in imports for name in _bound(s)}
    known -= set(functions)
    hidden = {TARGET}
    program: list[ast.stmt] = []
    judge: list[ast.stmt] = []
    definitions: dict[str, ast.stmt] = {}
    told = 0
    for statement in body:
        if not _uses(statement, hidden):
            program.append(statement)
            known -= _bound(statement) if not _is_import(statement) else set()
            if isinstance(statement, _DEFINITIONS):
                definitions[statement.name] = statement
            continue
        if _changes(statement):
            raise ValueError("it changes a value by the target")
        hidden |= _bound(statement)
        split = _Split(hidden, known | definitions.keys(), told)
        judge.append(
            statement if isinstance(statement, _DEFINITIONS) else split.statement(statement)
        )
        program += split.told
        told += len(split.told)
    needed = _needed(judge, definitions)
    own = hidden | {VALUES} | {name for s in needed for name in _bound(s, deep=True)}
    own |= {name for s in judge for name in _bound(s, deep=True)}
    missing = sorted(_loaded([*judge, *needed]) - own - known - definitions.keys())
    if missing or not judge:
        raise ValueError(
            f"it judges by `{missing[0]}`, which is no value" if missing else "it judges nothing"
        )
    own_imports = [s for s in body if _is_import(s)]
    return Halves(program=_source(program), judge=_source([*own_imports, *needed, *judge]))


class _Split(ast.NodeTransformer):
    """Puts a told value in the place of each expression that does not depend on what is hidden."""

    def __init__(self, hidden: Iterable[str], known: Iterable[str], first: int) -> None:
        self.hidden, self.known = set(hidden), frozenset(known)
        self.first = first
        self.told: list[ast.stmt] = []

    def statement(self, node: ast.stmt) -> ast.stmt:
        if isinstance(node, ast.Assert):
            node.msg = None
        split: ast.stmt = self.generic_visit(node)  # type: ignore[assignment]
        return ast.fix_missing_locations(split)

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.expr) and isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            if isinstance(node, ast.Constant) or self._is_known(node):
                return node
            if not _is_no_value(node) and not _uses(node, self.hidden):
                return self._tell(node)
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Attribute() as method if not self._is_known(method):
                    self.generic_visit(method)
                case ast.Name() | ast.Attribute():
                    pass
                case _:
                    node.func = self.visit(node.func)  # type: ignore[assignment]
            node.args = [self.visit(argument) for argument in node.args]  # type: ignore[misc]
            for keyword in node.keywords:
                self.generic_visit(keyword)
            return node
        if isinstance(node, _SCOPES):
            outer, self.hidden = self.hidden, self.hidden | _bound(node, deep=True)
            self.generic_visit(node)
            self.hidden = outer
            return node
        return self.generic_visit(node)

    def _is_known(self, node: ast.expr) -> bool:
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id in self.known and node.id not in self.hidden

    def _tell(self, node: ast.expr) -> ast.expr:
        place = ast.Constant(value=self.first + len(self.told))
        call = ast.Call(func=ast.Name(id=TELL, ctx=ast.Load()), args=[node], keywords=[])
        self.told.append(ast.fix_missing_locations(ast.Expr(value=call)))
        values = ast.Name(id=VALUES, ctx=ast.Load())
        return ast.Subscript(value=values, slice=place, ctx=ast.Load())


def _changes(node: ast.stmt) -> bool:
    """Whether it changes a value in place."""
    return any(
        isinstance(part, ast.AugAssign)
        or not isinstance(getattr(part, "ctx", ast.Load()), ast.Load)
        for part in ast.walk(node)
        if not isinstance(part, ast.Name | ast.Tuple | ast.List | ast.Starred)
    )


def _is_no_value(node: ast.expr) -> bool:
    """Whether it is an expression by syntax alone."""
    if isinstance(node, ast.Tuple):
        return any(isinstance(part, ast.Slice) for part in node.elts)
    return isinstance(node, ast.Starred | ast.Slice | ast.FormattedValue)


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _uses(node: ast.AST, names: Iterable[str]) -> bool:
    return bool(_loaded([node]) & set(names))


def _loaded(nodes: Iterable[ast.AST]) -> set[str]:
    return {
        part.id
        for node in nodes
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)
    }


def _bound(node: ast.AST, deep: bool = False) -> set[str]:
    """The names that it binds; with `deep` also those in a scope of their own."""
    found: set[str] = set()
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
            found.add(name)
        case ast.alias(name=name, asname=other):
            found.add(other or name.split(".")[0])
        case ast.ExceptHandler(name=str(name)):
            found.add(name)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            found.add(name)
    if deep or not isinstance(node, _SCOPES + _DEFINITIONS):
        found = found.union(*(_bound(part, deep) for part in ast.iter_child_nodes(node)))
    return found


def _needed(judge: list[ast.stmt], definitions: dict[str, ast.stmt]) -> list[ast.stmt]:
    """The test's own functions that the judge's half calls, and those that they call."""
    names, found = _loaded(judge) & definitions.keys(), set[str]()
    while names - found:
        found |= names
        names = _loaded([definitions[n] for n in found]) & definitions.keys()
    return [definitions[name] for name in definitions if name in found]


def _source(statements: list[ast.stmt]) -> str:
    return "\n".join(ast.unparse(s) for s in statements)
