"""Do two strings write one value? SQL, code, commands, paths, arithmetic, JSON, queries, lists.

What kind of value it is the name of the argument tells, its description, or the string itself.
Each kind has its own idea of sameness; every one is bounded in the size of the strings. Nothing
here is evaluated but arithmetic on numbers. This module must never know a tool.
"""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable, Set
from urllib.parse import urlsplit

import orjson

from pivotrl.types import JSON
from pivotrl.verifiers import english, python_code, sql
from pivotrl.verifiers.facts import plain_letters
from pivotrl.verifiers.shell_forms import Unreadable, normal_form

MAX_CHARACTERS = 8_000
MAX_EXPRESSION, MAX_POWER = 300, 64
MAX_QUERY, MAX_LONGER = 400, 3
RELATIVE_NOISE = 1e-9
_URL = re.compile(r"https?://[^\s/?#]+\S*", re.IGNORECASE)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.\w+")
_PHONE = re.compile(r"\+\d[\d ().-]{6,18}", re.ASCII)
_PORT = {"http": ":80", "https": ":443"}
_AMOUNT = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,15})?", re.ASCII)
_OPERATORS = re.compile(r"[\"“”:*?~^|&<>=()+/\\@#]|\s-\w|\b(?:AND|OR|NOT)\b")
_ARITHMETIC = str.maketrans({"×": "*", "÷": "/", "−": "-", "^": "**", ",": ""})
_DO: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def same_value(name: str, told: str, one: str, other: str, tool: str = "") -> bool:
    """`name`: the words of the argument's name; `told`, `tool`: its and its tool's description."""
    if max(len(one), len(other)) > MAX_CHARACTERS:
        return False
    if sql.is_statement(one):
        return sql.same_statement(one, other)
    if _URL.fullmatch(one) and _URL.fullmatch(other):
        return _url(one) == _url(other)
    if _EMAIL.fullmatch(one):
        return one.casefold() == other.casefold()
    if _PHONE.fullmatch(one) and _PHONE.fullmatch(other):
        return re.sub(r"\D", "", one) == re.sub(r"\D", "", other)
    if one[:1] in ("{", "["):
        data = _json(one)
        return data is not None and data == _json(other)
    if english.COMMAS.search(told):
        parts = [[part.strip() for part in text.split(",")] for text in (one, other)]
        if english.ORDERED.search(f"{name} {told}"):
            return parts[0] == parts[1]
        return Counter(parts[0]) == Counter(parts[1])
    if english.COMMANDS.fullmatch(name):
        return english.SHELLS.search(tool) is not None and _same_command(one, other)
    if english.QUERIES.fullmatch(name):
        return _same_query(one, other, tool.partition(":")[0])
    for names, same in _BY_NAME:
        if names.fullmatch(name):
            return same(one, other)
    return False


def _url(text: str) -> tuple[str, ...]:
    try:
        parts = urlsplit(text)
    except ValueError:
        return (text,)
    host = parts.netloc.lower().removesuffix(_PORT[parts.scheme])
    return parts.scheme, host, parts.path or "/", parts.query, parts.fragment


def _json(text: str) -> JSON:
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS)
    except (ValueError, TypeError, RecursionError):
        return None


def _same_code(one: str, other: str) -> bool:
    return python_code.same(python_code.exact(one), python_code.exact(other))


def _same_expression(one: str, other: str) -> bool:
    """Whether two sums have one result, from the same numbers."""
    left, right = _result(one), _result(other)
    if left is None or right is None or left[1] != right[1]:
        return _same_code(one, other)
    return abs(left[0] - right[0]) <= RELATIVE_NOISE * max(1.0, abs(left[0]))


def _result(text: str) -> tuple[float, Counter[float]] | None:
    if len(text) > MAX_EXPRESSION:
        return None
    numbers, tree = Counter[float](), python_code.parsed(text.translate(_ARITHMETIC).strip())
    match tree.body if tree else ():
        case [ast.Expr(value)]:
            try:
                return _evaluated(value, numbers), numbers
            except (ValueError, ArithmeticError, RecursionError):
                return None
    return None


def _evaluated(node: ast.expr, numbers: Counter[float]) -> float:
    """Raises ValueError for what is no arithmetic."""
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
    ):
        numbers[float(node.value)] += 1
        return float(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluated(node.operand, numbers)
    if isinstance(node, ast.BinOp):
        left, right = _evaluated(node.left, numbers), _evaluated(node.right, numbers)
        if isinstance(node.op, ast.Pow) and abs(right) <= MAX_POWER and left >= 0:
            return float(left**right)
        if do := _DO.get(type(node.op)):
            return do(left, right)
    raise ValueError("no arithmetic")


def _same_amount(one: str, other: str) -> bool:
    return bool(_AMOUNT.fullmatch(one) and _AMOUNT.fullmatch(other)) and float(one) == float(other)


def _same_address(one: str, other: str) -> bool:
    return " " in one and _address(one) == _address(other)  # of several words: it is no wallet's


def _address(text: str) -> list[str]:
    """Its words, with the usual short forms written out."""
    words = re.findall(r"[\w'/]+|#", plain_letters(text).lower())
    return [english.STREETS.get(word, word) for word in words]


def _same_postcode(one: str, other: str) -> bool:
    return one.replace(" ", "").lower() == other.replace(" ", "").lower()


def _same_command(one: str, other: str) -> bool:
    try:
        return len(other) <= MAX_LONGER * len(one) and normal_form(one) == normal_form(other)
    except Unreadable:
        return False


def _same_path(one: str, other: str) -> bool:
    """Whether but for `./`, doubled slashes and one at the end they are one path."""
    left, right = (re.sub(r"/{2,}|/(?:\./)+", "/", p).removeprefix("./") for p in (one, other))
    return left.rstrip("/") == right.rstrip("/") != ""


def _same_query(one: str, other: str, tool: str) -> bool:
    """Whether two queries of plain words have the same words, in one order where that tells.

    The one thing that the tool looks for by its name, and other fillers, narrow no query.
    """
    if one.casefold() == other.casefold():
        return True
    if len(one) + len(other) > MAX_QUERY or any(map(_OPERATORS.search, (one, other))):
        return False
    things = {english.stem(word) for word in tool.split() if word not in english.FINDERS}
    fillers = english.FILLERS | things if len(things) == 1 else english.FILLERS
    left, right = _searched(one, fillers), _searched(other, fillers)
    if english.DIRECTED.search(f"{one}\n{other}"):
        return left == right
    return sorted(left) == sorted(right) and bool(left)


def _searched(query: str, fillers: Set[str]) -> list[str]:
    words = english.WORD.findall(plain_letters(english.respell(query)).lower())
    kept = [w for w in words if w not in english.STOP or english.DIRECTED.fullmatch(w)]
    stems = [word if word.isdigit() else english.stem(word) for word in kept]
    tells = [w for w in stems if w not in fillers or english.DIRECTED.fullmatch(w)]
    return tells or stems


_BY_NAME = (
    (english.EXPRESSIONS, _same_expression),
    (english.PROGRAMS, _same_code),
    (english.AMOUNTS, _same_amount),
    (english.ADDRESSES, _same_address),
    (english.POSTCODES, _same_postcode),
    (english.PATHS, _same_path),
)
