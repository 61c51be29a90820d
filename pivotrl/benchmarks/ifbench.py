"""IFBench: requests with constraints that a program can check.

The score is prompt-level loose accuracy, the paper's headline: every constraint holds in the
output or in one of its variants without first line, last line or asterisks. This module must never
know how a constraint is checked, that is `constraints`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pivotrl.benchmarks.base import Benchmark, Row, Score, Source, user_prompt
from pivotrl.benchmarks.constraints import CHECKS
from pivotrl.types import JSON, Message, PivotRLError

MAX_CHARACTERS = 50_000
"""What is judged of an output; no constraint of the data set needs as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Whether the output follows each constraint, in the row's order."""

    strict: tuple[bool, ...]
    """As it stands."""
    loose: tuple[bool, ...]
    """It or one of its variants."""

    @property
    def all_strict(self) -> bool:
        return all(self.strict)

    @property
    def all_loose(self) -> bool:
        return all(self.loose)


def prompt(row: Row) -> tuple[Message, ...]:
    return user_prompt(row["prompt"])


def variants(output: str) -> list[str]:
    """The eight texts of which one must follow a constraint (AllenAI's loose evaluation)."""
    lines = output.split("\n")
    cut = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    texts = [output, *cut]
    return texts + [text.replace("*", "") for text in texts]


def verdicts(row: Row, output: str) -> Verdicts:
    """Raises `PivotRLError` for a constraint that is unknown or lacks an argument."""
    names, given = row["instruction_id_list"], row["kwargs"]
    checks = [_bound(row, name, kwargs) for name, kwargs in zip(names, given, strict=True)]
    output = output[:MAX_CHARACTERS]
    texts = [text for text in variants(output) if text.strip()]
    return Verdicts(
        strict=tuple(bool(output.strip()) and follows(output) for follows in checks),
        loose=tuple(any(map(follows, texts)) for follows in checks),
    )


def _bound(row: Row, name: str, given: Mapping[str, JSON]) -> Callable[[str], bool]:
    """The check of one of the row's constraints, of a text that is not blank."""
    if name not in CHECKS:
        raise PivotRLError(
            f"ifbench item {row.get('id')}: constraint {name!r} is not one of IFBench's "
            f"{len(CHECKS)}; drop the row"
        )
    try:
        arguments = CHECKS[name].read(given)
    except PivotRLError as error:
        raise PivotRLError(
            f"ifbench item {row.get('id')}: constraint {name!r}: {error}; mend or drop the row"
        ) from None
    return lambda text: CHECKS[name].follows(text, *arguments)


def score(row: Row, output: str) -> Score:
    followed = verdicts(row, output).all_loose
    return Score(value=float(followed), extracted=output if output.strip() else None)


BENCHMARK = Benchmark(
    name="ifbench",
    prompt=prompt,
    score=score,
    source=Source(path="allenai/IFBench_test", split="train"),
    repeats=5,
)
