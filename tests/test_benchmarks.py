"""Prompts and scorers of the eight benchmarks, on hand-made rows, real rows and the miniature's."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from needs import REAL_ROWS, needs_real_rows

from pivotrl.benchmarks import BENCHMARKS, Row, boxed_answers, mmlu_prox
from pivotrl.benchmarks.interpreter import passes
from pivotrl.benchmarks.rows import load_rows
from pivotrl.mini.skills import LEVELS, conversation, generate, reference_answer
from pivotrl.types import PivotRLError, Role


def rows_of(path: str) -> list[dict]:
    return [json.loads(line) for line in (REAL_ROWS / path).read_text().splitlines()]


def score(name: str, row: Row, output: str) -> float:
    return BENCHMARKS[name].score(row, output).value


def user_text(name: str, row: Row) -> str:
    return BENCHMARKS[name].prompt(row)[-1].content


# -- the miniature's items ------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEVELS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_reference_answer_scores_one(name: str, split: str) -> None:
    for row in generate(name, 200, 3, split):
        assert row["miniature"] is True
        assert score(name, row, reference_answer(row)) == pytest.approx(1.0), row


@pytest.mark.parametrize("name", LEVELS)
def test_splits_are_disjoint_and_test_items_distinct(name: str) -> None:
    test = [(m := conversation(name, row))[-2].content for row in generate(name, 500, 0, "test")]
    train = {conversation(name, row)[-2].content for row in generate(name, 1500, 0, "train")}
    assert m[-1].role is Role.ASSISTANT
    assert len(set(test)) == 500
    assert not train & set(test)
    assert generate(name, 20, 5, "test") == generate(name, 20, 5, "test")
    assert generate(name, 20, 5, "test") != generate(name, 20, 6, "test")


@pytest.mark.parametrize("name", LEVELS)
def test_the_answer_to_another_item_seldom_scores(name: str) -> None:
    rows = generate(name, 100, 1, "test")
    shifted = [
        score(name, row, reference_answer(other))
        for row, other in zip(rows, rows[1:] + rows[:1], strict=True)
    ]
    limit = {"ifbench": 0.35, "wmt24pp": 0.5}.get(name, 0.3)
    assert sum(shifted) / len(shifted) < limit


def test_the_command_writes_items_that_load(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pivotrl.mini.write", "--out", str(tmp_path)]
    command += ["--items", "5", "--demonstrations", "2"]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[1])
    for name in LEVELS:
        assert load_rows(BENCHMARKS[name], tmp_path / "benchmarks" / f"{name}.jsonl") == generate(
            name, 5, 0, "test"
        )


@pytest.mark.parametrize("name", LEVELS)
@settings(max_examples=40, deadline=None)
@given(output=st.text(max_size=200))
@example(output="\\boxed{" * 50)
@example(output="```python\n" + "(" * 3000 + "\n```")
def test_no_output_makes_a_scorer_raise(name: str, output: str) -> None:
    row = _ROWS[name]
    for text in (output, f"\\boxed{{{output}}}", f"```python\n{output}\n```"):
        if name in ("aime25", "math500") and "{" in text and len(output) > 3:
            continue  # these go to the worker, which its own tests try
        result = BENCHMARKS[name].score(row, text)
        assert 0.0 <= result.value <= 1.0


_ROWS = {name: generate(name, 1, 0, "test")[0] for name in LEVELS}


# -- prompts and answers by hand ------------------------------------------------------------------


def test_prompts_have_nvidias_words() -> None:
    row = {"question": "Q?", "options": ["x", "y"], "answer": "B", "language": "de"}
    assert user_text("mmlu_pro", row) == (
        "Answer the following multiple choice question. The last line of your response should be "
        "in the following format: 'Answer: A/B/C/D/E/F/G/H/I/J' (e.g. 'Answer: A').\n\n"
        "Q?\n\nA) x\nB) y"
    )
    prox = user_text("mmlu_prox", row | {"category": "computer science"})
    assert prox.startswith("Im Folgenden sind Multiple-Choice-Fragen (mit Antworten) zu Informatik")
    assert '"Die Antwort ist (X)"' in prox
    assert prox.endswith("Frage:\nQ?\nOptionen:\nA. x\nB. y\n")
    for name in ("aime25", "math500"):
        assert user_text(name, {"problem": "P"}) == (
            "Solve the following math problem. Make sure to put the answer (and only answer) "
            "inside \\boxed{}.\n\nP"
        )
    assert user_text("wmt24pp", {"text": "T", "target_language": "es_MX"}) == (
        "Translate the following segment into Spanish (Mexico), without additional explanation."
        "\n\nT"
    )
    system, user = BENCHMARKS["livecodebench"].prompt(
        {"question_content": "Q", "starter_code": "def f(a):"}
    )
    assert system.role is Role.SYSTEM
    assert user.content.endswith("within delimiters.\n```python\ndef f(a):\n```")


@pytest.mark.parametrize(
    ("output", "extracted"),
    [
        ("Answer: B", "B"),
        ("Answer: A\nno, wait\n**Answer: B**", "B"),
        ("**Answer:** (B)", "B"),
        ("the answer is (B).", "B"),
        ("Answer:\nB", "B"),
        ("**Answer:**\n\nB", "B"),
        ("ANSWER: B", "B"),
        ("Answer: b", "B"),
        ("Answer: **b**.\n", "B"),
        ("Answer: b is near, but I take\nAnswer: C", "C"),
        ("Answer: a good question", None),
        ("Final answer:\n\nI think option (C)", None),
        ("Answer:\nA careful look at it", None),
        ("Answer: Bananas", None),
        ("in the format 'Answer: A/B/C/D'", None),
        ("Answer: I am not sure", None),
        ("B", None),
        ("", None),
    ],
)
def test_multiple_choice_takes_the_last_answer(output: str, extracted: str | None) -> None:
    result = BENCHMARKS["mmlu_pro"].score({"answer": "B"}, output)
    assert (result.extracted, result.value) == (extracted, float(extracted == "B"))


@pytest.mark.parametrize("code", mmlu_prox.LANGUAGES)
def test_each_language_closes_in_its_own_words(code: str) -> None:
    closing = mmlu_prox.LANGUAGES[code].answer.format("C")
    row = {"language": code, "answer": "C"}
    assert score("mmlu_prox", row, f"... {closing.replace('C', 'A')} ... {closing}") == 1.0
    assert BENCHMARKS["mmlu_prox"].score(row, "C").extracted is None
    assert score("mmlu_prox", row, f"so {closing[0].lower()}{closing[1:]}") == 1.0
    assert score("mmlu_prox", row, closing.replace("(C)", "(c)")) == 1.0
    assert BENCHMARKS["mmlu_prox"].score(row, closing.replace("(C)", "clear")).extracted is None
    assert BENCHMARKS["mmlu_prox"].score(row, closing.replace("(C)", "Dése")).extracted is None


@pytest.mark.parametrize(
    ("expected", "output", "value"),
    [
        ("70", "so \\boxed{70}", 1.0),
        ("70", "\\boxed{7} no, \\boxed{070}", 1.0),
        ("70", "\\boxed{70} no, \\boxed{7}", 0.0),
        ("70", "\\boxed{70", 0.0),
        ("70", "70", 0.0),
        ("1000", "\\boxed{1{,}000}", 1.0),
        ("\\frac{1}{2}", "\\boxed{\\frac{1}{2}}", 1.0),
        ("\\frac{1}{2}", "\\boxed{0.5}", 1.0),
        ("\\frac{1}{2}", "\\boxed{0.6}", 0.0),
        ("x+1", "\\boxed{1 + x}", 1.0),
        ("5", "\\boxed{.5}", 0.0),
        ("12", "\\boxed{1,2}", 0.0),
        ("1,2", "\\boxed{12}", 0.0),
        ("12000", "\\boxed{12,000}.", 1.0),
    ],
)
def test_boxed_answers(expected: str, output: str, value: float) -> None:
    assert boxed_answers.score_boxed(expected, output).value == value


def test_a_hanging_comparison_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxed_answers, "_TIMEOUT_SECONDS", 1.0)
    start = time.monotonic()
    assert not boxed_answers.equal("7", "100000000!")
    assert time.monotonic() - start < 30
    assert time.monotonic() - start > 1, "this input did not hang: the test shows nothing"
    assert boxed_answers.equal("\\frac{1}{2}", "\\dfrac{1}{2}")


def test_a_worker_that_died_is_no_wrong_answer() -> None:
    assert boxed_answers.equal("\\frac{1}{2}", "0.5")
    worker = boxed_answers._WORKER._process
    assert worker is not None
    worker.kill()
    worker.wait()
    assert boxed_answers.equal("\\frac{1}{2}", "0.5")


def test_chrf_is_graded() -> None:
    row = {"translation": "Der rote Hund sieht das Haus."}
    near = score("wmt24pp", row, "Der rote Hund sieht die Katze.")
    assert score("wmt24pp", row, "xyz") < 0.1 < near < score("wmt24pp", row, row["translation"])
    assert BENCHMARKS["wmt24pp"].score(row, " \n").extracted is None


def test_rows_that_cannot_be_judged_are_refused() -> None:
    for name in ("livecodebench", "scicode"):
        with pytest.raises(PivotRLError, match="no `unit_tests`"):
            score(name, {"id": "7"}, "")
    with pytest.raises(PivotRLError, match="no name for language 'xx_XX'"):
        user_text("wmt24pp", {"text": "", "target_language": "xx_XX"})


def test_scicode_answers_run_after_the_earlier_steps() -> None:
    row = {
        "miniature": True,
        "previous_steps": [{"description": "d", "code": "def f(x):\n    return x * 2"}],
        "unit_tests": {"fn_name": "g", "inputs": ["3", "-1"], "outputs": ["7", "-1"]},
    }
    good = "```python\ndef g(x):\n    return f(x) + 1\n```"
    assert score("scicode", row, good) == 1.0
    assert score("scicode", row, good.replace("+ 1", "+ 2")) == 0.0
    assert score("scicode", row, "def g(x): return f(x) + 1") == 1.0  # NVIDIA's rule: no fence, all
    assert score("scicode", row, "It is f(x) + 1.") == 0.0
    assert score("livecodebench", row, good) == 0.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("", "no benchmark items"),
        ('{"id": 1}\n{"id"', "row 2: broken JSON"),
        ("[1]", "row 1: not an object"),
        ('{"id": 1}\n{"id": 1}', "row 2: id '1' occurs twice"),
    ],
)
def test_bad_item_files(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "items.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PivotRLError, match=message):
        load_rows(BENCHMARKS["ifbench"], path)


def test_some_items_are_drawn_from_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(f'{{"id": "{k}-{i}"}}\n' for k in ("en", "ja") for i in range(50)))
    found = [row["id"] for row in load_rows(BENCHMARKS["ifbench"], path, 20)]
    assert len(found) == 20 and {item_id[:2] for item_id in found} == {"en", "ja"}
    assert found == [r["id"] for r in load_rows(BENCHMARKS["ifbench"], path) if r["id"] in found]
    fewer = {row["id"] for row in load_rows(BENCHMARKS["ifbench"], path, 10)}
    assert fewer < set(found), "a smaller draw is part of a larger one"


# -- the interpreter ------------------------------------------------------------------------------

ADD = {"fn_name": "f", "inputs": ["[1, 2, 3, 4]"], "outputs": ["6"]}


@pytest.mark.parametrize(
    "body",
    [
        "return sum(v for v in x if v % 2 == 0)",
        "t = 0\n    for v in x:\n        if v % 2 == 0:\n            t += v\n    return t",
        "return len(x) + 2",
        "y = []\n    for i in range(3):\n        y.append(i * 2)\n    return sum(y)",
        "i = 0\n    while True:\n        i += 1\n        if i < 6:\n            continue\n"
        "        break\n    return i",
        "return x[-1] + x[1:][0] if x and not x == [] else 0",
        "return 6 if 1 < max(x) <= 4 and 'a' in 'cat' else g(x)\ndef g(x):\n    return 6",
    ],
)
def test_the_subset_runs(body: str) -> None:
    assert passes(f"def f(x):\n    {body}", ADD)
    assert not passes(f"def f(x):\n    {body}", ADD | {"outputs": ["7"]})
    assert not passes(f"def f(x):\n    {body}", ADD | {"outputs": ["6.0"]})


@pytest.mark.parametrize(
    "source",
    [
        "import os\ndef f(x):\n    return 6",
        "def f(x):\n    return __import__('os').getpid()",
        "def f(x):\n    return x.__class__.__mro__",
        "def f(x):\n    return (lambda: 6)()",
        "def f(x):\n    return eval('6')",
        "def f(x):\n    while True:\n        pass",
        "def f(x):\n    return f(x)",
        "def f(x):\n    return [0] * 10 ** 9",
        "def f(x):\n    return sum(range(10 ** 9))",
        "def f(x):\n    y = 'a'\n    for i in range(99):\n        y = y + y\n    return 6",
        "def f(x):\n    y = 3\n    for i in range(99):\n        y *= y\n    return 6",
        "def f(x):\n    y = [1]\n    for i in range(99):\n        y = [y, y]\n    return y == y",
        "def f(x):\n    y = [1]\n    y.append(y)\n    return 6 if y == y else 0",
        "def f(x):\n    for v in x:\n        x.append(v)\n    return 6",
        "def f(x):\n    return " + "-" * 7000 + "6",
        "def f(x):\n    return " + "(" * 3000 + "6" + ")" * 3000,
        "def f(x):\n    return '%1000000000d' % 6",
        "def f(x=[].append(1)):\n    return 6",
        "@f\ndef f(x):\n    return 6",
        "return 6",
        "def f(x):\n    return 6 // 0",
        "def f(x):\n    return x[99]",
        "def f(x):\n    break",
        "def f(x):\n    return 1 + 1 +\n",
        "\x00",
    ],
)
def test_hostile_programs_fail_quickly(source: str) -> None:
    start = time.process_time()
    assert not passes(source, ADD)
    assert time.process_time() - start < 2


_EXPRESSION = st.recursive(
    st.sampled_from(["x", "y", "0", "3", "'ab'", "[]", "True", "None", "range(9)", "10**99"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%", "<", "in", "and"]), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        inner.map(lambda e: f"sum({e})"),
        inner.map(lambda e: f"list({e})"),
        inner.map(lambda e: f"[{e} for y in {e}]"),
        inner.map(lambda e: f"[{e}, {e}]"),
        st.tuples(inner, inner).map(lambda t: f"{t[0]}[{t[1]}]"),
        inner.map(lambda e: f"f({e})"),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=2000)
@given(expression=_EXPRESSION)
def test_no_program_raises_or_hangs(expression: str) -> None:
    loop = f"    for y in {expression}:\n        x = {expression}\n"
    source = f"def f(x):\n    y = {expression}\n{loop}    return y"
    assert passes(source, ADD) in (True, False)


# -- real rows ------------------------------------------------------------------------------------


@needs_real_rows
def test_mmlu_prox_strings_are_the_harness_own() -> None:
    libs = json.loads((REAL_ROWS / "mmlu_prox/lang_templates.json").read_text())
    for code, language in mmlu_prox.LANGUAGES.items():
        question, options, _, description, _, answer = libs["LANG_LIBS"][code]
        ours = (language.question, language.options, language.description, language.answer)
        assert ours == (question, options, description, answer)
        pairs = dict(pair.split("=") for pair in language.subjects.split())
        assert pairs == libs["LANG_SUBJECTS"][code]


@needs_real_rows
def test_livecodebench_and_scicode_forms() -> None:
    for row in rows_of("livecodebench/lcb_v5_2408_2502_prompts30.jsonl"):
        starter = row["prompt"].rpartition("```python\n")[2].partition("\n```")[0]
        own = {"question_content": "", "starter_code": "" if "YOUR CODE" in starter else starter}
        text = user_text("livecodebench", own).strip()
        assert text.removesuffix("```").strip() in row["prompt"]
    template = (REAL_ROWS / "scicode/multistep_template.txt").read_text()
    prompt = user_text(
        "scicode",
        {
            "step": 0,
            "sub_steps": [
                {
                    "step_description_prompt": "{next}",
                    "step_background": "",
                    "function_header": "",
                    "return_line": "",
                }
            ],
            "required_dependencies": "{dependencies}",
        },
    )
    filled = template.replace("{problem_steps_str}", "").replace("{next_step_str}", "{next}")
    assert prompt.split() == filled.split()
