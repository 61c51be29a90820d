"""Repo tasks: a repository with bugs and the issues about it, drawn from a seed.

A task is plain JSON and holds all that the world needs. It must never know a conversation.
"""

from __future__ import annotations

import random

from pivotrl.environments.repo.bugs import Supply, draw_bug
from pivotrl.environments.repo.language import FUNCTIONS, ISSUES, SOURCES
from pivotrl.types import JSON, ConfigError, digest

COSTS = {
    "operator": 4,
    "constant": 4,
    "limit": 4,
    "case": 4,
    "traceback": 3,
    "rename": 4,
    "arguments": 5,
    "rules": 5,
}
"""Agent turns that a bug of each kind takes: the tests, look-ups, the edit."""
LAST_TURNS = 2
"""The tests once more, and the end."""
REPAIRED = 2
"""Issues of a task whose bugs are gone already."""
HORIZONS = range(4, 25)


def draw_task(rng: random.Random, horizon: int | None = None) -> JSON:
    """A task of about `horizon` agent turns, 4 to 24: as many bugs as fit. Without it, one bug.

    Raises ConfigError for another horizon.
    """
    if horizon is not None and horizon not in HORIZONS:
        raise ConfigError(f"horizon = {horizon}: repo has tasks of 4 to 24 agent turns")
    kinds = _draw_kinds(rng, horizon)
    supply = Supply(
        rng=rng,
        names=iter(rng.sample(FUNCTIONS, len(FUNCTIONS))),
        paths=iter(rng.sample(SOURCES, len(SOURCES))),
    )
    repaired = rng.choices(list(COSTS), k=REPAIRED)
    issues = iter(rng.sample(ISSUES, len(ISSUES)))
    active, done = (
        [draw_bug(kind, next(issues), supply) for kind in group] for group in (kinds, repaired)
    )
    bugs = rng.sample([*active, *done], len(active) + len(done))
    goal: dict[str, str] = {}
    facts: dict[str, list[str]] = {}
    for bug in bugs:
        goal |= bug.pop("files")
        facts.setdefault(bug["document"], []).extend(bug.pop("facts"))
    for document in sorted(facts.keys() - {None}):
        goal[document] = "\n".join(rng.sample(facts[document], len(facts[document])))
    files = dict(goal)
    for bug in active:
        files[bug["path"]] = with_line(goal[bug["path"]], bug["line"], bug["broken"])
    task = {
        "issues": [f"{bug['issue']}: {bug['clause']}." for bug in rng.sample(bugs, len(bugs))],
        "bugs": bugs,
        "files": files,
        "goal": goal,
    }
    return {
        "id": digest(task),
        "kind": kinds[0] if len(kinds) == 1 else f"{len(kinds)} bugs",
    } | task


def with_line(text: str, line: int, code: str) -> str:
    """A source with other code on one of its lines, indented as before."""
    lines = text.split("\n")
    indent = lines[line][: len(lines[line]) - len(lines[line].lstrip())]
    return "\n".join([*lines[:line], indent + code, *lines[line + 1 :]])


def _draw_kinds(rng: random.Random, horizon: int | None) -> list[str]:
    if horizon is None:
        return [rng.choice(list(COSTS))]
    cheapest, left = min(COSTS, key=lambda kind: COSTS[kind]), horizon - LAST_TURNS
    kinds: list[str] = []
    while not kinds or left >= COSTS[cheapest]:
        kinds.append(rng.choice([k for k, cost in COSTS.items() if cost <= left] or [cheapest]))
        left -= COSTS[kinds[-1]]
    return kinds
