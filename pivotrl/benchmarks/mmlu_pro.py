"""MMLU-Pro: multiple choice with up to ten options, zero-shot, "Answer: X" on the last line.

Prompt as in NeMo-Gym. An unparsed output is wrong (the official script guesses at random there).
This module must never know languages other than English, that is `mmlu_prox`.
"""

from __future__ import annotations

import re

from pivotrl.benchmarks.base import Benchmark, Row, Score, Source, user_prompt
from pivotrl.types import Message

LETTERS = "ABCDEFGHIJ"
INSTRUCTION = (
    "Answer the following multiple choice question. The last line of your response should be in "
    "the following format: 'Answer: A/B/C/D/E/F/G/H/I/J' (e.g. 'Answer: A')."
)

_ANSWER_LINE = re.compile(
    r"(?i:answer)[*_` ]{0,4}:(?:"
    r"[*_` ]{0,4}\(?([A-J])\b(?!/|'m| am\b)"
    # small, or on a line of its own, only where the line ends with it: "Answer: a good question"
    r"|[*_`\s]{0,6}\(?([A-Ja-j])(?=[*_`).]{0,4}[ \t]*$))",
    re.MULTILINE,
)
# The form of the official few-shot prompt, which models fall back to.
_ANSWER_IS = re.compile(r"answer is[*_` ]{0,4}\(?([A-J])\b")


def prompt(row: Row) -> tuple[Message, ...]:
    options = "\n".join(
        f"{letter}) {text}" for letter, text in zip(LETTERS, row["options"], strict=False)
    )
    return user_prompt(f"{INSTRUCTION}\n\n{row['question']}\n\n{options}")


def score(row: Row, output: str) -> Score:
    right = row["answer"]
    lines = ["".join(found).upper() for found in _ANSWER_LINE.findall(output)]
    letters = lines or _ANSWER_IS.findall(output)
    if not letters:
        return Score(value=0.0, extracted=None)
    return Score(value=float(letters[-1] == right), extracted=letters[-1])


BENCHMARK = Benchmark(
    name="mmlu_pro",
    prompt=prompt,
    score=score,
    source=Source(path="TIGER-Lab/MMLU-Pro", split="test"),
    repeats=1,
)
