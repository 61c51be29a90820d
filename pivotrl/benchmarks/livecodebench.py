"""LiveCodeBench: a program from its description; solved if all its tests pass.

Prompt as in NeMo-Gym (the two formatting messages are LiveCodeBench's own), and its window of
contests. Answers to real rows run in the sandbox (`code_runs`). The one branch: those to miniature
rows (`"miniature": true`) are read by `interpreter`, a bounded reader of a small subset of Python
that needs no bubblewrap. This module must never run model output as Python itself.
"""

from __future__ import annotations

from pivotrl.benchmarks.base import Benchmark, Row, Score, Source
from pivotrl.benchmarks.code_runs import last_fence, solves, unit_tests
from pivotrl.benchmarks.interpreter import function_tests, passes
from pivotrl.sandbox import check_python
from pivotrl.types import Message, Role

SYSTEM = "You are a helpful and harmless assistant. You should think step-by-step."
WITH_STARTER_CODE = (
    "You will use the following starter code to write the solution to the problem and enclose "
    "your code within delimiters."
)
WITHOUT_STARTER_CODE = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly "
    "test on the sample inputs). Enclose your code within delimiters as follows. Ensure that when "
    "the python program runs, it reads the inputs, runs the algorithm and writes output to STDOUT."
)
WINDOW = ("2024-08-01", "2025-05-31")
"""First and last day of the contests that count: release v6 from August 2024 on, 454 problems."""


def read(row: Row) -> Row | None:
    """A row of LiveCodeBench, or of NeMo-Gym with its prompt made; None outside `WINDOW`."""
    day = str(row.get("contest_date") or WINDOW[0])[:10]
    if not WINDOW[0] <= day <= WINDOW[1]:
        return None
    metadata = row.get("verifier_metadata")
    return {**row, "unit_tests": metadata["unit_tests"]} if metadata else row


def prompt(row: Row) -> tuple[Message, ...]:
    if "question_content" not in row:
        made = row["responses_create_params"]["input"]
        return tuple(Message(role=Role(m["role"]), content=m["content"]) for m in made)
    starter = row.get("starter_code")
    formatting = WITH_STARTER_CODE if starter else WITHOUT_STARTER_CODE
    text = (
        f"{row['question_content']}\n\n{formatting}\n"
        f"```python\n{starter or '# YOUR CODE HERE'}\n```"
    )
    return (Message(role=Role.SYSTEM, content=SYSTEM), Message(role=Role.USER, content=text))


def score(row: Row, output: str) -> Score:
    code = last_fence(output)
    if row.get("miniature"):
        tests = function_tests("livecodebench", row)
        solved = code is not None and passes(code, tests)
    else:
        published = unit_tests(row)
        check_python()
        solved = code is not None and solves(code, published)
    return Score(value=float(solved), extracted=code)


BENCHMARK = Benchmark(
    name="livecodebench",
    prompt=prompt,
    score=score,
    source=Source(
        path="livecodebench/code_generation_lite",
        split="test",
        configs=("release_v6",),
        revision="refs/pr/7",
    ),
    repeats=3,
    read=read,
)
