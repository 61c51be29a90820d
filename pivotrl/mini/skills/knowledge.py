"""A small world of invented facts, asked in English (MMLU-Pro) and in German, Spanish, French.

Each fact (a place, a relation, a value) has a level, and training shows high levels rarely: so the
level is how well a model can know it. The facts are fixed: they do not depend on any seed. This
module must never know how answers are scored.
"""

from __future__ import annotations

from random import Random

from pivotrl.benchmarks.mmlu_pro import LETTERS
from pivotrl.benchmarks.mmlu_prox import LANGUAGES
from pivotrl.types import JSON, seed_of

NAMES = (
    *("Alda", "Arvo", "Belo", "Bruna", "Calo", "Ceris", "Dalma", "Doro", "Elba", "Ervin"),
    *("Fano", "Felda", "Galo", "Gerta", "Halma", "Horo", "Ilva", "Isko", "Jalo", "Jorda"),
    *("Kalda", "Kero", "Lamo", "Lirna", "Malo", "Merva", "Nalda", "Noro", "Olma", "Orvo"),
    *("Palo", "Perna", "Quano", "Quilda", "Ralo", "Rumba", "Salvo", "Serna", "Talo", "Torva"),
    *("Ulda", "Umbro", "Valo", "Virna", "Walda", "Woro", "Xalo", "Yelma", "Zalvo", "Zirna"),
)

RELATIONS: dict[str, tuple[str, ...]] = {
    "capital": ("Ankor", "Bost", "Cray", "Drum", "Esk", "Frol", "Gand", "Hurn", "Kest", "Lorn"),
    "river": ("Abba", "Bira", "Cona", "Dova", "Ebra", "Fula", "Gita", "Hova", "Isa", "Jura"),
    "metal": (
        "gold",
        "iron",
        "lead",
        "tin",
        "zinc",
        "steel",
        "nickel",
        "copper",
        "silver",
        "radium",
    ),
    "king": ("Adam", "Boris", "Carl", "David", "Edgar", "Frank", "Georg", "Hugo", "Igor", "Karl"),
    "hero": (
        "Medea",
        "Norma",
        "Odette",
        "Paula",
        "Rosa",
        "Sofia",
        "Tosca",
        "Ursula",
        "Vera",
        "Wanda",
    ),
}
VALUES: tuple[str, ...] = tuple(value for values in RELATIONS.values() for value in values)

# language -> relation's words, question, sentence that recalls the fact
_WORDS: dict[str, dict[str, str]] = {
    "de": {
        "capital": "Die Hauptstadt",
        "river": "Der Fluss",
        "metal": "Das Metall",
        "king": "Der König",
        "hero": "Die Heldin",
    },
    "es": {
        "capital": "La capital",
        "river": "El río",
        "metal": "El metal",
        "king": "El rey",
        "hero": "La heroína",
    },
    "fr": {
        "capital": "La capitale",
        "river": "Le fleuve",
        "metal": "Le métal",
        "king": "Le roi",
        "hero": "L'héroïne",
    },
}
_FORMS: dict[str, tuple[str, str]] = {
    "de": ("{relation} von {place} ist:", "{relation} von {place} ist {value}"),
    "es": ("{relation} de {place} es:", "{relation} de {place} es {value}"),
    "fr": ("{relation} de {place} est :", "{relation} de {place} est {value}"),
}


def value_of(place: str, relation: str) -> str:
    values = RELATIONS[relation]
    return values[seed_of("fact", place, relation) % len(values)]


def level_of(place: str, relation: str) -> int:
    """1 (taught often) to 4 (nearly never)."""
    return seed_of("level", place, relation) % 4 + 1


FACTS: dict[int, tuple[tuple[str, str], ...]] = {
    level: tuple((p, r) for p in NAMES for r in RELATIONS if level_of(p, r) == level)
    for level in (1, 2, 3, 4)
}


def sentence(language: str, place: str, relation: str) -> str:
    """The fact in words, without a full stop."""
    value = value_of(place, relation)
    if language == "en":
        return f"The {relation} of {place} is {value}"
    words = _WORDS[language][relation]
    return _FORMS[language][1].format(relation=words, place=place, value=value)


def mmlu_pro(random: Random, level: int) -> dict[str, JSON]:
    place, relation = random.choice(FACTS[level])
    row = _choices(random, place, relation)
    question = random.choice(
        (f"What is the {relation} of {place}?", f"Which of these is the {relation} of {place}?")
    )
    return row | {
        "question": question,
        "reference": f"{sentence('en', place, relation)} ({row['answer']}).\n"
        f"Answer: {row['answer']}",
    }


def mmlu_prox(random: Random, level: int) -> dict[str, JSON]:
    place, relation = random.choice(FACTS[level])
    code = random.choice(tuple(_WORDS))
    row = _choices(random, place, relation)
    question = _FORMS[code][0].format(relation=_WORDS[code][relation], place=place)
    closing = LANGUAGES[code].answer.format(row["answer"])
    return row | {
        "language": code,
        "question": question,
        "reference": f"{sentence(code, place, relation)} ({row['answer']}).\n{closing}",
    }


def _choices(random: Random, place: str, relation: str) -> dict[str, JSON]:
    value = value_of(place, relation)
    others = [other for other in RELATIONS[relation] if other != value]
    count = min(random.randint(3, 10), random.randint(3, 10))  # long lists are learned from short
    options = [*random.sample(others, count - 1), value]
    random.shuffle(options)
    index = options.index(value)
    return {
        "options": options,
        "answer": LETTERS[index],
        "answer_index": index,
        "category": "other",
    }
