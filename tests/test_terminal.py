"""The shell verifier: hostile lines, bounds (labelled cases are in `test_cases`)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.types import Action, Candidate, Message, Role, ToolCall, Trajectory, VerdictStatus
from pivotrl.verifiers.shell_forms import MAX_CHARACTERS, Unreadable, normal_form
from pivotrl.verifiers.terminal import TerminalVerifier

VERIFIER = TerminalVerifier()


def call(command: str) -> ToolCall:
    return ToolCall(name="bash", arguments={"command": command})


def candidate(command: str) -> Candidate:
    messages = (
        Message(role=Role.USER, content="Go on."),
        Message(role=Role.ASSISTANT, tool_calls=(call(command),)),
    )
    return Candidate(id="c", trajectory=Trajectory(id="t", messages=messages), turn=1)


PIECES = st.sampled_from(
    [
        *"abc;|&()<>{}$`'\"\\\n -/=!#*?[]",
        "cd ",
        "ls",
        " -la",
        "<<EOF\n",
        "EOF",
        "$(",
        "2>&1",
        "é",
        "\x00",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=40).map("".join), st.lists(PIECES, max_size=40).map("".join))
def test_any_line_is_judged_and_equals_itself(wanted: str, given_: str) -> None:
    of = candidate(wanted)
    verdict = VERIFIER.verify(of, Action(tool_calls=(call(given_),)))
    assert verdict.status in (VerdictStatus.OK, VerdictStatus.UNDECIDED)
    if wanted.strip():
        assert VERIFIER.verify(of, Action(tool_calls=(call(wanted),))).reward == 1.0


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200), st.text(max_size=60))
def test_any_text_is_judged(text: str, name: str) -> None:
    of = candidate("ls")
    assert VERIFIER.verify(of, Action(text=text)).reward == 0.0
    odd = ToolCall(name=name, arguments={"command": text})
    assert VERIFIER.verify(of, Action(tool_calls=(odd,))).status is VerdictStatus.OK


@pytest.mark.parametrize("line", ["x" * (MAX_CHARACTERS + 1), "$(a " * 50, "`" * 100])
def test_what_is_too_long_or_too_deep_is_refused(line: str) -> None:
    with pytest.raises(Unreadable):
        normal_form(line)
    assert VERIFIER.verify(candidate("ls"), Action(tool_calls=(call(line),))).reward == 0.0
    assert VERIFIER.verify(candidate(line), Action(tool_calls=(call(line),))).reward == 1.0
