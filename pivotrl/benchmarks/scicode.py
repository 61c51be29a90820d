"""SciCode: the next step of a scientific program, given the steps before it.

A row is one sub-step, and the score is sub-step accuracy, the headline of NVIDIA's form. The
prompt is SciCode's multi-step template (Apache-2.0); miniature rows keep its sections and shorten
the sentences under them, since a context of a few hundred tokens has no room for the guidelines.
Earlier steps show their reference code. This module must never run model output as Python.
"""

from __future__ import annotations

from pivotrl.benchmarks.base import Benchmark, Row, Score, Source, last_code_block, user_prompt
from pivotrl.benchmarks.interpreter import function_tests, passes
from pivotrl.types import Message

TEMPLATE = """PROBLEM DESCRIPTION:
You will be provided with problem steps along with background knowledge necessary for solving the \
problem. Your task will be to develop a Python solution focused on the next step of the \
problem-solving process.

PROBLEM STEPS AND FUNCTION CODE:
Here, you'll find the Python code for the initial steps of the problem-solving process. This code \
is integral to building the solution.

{previous}

NEXT STEP - PROBLEM STEP AND FUNCTION HEADER:
This part will describe the next step in the problem-solving process. A function header will be \
provided, and your task is to develop the Python code for this next step based on the provided \
description and function header.

{next}

DEPENDENCIES:
Use only the following dependencies in your solution. Do not include these dependencies at the \
beginning of your code.

{dependencies}

RESPONSE GUIDELINES:
Now, based on the instructions and information provided above, write the complete and executable \
Python program for the next step in a single block.
Your response should focus exclusively on implementing the solution for the next step, adhering \
closely to the specified function header and the context provided by the initial steps.
Your response should NOT include the dependencies and functions of all previous steps. If your \
next step function calls functions from previous steps, please make sure it uses the headers \
provided without modification.
DO NOT generate EXAMPLE USAGE OR TEST CODE in your response. Please make sure your response python \
code in format of ```python```."""

MINIATURE_TEMPLATE = """PROBLEM STEPS AND FUNCTION CODE:

{previous}

NEXT STEP - PROBLEM STEP AND FUNCTION HEADER:

{next}

RESPONSE GUIDELINES:
Write the Python program for the next step in format of ```python```."""


def prompt(row: Row) -> tuple[Message, ...]:
    previous = "\n\n".join(
        f"{step['description']}\n\n{step['code']}\n\n-------" for step in row["previous_steps"]
    )
    following = f"{row['step_description_prompt']}\n\n{row['function_header']}"
    template = MINIATURE_TEMPLATE if row.get("miniature") else TEMPLATE
    return user_prompt(
        template.format(
            previous=previous, next=following, dependencies=row.get("required_dependencies", "")
        )
    )


def score(row: Row, output: str) -> Score:
    tests = function_tests("scicode", row)
    code = last_code_block(output)
    if code is None:
        return Score(value=0.0, extracted=None)
    earlier = "\n\n".join(step["code"] for step in row["previous_steps"])
    return Score(value=float(passes(f"{earlier}\n\n{code}", tests)), extracted=code)


BENCHMARK = Benchmark(
    name="scicode",
    prompt=prompt,
    score=score,
    source=Source(path="SciCode1/SciCode", split="test", license="Apache-2.0"),
    repeats=8,
)
