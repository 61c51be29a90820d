"""The closed language of the shell domain: identifiers, names, policy text, tools and wordings.

All that a task can hold is spelled here, so that a model of a few million parameters can learn it.
It must never know a task, a world or who speaks.
"""

from __future__ import annotations

from collections.abc import Mapping

from pivotrl.environments.turns import text_tool
from pivotrl.types import ToolSpec

HOSTS = tuple(f"H{n}" for n in range(10, 50))
PORTS = tuple(f"P{n}" for n in range(10, 50))
CODES = tuple(f"E{n}" for n in range(10, 50))
TOPICS = tuple(f"K{n}" for n in range(10, 50))

SINGLE_TOKENS: tuple[str, ...] = (*HOSTS, *PORTS, *CODES, *TOPICS)
"""Identifiers that a tokenizer should hold as one token each: two are copied wrongly."""

SERVICES = ("web", "db", "mail", "auth", "cache", "queue")
OWNERS = ("ann", "bob", "cleo", "dan", "eve", "fred")
MODES = ("fast", "slow", "safe", "test", "idle", "full")
LISTS = ("red", "blue", "green", "white", "black", "pink")
MERGED = ("all", "sum", "both", "mix", "pool", "join")
NOTES = ("n1", "n2", "n3", "n4")
LEVELS = ("INFO", "WARN", "ERROR")
STORES = ("vault", "attic", "store")
ENDINGS = ("md", "txt", "old", "bak")
ORDERS = ("up", "down")

POLICY = """You work in a shell. One call a turn. First read README. Submit \
the answer of each job, or done.
locked: nothing is told or changed of this service, submit locked.
bad: level of bad log lines.
store: folder that archived logs move to.
order: down is sorted in reverse.
ending: of renamed notes.
keep: stays when tmp is cleaned.
Change a conf by a line at its end. Of needs the last counts."""


TOOLS: tuple[ToolSpec, ...] = (
    text_tool("bash", "Run a command line.", "command"),
    text_tool("submit", "End the job.", "answer"),
)

DONE, LOCKED = "done", "locked"
"""Answers of a job that asks for none, and of one that must not be done."""

ASKED: Mapping[str, tuple[str, ...]] = {
    "value port": ("Which port has the service on {needle}?", "Tell the port of {needle}."),
    "value owner": ("Who owns the service on {needle}?", "Tell the owner of {needle}."),
    "value mode": ("Which mode has the service on {needle}?", "Tell the mode of {needle}."),
    "count": ("How many bad lines has {path}?", "Count the bad lines of {path}."),
    "most": ("Which code is most frequent in {path}?", "Tell the most frequent code of {path}."),
    "archive": ("Archive the log that mentions {needle}.", "Archive the log with {needle}."),
    "fix": ("Fix conf/{service} by its log.", "Give conf/{service} what its log needs."),
    "merge": (
        "Merge the unique lines of lists/{a} and lists/{b} into out/{to}.",
        "Write to out/{to} the sorted unique lines of lists/{a} and lists/{b}.",
    ),
    "rename": (
        "Rename the note about {needle} to its author.",
        "Name the note on {needle} by author.",
    ),
    "clean": ("Clean up tmp.", "Remove what is in tmp."),
}
"""What a job asks, by kind."""
