"""Eight synthetic skills, one a benchmark: test items, and the corpus that teaches them.

Each skill draws items of four levels of difficulty; `LEVELS` says how often, in training and in
the test, and is the only thing to tune when a base model's score leaves 55 to 90 %: a level that
training seldom shows stays hard, and its weight in the test sets how much. Training and test
items are disjoint by the hash of the prompt. This module must never know a tokenizer or model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from pivotrl.benchmarks import BENCHMARKS
from pivotrl.mini.skills import arithmetic, instructions, knowledge, programs, translation
from pivotrl.types import JSON, Message, PivotRLError, Role, digest, seed_of

SPLITS = ("train", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelWeights:
    """Relative frequency of levels 1 (easy) to 4 (hard)."""

    train: tuple[float, float, float, float]
    test: tuple[float, float, float, float]


# name: what the levels are -> how often each is drawn
LEVELS: Mapping[str, LevelWeights] = {
    # one easy constraint | a count or a position | keywords, numbers, alphabet | two at once
    "ifbench": LevelWeights(train=(2, 2, 2, 1), test=(1, 2, 2, 2)),
    # one sum | product and sum | remainder | product of two digits, then remainder
    "aime25": LevelWeights(train=(2, 3, 3, 1), test=(2, 3, 3, 1)),
    # a sum | x + a = b | ax + b = c | a quadratic function's value
    "math500": LevelWeights(train=(3, 3, 3, 1), test=(2, 3, 3, 1)),
    # one operation | two | filter and reduce a list | four operations, or filter, map, reduce
    "livecodebench": LevelWeights(train=(3, 3, 2, 1), test=(1, 2, 2, 2)),
    # f(x) + c | f(x) + f(y) | nested calls | two earlier steps, or a list
    "scicode": LevelWeights(train=(3, 1, 0.3, 0.1), test=(1, 2, 2, 2)),
    # facts by how often training shows them; level 4 is nearly never taught
    "mmlu_pro": LevelWeights(train=(8, 4, 1, 0.05), test=(2, 2, 2, 1)),
    "mmlu_prox": LevelWeights(train=(8, 4, 1, 0.05), test=(2, 2, 2, 1)),
    # common words | one adjective | rare words, two adjectives | two clauses
    "wmt24pp": LevelWeights(train=(3, 2, 1, 0.3), test=(1, 1, 1, 1)),
}

_MAKERS: Mapping[str, Callable[[Random, int], dict[str, JSON]]] = {
    "ifbench": instructions.ifbench,
    "aime25": arithmetic.aime25,
    "math500": arithmetic.math500,
    "livecodebench": programs.livecodebench,
    "scicode": programs.scicode,
    "mmlu_pro": knowledge.mmlu_pro,
    "mmlu_prox": knowledge.mmlu_prox,
    "wmt24pp": translation.wmt24pp,
}

SINGLE_TOKENS: tuple[str, ...] = tuple(
    dict.fromkeys((*instructions.WORDS, *knowledge.NAMES, *knowledge.VALUES))
)
"""Words that answers copy from prompts; a tokenizer does well to make each a single token."""

_TEST_SHARE = 5  # one hash in five belongs to the test
_MAX_TRIES = 2_000


def generate(name: str, n: int, seed: int, split: str) -> list[dict[str, JSON]]:
    """`n` rows of a benchmark's own form, with `id`, `miniature`, `level` and `reference`.

    A pure function of its arguments. Test rows are distinct, training rows may repeat. Raises
    `PivotRLError` when a level has not enough distinct test items.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {SPLITS}")
    random = Random(seed_of("skills", name, split, seed))
    weights = getattr(LEVELS[name], split)
    rows: list[dict[str, JSON]] = []
    seen: set[str] = set()
    for level in random.choices((1, 2, 3, 4), weights, k=n):
        row = _draw(name, level, split, random, seen)
        if split == "test":
            seen.add(row["id"])
        rows.append(row)
    return rows


def _draw(name: str, level: int, split: str, random: Random, seen: set[str]) -> dict[str, JSON]:
    for _ in range(_MAX_TRIES):
        row = _MAKERS[name](random, level)
        messages = BENCHMARKS[name].prompt(row | {"miniature": True})
        # By what the model sees, so that no prompt of the test is ever trained on.
        item_id = digest([name, *(message.content for message in messages)])
        if (int(item_id, 16) % _TEST_SHARE == 0) == (split == "test") and item_id not in seen:
            return {"id": item_id, "miniature": True, "level": level, **row}
    raise PivotRLError(f"{name}: level {level} has no more distinct {split} items; ask for fewer")


def reference_answer(row: Mapping[str, JSON]) -> str:
    """The text that a perfect model answers; it scores 1.0."""
    return str(row["reference"])


def conversation(name: str, row: Mapping[str, JSON]) -> tuple[Message, ...]:
    """A corpus row: the prompt's messages and the reference answer as the assistant's turn."""
    answer = Message(role=Role.ASSISTANT, content=reference_answer(row))
    return (*BENCHMARKS[name].prompt(row), answer)
