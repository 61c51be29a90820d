"""Read a text once: what it states as fact, what it denies, whether it asks, and its content words.

Facts are what must not change between two ways of saying the same: numbers and money, ids, dates,
times, names, quoted strings, paths and addresses. Linear in the length of the text, which is cut
at `MAX_CHARACTERS`. This module must never compare two texts, and never know a domain.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from pivotrl.verifiers.english import (
    CONFIRM,
    COURTESY,
    NEGATORS,
    NOT_NAMES,
    NUMBER_WORDS,
    REQUEST,
    SCALES,
    STOP,
    VAGUE,
    WORD,
    YES_OR_NO,
    acts_of,
    negated_words,
    stem,
    wanted_things,
)

MAX_CHARACTERS = 20_000
MAX_TOKEN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a text says. Facts are (kind, value) pairs; words are stems."""

    folded: str
    """The text normalised and in lower case, with single spaces."""
    facts: frozenset[tuple[str, str]]
    """Kinds: number, id, date, time, name, quote, path."""
    words: frozenset[str]
    """Stems of the content words: no stop words, no courtesies, no facts."""
    mentions: frozenset[str]
    """Stems of all words and the values of all facts: what may be referred to."""
    negated: frozenset[str]
    """Stems in the scope of a negation."""
    denies: bool
    """A sentence with content is negative."""
    asks: bool
    """A sentence with content is a question or a request for information."""
    wants: frozenset[str]
    """What the questions ask for, where it has a name: `reservation id`, `date`."""
    acts: frozenset[tuple[str, bool]]
    """(stem of an act, whether it is done): "was cancelled" against "will be cancelled"."""
    owners: frozenset[tuple[tuple[str, str], str]]
    """(number, date or time; the id or name said last before it)."""
    relations: frozenset[tuple[str, str, str]]
    """(name, word or "to" between, name), passive turned round."""


_MONTHS = "january february march april may june july august september october november december"
_MONTH_OF = {m[:3]: i for i, m in enumerate(_MONTHS.split(), 1)}
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATES = re.compile(
    r"(?<![\w.-])(?:(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?:t(?=\d))?"
    r"|(?P<a>\d{1,2})/(?P<b>\d{1,2})/(?P<y2>\d{4})"
    rf"|{_MONTH}[\s-]*(?P<d3>\d{{1,2}})(?:st|nd|rd|th)?(?:\s*,?\s*(?P<y3>\d{{4}}))?"
    rf"|(?P<d4>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}(?:\s*,?\s*(?P<y4>\d{{4}}))?)(?!\w)",
    re.IGNORECASE,
)
_TIMES = re.compile(
    r"(?<![\w.])(?:(\d{1,2}):(\d{2})(?::\d{2})?\s*(?:([ap])\.?m\b\.?)?|(\d{1,2})\s*([ap])\.?m\b\.?)",
    re.IGNORECASE,
)
_QUOTES = re.compile(r"\"([^\"\n]{2,200})\"|`([^`\n]{2,200})`|(?<!\w)'([^'\n]{2,200})'(?!\w)")
_SENTENCE = re.compile(r"(?<=[.!?])[\"')*]*\s+|\n+")
_LIST_MARK = re.compile(r"^[ \t]*(?:[-*•+]|\(?\d{1,2}[.)](?=\s))[ \t]*", re.MULTILINE)
_LABEL = re.compile(r"^\W*[^:.!?]{1,40}:(?=\W*\s|\*|$)")
# Dates and times that were read stand in the text as `\ue000kind\ue002value\ue001`.
_MARK = re.compile("\ue000(\\w+)\ue002([^\ue001]+)\ue001")
_ODD = str.maketrans("‘’‚“”„‐‑‒–—−\u00a0\u202f\ue000\ue001\ue002", "'''\"\"\"------     ")
_JSON_MARKS = str.maketrans('{}[]"`*|<>=()', " " * 13)
_EDGES = ".,;:!?'_~\u2026"
_AMOUNT = re.compile(
    r"([-+]?)[$€£¥#]*([-+]?)[$€£¥]?(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?"
    r"(%|st|nd|rd|th|gb|mb|kb|tb|kg|g|mg|lb|lbs|oz|km|m|cm|mm|ft|l|ml|h|hr|hrs|min|mins|s|sec|ms|x"
    r"|k|w|v|hz|usd|eur|gbp|c|f)?",
    re.IGNORECASE,
)
_CHUNK = re.compile(r"\S+")
_SPANS = {"day", "days", "week", "weeks", "month", "year", "hour", "hours", "minute", "night"}
_PATH = re.compile(r"(?:https?://|www\.|~?\.{0,2}/\w).*|[^@]+@[^@]+\.\w+|[\w/-]+\.[a-z]{2,4}")


@lru_cache(maxsize=512)
def read(text: str) -> Reading:
    """Read a text (see `Reading`). Any string is read; nothing raises."""
    text = text[:MAX_CHARACTERS]
    # One letter may become eighteen.
    text = unicodedata.normalize("NFKC", text)[: 2 * len(text)].translate(_ODD)
    quotes = [" ".join(next(filter(None, q)).lower().split()) for q in _QUOTES.findall(text)]
    body = YES_OR_NO.sub(" ", _LIST_MARK.sub("", text))
    body = _TIMES.sub(_time, _DATES.sub(_date, body))

    spoken = _Spoken()
    words: set[str] = set()
    negated: set[str] = set()
    wants: set[str] = set()
    acts: set[tuple[str, bool]] = set()
    denies = asks = any_asks = False
    for sentence in _SENTENCE.split(body):
        content = spoken.sentence(sentence)
        lower = _MARK.sub(" ", sentence).lower()
        question = "?" in sentence or REQUEST.search(lower) is not None
        any_asks |= question
        asks |= "?" in sentence and CONFIRM.search(lower) is not None
        if not content:
            continue
        words.update(content)
        asks |= question
        if question:
            wants |= wanted_things(lower)
        acts |= acts_of(lower)
        scope = negated_words(lower)
        denies |= scope is not None
        negated.update(scope or ())
    facts = dict.fromkeys(spoken.facts)
    values = {value for _, value in facts}
    facts |= dict.fromkeys(("quote", q.strip(" .,;:!?")) for q in quotes if q.strip(" .,;:!?"))
    return Reading(
        folded=" ".join(text.lower().split()),
        facts=frozenset(facts),
        words=frozenset(words),
        mentions=frozenset(spoken.words | values),
        negated=frozenset(negated),
        denies=denies,
        asks=asks if words else any_asks,
        wants=frozenset(wants),
        acts=frozenset(acts),
        owners=frozenset(spoken.owners()),
        relations=frozenset(spoken.relations),
    )


def date_of(text: str) -> str | None:
    """The day that a text names, as YYYY-MM-DD; None if it is no full and unambiguous date."""
    found = _DATES.fullmatch(text.strip()) if len(text) < 40 else None
    mark = _MARK.search(_date(found)) if found else None
    return mark[2] if mark and len(mark[2]) == 10 else None


def _date(found: re.Match[str]) -> str:
    part = found.groupdict()
    month_word = next((g for g in found.groups() if g and g[:3].lower() in _MONTH_OF), "")
    year = part["y"] or part["y2"] or part["y3"] or part["y4"]
    if part["a"]:
        first, second = int(part["a"]), int(part["b"])
        if first <= 12 and second <= 12 and first != second:
            return found[0]  # 03/04/2024 may be either day: left as it stands
        month, day = (first, second) if first <= 12 else (second, first)
    else:
        month = int(part["m"]) if part["m"] else _MONTH_OF[month_word[:3].lower()]
        day = int(part["d"] or part["d3"] or part["d4"])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return found[0]
    return f" \ue000date\ue002{f'{year}-' if year else ''}{month:02}-{day:02}\ue001 "


def _time(found: re.Match[str]) -> str:
    hour, minute = int(found[1] or found[4]), int(found[2] or 0)
    half = (found[3] or found[5] or "").lower()
    if hour > 24 or minute > 59:
        return found[0]
    if half and hour <= 12:
        hour = hour % 12 + (12 if half == "p" else 0)
    return f" \ue000time\ue002{hour:02}:{minute:02}\ue001 "


class _Spoken:
    """What was said so far, in order."""

    def __init__(self) -> None:
        self.facts: list[tuple[str, str]] = []
        self.words: set[str] = set()
        self.relations: set[tuple[str, str, str]] = set()
        self._named = ""
        """The last name or id of the sentence."""
        self._since: list[str] = []
        """The words after it."""

    def sentence(self, sentence: str) -> list[str]:
        """The content stems of a sentence; the rest is kept."""
        label = _LABEL.match(sentence)
        unnamed = label.end() if label else 0
        content: list[str] = []
        fresh, courteous = True, False  # fresh: a capital here says nothing
        self._named, self._since = "", []
        counting = False  # the chunk before is a number
        for found in _CHUNK.finditer(sentence.translate(_JSON_MARKS)):
            if mark := _MARK.fullmatch(found[0]):
                self.facts.append((mark[1], mark[2]))
                continue
            raw = found[0]
            chunk = raw[:MAX_TOKEN].strip(_EDGES)
            named = not fresh and found.start() >= unnamed
            fresh = found.start() < unnamed or raw[-1] in ":-"
            if not chunk:
                continue
            counted, counting = counting, False
            plain = chunk.isascii() and chunk.isalpha()
            if not plain and (fact := _fact(chunk)):
                self.facts += fact
                counting = fact[-1][0] == "number"
                self.words.update(value for _, value in fact)
                if fact[0][0] == "id":
                    self._relate(fact[0][1])
                continue
            for word in [chunk] if plain else WORD.findall(chunk):
                lower = word.lower()
                root = stem(lower)
                self.words.add(root)
                courteous |= lower in COURTESY
                capital = word[0].isupper() and len(word) > 1 and lower not in NOT_NAMES
                if lower in NUMBER_WORDS:
                    self.facts.append(("number", NUMBER_WORDS[lower]))
                    counting = True
                elif lower in VAGUE and counted:
                    self.facts.pop()  # "two things" are counted below it
                elif lower in SCALES and counted:
                    self.facts[-1] = ("number", _scaled(self.facts[-1][1], SCALES[lower]))
                elif lower not in NEGATORS and lower not in STOP and lower not in COURTESY:
                    code = word.isupper() and len(word) > 2
                    greeted = courteous and not content  # "Thank you, Mia" may be said without Mia
                    if capital and (code or (named and not greeted)):
                        self.facts.append(("name", root))
                    content.append(root)
                    if capital:
                        self._relate(root)
                        continue
                self._since.append(lower)
        return content

    def owners(self) -> Iterator[tuple[tuple[str, str], str]]:
        owner = ""
        for kind, value in self.facts:
            if kind in ("id", "name"):
                owner = value
            elif owner and kind in ("number", "date", "time"):
                yield (kind, value), owner

    def _relate(self, name: str) -> None:
        said = [word for word in self._since if word not in STOP]
        between = stem(said[0]) if len(said) == 1 else "to" if "to" in self._since else ""
        if self._named and between and len(said) < 2:
            pair = (name, self._named) if "by" in self._since else (self._named, name)
            self.relations.add((pair[0], between, pair[1]))
        self._named, self._since = name, []


def _scaled(number: str, zeros: int) -> str:
    whole, _, fraction = number.partition(".")
    return whole.lstrip("0") + fraction.ljust(zeros, "0") if len(fraction) <= zeros else number


def _fact(chunk: str) -> list[tuple[str, str]]:
    """The facts that one token states; empty if it is an ordinary word."""
    if len(chunk) > 3 and not chunk.isalpha() and _PATH.fullmatch(chunk):
        return [("path", chunk)]
    if not any(c.isdigit() for c in chunk):
        return []
    if amount := _AMOUNT.fullmatch(chunk):
        sign = "-" if "-" in (amount[1], amount[2]) else ""
        whole = amount[3].replace(",", "").lstrip("0") or ("0" if not amount[3].strip("0") else "")
        if len(amount[3]) > 1 and amount[3][0] == "0" and not amount[4]:
            whole = amount[3]  # 007 is a code, not seven
        fraction = (amount[4] or "").rstrip("0").rstrip(".")
        return [("number", f"{sign}{whole}{fraction}")]
    pieces = [p for p in re.split(r"[,;:/|+]", chunk) if p]
    if len(pieces) > 1:
        return [f for piece in pieces for f in _fact(piece)]
    head, dash, tail = chunk.partition("-")
    if dash and _AMOUNT.fullmatch(head) and (tail in _SPANS or _AMOUNT.fullmatch(tail)):
        return [*_fact(head), *_fact(tail)]  # 2-day, 5-7; anything else with a hyphen is one id
    return [("id", chunk.lstrip("#$").lower())]
