"""MATH-500: problems with answers in LaTeX; the same prompt and scorer as AIME25.

This module must never know how answers are compared, that is `boxed_answers`.
"""

from __future__ import annotations

from pivotrl.benchmarks.aime25 import prompt
from pivotrl.benchmarks.base import Benchmark, Row, Score, Source
from pivotrl.benchmarks.boxed_answers import score_boxed


def score(row: Row, output: str) -> Score:
    return score_boxed(str(row["answer"]), output)


BENCHMARK = Benchmark(
    name="math500",
    prompt=prompt,
    score=score,
    source=Source(path="HuggingFaceH4/MATH-500", split="test"),
    repeats=1,
)
