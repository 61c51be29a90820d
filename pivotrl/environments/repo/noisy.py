"""A noisy coding agent, whose episodes the miniature base model is pretrained on.

It is sure of routine turns (run the tests, find the function, open its file) and errs at
decisions, where it takes a plausible but wrong alternative. So a model that imitates it
half-knows the domain. This module must never be used to make demonstrations.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from pivotrl.environments.repo.expert import (
    current_bug,
    find,
    line_edits,
    must_read,
    open_or_find,
    path_to_edit,
    repairs,
)
from pivotrl.environments.turns import call_action, decider
from pivotrl.types import JSON, Action, EnvironmentState

RIGHT: dict[str, float] = {
    "follow error": 0.5,
    "read": 0.55,
    "operator": 0.4,
    "constant": 0.45,
    "limit": 0.4,
    "case": 0.4,
    "traceback": 0.45,
    "rename": 0.5,
    "arguments": 0.4,
    "rules": 0.45,
    "run again": 0.75,
    "try again": 0.35,
    "next bug": 0.9,
}
"""How often each decision is right at skill 0; every other turn is always right."""

Right = Callable[[str], bool]


def noisy_action(state: EnvironmentState, rng: random.Random, skill: float = 0.0) -> Action:
    """The noisy policy's turn; `skill` in [0, 1] moves each decision from `RIGHT` to certainty."""

    right = decider(RIGHT, rng, skill)
    world = state.world
    if not world["ran"]:
        if world["edited"] and not right("run again"):
            return call_action("submit")
        return call_action("run_tests")
    bug = current_bug(state)
    if bug is None:
        return call_action("submit")
    if world["edited"] and state.messages[-1].name == "run_tests":
        again = bug["path"] in world["edited"]
        if not right("try again" if again else "next bug"):
            return call_action("submit")
    path = path_to_edit(state, bug)
    if path not in world["opened"]:
        if bug["traced"] and not right("follow error"):
            return _follow_test(state, rng, bug)
        return open_or_find(state, path, bug)[0]
    unread = must_read(state, bug)
    if unread and right("read"):
        return unread[0][0]
    return _edit(state, rng, path, bug, known=not unread and right(bug["kind"]))


def _follow_test(state: EnvironmentState, rng: random.Random, bug: JSON) -> Action:
    """Looks at the tested function instead of the file that the error names, and edits there."""
    world, start = state.world, f"def {bug['function']}("
    path = next(path for path, text in state.task["goal"].items() if start in text)
    if bug["function"] not in world["defined"]:
        return find(bug["function"])[0]
    if path not in world["opened"]:
        return call_action("open", path=path)
    *_, last = world["files"][path].split("\n")
    code, _, number = last.strip().rpartition(" ")
    other = rng.choice([n for n in range(2, 10) if str(n) != number])
    return call_action("edit", path=path, old_str=last.strip(), new_str=f"{code} {other}")


def _edit(state: EnvironmentState, rng: random.Random, path: str, bug: JSON, known: bool) -> Action:
    """The edit of the bug's line, right or plausibly wrong."""
    text = state.world["files"][path]
    if known or path != bug["path"]:
        return rng.choice(repairs(state, path, bug)[:2])
    wrong = [code for code in bug["wrong"] if code not in text]
    edits = [edit for code in wrong for edit in line_edits(state, bug, code)]
    return rng.choice(edits or [call_action("submit")])
