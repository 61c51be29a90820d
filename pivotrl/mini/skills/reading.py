"""Drills for the web domain: a page's facts, field by field, and the hops of a question.

An episode asks for a few of these a turn; a drill asks for many at once. This module must never
know an episode.
"""

from __future__ import annotations

from random import Random

from pivotrl.environments.web.language import ASK, IDS, TYPES, YEARS, PageType
from pivotrl.types import JSON

HOPS = 0.4
"""Share of the drills that are about a question's hops, not about a page."""


def reading_drill(random: Random) -> tuple[str, str]:
    """A question and its answer."""
    return _hops(random) if random.random() < HOPS else _facts(random)


def _hops(random: Random) -> tuple[str, str]:
    """The fields of a question, in the order in which they are followed."""
    at = random.choice(list(TYPES))
    start, fields = f"{_title(random, TYPES[at])}", list[str]()
    for _ in range(random.randint(1, 5)):
        fields.append(random.choice(list(TYPES[at].relations)))
        at = TYPES[at].relations[fields[-1]]
    if random.random() < 0.5:
        fields.append(random.choice(TYPES[at].years))
    ways = "".join(f"the {field} of " for field in reversed(fields))
    return random.choice(ASK).format(ways + start), "\n".join([start, *fields])


def _facts(random: Random) -> tuple[str, str]:
    """A page and fields of it; the answer gives what each field says."""
    page_type = random.choice(list(TYPES.values()))
    facts: JSON = dict(zip(page_type.years, sorted(random.sample(YEARS, 2)), strict=True))
    said = dict(facts)
    for field, target_type in page_type.relations.items():
        name, page_id = random.choice(TYPES[target_type].names), random.choice(IDS)
        linked = random.random() < 0.5
        said[field] = page_id if linked else _title(random, TYPES[target_type], name)
        facts[field] = f"{name} {page_id}" if linked else said[field]
    asked = random.choices(list(said), k=random.randint(3, 6))
    page = f"{_title(random, page_type)}. {page_type.text.format(**facts)}"
    return f"{page}\n{', '.join(asked)}", "\n".join(said[field] for field in asked)


def _title(random: Random, page_type: PageType, name: str | None = None) -> str:
    return f"{name or random.choice(page_type.names)}, {random.choice(page_type.tags)}"
