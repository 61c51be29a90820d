"""Segments of a small grammar in English, German, Spanish and French (WMT24++).

Articles, adjective endings and word order follow each language's rules, so that a translation is
more than a row of words. This module must never know how translations are scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from pivotrl.types import JSON

# English: German (gender, noun), Spanish, French. The first half are the common words.
NOUNS: dict[str, tuple[str, str, str]] = {
    "dog": ("m Hund", "m perro", "m chien"),
    "cat": ("f Katze", "f gata", "f chatte"),
    "house": ("n Haus", "f casa", "f maison"),
    "horse": ("n Pferd", "m caballo", "m cheval"),
    "woman": ("f Frau", "f mujer", "f femme"),
    "king": ("m König", "m rey", "m roi"),
    "car": ("n Auto", "m carro", "f voiture"),
    "forest": ("m Wald", "m bosque", "m bois"),
    "book": ("n Buch", "m libro", "m livre"),
    "table": ("m Tisch", "f mesa", "f table"),
    "ship": ("n Schiff", "m barco", "m bateau"),
    "lamp": ("f Lampe", "f lámpara", "f lampe"),
    "river": ("m Fluss", "m río", "m fleuve"),
    "door": ("f Tür", "f puerta", "f porte"),
    "key": ("m Schlüssel", "f llave", "f clé"),
    "street": ("f Straße", "f calle", "f rue"),
}
ADJECTIVES: dict[str, tuple[str, str, str]] = {
    "red": ("rot", "rojo", "rouge"),
    "heavy": ("schwer", "pesado", "lourd"),
    "black": ("schwarz", "negro", "noir"),
    "green": ("grün", "verde", "vert"),
    "warm": ("warm", "cálido", "chaud"),
    "strong": ("stark", "fuerte", "fort"),
    "short": ("kurz", "corto", "court"),
    "slow": ("langsam", "lento", "lent"),
}
VERBS: dict[str, tuple[str, str, str]] = {
    "sees": ("sieht", "ve", "voit"),
    "has": ("hat", "tiene", "a"),
    "finds": ("findet", "encuentra", "trouve"),
    "buys": ("kauft", "compra", "achète"),
    "seeks": ("sucht", "busca", "cherche"),
    "loses": ("verliert", "pierde", "perd"),
    "paints": ("malt", "pinta", "peint"),
    "sells": ("verkauft", "vende", "vend"),
}
LANGUAGES = ("de_DE", "es_MX", "fr_FR")


@dataclass(frozen=True, slots=True, kw_only=True)
class NounPhrase:
    noun: str
    adjective: str | None
    definite: bool


def wmt24pp(random: Random, level: int) -> dict[str, JSON]:
    language = random.choice(LANGUAGES)
    clauses = [_clause(random, level) for _ in range(2 if level == 4 else 1)]
    return {
        "text": _sentence("en_US", clauses),
        "translation": (translation := _sentence(language, clauses)),
        "source_language": "en",
        "target_language": language,
        "reference": translation,
    }


def _clause(random: Random, level: int) -> tuple[NounPhrase, str, NounPhrase]:
    half = 2 if level <= 2 else 1  # rare words belong to levels 3 and 4
    nouns, adjectives, verbs = (
        list(words)[: len(words) // half] for words in (NOUNS, ADJECTIVES, VERBS)
    )
    described = {1: (False, False), 2: random.choice(((True, False), (False, True)))}.get(
        level, (True, True)
    )
    subject, thing = (
        NounPhrase(
            noun=random.choice(nouns),
            adjective=random.choice(adjectives) if with_adjective else None,
            definite=random.random() < 0.5,
        )
        for with_adjective in described
    )
    return subject, random.choice(verbs), thing


def _sentence(language: str, clauses: list[tuple[NounPhrase, str, NounPhrase]]) -> str:
    phrase = {"en_US": _english, "de_DE": _german, "es_MX": _spanish, "fr_FR": _french}[language]
    link = {"en_US": " and ", "de_DE": " und ", "es_MX": " y ", "fr_FR": " et "}[language]
    column = {"de_DE": 0, "es_MX": 1, "fr_FR": 2}.get(language)
    parts = [
        f"{phrase(subject, False)} {verb if column is None else VERBS[verb][column]} "
        f"{phrase(thing, True)}"
        for subject, verb, thing in clauses
    ]
    text = link.join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _english(phrase: NounPhrase, accusative: bool) -> str:
    article = "the" if phrase.definite else "a"
    return " ".join(word for word in (article, phrase.adjective, phrase.noun) if word)


def _german(phrase: NounPhrase, accusative: bool) -> str:
    gender, noun = NOUNS[phrase.noun][0].split()
    article, ending = {
        ("m", True): ("den", "en") if accusative else ("der", "e"),
        ("m", False): ("einen", "en") if accusative else ("ein", "er"),
        ("f", True): ("die", "e"),
        ("f", False): ("eine", "e"),
        ("n", True): ("das", "e"),
        ("n", False): ("ein", "es"),
    }[gender, phrase.definite]
    if phrase.adjective is None:
        return f"{article} {noun}"
    return f"{article} {ADJECTIVES[phrase.adjective][0]}{ending} {noun}"


def _spanish(phrase: NounPhrase, accusative: bool) -> str:
    gender, noun = NOUNS[phrase.noun][1].split()
    article = {"m": ("un", "el"), "f": ("una", "la")}[gender][phrase.definite]
    if phrase.adjective is None:
        return f"{article} {noun}"
    adjective = ADJECTIVES[phrase.adjective][1]
    if gender == "f" and adjective.endswith("o"):
        adjective = f"{adjective[:-1]}a"
    return f"{article} {noun} {adjective}"


def _french(phrase: NounPhrase, accusative: bool) -> str:
    gender, noun = NOUNS[phrase.noun][2].split()
    article = {"m": ("un", "le"), "f": ("une", "la")}[gender][phrase.definite]
    if phrase.adjective is None:
        return f"{article} {noun}"
    adjective = ADJECTIVES[phrase.adjective][2]
    if gender == "f" and not adjective.endswith("e"):
        adjective = f"{adjective}e"
    return f"{article} {noun} {adjective}"
