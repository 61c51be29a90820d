"""The expert of the repo domain: all that is right at a state.

This module must never be used for rewards: those judge from the trajectory row alone.
"""

from __future__ import annotations

import random
import re

from pivotrl.environments.repo.tasks import with_line
from pivotrl.environments.turns import call_action, varied
from pivotrl.types import JSON, Action, EnvironmentState


def expert_actions(state: EnvironmentState, rng: random.Random | None = None) -> list[Action]:
    """All right actions at an unfinished state, the demonstrated one first.

    With `rng` the demonstration varies: another form, sometimes another of the right ways.
    """
    return varied(_right_ways(state), rng)


def _right_ways(state: EnvironmentState) -> list[list[Action]]:
    """Groups of equivalent actions; each group meets another need."""
    world = state.world
    if not world["failing"]:
        return [[call_action("submit") if world["ran"] else call_action("run_tests")]]
    reading = [way for bug in failing_bugs(state) for way in must_read(state, bug)]
    distinct = [way for index, way in enumerate(reading) if way not in reading[:index]]
    bug = current_bug(state)
    if bug is None:
        return [[call_action("run_tests")], *distinct]
    path = path_to_edit(state, bug)
    if path not in world["opened"]:
        return [open_or_find(state, path, bug), *distinct]
    if must_read(state, bug):
        return distinct
    return [repairs(state, path, bug), *distinct]


def failing_bugs(state: EnvironmentState) -> list[JSON]:
    """The bugs whose tests fail, in the order of the tests."""
    issues = {report["issue"] for report in state.world["failing"]}
    return [bug for bug in state.task["bugs"] if bug["issue"] in issues]


def current_bug(state: EnvironmentState) -> JSON | None:
    """The first bug that fails, if the tests have told of it."""
    first = failing_bugs(state)[:1]
    return first[0] if first and first[0]["issue"] in state.world["reported"] else None


def must_read(state: EnvironmentState, bug: JSON) -> list[list[Action]]:
    """Ways to read what the issue names, as far as it is not read yet."""
    ways = []
    if bug["document"] not in (None, *state.world["opened"]):
        ways.append([call_action("open", path=bug["document"])])
    if bug["definition"] not in (None, *state.world["defined"]):
        ways.append(find(bug["definition"]))
    return ways


def path_to_edit(state: EnvironmentState, bug: JSON) -> str:
    """The bug's file; if that is as it should be, another that somebody has spoilt."""
    files, goal = state.world["files"], state.task["goal"]
    spoilt = [path for path in (bug["path"], *goal) if files[path] != goal[path]]
    return spoilt[0]


def open_or_find(state: EnvironmentState, path: str, bug: JSON) -> list[Action]:
    """Opens a file, or finds out which it is where neither a search nor an error has told."""
    if path in state.world["known"]:
        return [call_action("open", path=path)]
    defined = re.findall(r"^def (\w+)", state.task["goal"][path], re.MULTILINE)
    return find(bug["function"] if bug["function"] in defined else defined[0])


def repairs(state: EnvironmentState, path: str, bug: JSON) -> list[Action]:
    """The edits that make a file right."""
    text, goal = state.world["files"][path], state.task["goal"][path]
    lines, line = text.split("\n"), bug["line"]
    edits: list[Action] = []
    rest_is_right = line < len(lines) and with_line(goal, line, lines[line].lstrip()) == text
    if path == bug["path"] and rest_is_right:
        edits = [edit for code in bug["right"] for edit in line_edits(state, bug, code)]
    return edits or [call_action("edit", path=path, old_str=text, new_str=goal)]


def line_edits(state: EnvironmentState, bug: JSON, code: str) -> list[Action]:
    """The edits that put other code on the bug's line: as a statement, and what it is about."""
    text: str = state.world["files"][bug["path"]]
    old = "".join(text.split("\n")[bug["line"] :][:1]).strip()
    pairs = [(old, code), (_matter(old), _matter(code))]
    return [
        call_action("edit", path=bug["path"], old_str=before, new_str=after)
        for before, after in pairs
        if text.count(before) == 1
    ]


def _matter(statement: str) -> str:
    return statement.removeprefix("return ").removeprefix("if ").removesuffix(":")


def find(name: str) -> list[Action]:
    """The searches for a function."""
    return [call_action("search", name=name), call_action("search", name=f"def {name}")]
