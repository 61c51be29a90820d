"""Web tasks: a small library and a question that takes several hops, drawn from a seed.

A task is plain JSON and holds all that the world needs. A question has one or more legs: each
starts at a named page and goes from page to page by a field of each. With one leg a fact of its
last page is asked for; with more, which of the last pages has the earliest or latest year. It must
never know a conversation.
"""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

from pivotrl.environments.web import pages as library
from pivotrl.environments.web.language import ASK, ASK_WHICH, IDS, QUERIES, TYPES, YEARS
from pivotrl.types import JSON, ConfigError, digest

KINDS = ("year", "person", "town", "first", "last")
"""What is asked for: a fact of the last page, or which last page is first or last by a year."""
TURNS = (4, 24)
"""The least and the most agent turns that a task can take."""
DEFAULT_TURNS = (4, 8)
MAX_LEGS = 6
START_COST, MAX_COST = 2, 6
"""Turns of a leg: search and open its start; with every hop, one by a link and else two."""
COMPARED = ("person", "town")
"""Types of the last pages that are compared."""
PICKS = {"first": "earliest", "last": "latest"}
SPARE = {"person": 4, "town": 3, "firm": 2, "invention": 0}
"""Pages that no leg goes to, besides the namesakes."""
NAMESAKES = (0, 1, 1, 2)
"""How many other pages have the name of a page to be read."""


def draw_task(rng: random.Random, horizon: int | None = None) -> JSON:
    """A task that an expert needs exactly `horizon` agent turns for, the answer included.

    Without a horizon 4 to 8 turns. Raises ConfigError for a horizon outside 4 to 24.
    """
    if horizon is not None and not TURNS[0] <= horizon <= TURNS[1]:
        raise ConfigError(
            f"horizon = {horizon}: tasks of the web domain take {TURNS[0]} to {TURNS[1]} turns"
        )
    turns = horizon or rng.randint(*DEFAULT_TURNS)
    task = _draw(rng, turns)
    return {"id": digest(task)} | task


def route(task: JSON) -> list[tuple[str, str | None]]:
    """The pages to read, leg by leg, each with the field that names it (None for a start)."""
    return [
        (page_id, field)
        for leg in task["legs"]
        for page_id, field in zip(leg["pages"], [None, *leg["fields"]], strict=True)
    ]


def queries(page: JSON) -> list[str]:
    """The sensible queries for a page."""
    return [query.format(name=page["name"], tag=page["tag"]) for query in QUERIES]


def _draw(rng: random.Random, turns: int) -> JSON:
    costs = _leg_costs(rng, turns - 1)
    compares = len(costs) > 1
    final = rng.choice(COMPARED) if compares else None
    while True:
        paths = [_path(rng, _hop_costs(rng, cost), final) for cost in costs]
        needed = Counter(page_type for path in paths for page_type, _, _ in path)
        if all(count < len(TYPES[t].tags) for t, count in needed.items()):
            break
    last_type = TYPES[paths[0][-1][0]]
    ask = rng.choice([*last_type.years, *(() if compares else last_type.relations)])
    pages, legs = _draw_pages(rng, paths)
    last_pages = [pages[leg["pages"][-1]] for leg in legs]
    if compares:
        years = rng.sample(YEARS[1:-1], len(legs))
        for page, year in zip(last_pages, years, strict=True):
            _set_year(rng, page, ask, year)
        kind = rng.choice(list(PICKS))
        chosen = (min if kind == "first" else max)(last_pages, key=lambda page: page["facts"][ask])
        answer = chosen["name"]
        described = "; ".join(_described(pages, leg) for leg in legs)
        question = rng.choice(ASK_WHICH).format(pick=PICKS[kind], field=ask, legs=described)
    else:
        kind = last_type.relations.get(ask, "year")
        answer = last_pages[0]["facts"][ask]
        answer = answer if kind == "year" else pages[answer]["name"]
        question = rng.choice(ASK).format(f"the {ask} of {_described(pages, legs[0])}")
    return {
        "kind": kind,
        "question": question,
        "ask": ask,
        "legs": legs,
        "answer": answer,
        "turns": turns,
        "pages": dict(sorted(pages.items())),
    }


def _leg_costs(rng: random.Random, total: int) -> list[int]:
    """Turns of each leg, `total` in all."""
    least = -(-total // MAX_COST)
    most = min(MAX_LEGS, total // 3) if total > 5 else total // START_COST
    costs = [START_COST] * rng.randint(least, most)
    while sum(costs) < total:
        costs[rng.choice([i for i, cost in enumerate(costs) if cost < MAX_COST])] += 1
    return costs


def _hop_costs(rng: random.Random, cost: int) -> list[int]:
    """Turns of each hop after the start: 1 is by a link, 2 by a search."""
    left, hops = cost - START_COST, list[int]()
    while left:
        hops.append(min(left, rng.randint(1, 2)))
        left -= hops[-1]
    return hops


Path = list[tuple[str, str | None, bool]]
"""Type of each page, the field that leads on from it, and whether that is a link."""


def _path(rng: random.Random, hop_costs: list[int], final: str | None) -> Path:
    """A way through the types, which ends at `final` if that is given."""
    while True:
        path, at, before = Path(), rng.choice(list(TYPES)), None
        for cost in hop_costs:
            field = rng.choice([f for f in TYPES[at].relations if f != before])
            path.append((at, field, cost == 1))
            at, before = TYPES[at].relations[field], field
        if final in (None, at):
            return [*path, (at, None, False)]


def _draw_pages(rng: random.Random, paths: list[Path]) -> tuple[JSON, list[JSON]]:
    """The library and the legs through it.

    A page of a leg names pages that are not on any leg, but for the next one, and shares no other
    name or tag with a page of a leg. So a wrong way never leads back, and a query for a page of a
    leg shows no other one that is still to be read.
    """
    ids = iter(rng.sample(IDS, len(IDS)))
    names = {t: iter(rng.sample(TYPES[t].names, len(TYPES[t].names))) for t in TYPES}
    tags = {t: rng.sample(TYPES[t].tags, len(TYPES[t].tags)) for t in TYPES}
    pages: dict[str, JSON] = {}

    def add(page_type: str, name: str, tag: str) -> str:
        page_id = next(ids)
        pages[page_id] = {"type": page_type, "name": name, "tag": tag}
        return page_id

    legs = []
    for path in paths:
        on = [add(t, next(names[t]), tags[t].pop()) for t, _, _ in path]
        legs.append({"pages": on, "fields": [field for _, field, _ in path if field]})
    needed = list(pages)
    spare = {
        t: [add(t, next(names[t]), rng.choice(tags[t])) for _ in range(count)]
        for t, count in SPARE.items()
    }
    off = {t: list(page_ids) for t, page_ids in spare.items()}
    for page in [pages[page_id] for page_id in needed]:
        others = [tag for tag in TYPES[page["type"]].tags if tag != page["tag"]]
        for tag in rng.sample(others, rng.choice(NAMESAKES)):
            off[page["type"]].append(add(page["type"], page["name"], tag))
    leads = {
        page_id: (field, then, linked)
        for leg, path in zip(legs, paths, strict=True)
        for (page_id, then), field, (_, _, linked) in zip(
            pairwise(leg["pages"]), leg["fields"], path[:-1], strict=True
        )
    }
    for page_id, page in pages.items():
        targets = spare if page_id in needed else off
        _fill(rng, pages, page, targets, leads.get(page_id))
    return pages, legs


def _fill(
    rng: random.Random,
    pages: JSON,
    page: JSON,
    targets: dict[str, list[str]],
    lead: tuple[str, str, bool] | None,
) -> None:
    """Facts and links of a page; all the names on it differ."""
    page_type = TYPES[page["type"]]
    facts = dict(zip(page_type.years, sorted(rng.sample(YEARS, 2)), strict=True))
    linked = [field for field in page_type.relations if rng.random() < 0.5]
    seen = {page["name"]}
    if lead is not None:
        field, then, is_link = lead
        facts[field] = then
        seen.add(pages[then]["name"])
        linked = [f for f in linked if f != field] + [field] * is_link
    for field, target_type in page_type.relations.items():
        if field not in facts:
            facts[field] = rng.choice(
                [i for i in targets[target_type] if pages[i]["name"] not in seen]
            )
            seen.add(pages[facts[field]]["name"])
    page |= {"facts": facts, "linked": sorted(linked)}


def _set_year(rng: random.Random, page: JSON, field: str, year: str) -> None:
    """Give a page this year; its other year stays before or after it."""
    first, second = TYPES[page["type"]].years
    at = YEARS.index(year)
    other = YEARS[at + 1 :] if field == first else YEARS[:at]
    page["facts"] |= {field: year, second if field == first else first: rng.choice(other)}


def _described(pages: JSON, leg: JSON) -> str:
    ways = "".join(f"the {field} of " for field in reversed(leg["fields"]))
    return ways + library.title(pages[leg["pages"][0]])
