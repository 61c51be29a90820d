"""A bounded interpreter of a small subset of Python, for functions that a model wrote.

It walks the syntax tree itself: nothing is compiled, executed or imported, every step and every
element is charged to a budget, and what it does not know is `Unsupported`. It covers functions of
integers, strings and lists with loops, conditions and comprehensions, which is all that the
miniature's rows need; programs for the real benchmarks run in `pivotrl.sandbox`. This module must
never call `eval`, `exec` or a method by name.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from pivotrl import syntax
from pivotrl.types import JSON, PivotRLError

MAX_SOURCE = 8_000
MAX_DEPTH = 40
MAX_CALLS = 20
MAX_STEPS = 50_000
MAX_ELEMENTS = 5_000
MAX_BITS = 256


class Unsupported(Exception):
    """The program uses something outside the subset, or too much of it."""


class _Return(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": abs,
    "len": len,
    "list": list,
    "max": max,
    "min": min,
    "range": range,
    "sorted": sorted,
    "sum": sum,
}


def function_tests(benchmark: str, row: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """The row's tests, in LiveCodeBench's form: a function name, inputs (one JSON value an
    argument, each on its line) and outputs (JSON). Raises `PivotRLError` if it has none."""
    tests = row.get("unit_tests") or {}
    if not (tests.get("fn_name") and tests.get("inputs")):
        raise PivotRLError(
            f"{benchmark} item {row.get('id')}: no `unit_tests` of a function; use rows that carry "
            "them"
        )
    return tests


def passes(source: str, tests: Mapping[str, JSON]) -> bool:
    """True if the program's function gives every expected output; False for any failure."""
    cases = [
        ([orjson.loads(line) for line in given.split("\n")], orjson.loads(expected))
        for given, expected in zip(tests["inputs"], tests["outputs"], strict=True)
    ]
    try:
        functions = parse(source)
        return all(
            _same(call(functions, tests["fn_name"], given), expected) for given, expected in cases
        )
    except Exception:  # whatever a hostile program provokes, it has not solved the problem
        return False


def _same(got: Any, expected: JSON) -> bool:
    return type(got) is type(expected) and got == expected


def parse(source: str) -> dict[str, ast.FunctionDef]:
    """The top-level functions by name; raises `Unsupported` or `SyntaxError`."""
    if len(source) > MAX_SOURCE:
        raise Unsupported("too long")
    tree = syntax.parse(source)
    _check_depth(tree)
    functions: dict[str, ast.FunctionDef] = {}
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or node.decorator_list:
            raise Unsupported("only functions at the top")
        a = node.args
        if a.defaults or a.vararg or a.kwarg or a.kwonlyargs or a.posonlyargs:
            raise Unsupported("only plain parameters")
        functions[node.name] = node
    return functions


def call(functions: Mapping[str, ast.FunctionDef], name: str, arguments: list[JSON]) -> Any:
    """The function's value for JSON arguments; raises `Unsupported` or an ordinary exception."""
    return _Run(functions).call(name, arguments)


def _check_depth(tree: ast.AST) -> None:
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise Unsupported("too deep")


class _Run:
    def __init__(self, functions: Mapping[str, ast.FunctionDef]) -> None:
        self.functions = functions
        self.steps = 0
        self.calls = 0

    def charge(self, steps: int = 1) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise Unsupported("too many steps")

    def checked(self, value: Any) -> Any:
        """The value if it is of the subset and small; its size is charged."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            if value.bit_length() > MAX_BITS:
                raise Unsupported("integer too large")
            return value
        if isinstance(value, str | list | range):
            if len(value) > MAX_ELEMENTS:
                raise Unsupported("too many elements")
            self.charge(len(value))
            # One level of lists: deeper ones could share parts and grow exponentially.
            if isinstance(value, list) and any(
                isinstance(inner, list) and (len(inner) > 100 or any(map(_is_list, inner)))
                for inner in value
            ):
                raise Unsupported("nested lists")
            return value
        raise Unsupported(f"value of type {type(value).__name__}")

    def call(self, name: str, arguments: list[Any]) -> Any:
        function = self.functions.get(name)
        if function is None or len(function.args.args) != len(arguments):
            raise Unsupported(f"call of {name}")
        self.calls += 1
        if self.calls > MAX_CALLS:
            raise Unsupported("too many nested calls")
        names = {a.arg: v for a, v in zip(function.args.args, arguments, strict=True)}
        try:
            self.block(function.body, names)
        except _Return as returned:
            return returned.value
        finally:
            self.calls -= 1
        return None

    def block(self, body: list[ast.stmt], names: dict[str, Any]) -> None:
        for statement in body:
            self.statement(statement, names)

    def statement(self, node: ast.stmt, names: dict[str, Any]) -> None:
        self.charge()
        match node:
            case ast.Return(value=value):
                raise _Return(None if value is None else self.value(value, names))
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                names[name] = self.value(value, names)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                names[name] = self.binary(op, names[name], self.value(value, names))
            case ast.If(test=test, body=body, orelse=orelse):
                self.block(body if self.value(test, names) else orelse, names)
            case ast.For(target=ast.Name(id=name), iter=source, body=body, orelse=[]):
                for item in self.value(source, names):
                    names[name] = item
                    if not self.repeat(body, names):
                        break
            case ast.While(test=test, body=body, orelse=[]):
                while self.value(test, names) and self.repeat(body, names):
                    self.charge()
            case ast.Expr(value=ast.Constant(value=str())) | ast.Pass():
                pass
            case ast.Expr(
                value=ast.Call(
                    func=ast.Attribute(value=ast.Name(id=name), attr="append"),
                    args=[value],
                    keywords=[],
                )
            ):
                items, item = names[name], self.value(value, names)
                if not isinstance(items, list) or isinstance(item, list):
                    raise Unsupported("append")
                items.append(item)
                self.checked(items)
            case ast.Break():
                raise _Break
            case ast.Continue():
                raise _Continue
            case _:
                raise Unsupported(type(node).__name__)

    def repeat(self, body: list[ast.stmt], names: dict[str, Any]) -> bool:
        """Runs a loop's body once; False if it broke out."""
        self.charge()
        try:
            self.block(body, names)
        except _Continue:
            pass
        except _Break:
            return False
        return True

    def value(self, node: ast.expr, names: dict[str, Any]) -> Any:
        self.charge()
        match node:
            case ast.Constant(value=value):
                return self.checked(value)
            case ast.Name(id=name):
                return names[name]
            case ast.BinOp(left=left, op=op, right=right):
                return self.binary(op, self.value(left, names), self.value(right, names))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.checked(-self.value(operand, names))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self.value(operand, names)
            case ast.BoolOp(op=op, values=values):
                stop = isinstance(op, ast.Or)
                for part in values[:-1]:
                    value = self.value(part, names)
                    if bool(value) == stop:
                        return value
                return self.value(values[-1], names)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                return self.compare(self.value(left, names), ops, comparators, names)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self.value(body if self.value(test, names) else orelse, names)
            case ast.List(elts=elements):
                return self.checked([self.value(element, names) for element in elements])
            case (
                ast.ListComp(elt=element, generators=generators)
                | ast.GeneratorExp(elt=element, generators=generators)
            ):
                return self.checked(list(self.comprehend(element, generators, dict(names))))
            case ast.Subscript(value=value, slice=index):
                return self.checked(self.value(value, names)[self.index(index, names)])
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                given = [self.value(argument, names) for argument in arguments]
                if name in self.functions:
                    return self.call(name, given)
                if name not in _FUNCTIONS:
                    raise Unsupported(f"function {name}")
                for argument in given:
                    self.checked(argument)
                return self.checked(_FUNCTIONS[name](*given))
            case _:
                raise Unsupported(type(node).__name__)

    def index(self, node: ast.expr, names: dict[str, Any]) -> int | slice:
        if isinstance(node, ast.Slice):
            parts = (node.lower, node.upper, node.step)
            return slice(*(None if p is None else self.value(p, names) for p in parts))
        value = self.value(node, names)
        if not isinstance(value, int):
            raise Unsupported("index")
        return value

    def binary(self, op: ast.operator, a: Any, b: Any) -> Any:
        function = _BINARY.get(type(op))
        numbers = isinstance(a, int) and isinstance(b, int)
        joined = isinstance(op, ast.Add) and type(a) is type(b) and isinstance(a, str | list)
        if function is None or not (numbers or joined):
            raise Unsupported("operation")
        return self.checked(function(a, b))

    def compare(
        self, left: Any, ops: list[ast.cmpop], others: list[ast.expr], names: dict[str, Any]
    ) -> bool:
        for op, other in zip(ops, others, strict=True):
            right = self.checked(self.value(other, names))
            self.checked(left)
            if type(op) not in _COMPARE:
                raise Unsupported("comparison")
            if not _COMPARE[type(op)](left, right):
                return False
            left = right
        return True

    def comprehend(
        self, element: ast.expr, generators: list[ast.comprehension], names: dict[str, Any]
    ) -> Iterator[Any]:
        if not generators:
            yield self.value(element, names)
            return
        first, *rest = generators
        if not isinstance(first.target, ast.Name) or first.is_async:
            raise Unsupported("comprehension")
        for item in self.value(first.iter, names):
            names[first.target.id] = item
            if all(self.value(condition, names) for condition in first.ifs):
                yield from self.comprehend(element, rest, names)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)
