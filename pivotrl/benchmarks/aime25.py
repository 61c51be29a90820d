"""AIME25: competition problems whose answer is an integer from 0 to 999, in a box.

Prompt and scorer are NeMo-Gym's form (math-verify on the last box); this module must never know
how answers are compared, that is `boxed_answers`.
"""

from __future__ import annotations

from pivotrl.benchmarks.base import Benchmark, Row, Score, Source, user_prompt
from pivotrl.benchmarks.boxed_answers import score_boxed
from pivotrl.types import Message

INSTRUCTION = (
    "Solve the following math problem. Make sure to put the answer (and only answer) inside "
    "\\boxed{}."
)


def read(row: Row) -> Row:
    """MathArena's `answer` is a number; NeMo's `expected_answer` is text."""
    return row if "expected_answer" in row else {**row, "expected_answer": str(row["answer"])}


def prompt(row: Row) -> tuple[Message, ...]:
    return user_prompt(f"{INSTRUCTION}\n\n{row['problem']}")


def score(row: Row, output: str) -> Score:
    return score_boxed(str(row["expected_answer"]), output)


BENCHMARK = Benchmark(
    name="aime25",
    prompt=prompt,
    score=score,
    source=Source(path="MathArena/aime_2025", split="train"),
    repeats=32,
    read=read,
)
