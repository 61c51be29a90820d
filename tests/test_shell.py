"""The live shell domain: its interpreter is as the real tools; solvable, deterministic, robust."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import time
from itertools import islice
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.candidates import extract
from pivotrl.environments.demonstrations import write_demonstrations
from pivotrl.environments.domain import split_of
from pivotrl.environments.shell import DOMAIN
from pivotrl.environments.shell.expert import bash, expert_actions, submit
from pivotrl.environments.shell.files import MAX_DATA, MAX_FILES, MAX_TREE
from pivotrl.environments.shell.interpreter import PROGRAMS, run
from pivotrl.environments.shell.language import (
    ENDINGS,
    LEVELS,
    LOCKED,
    ORDERS,
    POLICY,
    SINGLE_TOKENS,
    STORES,
    TOOLS,
)
from pivotrl.environments.shell.noisy import noisy_action
from pivotrl.environments.shell.tasks import KINDS, MAX_HORIZON
from pivotrl.environments.shell.world import Shell, max_turns
from pivotrl.trajectories import read
from pivotrl.types import (
    JSON,
    Action,
    ConfigError,
    EnvironmentState,
    Role,
    ToolCall,
    Trajectory,
    action_of,
    canonical,
    message_to_json,
)
from pivotrl.verifiers import verifier_for

ENVIRONMENT = Shell()

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
GNU = [shutil.which(name) for name in ("bash", "grep", "sort", "find", "tr")]


def files_under(top: Path) -> dict[str, str]:
    return {
        f"{path.relative_to(top)}/" if path.is_dir() else str(path.relative_to(top)): (
            "" if path.is_dir() else path.read_text()
        )
        for path in top.rglob("*")
    }


@pytest.mark.skipif(not all(GNU), reason="no GNU tools")
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


def act(state: EnvironmentState, *actions: Action) -> EnvironmentState:
    for action in actions:
        state = ENVIRONMENT.step(state, action)
    return state


def different(actions: list[Action]) -> list[Action]:
    """Each once: asking the oracle takes an episode."""
    return list({repr(action): action for action in actions}.values())


def noisy_success(n: int, skill: float = 0.0) -> float:
    rng = random.Random(5)
    return sum(ENVIRONMENT.score(DOMAIN.noisy_episode(rng, skill)) for _ in range(n)) / n


@pytest.mark.parametrize("horizon", [None, 4, 8, 12, 18, 24])
def test_expert_solves_every_task_in_as_many_turns(horizon: int | None) -> None:
    kinds = set()
    for task in DOMAIN.make_tasks("test", 200 if horizon is None else 40, 0, horizon):
        state, right = DOMAIN.demonstration(task, random.Random(task["id"]))
        assert ENVIRONMENT.score(state) == 1.0
        low, high = (0.6 * horizon, 1.4 * horizon) if horizon else (4, 8)
        assert low <= len(right) <= high
        assert len(right) == 1 + sum(job["turns"] for job in task["jobs"])
        words = sum(len(json.dumps(message_to_json(m)).split()) for m in state.messages)
        assert horizon is not None or words < 500
        kinds.add(task["kind"])
    assert kinds == set(KINDS) or horizon


def test_other_horizons_are_refused() -> None:
    for horizon in (0, 3, MAX_HORIZON + 1):
        with pytest.raises(ConfigError, match=f"horizon = {horizon}: shell tasks take 4 to 24"):
            DOMAIN.draw(random.Random(0), horizon)


def test_noisy_policy_half_knows_the_domain() -> None:
    assert 0.15 <= noisy_success(400) <= 0.35
    assert noisy_success(100, skill=1.0) == 1.0


def test_most_turns_give_no_signal_and_some_of_each_kind_do() -> None:
    rng = random.Random(0)
    equal = total = 0
    mixed = set()
    for task in DOMAIN.make_tasks("train", 30, 3):
        state = ENVIRONMENT.reset(task)
        while not state.done:
            actions = different([noisy_action(state, rng) for _ in range(12)])
            rights = {DOMAIN.oracle(state, action) for action in actions}
            equal, total = equal + (len(rights) == 1), total + 1
            mixed |= {task["jobs"][state.world["job"]]["kind"]} if len(rights) == 2 else set()
            state = act(state, expert_actions(state)[0])
    assert 0.4 <= equal / total <= 0.8
    assert mixed == set(KINDS)


def test_tasks_are_deterministic_distinct_and_disjoint() -> None:
    splits = {s: DOMAIN.make_tasks(s, 100, 7) for s in ("train", "validation", "test")}
    assert splits["test"] == DOMAIN.make_tasks("test", 100, 7) != DOMAIN.make_tasks("test", 100, 8)
    ids = [task["id"] for tasks in splits.values() for task in tasks]
    assert len(set(ids)) == 300
    assert all(split_of(task) == split for split, tasks in splits.items() for task in tasks)
    rng = random.Random(1)
    assert len({DOMAIN.draw(rng)["id"] for _ in range(1000)}) == 1000


def test_step_is_pure() -> None:
    task = DOMAIN.make_tasks("test", 1, 2)[0]
    before = canonical(task)
    state = ENVIRONMENT.reset(task)
    while not state.done:
        frozen = canonical([state.world, [message_to_json(m) for m in state.messages]])
        following = act(state, expert_actions(state)[0])
        assert following == act(state, expert_actions(state)[0])
        assert frozen == canonical([state.world, [message_to_json(m) for m in state.messages]])
        state = following
    assert canonical(task) == before
    assert act(state, bash("ls")) == state


def test_every_right_action_is_right_by_the_oracle() -> None:
    checked = 0
    for task in DOMAIN.make_tasks("validation", 30, 0):
        state = ENVIRONMENT.reset(task)
        while not state.done:
            for action in expert_actions(state):
                assert DOMAIN.oracle(state, action), action
                checked += 1
            state = act(state, expert_actions(state, random.Random(checked))[0])
    assert checked > 300


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


def test_silence_ends_the_episode_unsolved() -> None:
    state = ENVIRONMENT.reset(DOMAIN.make_tasks("test", 1, 0)[0])
    limit = max_turns(state.task)
    assert not act(state, *[Action()] * (limit - 1)).done
    ended = act(state, *[Action()] * limit)
    assert ended.done and ENVIRONMENT.score(ended) == 0.0
    assert not DOMAIN.oracle(ended, Action())


HOSTILE_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
HOSTILE_CALLS = st.builds(
    ToolCall,
    name=st.sampled_from([t.name for t in TOOLS]) | st.text(max_size=5),
    arguments=HOSTILE_VALUES
    | st.dictionaries(
        st.sampled_from(["command", "answer"]),
        HOSTILE_VALUES
        | st.sampled_from(["cat README", "rm -rf *", "done", LOCKED, "x" * 9999, "find / | cat"]),
    ),
)
HOSTILE_ACTIONS = st.builds(
    Action,
    text=st.text() | st.sampled_from(["cat README", "done", "9" * 5000]),
    tool_calls=st.lists(HOSTILE_CALLS, max_size=2).map(tuple),
    malformed=st.sampled_from([(), ("no closing tag",)]),
)


@settings(max_examples=100, deadline=None)
@given(actions=st.lists(HOSTILE_ACTIONS, max_size=6), turns=st.integers(0, 3))
def test_hostile_actions_never_raise_and_never_solve(actions: list[Action], turns: int) -> None:
    state = ENVIRONMENT.reset(DOMAIN.make_tasks("train", 1, turns)[0])
    for _ in range(turns):
        state = act(state, expert_actions(state)[0])
    for action in actions:
        known = len(state.messages)
        state = act(state, action)
        assert ENVIRONMENT.score(state) == 0.0
        assert all(len(m.content) < 900 for m in state.messages[known:] if m.role is Role.TOOL)
        assert state.done or expert_actions(state)


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shell") / "demonstrations.jsonl"
    write_demonstrations(DOMAIN, path, 80, 0)
    return path


def test_demonstrations_are_read_back_whole(demonstrations: Path, tmp_path: Path) -> None:
    found = list(read([demonstrations]))
    assert all(isinstance(trajectory, Trajectory) for trajectory in found)
    assert {t.reward for t in found if isinstance(t, Trajectory)} == {1.0}
    rows = [orjson.loads(line) for line in demonstrations.read_bytes().splitlines()]
    assert len(found) == len(rows) == 80
    assert {row["domain"] for row in rows} == {"terminal"}
    for row in rows:
        for index, actions in row["accepted_actions"].items():
            assert row["messages"][int(index)]["role"] == "assistant"
            assert row["messages"][int(index)] not in actions
    write_demonstrations(DOMAIN, tmp_path / "again.jsonl", 80, 0)
    assert (tmp_path / "again.jsonl").read_bytes() == demonstrations.read_bytes()


def test_rewards_from_the_row_agree_with_the_oracle(demonstrations: Path) -> None:
    verifier, rng = verifier_for("terminal"), random.Random(0)
    tasks = {task["id"]: task for task in DOMAIN.make_tasks("train", 80, 0)}
    agreed = total = turns = candidates = 0
    for trajectory in islice(read([demonstrations]), 20):
        assert isinstance(trajectory, Trajectory)
        turns += sum(message.role is Role.ASSISTANT for message in trajectory.messages)
        state = ENVIRONMENT.reset(tasks[trajectory.task or ""])
        for candidate in extract(trajectory):
            candidates += 1
            assert [m.content for m in state.messages] == [m.content for m in candidate.messages]
            demonstration = action_of(candidate.demonstration)
            right = [demonstration, *map(action_of, candidate.accepted_actions)]
            assert all(DOMAIN.oracle(state, action) for action in right)
            assert verifier.verify(candidate, demonstration).reward == 1.0
            wrong = [mutated for action in right for mutated in mutations(action)]
            noisy = [noisy_action(state, rng) for _ in range(8)]
            for action in different([*right, *wrong, *noisy]):
                reward = verifier.verify(candidate, action).reward
                agreed, total = agreed + (reward == float(DOMAIN.oracle(state, action))), total + 1
            state = act(state, demonstration)
    assert candidates == turns
    assert agreed / total >= 0.97


def mutations(action: Action) -> list[Action]:
    """Actions that are wrong wherever `action` is right."""
    (call,) = action.tool_calls
    wrong = [
        Action(),
        Action(text="done"),
        Action(tool_calls=(call, call)),
        bash("pwd"),
        bash("ls"),
    ]
    if call.name == "submit":
        return [*wrong, submit(f"{call.arguments['answer']}9"), submit("")]
    command = call.arguments["command"]
    ids = re.findall(r"[HPEK]\d+|\w+/\w+", command)
    return [*wrong, submit(command), *(bash(command.replace(word, f"{word}9")) for word in ids)]


def test_language_is_small() -> None:
    assert len(POLICY.split()) <= 80
    assert len(SINGLE_TOKENS) == len(set(SINGLE_TOKENS)) <= 300
    assert not any(a in b for a in SINGLE_TOKENS for b in SINGLE_TOKENS if a != b)
