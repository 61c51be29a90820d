"""Dense practice of what the skills are made of: it teaches a small model in few tokens.

A drill asks for many small things at once, so that most of its tokens are the assistant's. Only
training has drills. This module must never know how often drills are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from pivotrl.benchmarks.mmlu_pro import LETTERS
from pivotrl.mini.skills.arithmetic import remainder_steps
from pivotrl.mini.skills.instructions import WORDS
from pivotrl.mini.skills.knowledge import FACTS, RELATIONS, sentence
from pivotrl.mini.skills.reading import reading_drill
from pivotrl.types import Message, Role

Make = Callable[[Random], tuple[str, str]]
FACT_LEVELS = (8, 4, 1, 0.05)
"""How often facts of each level are told."""
PAIRS = ("{} {}", "{}: {}", '{{"product": "{}", "order_id": "{}"}}')
"""How recall writes a pair."""


def drill(random: Random, domain: str, words: Sequence[str], copying: float) -> tuple[Message, ...]:
    """A question and its answer; `words` are what recall practises, in that share of the drills."""
    (make,) = random.choices(tuple(KINDS), tuple(KINDS.values()))
    if domain in OWN and random.random() < OWN_SHARE:
        make = OWN[domain]
    recalls = random.random() < copying
    question, answer = _recall(random, words) if recalls else make(random)
    return (
        Message(role=Role.USER, content=question),
        Message(role=Role.ASSISTANT, content=answer),
    )


def _recall(random: Random, words: Sequence[str]) -> tuple[str, str]:
    """Random pairs of words, said again, half the time in another order: it teaches to copy."""
    chosen = random.sample(words, 2 * random.randint(2, 8))
    form = random.choice(PAIRS)
    pairs = [form.format(a, b) for a, b in zip(chosen[::2], chosen[1::2], strict=True)]
    question = "\n".join(pairs)
    if random.random() < 0.5:
        random.shuffle(pairs)
    return question, "\n".join(pairs)


def _sums(random: Random) -> tuple[str, str]:
    tasks, answers = [], []
    for _ in range(random.randint(4, 8)):
        a, b, c = random.randint(2, 99), random.randint(2, 9), random.randint(2, 9)
        sign = random.choice("+-*r")
        if sign == "r":
            tasks.append(f"{a} by {b}")
            answers += remainder_steps(a, b)
        elif sign == "*":
            tasks.append(f"{b} * {c}")
            answers.append(f"{b} * {c} = {b * c}")
        else:
            a = max(a, b)
            tasks.append(f"{a} {sign} {b}")
            answers.append(f"{a} {sign} {b} = {a + b if sign == '+' else a - b}")
    return "\n".join(tasks), ". ".join(answers)


def _choice(random: Random) -> tuple[str, str]:
    """Options and some of their values, each with its letter."""
    values = RELATIONS[random.choice(tuple(RELATIONS))]
    options = random.sample(values, random.randint(2, len(values)))
    mark = random.choice(").")
    asked = random.choices(options, k=random.randint(3, 6))
    question = "\n".join(f"{a}{mark} {option}" for a, option in zip(LETTERS, options, strict=False))
    answers = [f"{value} ({LETTERS[options.index(value)]})." for value in asked]
    return f"{question}\n{' '.join(asked)}", "\n".join(answers)


def _facts(random: Random) -> tuple[str, str]:
    language = random.choice(("en", "en", "en", "de", "es", "fr"))
    levels = random.choices((1, 2, 3, 4), FACT_LEVELS, k=random.randint(3, 6))
    facts = [random.choice(FACTS[level]) for level in levels]
    question = [language, *(f"{place} {relation}" for place, relation in facts)]
    answer = [sentence(language, place, relation) for place, relation in facts]
    return "\n".join(question), ".\n".join(answer) + "."


def _alphabet(random: Random) -> tuple[str, str]:
    """Words of one letter after the other."""
    start, length = random.randint(0, 14), random.randint(4, 6)
    chosen = [WORDS[2 * i + random.randint(0, 1)] for i in range(start, min(start + length, 20))]
    return f"alphabet {chosen[0]}", " ".join(chosen)


OWN: Mapping[str, Make] = {"web": reading_drill}
"""What a domain's own drills are made by."""
OWN_SHARE = 0.5
KINDS: Mapping[Make, int] = {_sums: 14, _choice: 4, _facts: 3, _alphabet: 1}
"""Relative frequency of the drills beside recall; sums are learned last."""
