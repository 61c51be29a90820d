"""LiveCodeBench's tests: how they are packed, run and compared.

The private tests of the published rows are pickled: they are read opcode by opcode, as one string
and nothing else, and nothing is unpickled. Printed lines are compared by LiveCodeBench's own
rule, values as JSON, which is laxer on tuples and keys. A test's expected output never enters the
sandbox. This module must never know a prompt or a model.
"""

from __future__ import annotations

import base64
import json
import pickletools
import zlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation

from pivotrl.sandbox import Exit, Limits, run_tests
from pivotrl.types import JSON, PivotRLError

LIMITS = Limits(seconds=10.0, memory=2**32, output=2**20)
"""10 s a test and 4 GiB as in NeMo-Gym; the output may be this and 16 times the expected one."""
MAX_TESTS = 2**29
"""Bytes of one row's unpacked tests."""
BEFORE = """
from string import *; from re import *; from datetime import *; from collections import *
from heapq import *; from bisect import *; from copy import *; from math import *
from random import *; from statistics import *; from itertools import *; from functools import *
from operator import *; from io import *; from sys import *; from json import *
from builtins import *; from typing import *
import string, re, datetime, collections, heapq, bisect, copy, math, random, statistics
import itertools, functools, operator, io, sys, json
sys.setrecursionlimit(50000)
sys.set_int_max_str_digits(50000)
"""
"""What LiveCodeBench imports for every program, in its order."""
_CALL = """
import json, sys
def _number(value):
    try:
        return value.__index__()
    except (AttributeError, TypeError):
        return float(value)
_names = globals()
_function = getattr(_names["Solution"](), {name!r}) if "Solution" in _names else _names[{name!r}]
_arguments = [json.loads(line) for line in sys.stdin.read().split("\\n")]
give(json.dumps(_function(*_arguments), default=_number))
"""
_STRINGS = {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_NOTHING = {"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitTests:
    inputs: tuple[str, ...]
    """Of a program: its standard input. Of a function: one JSON value an argument and line."""
    outputs: tuple[str, ...]
    """What it prints, or the function's value as JSON."""
    function: str | None = None
    """Its name; None for programs."""


def unit_tests(row: Mapping[str, JSON]) -> UnitTests:
    """The tests of a row as LiveCodeBench publishes it (`public_test_cases`, `private_test_cases`,
    `metadata`) or in NeMo-Gym's form (`unit_tests`). Raises `PivotRLError` if it has none."""
    where = f"livecodebench item {row.get('id')}"
    try:
        tests = _read(row)
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error, RecursionError) as error:
        raise PivotRLError(
            f"{where}: its tests cannot be read ({type(error).__name__}: {error}); fetch the row "
            "again or drop it"
        ) from None
    if not tests.inputs:
        raise PivotRLError(
            f"{where}: no `unit_tests`, `public_test_cases` or `private_test_cases`; use rows that "
            "carry them"
        )
    return tests


def _read(row: Mapping[str, JSON]) -> UnitTests:
    unit = row.get("unit_tests")
    if unit:
        inputs, outputs, function = unit["inputs"], unit["outputs"], unit.get("fn_name")
    else:
        published = (row.get("public_test_cases"), row.get("private_test_cases"))
        cases = [case for cases in published for case in _cases(cases)]
        inputs, outputs = [c["input"] for c in cases], [c["output"] for c in cases]
        metadata = row.get("metadata") or {}
        metadata = json.loads(metadata) if isinstance(metadata, str) else metadata
        function = metadata.get("func_name")
    if len(inputs) != len(outputs) or not all(isinstance(t, str) for t in (*inputs, *outputs)):
        raise ValueError("inputs and outputs are not as many strings")
    return UnitTests(inputs=tuple(inputs), outputs=tuple(outputs), function=function or None)


def _cases(published: JSON) -> list[dict[str, str]]:
    if not isinstance(published, str) or not published:
        return published or []
    plain = published if published.startswith("[") else unpacked(published)
    found: list[dict[str, str]] = json.loads(plain)
    return found


def unpacked(packed: str) -> str:
    """The string in base64 of zlib of a pickled string.

    Raises ValueError or zlib.error for anything else, and over `MAX_TESTS` bytes.
    """
    reader = zlib.decompressobj()
    pickled = reader.decompress(base64.b64decode(packed, validate=True), MAX_TESTS)
    if not reader.eof:
        raise ValueError(f"cut short, or over {MAX_TESTS:,} bytes")
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in _STRINGS:
            strings.append(str(argument))
        elif opcode.name not in _NOTHING:
            raise ValueError(f"a pickle of more than a string ({opcode.name})")
    if len(strings) != 1:
        raise ValueError(f"a pickle of {len(strings)} strings, not one")
    return strings[0]


def last_fence(output: str) -> str | None:
    """The lines between the last two that have a code fence, or None; LiveCodeBench's own rule."""
    lines = output.split("\n")
    fences = [n for n, line in enumerate(lines) if "```" in line]
    return "\n".join(lines[fences[-2] + 1 : fences[-1]]) if len(fences) > 1 else None


def solves(code: str, tests: UnitTests, limits: Limits = LIMITS) -> bool:
    """True if the program gives every expected output; it is stopped at the first other one.

    Each test is a process of its own, so that, unlike in LiveCodeBench's, nothing is left of the
    one before, and a program is a true `__main__`. Raises `PivotRLError` without a sandbox.
    """
    after = "" if tests.function is None else _CALL.format(name=tests.function)
    most = limits.output + 16 * max(map(len, tests.outputs))
    runs = run_tests(code, tests.inputs, replace(limits, output=most), BEFORE, after)
    same = same_lines if tests.function is None else same_value
    with closing(runs):
        return all(
            run.exit is Exit.OK and same(run.stdout.decode("utf-8", "replace"), expected)
            for run, expected in zip(runs, tests.outputs, strict=False)
        )


def same_lines(got: str, expected: str) -> bool:
    """Line by line, without the space around: equal, or equal numbers token by token."""
    ours, theirs = ([line.strip() for line in t.strip().split("\n")] for t in (got, expected))
    return len(ours) == len(theirs) and all(
        a == b or _same_numbers(a.split(), b.split()) for a, b in zip(ours, theirs, strict=True)
    )


def _same_numbers(got: list[str], expected: list[str]) -> bool:
    try:
        return len(got) == len(expected) and all(
            Decimal(a) == Decimal(b) for a, b in zip(got, expected, strict=True)
        )
    except InvalidOperation:  # no numbers, or signalling NaN
        return False


def same_value(got: str, expected: str) -> bool:
    """Equal JSON values, numbers by value."""
    try:
        return bool(_value(got) == _value(expected))
    except (ValueError, RecursionError):
        return False


def _value(text: str) -> JSON:
    """Numbers that are too long for Python's own reader are exact as decimals."""
    return json.loads(text, parse_int=lambda n: int(n) if len(n) < 4300 else Decimal(n))
