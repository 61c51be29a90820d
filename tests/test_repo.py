"""The live repo domain: solvable, deterministic, robust; its demonstrations judge as it does."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.candidates import extract
from pivotrl.environments.demonstrations import write_demonstrations
from pivotrl.environments.domain import split_of
from pivotrl.environments.repo import DOMAIN
from pivotrl.environments.repo.checks import cases_of, failures
from pivotrl.environments.repo.expert import expert_actions
from pivotrl.environments.repo.language import POLICY, SINGLE_TOKENS, SOURCES, TOOLS
from pivotrl.environments.repo.noisy import RIGHT, noisy_action
from pivotrl.environments.repo.tasks import COSTS, HORIZONS, with_line
from pivotrl.environments.repo.world import Repo, max_turns
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

ENVIRONMENT = Repo()
TASKS = DOMAIN.make_tasks("train", 200, 1)


def call(tool: str, /, **arguments: JSON) -> Action:
    return Action(tool_calls=(ToolCall(name=tool, arguments=arguments),))


RUN, SUBMIT = call("run_tests"), call("submit")


def act(state: EnvironmentState, *actions: Action) -> EnvironmentState:
    for action in actions:
        state = ENVIRONMENT.step(state, action)
    return state


def answer(state: EnvironmentState, *actions: Action) -> str:
    return act(state, *actions).messages[-1].content


def noisy_success(n: int, skill: float = 0.0) -> float:
    rng = random.Random(5)
    return sum(ENVIRONMENT.score(DOMAIN.noisy_episode(rng, skill)) for _ in range(n)) / n


def first_task(kind: str) -> JSON:
    return next(task for task in TASKS if task["kind"] == kind)


def bug_of(task: JSON) -> JSON:
    """The one bug that is not repaired yet."""
    (bug,) = (b for b in task["bugs"] if task["files"][b["path"]] != task["goal"][b["path"]])
    return bug


def before_the_edit(task: JSON) -> EnvironmentState:
    state = ENVIRONMENT.reset(task)
    while (action := expert_actions(state)[0]).tool_calls[0].name != "edit":
        state = act(state, action)
    return state


@pytest.mark.parametrize(("horizon", "n"), [(None, 300), (4, 200), (8, 200), (12, 200), (24, 200)])
def test_expert_solves_every_task_in_about_the_horizon(horizon: int | None, n: int) -> None:
    turns = []
    for task in DOMAIN.make_tasks("test", n, 0, horizon):
        state, right = DOMAIN.demonstration(task, random.Random(task["id"]))
        assert ENVIRONMENT.score(state) == 1.0
        turns.append(len(right))
    least, most = (4, 8) if horizon is None else (0.6 * horizon, 1.4 * horizon)
    assert all(least <= turn <= most for turn in turns)


def test_horizons_that_no_task_has_are_refused() -> None:
    for horizon in (-1, 0, 3, 25):
        assert horizon not in HORIZONS
        with pytest.raises(ConfigError, match=f"horizon = {horizon}: .* 4 to 24"):
            DOMAIN.draw(random.Random(0), horizon)


def test_repositories_are_small_and_of_every_kind() -> None:
    assert {task["kind"] for task in TASKS} == set(COSTS)
    for task in TASKS:
        sources = [text for path, text in task["files"].items() if path in SOURCES]
        assert 3 <= len(sources) <= 6
        assert all(2 <= len(text.split("\n")) <= 8 for text in sources)


def test_right_lines_pass_and_broken_and_wrong_lines_fail() -> None:
    for task in TASKS[:80]:
        assert [report["issue"] for report in failures(task["files"], cases_of(task))] == [
            bug_of(task)["issue"]
        ]
        for bug in task["bugs"]:
            good = task["goal"][bug["path"]]
            assert good == with_line(good, bug["line"], bug["right"][0])
            assert not any(fails(task, bug, code) for code in bug["right"])
            assert all(fails(task, bug, code) for code in [bug["broken"], *bug["wrong"]])


def fails(task: JSON, bug: JSON, code: str) -> bool:
    """Whether with this code on its line the bug's tests fail, and no others."""
    path, goal = bug["path"], task["goal"]
    made = goal | {path: with_line(goal[path], bug["line"], code)}
    return [report["issue"] for report in failures(made, cases_of(task))] == [bug["issue"]]


def test_noisy_policy_half_knows_the_domain() -> None:
    assert 0.1 <= noisy_success(600) <= 0.4
    assert noisy_success(100, skill=1.0) == 1.0


def test_noisy_agent_errs_in_every_decision_of_every_kind() -> None:
    wrong: Counter[str] = Counter()
    rng = random.Random(0)
    for task in TASKS:
        state = ENVIRONMENT.reset(task)
        while not state.done:
            for _ in range(3):
                action = noisy_action(state, rng)
                if not DOMAIN.oracle(state, action):
                    wrong[f"{task['kind']} {action.tool_calls[0].name}"] += 1
            state = act(state, expert_actions(state)[0])
    for kind in COSTS:
        assert wrong[f"{kind} edit"] > 10
        assert wrong[f"{kind} submit"] > 5
    assert wrong["traceback search"] > 5
    assert set(COSTS) < set(RIGHT)


def test_noisy_episodes_are_fast() -> None:
    rng = random.Random(0)
    start = time.process_time()
    for _ in range(200):
        DOMAIN.noisy_episode(rng)
    assert time.process_time() - start < 200 / 150  # wanted: 300 a second; slack for busy machines


def test_most_turns_give_no_signal_and_some_do() -> None:
    rng = random.Random(0)
    equal = total = 0
    for task in TASKS[:30]:
        state = ENVIRONMENT.reset(task)
        while not state.done:
            rights = {DOMAIN.oracle(state, noisy_action(state, rng)) for _ in range(16)}
            equal, total = equal + (len(rights) == 1), total + 1
            state = act(state, expert_actions(state)[0])
    assert 0.4 <= equal / total <= 0.8


def test_tasks_are_deterministic_distinct_and_disjoint() -> None:
    splits = {s: DOMAIN.make_tasks(s, 200, 7) for s in ("train", "validation", "test")}
    assert splits["test"] == DOMAIN.make_tasks("test", 200, 7) != DOMAIN.make_tasks("test", 200, 8)
    ids = [task["id"] for tasks in splits.values() for task in tasks]
    assert len(set(ids)) == 600
    assert all(split_of(task) == split for split, tasks in splits.items() for task in tasks)
    rng = random.Random(0)
    assert len({DOMAIN.draw(rng)["id"] for _ in range(3000)}) == 3000


def test_step_is_pure() -> None:
    task = first_task("rules")
    before = canonical(task)
    state = ENVIRONMENT.reset(task)
    while not state.done:
        frozen = canonical([state.world, [message_to_json(m) for m in state.messages]])
        action = expert_actions(state)[0]
        following = act(state, action)
        assert following == act(state, action)
        assert frozen == canonical([state.world, [message_to_json(m) for m in state.messages]])
        state = following
    assert canonical(task) == before
    assert act(state, RUN) == state


def test_work_counts_only_if_the_tests_passed_after_the_last_edit() -> None:
    state = before_the_edit(first_task("operator"))
    edit = expert_actions(state)[0]
    assert ENVIRONMENT.score(act(state, edit, RUN, SUBMIT)) == 1.0
    assert ENVIRONMENT.score(act(state, edit, SUBMIT)) == 0.0
    assert ENVIRONMENT.score(act(state, RUN, SUBMIT)) == 0.0
    assert ENVIRONMENT.score(act(state, edit, RUN)) == 0.0
    assert DOMAIN.oracle(act(state, edit), RUN)
    assert not DOMAIN.oracle(act(state, edit), SUBMIT)


def test_a_file_is_opened_before_it_is_edited() -> None:
    task = first_task("constant")
    edit = expert_actions(before_the_edit(task))[0]
    start = act(ENVIRONMENT.reset(task), RUN)
    assert answer(start, edit) == "error: open the file first"
    shown = call("open", path=bug_of(task)["path"])
    assert answer(start, shown) == task["files"][bug_of(task)["path"]]
    assert answer(start, shown, edit) == "edited"


def test_tests_stop_at_the_first_failure_and_name_what_matters() -> None:
    (task,) = DOMAIN.make_tasks("train", 1, 3, horizon=24)
    state, _ = DOMAIN.demonstration(task)
    said = [m.content for m in state.messages if m.name == "run_tests"]
    broken = [b for b in task["bugs"] if task["files"][b["path"]] != task["goal"][b["path"]]]
    assert [report.split()[0] for report in said] == [*(b["issue"] for b in broken), "all"]
    for bug, report in zip(broken, said, strict=False):
        assert bug["function"] in report
        assert (bug["path"] in report) == bug["traced"]


@pytest.mark.parametrize("kind", ["rules", "rename", "arguments"])
def test_what_the_issue_names_is_read_before_the_edit(kind: str) -> None:
    task = first_task(kind)
    bug, state = bug_of(task), ENVIRONMENT.reset(task)
    named = bug["document"] or bug["definition"]
    assert any(i.startswith(bug["issue"]) and named in i for i in task["issues"])
    read_it = (call("open", path=named), call("search", name=named))
    assert any(DOMAIN.oracle(state, action) for action in read_it)  # as early as one likes
    state = before_the_edit(task)
    assert {bug["document"], bug["definition"]} & {
        *state.world["opened"],
        *state.world["defined"],
    }


def test_an_error_leads_to_the_file_of_the_callee() -> None:
    task = first_task("traceback")
    bug, state = bug_of(task), act(ENVIRONMENT.reset(task), RUN)
    assert state.messages[-1].content.endswith(f"IndexError in {bug['path']}")
    assert DOMAIN.oracle(state, call("open", path=bug["path"]))
    assert not DOMAIN.oracle(state, call("search", name=bug["function"]))


def test_the_expert_repairs_what_an_agent_has_spoilt() -> None:
    rng = random.Random(0)
    for task in TASKS[:60]:
        state = ENVIRONMENT.reset(task)
        for bug in rng.sample(task["bugs"], 2):
            path = bug["path"]
            state = act(state, call("open", path=path))
            text = state.world["files"][path]
            spoilt = with_line(text, bug["line"], f"{bug['wrong'][0]}\n").replace(":\n", ": #\n")
            state = act(state, call("edit", path=path, old_str=text, new_str=spoilt))
            assert state.messages[-1].content == "edited"
        while not state.done:
            state = act(state, expert_actions(state)[0])
        assert ENVIRONMENT.score(state) == 1.0


HOSTILE_SOURCES = (
    *("", "x", "def f(:", "import os", "1\0", "def f(a):\n    return f(a)", "(" * 599, "9" * 599),
    "while 1:\n    pass",
)


def test_hostile_sources_are_refused_or_fail() -> None:
    for task in TASKS[:8]:
        state = before_the_edit(task)
        bug = bug_of(task)
        path, name = bug["path"], bug["function"]
        text = state.world["files"][path]
        for source in HOSTILE_SOURCES:
            edit = call("edit", path=path, old_str=text, new_str=source)
            assert answer(state, edit).startswith("error")
        indent = " " * 4
        for body in (
            f"while 1:\n{indent * 2}pass",
            "return [0] * 10 ** 9",
            f"return {name}(a)",
            "return open('/etc/passwd')",
            "return ().__class__",
            "return 2 ** 9999",
            "return " + "-" * 300 + "1",
        ):
            ruined = with_line(task["goal"][path], bug["line"], body)
            spoilt = act(state, call("edit", path=path, old_str=text, new_str=ruined))
            assert ENVIRONMENT.score(act(spoilt, RUN, SUBMIT)) == 0.0


def test_only_one_good_call_a_turn() -> None:
    task = first_task("case")
    state = before_the_edit(task)
    edit = expert_actions(state)[0]
    arguments = edit.tool_calls[0].arguments
    for wrong in (
        Action(tool_calls=edit.tool_calls * 2),
        Action(tool_calls=edit.tool_calls, malformed=("no closing tag",)),
        call("edit", **arguments | {"every": True}),
        call("edit", **arguments | {"new_str": 7}),
        call("edit", **arguments | {"new_str": "x" * 10**6}),
        call("edit", **arguments | {"old_str": "return"}),
        call("edit", **arguments | {"path": "nowhere.py"}),
        call("Edit", **arguments),
        Action(text="Done."),
        Action(),
    ):
        assert not DOMAIN.oracle(state, wrong)
        assert act(state, wrong).world["files"] == state.world["files"]
    assert DOMAIN.oracle(state, call("edit", **arguments | {"path": f"./{arguments['path']}"}))


def test_silence_ends_the_episode_unsolved() -> None:
    state = ENVIRONMENT.reset(TASKS[0])
    limit = max_turns(state.task)
    assert not act(state, *[Action()] * (limit - 1)).done
    ended = act(state, *[Action()] * limit)
    assert ended.done
    assert ENVIRONMENT.score(ended) == 0.0
    assert not DOMAIN.oracle(ended, Action())


HOSTILE_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
WORDS = st.sampled_from(
    [*TASKS[0]["files"], *TASKS[0]["files"].values(), *HOSTILE_SOURCES, "return", "x" * 10**5]
)
HOSTILE_CALLS = st.builds(
    ToolCall,
    name=st.sampled_from([t.name for t in TOOLS if t.name != "submit"]) | st.text(max_size=5),
    arguments=HOSTILE_VALUES
    | st.fixed_dictionaries({"path": WORDS, "old_str": WORDS, "new_str": WORDS})
    | st.fixed_dictionaries({"path": WORDS})
    | st.fixed_dictionaries({"name": WORDS | HOSTILE_VALUES}),
)
HOSTILE_ACTIONS = st.builds(
    Action,
    text=st.text(),
    tool_calls=st.lists(HOSTILE_CALLS, max_size=2).map(tuple),
    malformed=st.sampled_from([(), ("no closing tag",)]),
)


@settings(max_examples=100, deadline=None)
@given(actions=st.lists(HOSTILE_ACTIONS, max_size=6), turns=st.integers(0, 4))
def test_hostile_actions_never_raise_and_never_solve(actions: list[Action], turns: int) -> None:
    state = ENVIRONMENT.reset(TASKS[0])
    for _ in range(turns):
        state = act(state, expert_actions(state)[0])
    solved = not state.world["failing"]
    for action in actions:
        known = len(state.messages)
        state = act(state, action)
        assert all(len(m.content) <= 600 for m in state.messages[known:] if m.role is Role.TOOL)
        if not state.done:
            assert expert_actions(state)
            assert noisy_action(state, random.Random(turns))
    assert ENVIRONMENT.score(act(state, SUBMIT)) == float(solved and state.world["ran"])


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repo") / "demonstrations.jsonl"
    write_demonstrations(DOMAIN, path, 60, 0)
    write_demonstrations(DOMAIN, path.with_name("long.jsonl"), 6, 0, horizon=24)
    return path


def test_demonstrations_are_plain_openai_chat(demonstrations: Path, tmp_path: Path) -> None:
    rows = [orjson.loads(line) for line in demonstrations.read_bytes().splitlines()]
    assert {row["task"] for row in rows} == {t["id"] for t in DOMAIN.make_tasks("train", 60, 0)}
    for row in rows:
        assert (row["domain"], row["reward"]) == ("software", 1.0)
        for index, actions in row["accepted_actions"].items():
            assert row["messages"][int(index)]["role"] == "assistant"
            assert row["messages"][int(index)] not in actions
        for message in row["messages"]:
            for tool_call in message.get("tool_calls", ()):
                assert isinstance(json.loads(tool_call["function"]["arguments"]), dict)
    write_demonstrations(DOMAIN, tmp_path / "again.jsonl", 60, 0)
    assert (tmp_path / "again.jsonl").read_bytes() == demonstrations.read_bytes()


def test_demonstrations_are_read_back_whole(demonstrations: Path) -> None:
    for name, n in (("demonstrations.jsonl", 60), ("long.jsonl", 6)):
        found = list(read([demonstrations.with_name(name)]))
        assert len(found) == n
        for trajectory in found:
            assert isinstance(trajectory, Trajectory)
            assert (trajectory.reward, trajectory.domain) == (1.0, "software")
            assert trajectory.accepted_actions


@pytest.mark.parametrize(("name", "n", "horizon"), [("demonstrations", 60, None), ("long", 6, 24)])
def test_rewards_from_the_row_agree_with_the_oracle(
    demonstrations: Path, name: str, n: int, horizon: int | None
) -> None:
    verifier, rng = verifier_for("software"), random.Random(0)
    tasks = {task["id"]: task for task in DOMAIN.make_tasks("train", n, 0, horizon)}
    agreed = total = 0
    for trajectory in islice(read([demonstrations.with_name(f"{name}.jsonl")]), n // 3):
        assert isinstance(trajectory, Trajectory)
        state = ENVIRONMENT.reset(tasks[trajectory.task or ""])
        for candidate in extract(trajectory):
            assert [m.content for m in state.messages] == [m.content for m in candidate.messages]
            demonstration = action_of(candidate.demonstration)
            right = [demonstration, *map(action_of, candidate.accepted_actions)]
            assert all(DOMAIN.oracle(state, action) for action in right)
            assert all(verifier.verify(candidate, action).reward == 1.0 for action in right)
            wrong = [mutated for action in right for mutated in mutations(action)]
            assert not any(DOMAIN.oracle(state, action) for action in wrong)
            for action in [*wrong, *(noisy_action(state, rng) for _ in range(4))]:
                reward = verifier.verify(candidate, action).reward
                agreed, total = agreed + (reward == float(DOMAIN.oracle(state, action))), total + 1
            state = act(state, demonstration)
    assert agreed / total >= 0.98


def mutations(action: Action) -> list[Action]:
    """Actions that are wrong wherever `action` is right."""
    wrong = [
        Action(),
        Action(text="All is done."),
        Action(tool_calls=action.tool_calls * 2),
        call("open", path="nowhere.py"),
        call("search", name="no_such_name"),
        call("no_such_tool"),
        call("edit", path="nowhere.py", old_str="a", new_str="b"),
    ]
    for tool_call in action.tool_calls:
        for key, value in tool_call.arguments.items():
            wrong.append(call(tool_call.name, **tool_call.arguments | {key: f"{value} 9"}))
    return wrong


def test_language_is_small() -> None:
    assert len(POLICY.split()) <= 80
    assert len(TOOLS) == 5
    assert len(SINGLE_TOKENS) == len(set(SINGLE_TOKENS)) <= 150
    assert not any(a in b for a in SINGLE_TOKENS for b in SINGLE_TOKENS if a != b)
    for task in TASKS[:20]:
        state, _ = DOMAIN.demonstration(task)
        assert sum(len(json.dumps(message_to_json(m)).split()) for m in state.messages) <= 350
