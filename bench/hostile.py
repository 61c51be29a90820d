"""Actions as a hostile or confused policy would write them, drawn from a seed.

Each has a kind, so that a slow or failing one can be named. Used by `verdicts.py` and the tests.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pivotrl.trajectories.rows import read_rows
from pivotrl.types import Action, Candidate, Message, Role, ToolCall
from pivotrl.verifiers.cases import read_case

CASES = Path(__file__).parents[1] / "tests" / "verdicts"
NAMES = ["bash", "str_replace_editor", "edit", "view", "search", "open_url", "find", "other"]
KEYS = ["command", "path", "query", "url", "pattern", "old_str", "new_str", "file_text", "id"]
KEYS += ["view_range", "start_line", "end_line", "insert_line", "workdir", "search_term", "dir"]
COMMANDS = ["view", "str_replace", "create", "insert"]
PIECES = [
    *"abc;|&()<>{}$`'\"\\\n -/=!#*?[]",
    *("cd ", "ls", " -la", "<<EOF\n", "EOF", "$(", "2>&1", "<&-", ">|", "|&", "&&", "||", "${x}"),
    *("if ", "then ", "fi", "for ", "do ", "done", "[[ ", " ]]", "case ", "esac", "function "),
    *("cat ", "head -n ", "sed -n '1,5p' ", "nl ", "find . -name ", "view", "-", "--", "~"),
    *("May 99, 2024", "25:99 pm", "Jan ", "not no ", "$1,0", "5 million ", "from A to B", "é"),
    *("\x00", "\ud800", "\u202e", "\u0301", "\U0001f600", "\u200b", "\ufeff", "\ue000", "٣", "ﬃ"),
    " 99999999999999999999999 ",
]
UNITS = [
    *("a", "9", "(", "[", "{", "$(", "`", "'", '"', "\\", "\n", "|", "&", ";", " ", "-", "#", "."),
    *("a.", "1,", "a@", "/x", "/../", "%2", "%25", "&a=1", "?a", "x -", "A b to C ", "not no "),
    *("Jan ", "May 1 ", "1-", "A. ", "'a ", '"a', "a b\n", "x = 1\n", "if a:\n", "-1+", "a if b "),
    *("f'{", "<<E\n", "E\n", "cat a|", "- a\n", "{'a':", '{"keystrokes":', "```\n", "```bash\n"),
    *("\u0301", "ﷺ", "é", "\x00", "\ud800", "好", "\U0001f600", "https://a.b/", "a:b@", "s/a/b/;"),
]
NUMBERS = [float("nan"), float("inf"), float("-inf"), 1e308, -0.0, 10**5000, -1, 2**63, True, None]


def deep(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


NESTED = [
    deep(levels, wrap)
    for levels in (10, 63, 65, 200, 1_000, 100_000)
    for wrap in (lambda v: [v], lambda v: {"id": v})
]


def cases() -> list[tuple[Candidate, Action]]:
    """The labelled cases of the project."""
    paths = sorted(CASES.glob("*.jsonl"))
    return [read_case(row.value) for path in paths for row in read_rows(path)]


def hostile_pairs(
    rng: random.Random, pool: Sequence[tuple[Candidate, Action]]
) -> Iterator[tuple[str, Candidate, Action]]:
    """For ever: kind, candidate, action. One candidate in 20 has a hostile demonstration too.

    One in 50 has a report of 3,000 characters, the action its words in another order.
    """
    while True:
        candidate, known = rng.choice(pool)
        kind = rng.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
        action = KINDS[kind][1](rng, known, pool)
        if rng.random() < 0.05:
            other = action if rng.random() < 0.5 else _garbage(rng, known, pool)
            kind, candidate = f"{kind}, shown", _shown(candidate, other)
        elif rng.random() < 0.02:
            report = " ".join(rng.choice(pool)[1].text for _ in range(200))[:3000]
            words = report.split()
            rng.shuffle(words)
            kind, candidate = "report", _shown(candidate, Action(text=report))
            action = Action(text="Answer: " + " ".join(words))
        yield kind, candidate, action


def _shown(candidate: Candidate, demonstration: Action) -> Candidate:
    said, calls = demonstration.text, demonstration.tool_calls
    shown = Message(role=Role.ASSISTANT, content=said, tool_calls=calls)
    messages = (*candidate.messages, shown)
    return replace(candidate, trajectory=replace(candidate.trajectory, messages=messages))


def pieces(rng: random.Random) -> str:
    return "".join(rng.choices(PIECES, k=rng.randrange(30)))


def huge(rng: random.Random) -> str:
    """Up to a megabyte of one or two units; sizes are spread evenly over magnitudes."""
    size = int(2 ** rng.uniform(6, 20))
    units = rng.choice(UNITS) + (rng.choice(UNITS) if rng.random() < 0.4 else "")
    return (units * (size // len(units) + 1))[:size] + rng.choice(["", "z", "!", "\n"])


def value(rng: random.Random, depth: int = 0) -> Any:
    simple = [pieces(rng), rng.randrange(-9, 99), rng.choice(NUMBERS)]
    nested = [[value(rng, depth + 1)], {pieces(rng): value(rng, depth + 1)}] if depth < 3 else []
    return rng.choice([*simple, *nested])


def _garbage(rng: random.Random, *_: Any) -> Action:
    def arguments() -> dict[str, Any]:
        drawn = {key: value(rng) for key in rng.sample(KEYS, rng.randrange(6))}
        if rng.random() < 0.6:
            drawn["command"] = rng.choice([pieces(rng), *COMMANDS])
        return drawn

    made = [
        ToolCall(name=rng.choice(NAMES), arguments=arguments())
        for _ in range(rng.choice([0, 1, 1, 1, 2]))
    ]
    return Action(text=pieces(rng) if rng.random() < 0.5 else "", tool_calls=tuple(made))


def _with(action: Action, rng: random.Random, put: Callable[[Any], Any]) -> Action:
    """The action with `put(old)` for one argument of one call, or for its text."""
    if not action.tool_calls:
        text = put(action.text)
        return replace(action, text=text if isinstance(text, str) else repr(type(text)))
    place = rng.randrange(len(action.tool_calls))
    calls = list(action.tool_calls)
    arguments = dict(calls[place].arguments)
    key = rng.choice([*arguments, *KEYS]) if rng.random() < 0.3 or not arguments else None
    key = key or rng.choice(list(arguments))
    arguments[key] = put(arguments.get(key))
    calls[place] = replace(calls[place], arguments=arguments)
    return replace(action, tool_calls=tuple(calls))


def _mutated(rng: random.Random, known: Action, pool: Any) -> Action:
    def spliced(old: Any) -> Any:
        if not isinstance(old, str):
            return value(rng)
        start, end = sorted(rng.randrange(len(old) + 1) for _ in range(2))
        middle = rng.choice([pieces(rng), "", old, old[start:end] * 3, rng.choice(pool)[1].text])
        return old[:start] + middle + old[end:]

    for _ in range(rng.randrange(1, 4)):
        known = _with(known, rng, spliced)
    return known


def _wrong_type(rng: random.Random, known: Action, _: Any) -> Action:
    odd = rng.choice([None, [], [{}], "{}", 7, float("nan"), {"": None}, {"a": []}, True])
    calls = tuple(replace(call, arguments=odd) for call in known.tool_calls)
    return replace(known, tool_calls=calls or (ToolCall(name="", arguments=odd),))


def _many(rng: random.Random, known: Action, pool: Sequence[tuple[Candidate, Action]]) -> Action:
    calls = known.tool_calls + rng.choice(pool)[1].tool_calls + _garbage(rng).tool_calls
    return replace(known, tool_calls=calls * rng.choice([2, 10, 60, 1_000, 5_000]))


KINDS: dict[str, tuple[int, Callable[..., Action]]] = {
    "mutated case": (50, _mutated),
    "garbage": (25, _garbage),
    "huge text": (8, lambda rng, known, _: _with(known, rng, lambda _: huge(rng))),
    "huge and known": (4, lambda rng, known, _: _with(known, rng, lambda o: f"{o}{huge(rng)}")),
    "deep": (4, lambda rng, known, _: _with(known, rng, lambda _: rng.choice(NESTED))),
    "number": (3, lambda rng, known, _: _with(known, rng, lambda _: rng.choice(NUMBERS))),
    "wrong type": (3, _wrong_type),
    "many calls": (3, _many),
}
