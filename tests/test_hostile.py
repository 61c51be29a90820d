"""Actions as a hostile policy would write them: each gets a verdict, soon, and nothing raises."""

from __future__ import annotations

import gc
import random
import time
from typing import Any

import hostile
import pytest

from pivotrl.types import (
    Action,
    Candidate,
    Message,
    Role,
    ToolCall,
    Trajectory,
    Verdict,
    VerdictStatus,
)
from pivotrl.verifiers import OWN_DOMAINS, verifier_for
from pivotrl.verifiers.text import MAX_CHARACTERS

MOST_SECONDS = 0.25
"""CPU; five times what `bench/verdicts.py` allows, for machines that do more at the time."""
SMALL = ToolCall(name="bash", arguments={"command": "ls"})


def judged(domain: str, candidate: Candidate, action: Action) -> Verdict:
    mode: Any = "strict" if domain == "strict" else "functional"
    gc.disable()  # what other tests left is no part of a verdict
    start = time.process_time()
    verdict = verifier_for(domain, mode).verify(candidate, action)
    took = time.process_time() - start
    gc.enable()
    assert took < MOST_SECONDS, (took, verdict)
    assert verdict.status is not VerdictStatus.ERROR, verdict.details
    assert (verdict.reward is None) == (verdict.status is not VerdictStatus.OK)
    return verdict


def shown(*calls: ToolCall, text: str = "") -> Candidate:
    messages = (
        Message(role=Role.USER, content="Go on."),
        Message(role=Role.ASSISTANT, content=text, tool_calls=calls),
    )
    trajectory = Trajectory(id="t", messages=messages, tools_declared=False)
    return Candidate(id="c", trajectory=trajectory, turn=1)


@pytest.mark.parametrize("domain", ["tool_use", *OWN_DOMAINS, "strict"])
def test_every_action_gets_a_verdict(domain: str) -> None:
    pool = [case for case in hostile.cases() if domain in (case[0].domain, "strict")]
    pairs = hostile.hostile_pairs(random.Random(0), pool)
    rewards = [judged(domain, *next(pairs)[1:]).reward for _ in range(2000)]
    assert rewards.count(0.0) > 1500 and rewards.count(1.0) > 10


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


SLOW = {  # each once took from 50 ms to minutes
    "lines": call("edit", command="insert", path="a.py", insert_line=1, new_str="\n" * 190_000),
    "lines that hold lines": call("edit", path="a", old_str="a\n" * 90_000, new_str="b\n"),
    "spaces": call("edit", path="a.py", old_str="a", new_str=" " * 190_000),
    "fragments": call("edit", path="a.py", old_str="a", new_str="  (\n if a:\n" * 450),
    "python": call("edit", command="create", path="a.py", file_text="a,\n" * 6_000),
    "commands": call("bash", command="/../\n" * 1_000),
    "pipes": call("bash", command="cat a|" * 130),
    "here-documents": call("bash", command="\\<<E\n" * 4_000),
    "a long word": call("bash", command="a" * 19_000),
    "a letter that is eighteen": call("quote", text="ﷺ" * 20_000),
    "a query of one number": call("search", query="9" * 2_000),
    "a query of one word": call("search", query="a" * 10_000),
    "a host of many parts": call("open_url", url="m." * 5_000),
    "numbers": call("quote", text="9 " * 10_000),
    "a page": call("open_url", url="https://a.b/" + "&ﷺ" * 10_000),
}


@pytest.mark.parametrize("slow", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize("domain", OWN_DOMAINS)
def test_sizes_are_bounded(domain: str, slow: ToolCall) -> None:
    assert judged(domain, shown(SMALL), Action(tool_calls=(slow,))).reward == 0.0
    assert judged(domain, shown(slow), Action(tool_calls=(SMALL,))).reward == 0.0
    key, value = next(a for a in slow.arguments.items() if len(str(a[1])) > 500)
    other = ToolCall(name=slow.name, arguments=slow.arguments | {key: value + "z"})
    assert judged(domain, shown(slow), Action(tool_calls=(other,))).reward == 0.0


def test_what_is_too_long_to_be_read_must_be_the_same() -> None:
    said = "The refund for order 7 is on its way. " * 200
    assert len(said) > 4_000
    for domain in ("tool_use", "browsing"):
        assert judged(domain, shown(text=said), Action(text=said)).reward == 1.0
        other = Action(text=said + "It is not.")
        assert judged(domain, shown(text=said + "It is."), other).reward == 0.0
    for name, key in (("search", "query"), ("quote", "text"), ("open_url", "url")):
        long = "https://a.b/" + "c" * 6_000
        asked, other_end = (call(name, **{key: f"{long}/{n}"}) for n in (1, 2))
        assert judged("browsing", shown(asked), Action(tool_calls=(asked,))).reward == 1.0
        assert judged("browsing", shown(asked), Action(tool_calls=(other_end,))).reward == 0.0


@pytest.mark.parametrize("unit", ["\n", "-\n", ":\n", "answer\n", "answer:\n\n", "*", "A. ", "or "])
@pytest.mark.parametrize("domain", ["tool_use", "browsing"])
def test_texts_of_many_lines_are_read_in_linear_time(domain: str, unit: str) -> None:
    wanted = "The answer is Paris, in 1900. " * 40
    hostile = "Answer " + unit * ((MAX_CHARACTERS - 100) // len(unit))  # all of it is read
    assert judged(domain, shown(text=wanted), Action(text=hostile)).reward == 0.0


@pytest.mark.parametrize("domain", ["tool_use", *OWN_DOMAINS, "strict"])
def test_thousands_of_calls_are_not_read(domain: str) -> None:
    many = tuple(call("bash", command=f"cat {n}") for n in range(20_000))
    assert judged(domain, shown(SMALL), Action(tool_calls=many)).reward == 0.0
    assert judged(domain, shown(*many), Action(tool_calls=many)).reward is None
    two = (SMALL, call("bash", command="pwd"))
    assert judged(domain, shown(*two), Action(tool_calls=many)).reward == 0.0


@pytest.mark.parametrize("script", ["s/rate=T", "s", "s/", "s/a/b/g/p", "s|a/b"])
def test_a_substitution_that_is_none_is_no_error(script: str) -> None:
    given = Action(tool_calls=(call("bash", command=f"sed -i '{script}' /repo/calc.py"),))
    edit = call("str_replace_editor", command="str_replace", path="/repo/calc.py",
                old_str="rate", new_str="share")  # fmt: skip
    assert judged("software", shown(edit), given).reward == 0.0


@pytest.mark.parametrize("unit", ["\nE", "\n \n", ";ls", "|cat ", "\\"])
@pytest.mark.parametrize("domain", ["software", "terminal"])
def test_what_follows_a_here_document_is_bounded_too(domain: str, unit: str) -> None:
    line = call("bash", command="cat > a <<'PY'\nprint(1)\nPY\n" + unit * (18_000 // len(unit)))
    assert judged(domain, shown(SMALL), Action(tool_calls=(line,))).reward == 0.0


def test_odd_values_are_other_values() -> None:
    page = call("open_url", id=3)
    for odd in (10**5000, float("nan"), float("inf"), "²", "\ud800", None, [3], {"id": 3}):
        other = Action(tool_calls=(call("open_url", id=odd),))
        assert judged("browsing", shown(page), other).reward == 0.0
    done = '{"commands": [], "task_complete": true, "keystrokes": ""}'
    assert judged("terminal", shown(text=done), Action(text="Done.")).reward == 0.0
    line = call("bash", command="cat a.py | head -n ² | head -²")
    assert judged("terminal", shown(line), Action(tool_calls=(line,))).reward == 1.0
    short, long, other = (
        call("bash", command=f"cat > a.py <<'E'\nx = {number}\nE")
        for number in ("1", "0x" + "f" * 5_000, "0x" + "f" * 4_999 + "e")  # too long as decimals
    )
    for one, another in ((short, long), (long, short), (long, other)):
        assert judged("terminal", shown(one), Action(tool_calls=(another,))).reward == 0.0


@pytest.mark.parametrize("unit", ["b(1)\n", "(\n", "if a:\n", "elif a:\n b\n", "'''\n", " " * 99])
def test_edits_of_a_file_that_was_shown_are_bounded(unit: str) -> None:
    text = "".join(f"{n}\tx{n} = f({n})\n" for n in range(1, 4_000))
    look = call("view", path="/a.py")
    messages = (
        Message(role=Role.ASSISTANT, tool_calls=(look,)),
        Message(role=Role.TOOL, content=text),
        Message(
            role=Role.ASSISTANT,
            tool_calls=(call("edit", path="/a.py", old_str="x9 =", new_str=unit * 40),),
        ),
    )
    trajectory = Trajectory(id="t", messages=messages, tools_declared=False)
    state = Candidate(id="c", trajectory=trajectory, turn=2)
    for times in (5_900 // len(unit), 190_000 // len(unit)):
        for old in ("x9 =", "x9 = f(9)\nx10", "x", "="):
            edit = call("edit", path="/a.py", old_str=old, new_str=unit * times + "c")
            assert judged("software", state, Action(tool_calls=(edit,))).reward == 0.0
