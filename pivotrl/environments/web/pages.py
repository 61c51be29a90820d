"""Pages as an agent reads them, and a search engine over them.

A page is JSON: `type`, `name`, `tag`, `facts` (field -> year or id of a page) and `linked` (fields
whose page it links). BM25 as in Robertson and Zaragoza, The Probabilistic Relevance Framework
(2009), with a title that counts several times. This module must never know a question.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

from pivotrl.environments.web.language import TYPES
from pivotrl.types import JSON

K1 = 1.2
"""How soon a word that is repeated in a page counts no more."""
B = 0.75
"""How much a long page is held back."""
TITLE_WEIGHT = 3
RESULTS = 3
_WORD = re.compile(r"\w+")
Index = Mapping[str, Mapping[str, int]]
"""Page id -> word -> how often it stands in the page."""


def title(page: JSON) -> str:
    return f"{page['name']}, {page['tag']}"


def text(pages: JSON, page: JSON) -> str:
    """What a page says: a linked name is followed by an id, any other by its tag."""
    shown = dict(page["facts"])
    for field in TYPES[page["type"]].relations:
        target = pages[shown[field]]
        shown[field] = (
            f"{target['name']} {shown[field]}" if field in page["linked"] else title(target)
        )
    return f"{title(page)}. {TYPES[page['type']].text.format(**shown)}"


def links(page: JSON) -> list[str]:
    return [page["facts"][field] for field in page["linked"]]


def index(pages: JSON) -> Index:
    """The words of all pages."""
    return {i: _counts(title(page), text(pages, page)) for i, page in pages.items()}


@lru_cache(maxsize=4096)
def _counts(heading: str, body: str) -> Mapping[str, int]:
    return Counter(_words(body) + (TITLE_WEIGHT - 1) * _words(heading))


def search(words: Index, query: str) -> list[str]:
    """Ids of the at most `RESULTS` pages that share a word with the query, best first."""
    sizes = {page_id: sum(counts.values()) for page_id, counts in words.items()}
    mean = sum(sizes.values()) / len(sizes)
    scores: dict[str, float] = {}
    for word in dict.fromkeys(_words(query)):
        holders = [page_id for page_id in words if word in words[page_id]]
        rarity = math.log(1 + (len(words) - len(holders) + 0.5) / (len(holders) + 0.5))
        for page_id in holders:
            often = words[page_id][word]
            length = 1 - B + B * sizes[page_id] / mean
            weight = rarity * often * (K1 + 1) / (often + K1 * length)
            scores[page_id] = scores.get(page_id, 0.0) + weight
    return sorted(scores, key=lambda page_id: (-scores[page_id], page_id))[:RESULTS]


def _words(line: str) -> list[str]:
    return _WORD.findall(line.lower())
