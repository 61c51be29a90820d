"""SQL, sums and notes as arguments: what is the same in another form, and what only looks so."""

from __future__ import annotations

import time

import pytest

from pivotrl.verifiers.comparison import Context
from pivotrl.verifiers.notations import same_value
from pivotrl.verifiers.notes import same_note
from pivotrl.verifiers.python_code import dumped, exact, same
from pivotrl.verifiers.sql import is_statement, normal_form, same_statement


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "SELECT a FROM t WHERE x BETWEEN 1 AND 5 AND y = 2",
            "select a from t where y=2 and x>=1 and x<=5;",
        ),
        (
            "SELECT a FROM t WHERE (s='p' OR s='q') AND z > 1",
            "SELECT a FROM t WHERE 1 < z AND s IN ('q', 'p')",
        ),
        (
            "SELECT o.id FROM orders o JOIN users u ON u.id = o.u",
            "select orders.id from orders inner join users on orders.u = users.id",
        ),
        (
            "SELECT a FROM t WHERE i IN (SELECT u FROM x WHERE p=1 AND q=2)",
            "SELECT a FROM t WHERE i IN (SELECT u FROM x WHERE q=2 AND p=1)",
        ),
        (
            "SELECT COUNT(*) FROM t GROUP BY a, b LIMIT 5",
            "SELECT COUNT(1) FROM t -- all\nGROUP BY b, a LIMIT 5 OFFSET 0",
        ),
        ("UPDATE t SET a=1, b=2 WHERE id != 3", "update t set b = 2, a = 1 where id <> 3"),
        ("SELECT a FROM t ORDER BY f(a) ASC", "select a from t order by F(a)"),
    ],
)
def test_statements_that_ask_for_the_same(one: str, other: str) -> None:
    assert is_statement(one) and same_statement(one, other) and same_statement(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT a, b FROM t", "SELECT b, a FROM t"),
        (
            "SELECT a FROM t WHERE x = 1 AND y = 2 OR z = 3",
            "SELECT a FROM t WHERE x = 1 AND (y = 2 OR z = 3)",
        ),
        (
            "SELECT a FROM t WHERE x = 1 OR x = 2 AND y = 3",
            "SELECT a FROM t WHERE x IN (1, 2) AND y = 3",
        ),
        ("SELECT a FROM t WHERE n = 'x AND y'", "SELECT a FROM t WHERE n = 'y AND x'"),
        ("SELECT a FROM t WHERE x NOT BETWEEN 1 AND 2", "SELECT a FROM t WHERE x BETWEEN 1 AND 2"),
        ("SELECT a FROM t WHERE NOT x = 1 AND y = 2", "SELECT a FROM t WHERE x = 1 AND NOT y = 2"),
        (
            "SELECT e.n FROM emp e JOIN emp m ON e.b = m.id",
            "SELECT m.n FROM emp e JOIN emp m ON e.b = m.id",
        ),
        ("SELECT a FROM t JOIN u ON t.i = u.i", "SELECT a FROM t LEFT JOIN u ON t.i = u.i"),
        ("DELETE FROM t WHERE a = 1", "DELETE FROM t"),
        ("SELECT x + x + x FROM t", "SELECT x + x FROM t"),
        ("UPDATE t SET a = b", "UPDATE t SET b = a"),
        (
            "INSERT INTO t VALUES (1) ON CONFLICT (i) DO UPDATE SET a = b",
            "INSERT INTO t VALUES (1) ON CONFLICT (i) DO UPDATE SET b = a",
        ),
        ("SELECT a FROM t ORDER BY a NULLS LAST", "SELECT a FROM t ORDER BY a"),
        ("SELECT a FROM t GROUP BY ROLLUP (a, b)", "SELECT a FROM t GROUP BY CUBE (a, b)"),
        ("SELECT d -> '$.Name' FROM t", "SELECT d -> '$.name' FROM t"),
        ("SELECT a FROM t WHERE i = 1", "SELECT a FROM t WHERE i = '1'"),
        (
            "SELECT t.x FROM a t WHERE EXISTS (SELECT 1 FROM b t WHERE t.y = 1)",
            "SELECT t.x FROM b t WHERE EXISTS (SELECT 1 FROM a t WHERE t.y = 1)",
        ),
    ],
)
def test_statements_that_ask_for_another_thing(one: str, other: str) -> None:
    assert not same_statement(one, other)


def test_what_is_no_statement_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    assert normal_form("if a:\nif a:\nz") is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "one", "other", "same"),
    [
        ("formula", "100 * 1.2 ^ 2", "1.2**2 * 100", True),
        ("formula", "2 ^ 3", "3 ^ 2", False),
        ("formula", "7 - 4", "4 - 7", False),
        ("formula", "True", "1", False),
        ("wallet address", "0xAb", "0xab", False),
        ("q", "flights from Rome to Oslo", "flights to Rome from Oslo", False),
        ("q", "phones under 1000", "phones under 100", False),
        ("recipient", "Ana@Post.example", "ana@post.example", True),
        ("recipient", "+44 20 7946 0000", "+442079460000", True),
    ],
)
def test_values_by_their_kind(name: str, one: str, other: str, same: bool) -> None:
    assert same_value(name, "", one, other) is same


def test_a_note_may_leave_out_what_the_other_arguments_tell() -> None:
    beside = Context(told=("Take the 3 torn bags out of stock",), beside=("-3", "BAG-9"))
    assert same_note("reason", "3 bags torn", "Torn bags", beside)
    assert not same_note("reason", "3 bags torn", "2 bags torn", beside)
    assert not same_note("reason", "3 bags torn", "Torn bags", Context())


CODE = [
    *("x = 1", "x  =  1  # one", "x = 1.0", "x = True", "x = '1'", "x = b'1'", "x = u'1'", "y = 1"),
    *("x: int = 1", "x: int", "f(a, b=1)", "f(a, 1)", "f(a, *b)", "f(a)", "f(a, b=1)[::2]", "f()"),
    *("if a:\n b", "if a:\n b\nelse:\n c", "if a:\n b\n c", "def f(): pass", "async def f(): pass"),
    *(
        "",
        "x = (1)",
        "x = ...",
        "x = None",
        "return",
        "return None",
        "a < b < c",
        "a < (b < c)",
        "(",
    ),
]


@pytest.mark.parametrize("one", CODE)
def test_code_is_the_same_where_its_tree_is_written_the_same(one: str) -> None:
    for other in CODE:
        written = dumped(one)
        assert same(exact(one), exact(other)) is (written is not None and written == dumped(other))


@pytest.mark.parametrize(
    "unit", ["(", "1+", "9**9**", "select a from t where x=", "/*", "--\n", "a in (", "{", "fyi "]
)
def test_hostile_values_are_read_in_time(unit: str) -> None:
    text = (unit * 4000)[:8000]
    start = time.process_time()
    for name in ("query", "formula", "code", "address"):
        same_value(name, "comma-separated", text, text + "x")
    normal_form("select a from t where " + text[:7000])
    same_note("reason", text, text + "x", Context(told=(text,), tool=text))
    assert time.process_time() - start < 1
