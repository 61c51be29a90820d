"""The live shell domain: its interpreter is as the real tools; what its jobs ask for."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_domains import after, mixed_turns

from pivotrl.environments.shell import DOMAIN
from pivotrl.environments.shell.expert import bash, expert_actions, submit
from pivotrl.environments.shell.files import MAX_DATA, MAX_FILES, MAX_TREE
from pivotrl.environments.shell.interpreter import PROGRAMS, run
from pivotrl.environments.shell.language import ENDINGS, LEVELS, LOCKED, ORDERS, STORES
from pivotrl.environments.shell.tasks import KINDS
from pivotrl.types import JSON, Action, ToolCall

ENVIRONMENT = DOMAIN.environment
act = partial(after, DOMAIN)

TREE = {
    "README": "locked=db\nbad=WARN\norder=down\n",
    "conf/": "",
    "conf/web": "host=H31\nport=P40\nowner=ann\n",
    "conf/db": "host=H12\nport=P17\nowner=bob\n",
    "conf/.old": "x\n",
    "logs/": "",
    "logs/web": "WARN:E17\nERROR:E12\nWARN:E17\nINFO:E30\n",
    "logs/db": "INFO:E11\nWARN:E10\n",
    "logs/empty": "",
    "logs/deep/": "",
    "logs/deep/x": "WARN:E99\n",
    "table": "bob 10 red\nann 9 blue\ncy  10 blue\nann 2 Red\n",
    "nums": "10\n9\n-3\n2.5\n9\nx\n",
    "noend": "a\nb",
    "vault/": "",
}
COMMANDS = r"""
ls
ls conf logs README
ls -a conf
ls -R logs
ls nothing conf
cat README conf/web
cat -n noend README
cat nothing README
cat conf
grep -l H31 conf/*
grep -c WARN logs/*
grep -n -v WARN logs/web
grep -rl WARN logs | sort
grep -i warn logs/web
grep -w port conf/web
grep -E 'E1[0-2]|INFO' logs/web
grep 'E1[0-2]\|INFO' logs/web
grep '^WARN.*7$' logs/web
grep -E '^[A-Z]+:E?[[:digit:]]*0$' logs/*
grep -x 'port=P4' conf/web
grep x nothing README
head -n 1 README
head -2 README conf/web
head -n -1 README
tail -n +2 README
tail -n 2 logs/web | head -n 1
sort -r nums
sort -n nums
sort -nu nums
sort -k2 table
sort -k2,2n -k3r table
sort -t= -k2 conf/web
sort noend README
uniq nums
sort nums | uniq -c
sort nums | uniq -d
cut -d: -f2 logs/web | sort | uniq -c | sort -n | tail -n 1
wc README
wc -l conf/web conf/db
cat README | wc
wc < README
cut -d' ' -f1,3 table
cut -c1-3 table
cut -s -d: -f1- logs/web noend
tr a-z A-Z < README
tr -d 0-9 < README
tr -s ' ' < table
tr -cd '[:digit:]\n' < README
mkdir conf
mkdir -p a/b/c conf
mv README vault/r
mv conf/* vault
mv conf vault
mv nothing vault
mv README conf/web nowhere
mv README README
cp README conf/web vault
cp conf vault
cp -r conf new
rm -r conf README
rm conf nothing
rm -f logs/* nothing
echo -n a "b  c" 'd e'; echo b
echo port=P31 >> conf/web
echo '*' "*" \* conf/w?b [l-m]o* none*
echo a; echo b && echo c || echo d
cat nothing 2>/dev/null || echo missing
cat < /dev/null
cat nothing README 2> errors > all
cat nothing 2>&1 | wc -l
sort -u conf/web conf/db > merged
sort README > README
touch new README
find . -name '*web*' | sort
find logs -empty
find . -not -name '*e*' -type f | sort
cat README # and more
mv logs/web vault && ls vault
""".strip("\n").split("\n")


def has_gnu_tools() -> bool:
    if not all(map(shutil.which, ("bash", "grep", "sort", "find", "tr"))):
        return False
    said = subprocess.run(["grep", "--version"], capture_output=True, text=True, check=False).stdout
    return "(GNU grep)" in said  # a BSD grep says that it is GNU compatible


def files_under(top: Path) -> dict[str, str]:
    return {
        f"{path.relative_to(top)}/" if path.is_dir() else str(path.relative_to(top)): (
            "" if path.is_dir() else path.read_text()
        )
        for path in top.rglob("*")
    }


@pytest.mark.skipif(not has_gnu_tools(), reason="no GNU tools")
@pytest.mark.parametrize("command", COMMANDS)
def test_the_shell_is_as_the_real_tools(command: str, tmp_path: Path) -> None:
    for path, text in TREE.items():
        if path.endswith("/"):
            (tmp_path / path).mkdir()
        else:
            (tmp_path / path).write_text(text)
    real = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    ours = run(command, TREE)
    assert (ours.out, ours.code, bool(ours.errors)) == (
        real.stdout,
        real.returncode,
        bool(real.stderr),
    )
    assert dict(ours.files) == files_under(tmp_path)


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("python3 -c 1", 127, "sh: python3: not found\n"),
        ("nothere | cat && nothere", 127, "sh: nothere: not found\nsh: nothere: not found\n"),
        ("echo $HOME", 2, "sh: not supported: $H\n"),
        ("echo `ls`", 2, "sh: not supported: `l\n"),
        ("cat <<END", 2, "sh: not supported: <<\n"),
        ("ls [^c]*", 2, "sh: not supported: [^ in a name\n"),
        ("echo [[:upper:]]*", 2, "sh: not supported: [[: in a name\n"),
        ("sleep 9 &", 2, "sh: not supported: &\n"),
        ("ls | | wc", 2, "sh: syntax error near |\n"),
        ("echo 'a", 2, "sh: unterminated quote\n"),
        ("ls -l", 2, "ls: option not supported: -l\n"),
        (r"grep '\(a\)\1' README", 2, "grep: not supported: ( in a pattern\n"),
        ("echo x > none/x", 2, "sh: cannot create none/x: No such file or directory\n"),
        ("find . -exec rm", 1, "find: not supported: -exec\n"),
        ("cat /etc/passwd ../../etc/passwd 2>&1 | grep -c 'No such'", 0, ""),
    ],
)
def test_what_the_shell_lacks_is_said(command: str, code: int, says: str) -> None:
    result = run(command, TREE)
    assert (result.code, result.errors) == (code, says)
    assert dict(result.files) == TREE


def test_the_shell_is_bounded() -> None:
    double = "cat a a > b; cat b b > a"
    files: dict[str, str] = {"a": "x" * 1000 + "\n"}
    for _ in range(10):
        files = dict(run(double, files).files)
    assert all(len(text) <= MAX_DATA for text in files.values())
    for n in range(60):
        files = dict(run("touch " + " ".join(f"f{n}_{i}" for i in range(20)), files).files)
    assert len(files) <= MAX_FILES
    assert sum(map(len, files.values())) <= MAX_TREE
    start = time.process_time()
    slow = "a*" * 45
    long = {"a": ("a" * 1990 + "\n") * 2}
    hostile = (f"grep -E '{slow}b' a", f"ls {'*' * 900}b", "echo " + "*" * 400 + "/" + "*" * 400)
    for command in (*hostile, " | ".join(["sort -k2n a"] * 10), "x" * 10**6, "(" * 999):
        run(command, long)
    assert time.process_time() - start < 5


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *(*PROGRAMS, *TREE, "*", "-", "-n", "-r", "1", "'", '"', "|", ">", ">>", "<"),
                *("2>&1", "&&", "||", ";", "\\", "[", "..", "/", "-k", "-c", "!", "-name", "a-"),
            ]
        )
        | st.text(max_size=4),
        max_size=9,
    ).map(" ".join)
)
def test_no_command_line_raises(command: str) -> None:
    result = run(command, TREE)
    assert 0 <= result.code <= 127
    assert all(f"{p.rstrip('/').rpartition('/')[0]}/" in ("/", *result.files) for p in result.files)


@pytest.mark.parametrize("horizon", [None, 4, 8, 12, 18, 24])
def test_a_task_takes_a_turn_for_the_rules_and_those_of_its_jobs(horizon: int | None) -> None:
    for task in DOMAIN.make_tasks("test", 20, 0, horizon):
        _, right = DOMAIN.demonstration(task, random.Random(task["id"]))
        assert len(right) == 1 + sum(job["turns"] for job in task["jobs"])


def test_turns_of_every_kind_of_job_give_a_signal() -> None:
    jobs = (
        state.task["jobs"][state.world["job"]] for state, mixed in mixed_turns("shell") if mixed
    )
    assert {job["kind"] for job in jobs} == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "rule", "others"),
    [
        ("count", "bad", LEVELS),
        ("archive", "store", STORES),
        ("merge", "order", ORDERS),
        ("rename", "ending", ENDINGS),
        ("clean", "keep", ()),
        ("value", "locked", ()),
        ("fix", "locked", ()),
    ],
)
def test_a_decision_depends_on_what_was_read(kind: str, rule: str, others: tuple[str, ...]) -> None:
    """With another line in README, all else being equal, another turn is right."""
    tasks = DOMAIN.make_tasks("train", 200, 1)
    firsts = ((task, task["jobs"][0]) for task in tasks)
    task, job = next((t, j) for t, j in firsts if j["kind"] == kind and j["answer"] != LOCKED)
    value = task["rules"][rule]
    choices = {"keep": job.get("names"), "locked": [job.get("service")]}.get(rule, others)
    other = next(name for name in choices if name != value)
    readme = task["files"]["README"].replace(f"{rule}={value}", f"{rule}={other}")
    twin = task | {
        "rules": task["rules"] | {rule: other},
        "files": task["files"] | {"README": readme},
    }
    if rule == "locked":
        twin["jobs"] = [job | {"answer": LOCKED, "goal": {}}]
    one, two = ENVIRONMENT.reset(task), ENVIRONMENT.reset(twin)
    while expert_actions(one)[0] == expert_actions(two)[0]:
        one, two = (act(state, expert_actions(state)[0]) for state in (one, two))
    differing = {a.content for a, b in zip(one.messages, two.messages, strict=True) if a != b}
    assert differing == {task["files"]["README"].removesuffix("\n")}


def test_the_whole_tree_counts() -> None:
    """A solved task with one more change, a file left over or an answer that is wrong, is not."""
    for task in DOMAIN.make_tasks("test", 20, 4):
        states = [ENVIRONMENT.reset(task)]
        while not states[-1].done:
            states.append(act(states[-1], expert_actions(states[-1])[0]))
        last = expert_actions(states[-2])[0]
        assert ENVIRONMENT.score(act(states[-2], last)) == 1.0
        for harm in ("echo x > new", "echo x >> README", "rm README", "rm -r logs", "mkdir more"):
            assert ENVIRONMENT.score(act(states[-2], bash(harm), last)) == 0.0
        assert ENVIRONMENT.score(act(states[-2], submit("wrong"))) == 0.0
        assert ENVIRONMENT.score(act(states[-2], bash("ls"), last)) == 1.0
        assert not DOMAIN.oracle(states[-2], bash("ls"))


def test_a_number_is_its_text_and_only_one_call_a_turn() -> None:
    tasks = DOMAIN.make_tasks("train", 300, 1)
    task = next(t for t in tasks if t["jobs"][-1]["answer"].isdigit())
    state = ENVIRONMENT.reset(task)
    while not (state.world["job"] + 1 == len(task["jobs"]) and is_submit(expert_actions(state)[0])):
        state = act(state, expert_actions(state)[0])
    number = int(task["jobs"][-1]["answer"])
    for same in (number, str(number), float(number), f" {number} "):
        assert DOMAIN.oracle(state, Action(tool_calls=(submit_of(same),)))
    for wrong in (number + 1, True, None, [number], "x", 10**5000, float("nan")):
        assert not DOMAIN.oracle(state, Action(tool_calls=(submit_of(wrong),)))
    both = Action(tool_calls=(submit_of(number), submit_of(number)))
    assert [m.content for m in act(state, both).messages[-2:]] == [
        "error: make one call a turn"
    ] * 2


def is_submit(action: Action) -> bool:
    return action.tool_calls[0].name == "submit"


def submit_of(answer: JSON) -> ToolCall:
    return ToolCall(name="submit", arguments={"answer": answer})
