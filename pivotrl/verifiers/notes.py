"""Do two notes of a call say the same: a reason, a summary, the title of a ticket, a message?

A note is told beside the call's other arguments and after a conversation, so it may leave out what
those say, and who says it. It may not contradict, put one thing in the place of another, or bring
what nobody said. Notes of a few words are compared by their words, longer ones as texts as well.
This module must never know a domain.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from pivotrl.verifiers import english
from pivotrl.verifiers.comparison import MATCH, Context
from pivotrl.verifiers.facts import Reading, plain_letters, read
from pivotrl.verifiers.text import MAX_CHARACTERS, contradiction, same_text, unlike

MIN_KEPT, MIN_KEPT_OF_REASON = 0.6, 0.5
"""Of the content words: of what one wishes, and of what only explains the call."""
MIN_ALIKE = 0.6
"""F1 of the words where both have their own, all of them known."""
MAX_NEW = 0.3
"""Of all words that only the action's note has and nobody said."""
MAX_NAME = 2
"""Words of a title that is a name rather than a sentence."""
MAX_NOTE = 4
"""Content words of a short note."""
_VALUES = ("number", "id", "date", "time", "name")


def same_note(name: str, reference: str, given: str, context: Context) -> bool | None:
    """`name`: the words of the argument's name. None where nothing tells the notes apart."""
    if len(reference) > MAX_CHARACTERS or len(given) > MAX_CHARACTERS:
        return same_text(reference, given, context)
    if _spoken(reference) == _spoken(given):
        return True
    wanted, got = read(reference), read(given)
    is_name = english.TEXTS.fullmatch(name) and len(reference.split()) <= MAX_NAME
    if is_name and min(len(wanted.words), len(got.words)) < MAX_NAME:
        return wanted.mentions - english.ARTICLES == got.mentions - english.ARTICLES
    beside: Set[str] = frozenset()
    if not english.MESSAGES.fullmatch(name):  # whose readers do not see the rest
        told = frozenset().union(*(_values(text) for text in context.beside))
        wanted, got = _less(wanted, told, got), _less(got, told, wanted)
        beside = frozenset().union(*(read(text).mentions for text in context.beside))
    if (found := contradiction(wanted, got, context)) != MATCH:
        return None if found.is_unsure else False
    if is_name:  # the trip to Dallas and the Dallas trip
        turned = map(english.DIRECTED.fullmatch, (wanted.mentions ^ got.mentions) - {"to"})
        return not any(unlike(wanted, got)) and not any(turned)
    is_short = min(len(wanted.words), len(got.words)) <= MAX_NOTE
    if not is_short and same_text(reference, given, context):
        return True
    return _alike(name, wanted, got, context, is_short, beside)


def _alike(
    name: str, wanted: Reading, got: Reading, context: Context, is_short: bool, beside: Set[str]
) -> bool | None:
    lost, came = unlike(wanted, got)
    lost, came = lost - _unsaid(wanted), came - _unsaid(got)
    ours, theirs = wanted.words - _unsaid(wanted), got.words - _unsaid(got)
    if not ours or not theirs:  # only numbers, or nothing but that something is asked for
        return wanted.words == got.words
    if came & (english.ACTS | english.BINDING) - _known(context) or lost & english.BINDING - beside:
        return None
    kept = len(ours - lost) / len(ours)
    if not kept:
        return None
    if lost and came:
        share = 2 * len(ours - lost) / (len(ours) + len(theirs))
        alike = is_short and came <= _known(context) and share >= MIN_ALIKE
    elif lost:
        alike = kept >= (MIN_KEPT_OF_REASON if english.REASONS.fullmatch(name) else MIN_KEPT)
    else:
        alike = len(came - _known(context)) <= MAX_NEW * (len(ours) + len(theirs))
    return alike or None


def _spoken(text: str) -> list[str]:
    return english.WORD.findall(plain_letters(text).lower())


def _unsaid(reading: Reading) -> Set[str]:
    """What says nothing in a note; "arrived" does where something did not arrive."""
    return english.NOTED - reading.polarity.scope


def _known(context: Context) -> Set[str]:
    """The stems of all that was said, and of what the tool says of itself."""
    return frozenset().union(*(read(text).mentions for text in (*context.told, context.tool)))


def _values(text: str) -> Set[tuple[str, str]]:
    facts = {fact for fact in read(text).facts if fact[0] in _VALUES}
    return facts | {(kind, value.lstrip("-")) for kind, value in facts if kind == "number"}


def _less(reading: Reading, told: Set[tuple[str, str]], other: Reading) -> Reading:
    """The reading without the facts that the other arguments tell and the other text does not."""
    return replace(reading, facts=reading.facts - (told - other.facts))
