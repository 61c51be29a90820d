"""The live repo domain: its bugs, its tests, and what reading and editing take."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial

import pytest
from live_domains import HOSTILE_SOURCES, after, different

from pivotrl.environments.repo import DOMAIN
from pivotrl.environments.repo.checks import cases_of, failures
from pivotrl.environments.repo.expert import expert_actions
from pivotrl.environments.repo.language import SOURCES
from pivotrl.environments.repo.noisy import RIGHT, noisy_action
from pivotrl.environments.repo.tasks import COSTS, with_line
from pivotrl.environments.turns import call_action as call
from pivotrl.types import JSON, Action, EnvironmentState, canonical

ENVIRONMENT = DOMAIN.environment
TASKS = DOMAIN.make_tasks("train", 200, 1)
act = partial(after, DOMAIN)
RUN, SUBMIT = call("run_tests"), call("submit")


def answer(state: EnvironmentState, *actions: Action) -> str:
    return act(state, *actions).messages[-1].content


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


def test_repositories_are_small() -> None:
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


def test_noisy_agent_errs_in_every_decision_of_every_kind() -> None:
    wrong: Counter[str] = Counter()
    rng = random.Random(0)
    for task in TASKS:
        state = ENVIRONMENT.reset(task)
        while not state.done:
            actions = [noisy_action(state, rng) for _ in range(3)]
            right = {repr(action): DOMAIN.oracle(state, action) for action in different(actions)}
            for action in actions:
                if not right[repr(action)]:
                    wrong[f"{task['kind']} {action.tool_calls[0].name}"] += 1
            state = act(state, expert_actions(state)[0])
    for kind in COSTS:
        assert wrong[f"{kind} edit"] > 10
        assert wrong[f"{kind} submit"] > 5
    assert wrong["traceback search"] > 5
    assert set(COSTS) < set(RIGHT)


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


def test_code_that_changes_its_arguments_changes_no_test() -> None:
    task = first_task("traceback")
    bug, before, state = bug_of(task), canonical(task), before_the_edit(task)
    path = bug["path"]
    line = state.world["files"][path].split("\n")[bug["line"]].strip()
    edit = call("edit", path=path, old_str=line, new_str=f"a.append(7)\n    {bug['right'][0]}")
    assert answer(state, edit) == "edited"
    assert act(state, edit) == act(state, edit)
    assert canonical(task) == before
    assert ENVIRONMENT.score(act(state, edit, RUN, SUBMIT)) == 1.0


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
