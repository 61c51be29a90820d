"""Bugs: small sources with one line that is wrong, what its issue says, and tests that tell.

Every kind says where the right line can be read: in the issue, in a document, in a definition.
It must never know a conversation or who repairs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from pivotrl.environments.repo.language import CLAUSES, COLORS, NOTES, OPERATIONS, PLACES, RULES
from pivotrl.types import JSON

NUMBERS = range(2, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """One bug of a kind, before it stands in a repository."""

    clause: str
    function: str
    """What the tests call."""
    files: Mapping[str, Sequence[str]]
    """Path -> lines, without the bug; the first is the one that the bug is in."""
    line: int
    """0-based, in that file."""
    broken: str
    right: Sequence[str]
    """Lines that pass the tests, the best one first."""
    wrong: Sequence[str]
    """Plausible lines that do not."""
    given: Sequence[Sequence[JSON]]
    """Arguments of each test, the first of which the bug fails."""
    document: str | None = None
    """What must be read to know the right line."""
    facts: Sequence[str] = ()
    """Lines of that document, the one that matters first."""
    definition: str | None = None
    """A function whose definition must be read to know the right line."""
    traced: bool = False
    """The bug raises: the tests name the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """Where a bug takes what no other bug has."""

    rng: random.Random
    names: Iterator[str]
    paths: Iterator[str]


def draw_bug(kind: str, issue: str, supply: Supply) -> JSON:
    """A bug as the JSON of a task."""
    bug = KINDS[kind](supply)
    files = {path: "\n".join(lines) for path, lines in bug.files.items()}
    return {
        "kind": kind,
        "issue": issue,
        "clause": bug.clause,
        "function": bug.function,
        "files": files,
        "path": next(iter(files)),
        "line": bug.line,
        "broken": bug.broken,
        "right": list(bug.right),
        "wrong": list(bug.wrong),
        "document": bug.document,
        "facts": list(bug.facts),
        "definition": bug.definition,
        "traced": bug.traced,
        "given": [list(given) for given in bug.given],
    }


def _clause(rng: random.Random, key: str, **facts: JSON) -> str:
    return rng.choice(CLAUSES[key]).format(**facts)


def _source(supply: Supply, other: str, *lines: str) -> tuple[list[str], int]:
    """Lines of a file that defines `other` too, and how many stand before the given ones."""
    rng = supply.rng
    extra = [f"def {other}(n):", f"    return n {rng.choice('+*')} {rng.choice(NUMBERS)}"]
    if rng.random() < 0.5:
        return [*extra, *lines], len(extra)
    return [*lines, *extra], 0


def _operator(supply: Supply) -> Bug:
    rng, name = supply.rng, next(supply.names)
    operator, broken = rng.sample(list(OPERATIONS), 2)
    ways = {
        "+": ["return a + b", "return b + a"],
        "-": ["return a - b"],
        "*": ["return a * b", "return b * a"],
    }
    guard = rng.choice(((), ("    if b < 1:", "        return 0")))
    lines, start = _source(
        supply, next(supply.names), f"def {name}(a, b):", *guard, f"    {ways[operator][0]}"
    )
    return Bug(
        clause=_clause(rng, "operator", operation=OPERATIONS[operator]),
        function=name,
        files={next(supply.paths): lines},
        line=start + 1 + len(guard),
        broken=ways[broken][0],
        right=ways[operator],
        wrong=["return b - a", *(way[0] for key, way in ways.items() if key != operator)],
        given=rng.sample([(6, 2), (5, 3), (7, 4), (8, 3), (9, 2)], 2),
    )


_NUMBER_LINES = ("return a * {}", "return a + {}", "return {} - a")


def _constant(supply: Supply) -> Bug:
    return _number(supply, next(supply.names))


def _rules(supply: Supply) -> Bug:
    name, *others = (next(supply.names) for _ in range(3))
    return _number(supply, name, others)


def _number(supply: Supply, name: str, others: Sequence[str] = ()) -> Bug:
    """A wrong number; with `others` a document tells the right one beside the numbers of those."""
    rng, line = supply.rng, supply.rng.choice(_NUMBER_LINES)
    number, broken, *more = rng.sample(NUMBERS, 5)
    told = dict(zip((name, *others), (number, *more), strict=False))
    lines, start = _source(
        supply, next(supply.names), f"def {name}(a):", f"    {line.format(number)}"
    )
    return Bug(
        clause=_clause(rng, "rules" if others else "constant", number=number),
        function=name,
        files={next(supply.paths): lines},
        line=start + 1,
        broken=line.format(broken),
        right=[line.format(number)],
        wrong=[line.format(n) for n in more[: len(others) or None]],
        given=[(a,) for a in rng.sample(range(1, 6), 2)],
        document=RULES if others else None,
        facts=[f"{key}: {n}" for key, n in told.items()] if others else (),
    )


def _limit(supply: Supply) -> Bug:
    """Off by one, at a limit that counts or does not."""
    rng, name = supply.rng, next(supply.names)
    limit, included = rng.choice(NUMBERS[1:-1]), rng.random() < 0.5
    sign, step = rng.choice((("<", 1), (">", -1)))
    inside, outside = rng.sample(NUMBERS, 2)
    strict, loose = f"if a {sign} {limit}:", f"if a {sign}= {limit}:"
    if included:
        right, broken = [loose, f"if a {sign} {limit + step}:"], strict
    else:
        right, broken = [strict, f"if a {sign}= {limit - step}:"], loose
    lines, start = _source(
        supply,
        next(supply.names),
        *(
            f"def {name}(a):",
            f"    {right[0]}",
            f"        return {inside}",
            f"    return {outside}",
        ),
    )
    other = {"<": ">", ">": "<"}[sign]
    return Bug(
        clause=_clause(rng, "included" if included else "excluded"),
        function=name,
        files={next(supply.paths): lines},
        line=start + 1,
        broken=broken,
        right=right,
        wrong=[f"if a == {limit}:", f"if a {other} {limit}:", f"if a {sign}= {limit + step}:"],
        given=[(limit,), (limit - 1,), (limit + 1,)],
    )


def _case(supply: Supply) -> Bug:
    """A case that is missing among those that count."""
    rng, name = supply.rng, next(supply.names)
    first, second, missing, other, outside = rng.sample(COLORS, 5)
    yes, no = rng.sample(NUMBERS, 2)
    orders = [(first, second, missing), (missing, first, second), (first, missing, second)]
    right, wrong = (
        [f"if a in {list(colors)}:" for colors in group]
        for group in (orders, [(first, second, other), (first, missing), (missing, second)])
    )
    lines, start = _source(
        supply,
        next(supply.names),
        *(f"def {name}(a):", f"    {right[0]}", f"        return {yes}", f"    return {no}"),
    )
    return Bug(
        clause=_clause(rng, "case", color=missing),
        function=name,
        files={next(supply.paths): lines},
        line=start + 1,
        broken=f"if a in {[first, second]}:",
        right=right,
        wrong=wrong,
        given=[(color,) for color in (missing, first, second, other, outside)],
    )


def _traceback(supply: Supply) -> Bug:
    """A wrong index, in a function that the tested one calls."""
    rng, name, helper = supply.rng, next(supply.names), next(supply.names)
    place, plus = rng.randrange(len(PLACES)), rng.choice(NUMBERS)
    lines, start = _source(
        supply, next(supply.names), f"def {helper}(a):", f"    return a[{place}]"
    )
    path, caller = next(supply.paths), next(supply.paths)
    return Bug(
        clause=_clause(rng, "traceback", place=PLACES[place]),
        function=name,
        files={path: lines, caller: [f"def {name}(a):", f"    return {helper}(a) + {plus}"]},
        line=start + 1,
        broken=f"return a[{len(PLACES)}]",
        right=[f"return a[{place}]"],
        wrong=[f"return a[{other}]" for other in range(len(PLACES)) if other != place],
        given=[(rng.sample(NUMBERS, 3),), (rng.sample(NUMBERS, 5),)],
        traced=True,
    )


def _rename(supply: Supply) -> Bug:
    """A call of a function by the name that it had."""
    rng = supply.rng
    name, old, new, other_old, other = (next(supply.names) for _ in range(5))
    times, plus = rng.choice(NUMBERS[4:]), rng.choice(NUMBERS)
    helpers, _ = _source(supply, other, f"def {new}(a):", f"    return a * {times} * 9")
    return Bug(
        clause=_clause(rng, "rename"),
        function=name,
        files={
            next(supply.paths): [f"def {name}(a):", f"    return {new}(a) + {plus}"],
            next(supply.paths): helpers,
        },
        line=1,
        broken=f"return {old}(a) + {plus}",
        right=[f"return {new}(a) + {plus}"],
        wrong=[f"return {other}(a) + {plus}"],
        given=[(a,) for a in rng.sample(range(1, 6), 2)],
        document=NOTES,
        facts=[f"{old} is now {new}", f"{other_old} is now {other}"],
        traced=True,
    )


def _arguments(supply: Supply) -> Bug:
    """A call with its arguments in another order than the definition's."""
    rng, name, helper = supply.rng, next(supply.names), next(supply.names)
    orders = list(permutations("abc"))
    right, broken = rng.sample(orders, 2)
    one, two, three = right
    calls = {order: f"return {helper}({', '.join(order)})" for order in orders}
    defined, _ = _source(
        supply,
        next(supply.names),
        *(f"def {helper}({', '.join(right)}):", f"    return {one} * 9 + {two} * 3 + {three}"),
    )
    return Bug(
        clause=_clause(rng, "arguments", helper=helper),
        function=name,
        files={
            next(supply.paths): [f"def {name}(a, b, c):", f"    {calls[right]}"],
            next(supply.paths): defined,
        },
        line=1,
        broken=calls[broken],
        right=[calls[right]],
        wrong=[call for order, call in calls.items() if order not in (right, broken)],
        given=rng.sample([(1, 2, 3), (3, 1, 2), (2, 3, 1), (2, 1, 3)], 2),
        definition=helper,
    )


KINDS: Mapping[str, Callable[[Supply], Bug]] = {
    "operator": _operator,
    "constant": _constant,
    "limit": _limit,
    "case": _case,
    "traceback": _traceback,
    "rename": _rename,
    "arguments": _arguments,
    "rules": _rules,
}
