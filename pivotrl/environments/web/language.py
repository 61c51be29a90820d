"""The closed language of the web domain: names, kinds of page, policy text, tools and wordings.

Everything that is ever said in the domain is spelled here, so that a model of a few million
parameters can learn it. It must never know a task, a world or who speaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pivotrl.environments.turns import text_tool
from pivotrl.types import ToolSpec

IDS = tuple(f"P{n}" for n in range(100, 180))
YEARS = tuple(f"AD{n}" for n in range(1850, 1890))


@dataclass(frozen=True, slots=True, kw_only=True)
class PageType:
    names: tuple[str, ...]
    tags: tuple[str, ...]
    """The word after a name, which tells pages of one name apart."""
    text: str
    """What a page says after its title, with a field for each fact."""
    years: tuple[str, str]
    """The fields that hold years, the earlier first."""
    relations: dict[str, str]
    """Field -> type of the page that it names."""


TYPES: Mapping[str, PageType] = {
    "person": PageType(
        names=(
            *("Anka", "Bodo", "Celia", "Dario", "Edda", "Fritz", "Greta", "Horst"),
            *("Ilse", "Jonas", "Klara", "Ludo", "Marta", "Nils", "Olga", "Pavel"),
            *("Quirin", "Rita", "Sven", "Tilda", "Ulla", "Velma", "Wilma", "Yuri"),
            *("Zora", "Bruno", "Doris", "Emil", "Frieda", "Gustav", "Heidi", "Ivo"),
        ),
        tags=(
            *("baker", "miller", "tailor", "mason", "potter", "weaver"),
            *("pilot", "painter", "poet", "nurse", "smith", "singer"),
            *("farmer", "sailor", "dancer", "hunter"),
        ),
        text="Born {birth year} in {birthplace}. Moved {move year} to {home}. "
        "Teacher: {teacher}. Partner: {partner}.",
        years=("birth year", "move year"),
        relations={"birthplace": "town", "home": "town", "teacher": "person", "partner": "person"},
    ),
    "town": PageType(
        names=(
            *("Arnow", "Belton", "Corva", "Delmar", "Elsing", "Farrow", "Gorst", "Holmby"),
            *("Ivrea", "Jaxby", "Kelso", "Lindow", "Morva", "Norby", "Ostra", "Pelham"),
            *("Rudnik", "Selby", "Torvik", "Ulverton"),
        ),
        tags=(
            *("coast", "hills", "plain", "forest", "island"),
            *("valley", "desert", "marsh", "lake", "river"),
        ),
        text="Founded {founding year} by {founder}. Railway {railway year}. Mayor: {mayor}.",
        years=("founding year", "railway year"),
        relations={"founder": "person", "mayor": "person"},
    ),
    "firm": PageType(
        names=("Axion", "Brixo", "Codax", "Dynor", "Ferrum", "Gavox", "Intor", "Lumex"),
        tags=("clocks", "boats", "lamps", "carts", "ropes", "bells"),
        text="Founded {founding year} by {founder}. Sold {sale year} to {buyer}.",
        years=("founding year", "sale year"),
        relations={"founder": "person", "buyer": "person"},
    ),
    "invention": PageType(
        names=("Aerovan", "Cryolit", "Duplor", "Electra", "Fotomat", "Glidex"),
        tags=("steam", "glass", "copper", "rubber", "paper", "silk"),
        text="Patented {patent year} by {inventor}. Built {building year} by {maker}, "
        "sold by {seller}.",
        years=("patent year", "building year"),
        relations={"inventor": "person", "maker": "firm", "seller": "firm"},
    ),
}
NAMES = tuple(name for page_type in TYPES.values() for name in page_type.names)

SINGLE_TOKENS: tuple[str, ...] = (*IDS, *YEARS, *NAMES)
"""Identifiers that a tokenizer should hold as one token each: two are copied wrongly."""

POLICY = """You answer questions from the pages of a library. One call a turn. An id after a \
name is a link: open it. Search a name that has none. Several pages have one name: the word after \
the name says which. Read every page that the question leads to, then answer with one name or \
year."""


TOOLS: tuple[ToolSpec, ...] = (
    text_tool("search", "Find pages by words.", "query"),
    text_tool("open", "Read a page.", "id"),
)

QUERIES = ("{name} {tag}", "{tag} {name}", "{name}, {tag}", "{name}")
"""The sensible queries for a page; the first two are in the expert's style."""
ASK = ("What is {}?", "Tell me {}.", "Find {}.")
ASK_WHICH = (
    "Which has the {pick} {field}: {legs}?",
    "Tell me which has the {pick} {field}: {legs}.",
)
ANSWERS = ("It is {}.", "I found {}.", "That is {}.", "{}")
"""The wordings of an answer; the first two are in the expert's style."""
