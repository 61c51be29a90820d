"""SciCode: the next step of a scientific program, given the steps before it.

An item is one sub-step, and the score is sub-step accuracy, the headline of NVIDIA's form: prompt
with the scientists' background, the model's own code of the steps before, 30 s. The prompt is
SciCode's multi-step template (Apache-2.0); miniature rows keep its sections and shorten the
sentences under them, since a context of a few hundred tokens has no room for the guidelines.

A row is one problem as its publishers write it. Its answers are `targets` in each sub-step (JSON,
one a test case), or SciCode's `test_data.h5` in the row's `folder`. Three steps are given, not
asked for: their code is `prefilled_steps_code` in the row (step -> code), or `<step>.txt` in
`folder`, as in SciCode's own eval/data. The one branch: miniature rows (`"miniature": true`) are
one step, show reference code of the earlier ones and run in `interpreter`, without bubblewrap. This
module must never run model output as Python itself, nor let it share a process with an answer.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pivotrl.benchmarks import scicode_values
from pivotrl.benchmarks.base import Benchmark, Row, Score, Source, user_prompt
from pivotrl.benchmarks.interpreter import function_tests, passes
from pivotrl.benchmarks.scicode_halves import TARGET, TELL, VALUES, Halves, halves
from pivotrl.benchmarks.scicode_targets import FILE, check_targets, read_targets
from pivotrl.sandbox import Exit, Limits, check_python, run_python, run_tests
from pivotrl.types import JSON, Message, PivotRLError

LIMITS = Limits(seconds=30.0, memory=2**32, output=2**26)
"""30 s for all tests of a step, as in NeMo-Gym; the values that a program tells are its output."""
GIVEN_STEPS = frozenset({"13.6", "62.1", "76.3"})
SIMPS = """
import scipy.integrate
if not hasattr(scipy.integrate, "simps"):
    scipy.integrate.simps = lambda y, x=None, dx=1.0, axis=-1: scipy.integrate.simpson(
        y, x=x, dx=dx, axis=axis
    )
"""
"""SciCode was written for SciPy below 1.14, which has it."""
_IMPORT_LINE = re.compile(
    r"^[^\S\n]*+(?:import .*|from .*(?:(?<=from )|(?<=\S))\s++import\s+.*)", re.MULTILINE
)
"""NVIDIA's pattern without the blank lines before, which make it quadratic."""

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


def steps(row: Row) -> tuple[Row, ...]:
    """The problem's steps that are asked for. Raises `PivotRLError` if one cannot be judged."""
    if "sub_steps" not in row:
        return (row,)
    items = tuple(
        {**row, "id": str(step["step_number"]), "step": n}
        for n, step in enumerate(row["sub_steps"])
        if str(step["step_number"]) not in GIVEN_STEPS
    )
    for item in items:
        _code_before(item)
        _halves(item)
        _check_answers(item)
    return items


def prompt(row: Row) -> tuple[Message, ...]:
    if row.get("miniature"):
        previous = "\n\n".join(
            f"{step['description']}\n\n{step['code']}\n\n-------" for step in row["previous_steps"]
        )
        following = f"{row['step_description_prompt']}\n\n{row['function_header']}"
        return user_prompt(MINIATURE_TEMPLATE.format(previous=previous, next=following))
    *before, step = row["sub_steps"][: row["step"] + 1]
    codes = _code_before(row)
    return user_prompt(
        TEMPLATE.format(
            previous="\n\n------\n\n".join(
                f"{_described(earlier)}\n\n{code}"
                for earlier, code in zip(before, codes, strict=True)
            ),
            next=f"{_described(step)}\n\n{step['function_header']}\n\n{step['return_line']}",
            dependencies=row["required_dependencies"],
        )
    )


def score(row: Row, output: str) -> Score:
    code = extract(output)
    if row.get("miniature"):
        tests = function_tests("scicode", row)
        earlier = "\n\n".join(step["code"] for step in row["previous_steps"])
        solved = passes(f"{earlier}\n\n{code}", tests)
    elif "step" in row:
        check_python("numpy", "scipy")
        _check_imports(row["required_dependencies"])
        _check_answers(row)
        program = "\n".join([row["required_dependencies"], *_code_before(row), code])
        solved = bool(code.strip()) and _solves(row, program)
    else:
        raise PivotRLError(
            f"scicode item {row.get('id')}: no `unit_tests` of a miniature row and no `sub_steps`; "
            "use rows that carry them"
        )
    return Score(value=float(solved), extracted=code if code.strip() else None)


def extract(output: str) -> str:
    """The first block of Python, else the first block, else all of it; without its imports."""
    for fence in ("```python", "```"):
        if fence in output:
            output = output.split(fence, 2)[1].split("```")[0]
            break
    return _without_imports(output)


def _without_imports(code: str) -> str:
    """Without import lines, and the blank ones before each."""
    kept, at = [], 0
    for line in _IMPORT_LINE.finditer(code):
        head = code[at : line.start()]
        said = head.rstrip()
        end = head.find("\n", len(said))
        kept.append(head[: 0 if at == 0 and not said else end + 1 if end >= 0 else len(head)])
        at = line.end()
    return "".join([*kept, code[at:]])


def _described(step: Mapping[str, JSON]) -> str:
    return f"{step['step_description_prompt']}\n{step['step_background']}"


def _code_before(row: Row) -> list[str]:
    """Of each step before this one: the model's own, or what is given. While `earlier_outputs`
    are not known yet, there is nothing of the model's."""
    outputs = iter(row.get("earlier_outputs") or [])
    return [
        _given(row, number) if number in GIVEN_STEPS else extract(next(outputs, ""))
        for number in (str(step["step_number"]) for step in row["sub_steps"][: row["step"]])
    ]


def _given(row: Row, number: str) -> str:
    given = row.get("prefilled_steps_code") or {}
    if number in given:
        return str(given[number])
    try:
        return Path(row["folder"], f"{number}.txt").read_text("utf-8")
    except (KeyError, OSError):
        raise PivotRLError(
            f"scicode item {row['id']}: the code of step {number} is given, and is not here; put "
            f"SciCode's eval/data/{number}.txt beside the rows, or `prefilled_steps_code` into them"
        ) from None


def _halves(row: Row) -> list[Halves]:
    functions = tuple(
        re.findall(
            r"^(?:def|class)\s+(\w+)",
            "\n".join(step["function_header"] for step in row["sub_steps"]),
            re.MULTILINE,
        )
    )
    found = []
    for number, test in enumerate(_step(row)["test_cases"], start=1):
        try:
            found.append(halves(test, row["required_dependencies"], functions))
        except ValueError as error:
            raise PivotRLError(
                f"scicode item {row['id']}: test {number} cannot be judged apart from the program "
                f"({error}); mend or drop the row"
            ) from None
    return found


def _step(row: Row) -> Mapping[str, JSON]:
    step: Mapping[str, JSON] = row["sub_steps"][row["step"]]
    return step


def _check_answers(row: Row) -> None:
    step, file = _step(row), Path(row.get("folder", "."), FILE)
    targets = step.get("targets")
    if targets is not None:
        if len(targets) != len(step["test_cases"]):
            raise PivotRLError(
                f"scicode item {row['id']}: {len(targets)} `targets` for "
                f"{len(step['test_cases'])} `test_cases`; give one each"
            )
    elif "folder" in row and file.is_file():
        check_targets(file, row["id"], len(step["test_cases"]))
    else:
        raise PivotRLError(
            f"scicode item {row['id']}: no `targets` in its sub-steps, and no {FILE} beside the "
            "rows; fetch SciCode's"
        )


def _solves(row: Row, program: str) -> bool:
    targets = _step(row).get("targets")
    if targets is None:
        targets = read_targets(Path(row["folder"], FILE), row["id"], len(_step(row)["test_cases"]))
    values = told_values(row, program)
    return values is not None and _judged(row, values, targets)


def told_values(row: Row, program: str) -> list[JSON] | None:
    """What the program's half of each test tells (as `scicode_values.told` says it); all in one
    process, without the answers. None if it fails."""
    source = inspect.getsource(scicode_values)
    after = [f"_apart = {{}}\nexec({source!r}, _apart)\n_values = []"]
    for part in _halves(row):
        after += [f"_values.append([])\n{TELL} = lambda v: _values[-1].append(_apart['told'](v))"]
        after += [part.program]
    after += ["import json as _json\ngive(_json.dumps(_values))"]
    (run,) = run_tests(program, [""], LIMITS, _before(program), "\n".join(after))
    try:
        values = json.loads(run.stdout) if run.exit is Exit.OK else None
    except (ValueError, RecursionError):
        return None
    is_whole = isinstance(values, list) and len(values) == len(_step(row)["test_cases"])
    return values if is_whole else None


def _judged(row: Row, values: list[JSON], targets: list[JSON]) -> bool:
    """The judge's half of every test, in a process without the program."""
    dependencies = row["required_dependencies"]
    judge = [inspect.getsource(scicode_values), "np.allclose = close", _before(dependencies)]
    judge += [dependencies, "import json, sys\n_pairs = iter(json.load(sys.stdin))"]
    for part in _halves(row):
        judge += [f"{VALUES}, {TARGET} = map(untold, next(_pairs))", part.judge]
    pairs = json.dumps(list(zip(values, targets, strict=True)))
    return run_python("\n".join(judge), pairs, LIMITS).exit is Exit.OK


@lru_cache(maxsize=256)
def _check_imports(dependencies: str) -> None:
    """Raises `PivotRLError` if what every solution imports is not here: that is no wrong answer."""
    program = "\n".join([_before(dependencies), dependencies])
    if run_python(program, limits=LIMITS).exit is not Exit.OK:
        raise PivotRLError(
            f"scicode: these imports fail in the sandbox: {' '.join(dependencies.split())}; "
            "install what is missing"
        )


def _before(program: str) -> str:
    return SIMPS if "simps" in program else ""


BENCHMARK = Benchmark(
    name="scicode",
    prompt=prompt,
    score=score,
    source=Source(path="SciCode1/SciCode", split="test"),
    repeats=8,
    steps=steps,
    beside=(FILE, "*.txt"),
    cluster=lambda item_id: item_id.partition(".")[0],  # a problem, each step upon the last
)
