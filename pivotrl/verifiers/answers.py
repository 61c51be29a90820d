"""Is a final answer the reference, perhaps in more or in fewer words?

Every value of the reference is there and no other in its place, its names and no rival, the same
yes or no, the same reason. This module must never know a domain.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set

from pivotrl.verifiers import english
from pivotrl.verifiers.english import COURTESY, STOP, WORD, stem
from pivotrl.verifiers.facts import Reading, plain_letters, read
from pivotrl.verifiers.text import (
    BECAUSE,
    LENGTH_FACTOR,
    LENGTH_SLACK,
    MAX_CHARACTERS,
    VALUES,
    denied,
    exchanged,
    exchanged_words,
    states,
)

MIN_SAID = 0.6
"""Of the content words of an answer in sentences."""
MAX_UNITS = 2
"""Words of an answer that a bare number may leave out: "17 arches"."""
_ONE = r"(?:[A-Z]\.|[A-Z][\w'-]*)"
_NAME = re.compile(rf"{_ONE}(?: (?:(?:of|the|de|do|da|di|du|la|le|van|von|der) ){{0,2}}{_ONE})*")
# `[^\w\n]` and no `\W`: what crosses lines is tried from every one of them again.
_SAID = re.compile(r"(?im)^[^\w\n]*(?:exact|final)? ?answer[^\w\n:]*:\W*(.+)$")
_ANSWER_IS = re.compile(r"(?i)\bthe (?:exact |final )?answer is:?\s+")
_NOT_THAT = re.compile(r"(?:, | and | but )not (?:the |an? )?[\w' -]{1,60}(?=[.,;)]|\s*\Z)")
"""What an answer says that it is not, after what it is."""
_ASIDE = re.compile(r"(?im)^[^\w\n]*(?:confidence|sources?)[^\w\n:]*:.*$")
_YES_NO = re.compile(r"(?i)\W*(yes|no)\b")
_POLAR = {True: "no", False: "yes"}
_NO_NAMES = STOP | COURTESY | english.NOT_NAMES | set(english.NUMBER_WORDS)
_OR = re.compile(r"(?i)\b(?:or|either|between)\b")
_HEDGE = re.compile(r"(?i)[^.;:()]{0,12}(?:\b(?:or|and)\b|[/&])[^.;:()]{0,12}")
Run = tuple[tuple[str, ...], str]
"""A name, as stems, and what stands between it and the name before."""


def says_answer(text: str) -> bool:
    """Whether it says what the answer is: "Answer: …", "The answer is …"."""
    return _SAID.search(text[:MAX_CHARACTERS]) is not None


def same_answer(reference: str, given: str, question: str = "") -> bool:
    """Whether a final answer is the reference, perhaps in more or in fewer words."""
    if not given.strip() or len(given) > LENGTH_FACTOR * len(reference) + LENGTH_SLACK:
        return False
    if reference == given:
        return True
    if reference[MAX_CHARACTERS:].split() != given[MAX_CHARACTERS:].split():
        return False
    reference, given = (
        _ANSWER_IS.sub("", _ASIDE.sub("", text[:MAX_CHARACTERS])) for text in (reference, given)
    )
    if said := _SAID.search(given):  # first what is said to be the answer
        given = f"{said[1]}\n{given[: said.start()]}{given[said.end() :]}".strip()
    wanted, got = read(reference), read(given)
    if not wanted.polarity.denies and got.polarity.denies:
        given = _NOT_THAT.sub("", given)
        got = read(given)
    if wanted.folded == got.folded:
        return True
    if english.measured_otherwise(reference, given):
        return False
    values = {f for f in wanted.facts if f[0] in VALUES}
    told_first = read(said[1]) if said else got
    others = {f for f in told_first.facts if f[0] in VALUES and not states(wanted, f, told_first)}
    rivals = others and values and (said or _OR.search(given))
    if rivals or not all(states(told_first, f, wanted) for f in values):
        return False
    polar = _YES_NO.match(reference)
    if polar:
        told = _YES_NO.match(given)
        if polar[1].lower() != (told[1].lower() if told else _POLAR[got.polarity.denies]):
            return False
    if denied(wanted, got) or exchanged(wanted, got) or wanted.asks != got.asks:
        return False
    if exchanged_words(wanted.mentions, got.mentions):
        return False
    asked = read(question[:MAX_CHARACTERS]).mentions
    why = BECAUSE.search(reference)
    if why and not read(why[1]).words & got.mentions - asked:
        return False
    if not got.words and values:
        return len(wanted.words - asked) <= MAX_UNITS and not wanted.starters - asked
    names, found = _runs(reference), _runs(given)
    names = [run for run in names if not {*run[0]} <= asked] or names
    lost = {name for run, _ in names for name in run} - got.mentions
    if polar and values:
        came = {name for run, _ in found for name in run} - wanted.mentions - asked
        return not (lost and came)
    if names and not (said and values and not lost) and not _names_alone(names, found, got, asked):
        return False
    if names and (values or len(wanted.words) <= sum(len(run) for run, _ in names)):
        return True
    left = wanted.words if not values else wanted.words - asked
    return not lost and len(left & got.mentions) >= MIN_SAID * len(left)


def _names_alone(names: Sequence[Run], found: Sequence[Run], got: Reading, asked: Set[str]) -> bool:
    """Whether an answer gives all names, and another neither before them nor beside one."""
    ours = [any(_one_name(name, run) for name, _ in names) for run, _ in found]
    for index, (run, gap) in enumerate(found):
        if ours[index] or set(run) <= asked:
            continue
        beside = _HEDGE.fullmatch(gap) or (
            found[index + 1 :] and _HEDGE.fullmatch(found[index + 1][1])
        )
        if not any(ours[:index]) or beside:  # "A or B" is no answer, nor is "A and B" for "A"
            return False
    return all(
        any(_one_name(name, run) for run, _ in found)
        or (len(name) == 1 and name[0] in got.mentions)
        for name, _ in names
    )


def _runs(text: str) -> list[Run]:
    """The names of a text, as stems: words with capitals, side by side; what is before each."""
    runs, end = list[Run](), 0
    text = plain_letters(text[:MAX_CHARACTERS])
    for found in _NAME.finditer(text):
        words = [word.lower() for word in WORD.findall(found[0])]
        while words and words[0] in _NO_NAMES:
            words.pop(0)
        is_label = len(words) == 1 and text[found.end() : found.end() + 1] == ":"
        if words and not is_label:
            runs.append((tuple(map(stem, words)), text[end : found.start()]))
            end = found.end()
    return runs


def _one_name(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two runs name the same: middle names, or all but the last, may be left out."""
    ends = one[-1] == other[-1] and (one[0] == other[0] or 1 in (len(one), len(other)))
    return ends and (set(one) <= set(other) or set(other) <= set(one))
