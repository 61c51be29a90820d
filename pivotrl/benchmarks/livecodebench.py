"""LiveCodeBench: a function from its description; solved if all its tests pass.

Prompt as in NeMo-Gym (the two formatting messages are LiveCodeBench's own). Answers run in
`interpreter`, a bounded reader of a small subset of Python: it serves the miniature, and answers
`unsupported`, that is not solved, beyond. This module must never run model output as Python.
"""

from __future__ import annotations

from pivotrl.benchmarks.base import Benchmark, Row, Score, Source, last_code_block
from pivotrl.benchmarks.interpreter import function_tests, passes
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


def prompt(row: Row) -> tuple[Message, ...]:
    starter = row.get("starter_code")
    formatting = WITH_STARTER_CODE if starter else WITHOUT_STARTER_CODE
    text = (
        f"{row['question_content']}\n\n{formatting}\n"
        f"```python\n{starter or '# YOUR CODE HERE'}\n```"
    )
    return (Message(role=Role.SYSTEM, content=SYSTEM), Message(role=Role.USER, content=text))


def score(row: Row, output: str) -> Score:
    tests = function_tests("livecodebench", row)
    code = last_code_block(output)
    if code is None:
        return Score(value=0.0, extracted=None)
    return Score(value=float(passes(code, tests)), extracted=code)


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
)
