"""BFCL's `possible_answer` sets as an outside oracle of the tool-call verifier.

A row gives, for each argument, the values that are acceptable. Any combination is right, and so is
another spelling of its numbers and order of its keys; a changed, missing or surplus part is wrong.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from pivotrl.types import (
    JSON,
    Candidate,
    Message,
    Role,
    ToolCall,
    ToolSpec,
    Trajectory,
    action_of,
)
from pivotrl.verifiers import verifier_for


def rows(folder: Path) -> Iterator[tuple[tuple[ToolSpec, ...], str, dict[str, list[JSON]]]]:
    """(tools, name of the right one, acceptable values of each argument) of each row."""
    for answers in sorted(folder.glob("BFCL_v4_*.possible_answer*.jsonl")):
        asked = folder / answers.name.replace(".possible_answer", "")
        for row, answer in zip(
            map(orjson.loads, asked.read_bytes().splitlines()),
            map(orjson.loads, answers.read_bytes().splitlines()),
            strict=True,
        ):
            tools = tuple(
                ToolSpec(name=f["name"], parameters=f["parameters"]) for f in row["function"]
            )
            ((name, options),) = answer["ground_truth"][0].items()
            yield tools, name, options


def call(*made: tuple[str, JSON]) -> Message:
    calls = tuple(ToolCall(name=name, arguments=arguments) for name, arguments in made)
    return Message(role=Role.ASSISTANT, tool_calls=calls)


def combinations(options: dict[str, list[JSON]], most: int = 64) -> list[dict[str, JSON]]:
    """Acceptable argument sets; "" in BFCL means that the argument may be left out."""
    spread = []
    for key, allowed in options.items():
        flat: list[JSON] = []
        for value in allowed:
            flat += [combinations(value)] if isinstance(value, dict) else [[value]]
        spread.append([(key, v) for v in itertools.chain(*flat)])
    chosen = itertools.islice(itertools.product(*spread), most)
    return [{k: v for k, v in combination if v != ""} for combination in chosen]


def respelled(value: JSON) -> JSON:
    if isinstance(value, (bool, int, float)):
        return str(value)
    if isinstance(value, dict):
        return {k: respelled(v) for k, v in reversed(value.items())}
    return [respelled(v) for v in value] if isinstance(value, list) else value


def mutations(
    name: str, arguments: dict[str, JSON], required: list[str], other: str | None
) -> Iterator[Message]:
    for key, value in arguments.items():
        changed: Any = value + 7919 if type(value) in (int, float) else "something else"
        changed = (not value) if isinstance(value, bool) and key in required else changed
        yield call((name, {**arguments, key: changed}))
    for key in required:
        yield call((name, {k: v for k, v in arguments.items() if k != key}))
    yield call((name, {**arguments, "made_up": 1}))
    yield call((name, arguments), (name, arguments))
    yield call(("made_up", arguments))
    yield call((other, arguments)) if other else Message(role=Role.ASSISTANT, content="Done.")


def tally(folder: Path) -> Counter[tuple[str, float | None]]:
    """Verdicts by (`right`, `wrong` or `alone`, reward).

    `alone`: a right call judged from another right one, the set withheld.
    """
    verifier, found = verifier_for("tool_use"), Counter[tuple[str, float | None]]()
    for tools, name, options in rows(folder):
        right = combinations(options)
        messages = [call((name, arguments)) for arguments in right]
        bare = Trajectory(
            id="t",
            messages=(Message(role=Role.USER, content="Hello."), messages[0]),
            tools=tools,
        )
        full = replace(bare, accepted_actions={1: tuple(messages[1:])})
        schema = next(t.parameters for t in tools if t.name == name)
        needed = [key for key in schema["required"] if "" not in options[key]]
        other = next((t.name for t in tools if t.name != name), None)
        spelled = [call((name, respelled(arguments))) for arguments in right]
        for kind, trajectory, made in (
            ("right", full, [*messages, *spelled]),
            ("alone", bare, messages[1:]),
            ("wrong", full, list(mutations(name, right[0], needed, other))),
        ):
            candidate = Candidate(id="c", trajectory=trajectory, turn=1)
            found.update((kind, verifier.verify(candidate, action_of(m)).reward) for m in made)
    return found


def report(found: Counter[tuple[str, float | None]]) -> list[str]:
    """A table of the rates."""

    def row(kind: str, label: str, wanted: float) -> str:
        all_ = sum(n for (k, _), n in found.items() if k == kind)
        return f"| {label} | {all_} | {100 * found[kind, wanted] / all_:.1f} % |"

    return [
        "| BFCL | calls | judged so |",
        "|---|---|---|",
        row("right", "acceptable combinations, also respelled: accepted", 1.0),
        row("wrong", "mutated: rejected", 0.0),
        row("alone", "acceptable, known from one demonstration alone: accepted", 1.0),
    ]
