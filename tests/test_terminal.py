"""The shell verifier: hostile lines, bounds (labelled cases are in `test_cases`)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.types import Action, Candidate, Message, Role, ToolCall, Trajectory, VerdictStatus
from pivotrl.verifiers.file_steps import by_form, is_read
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


@pytest.mark.parametrize(
    "look",
    [
        *("ls -l", "cat f", "git status -s", "ps aux | grep x", "df -h", "docker ps -a"),
        *("systemctl status nginx | head -5", "sudo cat /etc/x", "ps -p 1 || echo gone"),
        *("head -n 1 f | cat -A", "grep -rn x .", "ls; id deploy", "test -f x && echo ok"),
    ],
)
def test_an_act_may_look_at_what_it_did(look: str) -> None:
    action = Action(tool_calls=(call(f"rm a.txt && {look}"),))
    assert VERIFIER.verify(candidate("rm a.txt"), action).reward == 1.0
    alone = Action(tool_calls=(call(look),))
    assert VERIFIER.verify(candidate("rm a.txt"), alone).reward == 0.0
    assert VERIFIER.verify(candidate(f"rm a.txt && {look}"), action).reward == 1.0


@pytest.mark.parametrize(
    "more",
    [
        *("echo x > b", "echo x >| b", "ls >& b", "ls &>> b", "ls 2> b", "ls <> b", "cd /tmp; ls"),
        *("diff <(rm b) c", "cat < <(rm b)", 'cat <<< "$(rm b)"', "head -n $(rm b) c", "ls `rm b`"),
        *("X=$(rm b) ls", "echo ${X:=5}", "PATH=/evil:$PATH ls", "LD_PRELOAD=./evil.so ls"),
        *("echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT", "cat <<< COMPLETE_TASK_AND_SUBMIT_FINAL"),
        *("sort -o b b", "sort --compress-program=rm x", "uniq in out", "diff --output=x a b"),
        *("git log --output=b", "git diff --ext-diff", "git grep -O'rm' x", "git branch -D x"),
        *("git -c core.pager='rm -rf /' log", "git -c core.fsmonitor='rm x' status"),
        *(
            "journalctl --vacuum-size=1M",
            "journalctl --rotate",
            "ss -K dst 1.2.3.4",
            "rg --pre ./e x",
        ),
        *("find . -delete", "find . -exec rm {} +", "find / $D", "find / $'-delete'", "xargs rm"),
        *("tail -f x", "journalctl -f", "docker logs -f c", "kubectl get pods -w", "netstat -c"),
        *("sleep infinity", "cat", "grep x", "cat /dev/zero", "./evil --version", "hostname x"),
        *(
            "echo . | xargs find . -delete",
            "ls | xargs uniq",
            "xargs ls",
            "sudo sudo find . -delete",
        ),
        *(
            "git grep --open-files-in-pager=rm x",
            "sort $'-ob' x",
            "find . '-del''ete'",
            "crontab l",
        ),
        *(
            "sort -r",
            "jq -r .",
            "cat -",
            "grep x -",
            "cmp f",
            "tail --fol x",
            "lsof +r",
            "less +F f",
        ),
        *("cd; ls", "ls || cd /tmp; ls", "X=1 cd /tmp; ls", "'cd' /tmp; ls", "c\\d /tmp; ls"),
        *("! cd /tmp; ls", "echo ${x[0]:=5}", "echo -e 'COMPLETE\\x5fTASK'", "uniq *.txt", "ls &"),
    ],
)
def test_what_changes_something_or_never_ends_is_no_look(more: str) -> None:
    action = Action(tool_calls=(call(f"rm a.txt && {more}"),))
    assert VERIFIER.verify(candidate("rm a.txt"), action).reward == 0.0


@pytest.mark.parametrize(
    ("wanted", "made", "reward"),
    [
        ("systemctl restart nginx", "sudo systemctl restart nginx", 1.0),
        ("sudo systemctl restart nginx", "systemctl restart nginx", 0.0),
        ("cat /root/x", "cat ~/x", 1.0),
        ("grep -rn '/root' src", "grep -rn ~ src", 0.0),
        ("echo x > /etc/motd", "echo x | sudo tee /etc/motd", 1.0),
        ("make install", "sudo make install", 0.0),
        ("doas cat /root/x", "cat /root/x", 0.0),
        ("podman exec c cat /root/x", "sudo podman exec c cat /root/x", 0.0),
        ("ls -ld /root; rm /root/x", "ls -ld /root; rm ~/x", 1.0),
        ("ls -ld /root; rm ~/x", "ls -ld /root; rm /root/x", 0.0),
        ("useradd -D", "sudo useradd -D", 0.0),
    ],
)
def test_who_does_what_only_root_can_is_root(wanted: str, made: str, reward: float) -> None:
    verdict = VERIFIER.verify(candidate(wanted), Action(tool_calls=(call(made),)))
    assert verdict.reward == reward


def test_an_act_that_failed_for_want_of_rights_makes_nobody_root() -> None:
    messages = (
        Message(role=Role.USER, content="Nobody can be logged in as root."),
        Message(role=Role.ASSISTANT, tool_calls=(call("apt-get install -y nginx"),)),
        Message(role=Role.TOOL, content="Permission denied. Are you root?"),
        Message(role=Role.ASSISTANT, tool_calls=(call("sudo apt-get install -y nginx"),)),
    )
    of = Candidate(id="c", trajectory=Trajectory(id="t", messages=messages), turn=3)
    again = Action(tool_calls=(call("apt-get install -y nginx"),))
    assert VERIFIER.verify(of, again).reward == 0.0


@pytest.mark.parametrize(
    ("other", "reward"),
    [
        ("Resolve the login bug.", 0.0),
        ("fix the login bug", 1.0),
        ("Fixed a login bug", 1.0),
        ("Fix the login bug [skip ci]", 0.0),
        ("fixup! Fix the login bug", 0.0),
        ("Fix the logout bug", 0.0),
        ("fix: the login bug", 0.0),
        ("Fix the $login bug", 0.0),
        ("Fix the login bug, #12", 0.0),
        ("Do not fix the login bug", 0.0),
    ],
)
def test_a_commit_may_be_described_in_the_same_words_in_another_form(
    other: str, reward: float
) -> None:
    of = candidate("git commit -m 'Fix the login bug'")
    action = Action(tool_calls=(call(f"git commit -m '{other}'"),))
    assert VERIFIER.verify(of, action).reward == reward


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


@pytest.mark.parametrize(
    ("line", "reads"),
    [
        *(
            (line, True)
            for line in ("grep x src/text.py", "git diff", "ls output", "find . -name ext")
        ),
        *((line, False) for line in ("git log --output=b", "git diff --ext-diff", "echo `rm x`")),
        *((line, False) for line in ("find . -delete", "git grep -O'rm' x", "grep x f > g")),
    ],
)
def test_a_coding_agents_read_only_shows(line: str, reads: bool) -> None:
    assert is_read(by_form(normal_form(line), line)) == reads


@pytest.mark.timeout(20)
@pytest.mark.parametrize("line", ["echo 'a${x'y", "echo a'b${x'c", "sed 's/${a'/b/ f; echo }"])
def test_an_open_brace_in_a_word_that_is_quoted_in_part_ends(line: str) -> None:
    assert VERIFIER.verify(candidate("ls"), Action(tool_calls=(call(line),))).reward == 0.0
    assert VERIFIER.verify(candidate(line), Action(tool_calls=(call(line),))).reward == 1.0


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
