"""A noisy web agent, whose episodes the miniature base model is pretrained on.

It is sure of routine turns (search the name that the question starts at, use links) and errs at
decisions, where it takes a plausible but wrong alternative and goes on from there. So a model that
imitates it half-knows the domain, as a real base model does. This module must never be used to
make demonstrations.
"""

from __future__ import annotations

import random

from pivotrl.environments.turns import call_action, decider
from pivotrl.environments.web.language import ANSWERS, TYPES
from pivotrl.environments.web.tasks import PICKS, queries, route
from pivotrl.types import JSON, Action, EnvironmentState

RIGHT: dict[str, float] = {
    "result": 0.65,
    "link": 0.75,
    "name": 0.7,
    "read_on": 0.85,
    "fact": 0.7,
    "compare": 0.8,
}
"""How often each decision is right at skill 0; every other turn is always right.

`result`: which page of one name to open; `link` and `name`: which field of a page to follow, by a
link or a search; `read_on`: not to answer one page early; `fact`: which field of the last page
answers; `compare`: which of the last pages.
"""


def noisy_action(state: EnvironmentState, rng: random.Random, skill: float = 0.0) -> Action:
    """The noisy policy's turn; `skill` in [0, 1] moves each decision from `RIGHT` to certainty.

    It takes every page that it opened for the one that was next on its way.
    """

    right = decider(RIGHT, rng, skill)
    pages, opened = state.task["pages"], state.world["opened"]
    way = route(state.task)
    if len(opened) >= len(way):
        return _answer(state, rng, right("compare"), right("fact"))
    start, field = way[len(opened)]
    known = [start] if field is None else _targets(pages[opened[-1]])
    if state.world["results"]:
        return _open_result(state, rng, known, right("result"))
    if opened and len(opened) + 1 == len(way) and not right("read_on"):
        return _answer(state, rng, True, True)
    if field is None:
        return _search(pages[start], rng)
    page = pages[opened[-1]]
    if field not in page["facts"]:  # another policy came here
        field = rng.choice(list(TYPES[page["type"]].relations))
    elif not right("link" if field in page["linked"] else "name"):
        field = _other_field(page, field, rng)
    target = page["facts"][field]
    return (
        call_action("open", id=target) if field in page["linked"] else _search(pages[target], rng)
    )


def _open_result(
    state: EnvironmentState, rng: random.Random, known: list[str], is_right: bool
) -> Action:
    """Open the page that was searched, or another of its name."""
    pages, results = state.task["pages"], state.world["results"]
    wanted = next((page_id for page_id in results if page_id in known), results[0])
    name = pages[wanted]["name"]
    others = [p for p in results if p != wanted and pages[p]["name"] == name]
    return call_action("open", id=wanted if is_right or not others else rng.choice(others))


def _answer(
    state: EnvironmentState, rng: random.Random, picks_right: bool, reads_right: bool
) -> Action:
    """The answer by the pages that were opened, be they right or not."""
    task, opened = state.task, state.world["opened"]
    pages, ends, end = task["pages"], list[JSON](), 0
    for leg in task["legs"]:
        end += len(leg["pages"])
        ends += [pages[opened[end - 1]]] if end <= len(opened) else []
    if task["kind"] in PICKS:
        value = _pick(ends, task, picks_right, rng)
    else:
        value = _fact(pages, pages[opened[-1]], task["ask"], reads_right, rng)
    return Action(text=rng.choice(ANSWERS[2:]).format(value))


def _pick(ends: list[JSON], task: JSON, is_right: bool, rng: random.Random) -> str:
    """The name of the last page that is first or last by its year."""
    latest = task["kind"] == "last"
    ordered = sorted(ends, key=lambda p: p["facts"].get(task["ask"], ""), reverse=latest)
    others = [page["name"] for page in ordered if page["name"] != ordered[0]["name"]]
    name: str = ordered[0]["name"]
    return name if is_right or not others else rng.choice(others)


def _fact(pages: JSON, page: JSON, field: str, is_right: bool, rng: random.Random) -> str:
    """A fact of a page: a year, or the name that a field gives."""
    page_type = TYPES[page["type"]]
    if field not in page["facts"]:
        field = rng.choice(list(page["facts"]))
    elif not is_right:
        field = _other_field(page, field, rng)
    value: str = page["facts"][field]
    return value if field in page_type.years else pages[value]["name"]


def _search(page: JSON, rng: random.Random) -> Action:
    return call_action("search", query=rng.choice(queries(page)[2:]))


def _targets(page: JSON) -> list[str]:
    return [page["facts"][field] for field in TYPES[page["type"]].relations]


def _other_field(page: JSON, field: str, rng: random.Random) -> str:
    """Another field of the page with the same type of thing; the same one where there is none."""
    page_type = TYPES[page["type"]]
    kinds = page_type.relations | dict.fromkeys(page_type.years, "year")
    alike = [other for other in kinds if other != field and kinds[other] == kinds[field]]
    return rng.choice(alike) if alike else field
