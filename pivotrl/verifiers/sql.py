"""Do two SQL statements ask for the same? By a normal form of their trees (sqlglot), never run.

Nothing is said by layout, comments, the case of what is not quoted, a last semicolon, names given
to tables, the order of conditions, of sides of an equation, of an IN list and of a GROUP BY. What
orders, names or counts the result stays: columns, ORDER BY, LIMIT.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import reduce

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns, in the action's own words
MAX_CHARACTERS = 2_000
_STATEMENT = re.compile(
    r"\s*(?:select\b.+?\bfrom|insert\s+into|update\s+\S+\s+set|delete\s+from|with\s+\w+\s+as)\b",
    re.IGNORECASE | re.DOTALL,
)
_WORD = re.compile(
    r"(?P<comment>--[^\n]*|/\*(?:[^*]|\*(?!/))*+\*/)|(?P<text>'[^']*'|\"[^\"]*\")|\s+|\w+|.",
    re.DOTALL,
)
ZERO, ONE = exp.Literal.number(0), exp.Literal.number(1)
_FLIPPED: Mapping[type[exp.Expr], type[exp.Expr]] = {exp.GT: exp.LT, exp.GTE: exp.LTE}
_ASSIGNING = (exp.Update, exp.OnConflict)
"""Where `a = b` is no question."""


def words(text: str) -> list[str]:
    """Of a piece of SQL that may be no statement: whatever their case, without comments."""
    found = [token for token in _WORD.finditer(text) if token.lastgroup != "comment"]
    said = [token[0] if token.lastgroup == "text" else token[0].lower() for token in found]
    return [word for word in said if word.strip()]


def is_statement(text: str) -> bool:
    return _STATEMENT.match(text[:MAX_CHARACTERS]) is not None


def same_statement(one: str, other: str) -> bool:
    left, right = normal_form(one), normal_form(other)
    return left is not None and left == right


def normal_form(text: str) -> str | None:
    """A text that equivalent statements share; None for what is too long or cannot be read."""
    if len(text) > MAX_CHARACTERS:
        return None
    try:
        trees = [tree for tree in sqlglot.parse(text) if tree is not None]
        if not trees or any(isinstance(tree, exp.Command) for tree in trees):
            return None
        return ";".join(_form(_renamed(normalize_identifiers(tree))) for tree in trees)
    except (SqlglotError, RecursionError, ValueError):
        return None


def _renamed(tree: exp.Expr) -> exp.Expr:
    """A table by its own name where it is named once; a column of the only table by none."""
    tables = [table for table in tree.find_all(exp.Table) if isinstance(table.this, exp.Identifier)]
    names = [table.name for table in tables]
    aliases = [table.alias for table in tables]
    given = {t.alias: t.name for t in tables
             if t.alias and names.count(t.name) == aliases.count(t.alias) == 1}  # fmt: skip
    for table in tables:
        if table.alias in given:
            table.set("alias", None)
    for column in tree.find_all(exp.Column):
        if len(tables) == 1:
            column.set("table", None)
        elif column.table in given:
            column.set("table", exp.to_identifier(given[column.table]))
    return tree


def _form(node: object) -> str:
    """Of a node, a list of them, or a word."""
    if isinstance(node, list):
        return f"[{' '.join(map(_form, node))}]"
    if not isinstance(node, exp.Expr):
        return str(node)
    node = _plain(node)
    kind = type(node).__name__
    if isinstance(node, exp.Literal | exp.Identifier):
        return f"{kind[0] * (not node.is_string)}{node.name!r}"
    if isinstance(node, exp.And | exp.Or):
        return f"({kind} {' '.join(sorted(set(map(_form, _operands(node)))))})"
    if isinstance(node, exp.Add | exp.Mul):
        return f"({kind} {' '.join(sorted(map(_form, _operands(node))))})"
    if isinstance(node, exp.EQ | exp.NEQ) and not isinstance(node.parent, _ASSIGNING):
        return f"({kind} {' '.join(sorted((_form(node.this), _form(node.expression))))})"
    said = {name: value for name, value in node.args.items() if value and name != "big_int"}
    if isinstance(node, (exp.Group, *_ASSIGNING)):
        said["expressions"] = sorted(map(_form, node.expressions))
    if isinstance(node, exp.ColumnDef):
        said["constraints"] = sorted(map(_form, node.args.get("constraints") or ()))
    if isinstance(node, exp.Join) and said.get("kind") == "INNER":
        del said["kind"]
    if isinstance(node, exp.Anonymous):
        said["this"] = node.name.lower()
    if (offset := said.get("offset")) and offset.expression == ZERO:
        del said["offset"]
    return f"({kind} {' '.join(f'{name}={_form(value)}' for name, value in sorted(said.items()))})"


def _plain(node: exp.Expr) -> exp.Expr:
    """Without brackets, and written in one of the ways that mean the same."""
    node = node.unnest()
    if type(node) in _FLIPPED:
        return _FLIPPED[type(node)](this=node.expression, expression=node.this)
    if isinstance(node, exp.Between):
        low = exp.LTE(this=node.args["low"], expression=node.this)
        return exp.And(this=low, expression=exp.LTE(this=node.this, expression=node.args["high"]))
    if isinstance(node, exp.In) and node.expressions:
        ways: list[exp.Expr] = [
            exp.EQ(this=node.this, expression=value) for value in node.expressions
        ]
        return reduce(lambda left, right: exp.Or(this=left, expression=right), ways)
    if isinstance(node, exp.Count) and node.this == ONE:
        return exp.Count(this=exp.Star())
    return node


def _operands(node: exp.Expr) -> list[exp.Expr]:
    """Of a chain of the same connector, brackets or not."""
    left: list[exp.Expr] = []
    for side in (node.this, node.expression):
        side = _plain(side)
        left += _operands(side) if type(side) is type(node) else [side]
    return left
