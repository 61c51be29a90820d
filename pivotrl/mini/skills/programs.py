"""Short functions from a description (LiveCodeBench), and second steps that use first ones
(SciCode), both with tests.

A description is a prefix form ("the sum of A and B"), its code the usual infix form; the expected
values are computed here, by plain arithmetic. This module must never know how code is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from pivotrl.types import JSON

NAMES = ("area", "charge", "energy", "field", "flux", "force", "mass", "power", "rate", "speed")
VARIABLES = ("a", "b", "k", "m", "n", "x", "y", "z")
_OPERATIONS = {"sum": "+", "difference": "-", "product": "*"}

Value = Callable[[Mapping[str, int]], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    words: str
    code: str
    value: Value
    simple: bool = True
    """It needs no parentheses inside another expression."""


def variable(name: str) -> Expression:
    return Expression(words=name, code=name, value=lambda names: names[name])


def constant(n: int) -> Expression:
    return Expression(words=str(n), code=str(n), value=lambda names: n)


def combine(operation: str, left: Expression, right: Expression) -> Expression:
    sign = _OPERATIONS[operation]

    def value(names: Mapping[str, int]) -> int:
        a, b = left.value(names), right.value(names)
        return a + b if sign == "+" else a - b if sign == "-" else a * b

    a, b = (side.code if side.simple else f"({side.code})" for side in (left, right))
    return Expression(
        words=f"the {operation} of {left.words} and {right.words}",
        code=f"{a} {sign} {b}",
        value=value,
        simple=False,
    )


def call(function: str, body: Expression, parameter: str, argument: Expression) -> Expression:
    return Expression(
        words=f"{function} of {argument.words}",
        code=f"{function}({argument.code})",
        value=lambda names: body.value({parameter: argument.value(names)}),
    )


def _random_expression(random: Random, names: tuple[str, ...], operations: int) -> Expression:
    """An expression of so many operations that uses every name."""
    leaves = [variable(name) for name in names]
    while len(leaves) < operations + 1:
        use_name = random.random() < 0.6
        leaves.append(
            variable(random.choice(names)) if use_name else constant(random.randint(2, 9))
        )
    random.shuffle(leaves)
    return _tree(random, leaves)


def _tree(random: Random, leaves: list[Expression]) -> Expression:
    if len(leaves) == 1:
        return leaves[0]
    cut = random.randint(1, len(leaves) - 1)
    left, right = _tree(random, leaves[:cut]), _tree(random, leaves[cut:])
    return combine(random.choice(tuple(_OPERATIONS)), left, right)


# words, code with {k}, what it keeps
_FILTERS: tuple[tuple[str, str, Callable[[int, int], bool]], ...] = (
    ("greater than {k}", "> {k}", lambda v, k: v > k),
    ("less than {k}", "< {k}", lambda v, k: v < k),
    ("divisible by {k}", "% {k} == 0", lambda v, k: v % k == 0),
    ("different from {k}", "!= {k}", lambda v, k: v != k),
)
_MAPS: tuple[tuple[str, str, Callable[[int, int], int]], ...] = (
    ("plus {k}", "+ {k}", lambda v, k: v + k),
    ("minus {k}", "- {k}", lambda v, k: v - k),
    ("times {k}", "* {k}", lambda v, k: v * k),
)


def _tests(name: str, cases: list[tuple[list[JSON], JSON]]) -> dict[str, JSON]:
    return {
        "fn_name": name,
        "inputs": ["\n".join(str(argument) for argument in inputs) for inputs, _ in cases],
        "outputs": [str(output) for _, output in cases],
    }


def _scalar_tests(
    random: Random, name: str, names: tuple[str, ...], body: Expression
) -> dict[str, JSON]:
    cases: list[tuple[list[JSON], JSON]] = []
    for _ in range(4):
        values = {n: random.randint(-9, 20) for n in names}
        cases.append((list(values.values()), body.value(values)))
    return _tests(name, cases)


def _list_tests(random: Random, name: str, value: Callable[[list[int]], JSON]) -> dict[str, JSON]:
    lists = [[random.randint(0, 12) for _ in range(random.randint(3, 8))] for _ in range(5)]
    return _tests(name, [([xs], value(xs)) for xs in lists])


def _fence(code: str) -> str:
    return f"```python\n{code}\n```"


def livecodebench(random: Random, level: int) -> dict[str, JSON]:
    name = random.choice(NAMES)
    if level == 3 or (level == 4 and random.random() < 0.5):
        return _list_problem(random, name, mapped=level == 4)
    operations = {1: 1, 2: 2, 4: 4}[level]
    names = tuple(random.sample(VARIABLES, random.randint(1, min(3, operations + 1))))
    body = _random_expression(random, names, operations)
    header = f"def {name}({', '.join(names)}):"
    return {
        "question_content": f"Given {' and '.join(names)}, return {body.words}.",
        "starter_code": header,
        "unit_tests": _scalar_tests(random, name, names, body),
        "reference": _fence(f"{header}\n    return {body.code}"),
    }


def _list_problem(random: Random, name: str, mapped: bool) -> dict[str, JSON]:
    v, xs = random.choice(VARIABLES), random.choice(("items", "values", "numbers"))
    filter_words, filter_code, keep = random.choice(_FILTERS)
    map_words, map_code, change = random.choice(_MAPS)
    k, j = random.randint(2, 9), random.randint(2, 9)
    each = f"{v} {map_code.format(k=j)}" if mapped else v
    inner = f"{each} for {v} in {xs} if {v} {filter_code.format(k=k)}"
    reduce = random.choice(("sum", "list") if mapped else ("sum", "number", "list"))
    words = f"the {reduce} of the {xs} {filter_words.format(k=k)}"
    if mapped:
        words = f"the {reduce} of {v} {map_words.format(k=j)} for the {xs} {v} " + (
            filter_words.format(k=k)
        )
    code = {"sum": f"sum({inner})", "number": f"len([{inner}])", "list": f"[{inner}]"}[reduce]

    def value(values: list[int]) -> JSON:
        kept = [change(x, j) if mapped else x for x in values if keep(x, k)]
        return {"sum": sum(kept), "number": len(kept), "list": kept}[reduce]

    header = f"def {name}({xs}):"
    return {
        "question_content": f"Given a list of {xs}, return {words}.",
        "starter_code": header,
        "unit_tests": _list_tests(random, name, value),
        "reference": _fence(f"{header}\n    return {code}"),
    }


def scicode(random: Random, level: int) -> dict[str, JSON]:
    target, f, g = random.sample(NAMES, 3)
    x, y, p, q = random.sample(VARIABLES, 4)
    first = _random_expression(random, (p,), random.randint(1, 2))
    second = _random_expression(random, (q,), random.randint(1, 2))
    steps = [_step(f, p, first)]
    names: tuple[str, ...] = (x,)
    operation = random.choice(tuple(_OPERATIONS))
    of_x = call(f, first, p, variable(x))
    k = constant(random.randint(2, 9))
    if level == 1:
        body = combine(operation, of_x, k)
    elif level == 2:
        names = (x, y)
        body = combine(operation, of_x, call(f, first, p, variable(y)))
    elif level == 3:
        inner = combine(random.choice(tuple(_OPERATIONS)), variable(x), k)
        outer = constant(random.randint(2, 9))
        body = combine(operation, call(f, first, p, inner), outer)
    elif random.random() < 0.5:
        steps.append(_step(g, q, second))
        body = combine(operation, call(f, first, p, call(g, second, q, variable(x))), k)
    else:
        steps.append(_step(g, q, second))
        inner = combine(random.choice(tuple(_OPERATIONS)), call(g, second, q, variable(x)), k)
        body = combine(operation, of_x, inner)
    header = f"def {target}({', '.join(names)}):"
    return {
        "previous_steps": steps,
        "step_description_prompt": f"Write a function `{target}` that returns {body.words}.",
        "function_header": header,
        "unit_tests": _scalar_tests(random, target, names, body),
        "reference": _fence(f"{header}\n    return {body.code}"),
    }


def _step(name: str, parameter: str, body: Expression) -> dict[str, JSON]:
    return {
        "description": f"Write a function `{name}` that returns {body.words}.",
        "code": f"def {name}({parameter}):\n    return {body.code}",
    }
