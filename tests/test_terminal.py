"""The shell verifier: hostile lines, bounds (labelled cases are in `test_cases`)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.types import Action, Candidate, Message, Role, ToolCall, Trajectory, VerdictStatus
from pivotrl.verifiers.shell_flags import Spec, spec_of, tables
from pivotrl.verifiers.shell_forms import MAX_CHARACTERS, Unreadable, normal_form
from pivotrl.verifiers.shell_keys import normal_keys, reader_of
from pivotrl.verifiers.shell_runs import shell_of
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


def test_the_tables_of_flags_can_be_read() -> None:
    keys = tables()["defaults"].keys() | {"like"}
    for name, section in tables().items():
        if name != "names":
            assert section.keys() <= keys, name
            assert isinstance(spec_of(name), Spec)
    for first, full in tables()["names"].items():
        assert full.split() and full != first


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ls ~/a", "ls /root/a"),
        ("sudo -n ls", "sudo ls"),
        ("sudo ls", "ls"),
        ("cat $HOME/a", "cat ${HOME}/a"),
        ("touch a{1..3}", "touch a1 a2 a3"),
        ("make 2>&1 > log", "make > log"),
    ],
)
def test_what_a_prompt_of_root_tells(one: str, other: str) -> None:
    alike = normal_form(one, "/app", "/root") == normal_form(other, "/app", "/root")
    assert alike == ("-n" not in one)
    assert normal_form("sudo ls", "/app", "/home/a") != normal_form("ls", "/app", "/home/a")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('echo "a\\nb"', 'echo "anb"'),
        ("rm '*.a'", "rm *.a"),
        ("cd a; for f in *; do echo $f; done", "cd b; for f in *; do echo $f; done"),
        ("make > log 2>&1", "make 2>&1 > log"),
        ("ls '~/a'", "ls ~/a"),
        ("cp a{,b} c", "cp 'a{,b}' c"),
        ("(export A=1) && make", "export A=1 && make"),
        ("bash -c 'umask 77'", "umask 77"),
        ("sudo tee a <<E >/dev/null\nx\nE", "sudo cat <<E > a\nx\nE"),
    ],
)
def test_what_the_shell_reads_in_another_way_differs(one: str, other: str) -> None:
    for home in ("/root", "/home/a"):
        alike = normal_form(one, "/app", home) == normal_form(other, "/app", home)
        assert not alike or (home == "/root" and one.startswith("sudo"))


@pytest.mark.parametrize(
    "line",
    [
        "echo " + "{a,b}" * 200,
        "echo {0..9999}{0..9999}",
        "awk '" + '"' * 1_999 + "' f",
        "sed 's/" + "\\/" * 900 + "' f",
        "python -c '" + "-" * 1_900 + "1'",
        "sqlite3 a.db '" + '"' * 1_999 + "'",
        "if a; then " * 15 + "b; " + "fi; " * 15,
        "for i in {1..12}; do " + "echo $i; " * 25 + "done",
        'for i in {1..12}; do bash -c "for j in 1 2 3; do echo $i; done"; done',
        "ssh a " * 40 + "ls",
        "xargs " * 100 + "rm",
        "kill " + "$(pgrep a) " * 50,
        "find . " + "-name a -o " * 90 + "-name b",
        "sed '" + "/a/,/b/" * 400 + "d'",
        "awk '{if(a)" + "{" * 18 + "}'",
        "git add -u && " * 55 + "git commit -m x",
    ],
)
@pytest.mark.usefixtures("uncollected")
def test_small_programs_and_braces_are_bounded(line: str) -> None:
    start = time.process_time()
    normal_form(line, "/app", "/root")
    assert time.process_time() - start < 0.25


@pytest.mark.parametrize(
    ("screen", "reader"),
    [
        ("a.py\nroot@box:/app# ", ""),
        ("app=# ", "sql"),
        ("sqlite> ", "sql"),
        (">>> ", "python"),
        ("Go on? [Y/n] ", "question"),
        ("PORT=1\n~\n~\n", "program"),
        ("x\n-- INSERT --", "insert"),
        ("line\n:", "program"),
        ("", ""),
    ],
)
def test_what_reads_the_keys_is_told_by_the_screen(screen: str, reader: str) -> None:
    assert reader_of([Message(role=Role.TOOL, content=screen)]) == reader


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["", "sql", "python", "question", "program"]))
def test_any_keys_have_a_spelling(keys: str, reader: str) -> None:
    assert isinstance(normal_keys(keys, reader), str)


def test_sudo_alone_runs_no_shell() -> None:
    assert shell_of(["sudo"], True) is None
    assert shell_of(["sudo", "bash", "-c", "ls"], True) == ("sudo", 3, False)


@pytest.mark.parametrize("unit", ["-", "not ", "1+", "a."])
def test_python_keys_that_are_nested_too_deeply_stay_as_they_are(unit: str) -> None:
    keys = unit * (1_900 // len(unit)) + "x"
    assert normal_keys(keys, "python") == keys
