"""MATH-500: problems with answers in LaTeX; the same prompt and scorer as AIME25.

This module must never know how answers are compared, that is `boxed_answers`.
"""

from __future__ import annotations

from pivotrl.benchmarks.aime25 import INSTRUCTION
from pivotrl.benchmarks.base import Benchmark, Row, Score, user_prompt
from pivotrl.benchmarks.boxed_answers import score_boxed
from pivotrl.types import Message


def prompt(row: Row) -> tuple[Message, ...]:
    return user_prompt(f"{INSTRUCTION}\n\n{row['problem']}")


def score(row: Row, output: str) -> Score:
    return score_boxed(str(row["answer"]), output)


BENCHMARK = Benchmark(name="math500", prompt=prompt, score=score, max_tokens=96, repeats=1)
