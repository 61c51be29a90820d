"""The closed language of the repo domain: identifiers, policy text, tools and issue wordings.

Everything that the domain ever says is spelled here or is code made of these names, so that a
model of a few million parameters can learn it. It must never know a task, a world or who speaks.
"""

from __future__ import annotations

from collections.abc import Mapping

from pivotrl.environments.turns import text_tool
from pivotrl.types import JSON, ToolSpec

_VERBS = ("get", "make", "find", "take", "read", "show")
_NOUNS = ("cost", "fee", "tax", "rate", "score", "level", "stock", "point")
FUNCTIONS = tuple(f"{verb}_{noun}" for verb in _VERBS for noun in _NOUNS)
SOURCES = tuple(
    f"{name}.py"
    for name in (
        *("app", "bank", "book", "cart", "club", "desk", "farm", "game"),
        *("hall", "item", "jobs", "lake", "mail", "menu", "note", "park"),
        *("plan", "room", "shop", "team", "town", "unit", "user", "zone"),
    )
)
RULES, NOTES = DOCUMENTS = ("rules.md", "notes.md")
ISSUES = tuple(f"BUG-{n}" for n in range(10, 40))

SINGLE_TOKENS: tuple[str, ...] = (*FUNCTIONS, *SOURCES, *DOCUMENTS, *ISSUES)
"""Identifiers that a tokenizer should hold as one token each: two are copied wrongly."""

COLORS = ("red", "blue", "green", "gold", "black", "white")
OPERATIONS: Mapping[str, str] = {"+": "sum", "-": "difference", "*": "product"}
PLACES = ("first", "second", "third")

CLAUSES: Mapping[str, tuple[str, ...]] = {
    "operator": ("the {operation} is wanted", "give the {operation}"),
    "constant": ("the number must be {number}", "use {number}"),
    "included": ("the limit counts too", "the limit is included"),
    "excluded": ("the limit does not count", "the limit is excluded"),
    "case": ("{color} counts too", "{color} is missing"),
    "traceback": ("the {place} is wanted", "take the {place}"),
    "rename": ("a name has changed, see notes.md", "use the new name in notes.md"),
    "arguments": ("call {helper} as it is defined", "{helper} gets the wrong order"),
    "rules": ("the number is in rules.md", "use the number in rules.md"),
}
"""What an issue says of its bug; the tests say which function it is about."""

POLICY = """You fix a repository. One call a turn. Run the tests: they stop at the first \
failure and name its issue. Search finds where a function is defined. An error is in the file \
that it names. Open a file before you edit it; old_str must occur once. Read the document or \
definition that the issue names before you edit. Run the tests after an edit. Submit when all \
passed."""


TOOLS: tuple[ToolSpec, ...] = (
    text_tool("run_tests", "Run the tests."),
    text_tool("search", "Find a definition.", "name"),
    text_tool("open", "Show a file.", "path"),
    text_tool("edit", "Replace a text.", "path", "old_str", "new_str"),
    text_tool("submit", "End the work."),
)
PARAMETERS: Mapping[str, JSON] = {tool.name: tool.parameters["required"] for tool in TOOLS}
"""The arguments of each tool, all of them required strings."""
