"""Read a text once: what it states as fact, what it denies, whether it asks, and its content words.

Facts are what must not change between two ways of saying the same: numbers and money, ids, dates,
times, names, quoted strings, paths and addresses. Linear in the length of the text, which is cut
at `MAX_CHARACTERS`. This module must never compare two texts, and never know a domain.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from pivotrl.verifiers import english
from pivotrl.verifiers.english import COURTESY, STOP, WORD, Polarity, respell, stem

MAX_CHARACTERS = 10_000
MAX_TOKEN = 80
MAX_WAYS = 16


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
    polarity: Polarity
    asks: bool
    """A sentence with content is a question or a request for information."""
    wants: frozenset[str]
    """What the questions ask for, where it has a name: `reservation id`, `date`."""
    acts: frozenset[tuple[str, bool]]
    """(stem of an act, whether it is done): "was cancelled" against "will be cancelled"."""
    owners: Mapping[tuple[str, str], tuple[set[str], set[str]]]
    """Fact -> the names and the words that it is said with: "the lamp ($20), a chair ($30)"."""
    ways: frozenset[tuple[frozenset[str], frozenset[str]]]
    """The stems of what is exchanged for, moved to or taken in place of what."""
    bounds: frozenset[tuple[str, str]]
    """(date or time, `from` or `until`)."""
    units: frozenset[tuple[str, str]]
    """(number, stem of what it counts)."""
    choices: frozenset[tuple[frozenset[str], frozenset[str]]]
    """The stems on both sides of an "or" in a text that asks."""
    listed: int
    """The bullets, the rows of tables, or else the parts of a list after a colon."""
    starters: frozenset[str]
    """Stems with a capital that may be names or only begin a sentence."""
    neighbours: frozenset[tuple[str, str]]
    """Two tokens side by side, articles left out, a negation with what it negates; "" ends."""
    steps: frozenset[tuple[str, str]]
    """The same without stop words."""
    places: Mapping[str, int]
    """Where the value of a fact stands in the text, if but once."""


_MONTHS = "january february march april may june july august september october november december"
_MONTH_OF = {m[:3]: i for i, m in enumerate(_MONTHS.split(), 1)}
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*(?:\.(?=,?\s*\d))?"
_DATES = re.compile(
    r"(?<![\w.-])(?:(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?:t(?=\d))?"
    r"|(?P<a>\d{1,2})/(?P<b>\d{1,2})/(?P<y2>\d{4})"
    rf"|{_MONTH}[\s-]*(?P<d3>\d{{1,2}})(?:st|nd|rd|th)?(?:\s*,?\s*(?P<y3>\d{{4}}))?"
    rf"|(?P<d4>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}(?:\s*,?\s*(?P<y4>\d{{4}}))?)(?!\w)",
    re.IGNORECASE,
)
_TIMES = re.compile(
    r"(?<![\w.])(?:(\d{1,2}):(\d{2})(?::\d{2})?(?:\s*([ap])(?:\.m\b\.?|m\b))?"
    r"|(\d{1,2})\s*([ap])(?:\.m\b\.?|m\b))",
    re.IGNORECASE,
)
_QUOTES = re.compile(r"\"([^\"\n]{2,200})\"|`([^`\n]{2,200})`|(?<!\w)'([^'\n]{2,200})'(?!\w)")
_SENTENCE = re.compile(
    r"(?<=[.!?])[\"')*]*\s+|\n+|[\u2600-\u27bf\U0001f300-\U0001faff]\ufe0f?\s+(?=[A-Z])"
)
_CODE = re.compile(r"(?:[a-z]{3,20}_){1,4}\d{1,12}")
_LIST_MARK = re.compile(r"^[ \t]*(?:[-*•+]|\(?\d{1,2}[.)](?=\s))[ \t]*", re.MULTILINE)
_INLINE = re.compile(r":\s([^.:;?!\n]{3,300})")
_BETWEEN = re.compile(r",\s*(?:and\s)?|\sand\s")
"""A list in a sentence, and what parts it."""
_ROW = re.compile(r"^[ \t]*\|.*\|[ \t]*$", re.MULTILINE)
_HEADER = re.compile(r"^[ \t]*\|.*\|[ \t]*\n[ \t]*\|[ \t:|-]+\|[ \t]*$", re.MULTILINE)
_ABBREVIATION = re.compile(r"\b(Dr|Mr|Mrs|Ms|St|Prof|Inc|vs|No(?=\. ?#?\d))\.")
_VOCATIVE = re.compile(r"(?<=[\w']), [A-Z]\w{1,30}(?=!)")
_ACCENT = re.compile("[\u0300-\u036f]")
_LABEL = re.compile(r"^\W*[^:.!?]{1,40}:(?=\W*\s|\*|$)")
# Dates and times that were read stand in the text as `\ue000kind\ue002value\ue001`.
_MARK = re.compile("\ue000(\\w+)\ue002([^\ue001]+)\ue001")
_ODD = str.maketrans("‘’‚“”„‐‑‒–—−\u00a0\u202f\ue000\ue001\ue002", "'''\"\"\"------     ")
_JSON_MARKS = str.maketrans('{}[]"`*|<>=()', " " * 13)
_EDGES = ".,;:!?'_~\u2026"
_AMOUNT = re.compile(
    r"([-+]?)[$€£¥#]*([-+]?)[$€£¥]?(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?"
    r"°?(%|st|nd|rd|th|gb|mb|kb|tb|kg|g|mg|lb|lbs|oz|km|m|cm|mm|ft|l|ml|h|hr|hrs|min|mins|s|sec|ms|x"
    r"|k|w|v|hz|usd|eur|gbp|c|f)?",
    re.IGNORECASE,
)
_SEAT = re.compile(r"[1-9]\d?[CFGHK]")
"""14C is no 14 degrees: in the place of 14F it is another thing."""
_CHUNK = re.compile(r"\S+")
_SPANS = {"day", "days", "week", "weeks", "month", "year", "hour", "hours", "minute", "night"}
_PATH = re.compile(r"(?:https?://|www\.|~?\.{0,2}/\w).*|[^@]+@[^@]+\.\w+|[\w/-]+\.[a-z]{2,4}")


@lru_cache(maxsize=512)
def read(text: str) -> Reading:
    """Read a text (see `Reading`). Any string is read; nothing raises."""
    text = plain_letters(text[:MAX_CHARACTERS])
    quotes = [" ".join(next(filter(None, q)).lower().split()) for q in _QUOTES.findall(text)]
    headers = _HEADER.findall(text)
    listed = len(_LIST_MARK.findall(text)) + max(0, len(_ROW.findall(text)) - 2 * len(headers))
    if not listed and (inline := _INLINE.search(text)):
        listed = len(_BETWEEN.split(inline[1]))
    # The heads of a table are no names.
    body = _LIST_MARK.sub("", _HEADER.sub(lambda m: m[0].lower(), text))
    body = _VOCATIVE.sub("", _ABBREVIATION.sub(r"\1", body))
    body = respell(english.YES_OR_NO.sub(" ", body))
    body = _TIMES.sub(_time, _DATES.sub(_date, body))

    spoken = _Spoken()
    words: set[str] = set()
    said: dict[str, set[Any]] = {k: set() for k in ("wants", "acts", "ways", "bounds", "choices")}
    polarity = Polarity()
    asks = any_asks = english.YES_OR_NO.search(text) is not None
    for sentence in _SENTENCE.split(body):
        content = spoken.sentence(sentence)
        lower = _MARK.sub(" ", sentence).lower()
        question = "?" in sentence or english.REQUEST.search(lower) is not None
        any_asks |= question
        if not content:
            asks |= "?" in sentence and english.OFFER.search(lower) is None
            if not question:  # "He did not."
                polarity.add(lower)
            continue
        words.update(content)
        asks |= question
        said["wants"] |= english.wanted_things(lower) if question else set()
        said["acts"] |= english.acts_of(lower)
        said["bounds"] |= english.bounds_of(" ".join(sentence.lower().split()))
        if len(said["choices"]) < MAX_WAYS and " or " in lower:
            said["choices"] |= english.choices_of(lower)
        if len(said["ways"]) < MAX_WAYS:
            said["ways"] |= english.ways_of(_MARK.sub(r" \2 ", sentence).lower())
        polarity.add(lower)
    if not any_asks:
        said["choices"].clear()
    facts = dict.fromkeys(spoken.facts)
    values = {value for _, value in facts}
    values |= {name for sign, name in english.CURRENCIES.items() if sign in text}
    facts |= dict.fromkeys(("quote", q.strip(" .,;:!?")) for q in quotes if q.strip(" .,;:!?"))
    often = Counter(spoken.sequence)
    return Reading(
        folded=" ".join(text.lower().split()),
        facts=frozenset(facts),
        words=frozenset(words),
        mentions=frozenset(spoken.words | values),
        polarity=polarity,
        asks=asks if words else any_asks,
        owners=spoken.owners,
        units=frozenset(english.units_of(body)),
        **{kind: frozenset(found) for kind, found in said.items()},
        listed=listed,
        starters=frozenset(spoken.starters),
        neighbours=frozenset(pairwise(["", *spoken.sequence])),
        steps=frozenset(pairwise(["", *(t for t in spoken.sequence if t not in STOP)])),
        places={t: i for i, t in enumerate(spoken.sequence) if t in values and often[t] == 1},
    )


def plain_letters(text: str) -> str:
    """The text without accents, with plain quotes, dashes and spaces."""
    # One letter may become eighteen.
    text = unicodedata.normalize("NFKD", text)[: 2 * len(text)]
    return unicodedata.normalize("NFKC", _ACCENT.sub("", text)).translate(_ODD)


def date_of(text: str) -> str | None:
    """The day that a text names, as YYYY-MM-DD; None if it is no full and unambiguous date."""
    found = _DATES.fullmatch(text.strip()) if len(text) < 40 else None
    if not found or (found["a"] and found["a"] != found["b"] and int(found["b"]) <= 12):
        return None  # 03/04/2024 may be either day
    mark = _MARK.search(_date(found))
    return mark[2] if mark and len(mark[2]) == 10 else None


def _date(found: re.Match[str]) -> str:
    part = found.groupdict()
    month_word = next((g for g in found.groups() if g and g[:3].lower() in _MONTH_OF), "")
    year = part["y"] or part["y2"] or part["y3"] or part["y4"]
    if part["a"]:
        first, second = int(part["a"]), int(part["b"])
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
        self.starters: set[str] = set()
        self.owners: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
        self.sequence: list[str] = []
        self._owner: tuple[set[str], set[str]] = (set(), set())
        """The names and words of the part of the sentence before this one."""
        self._begins = ""
        """The word before this one, where it may begin a name."""

    def sentence(self, sentence: str) -> list[str]:
        """The content stems of a sentence; the rest is kept."""
        label = _LABEL.match(sentence)
        unnamed = label.end() if label else 0
        content: list[str] = []
        self._begins = ""
        fresh, courteous = True, False  # fresh: a capital here says nothing
        self._owner = (set(), set())
        counting = False  # the chunk before is a number
        part = (len(self.facts), 0)
        for found in _CHUNK.finditer(sentence.translate(_JSON_MARKS)):
            raw = found[0]
            if raw in (",", ";", "and"):
                part = self._part(part, content, raw == ";")
            if mark := _MARK.fullmatch(raw):
                self.facts.append((mark[1], mark[2]))
                self.sequence.append(mark[2])
                continue
            chunk = raw[:MAX_TOKEN].strip(_EDGES).removesuffix("'s")
            named = not fresh and found.start() >= unnamed
            fresh = found.start() < unnamed or raw[-1] in ":-" or raw in ("No,", "Yes,")
            if not chunk:
                continue
            if len(chunk) == 1 < found.start() and chunk.isupper() and raw == chunk:
                self.facts += [("name", chunk.lower())] if chunk not in "AI" else []  # size M
            counted, counting = counting, False
            plain = chunk.isascii() and chunk.isalpha()
            if not plain and (fact := _fact(chunk)):
                self.facts += fact
                self.sequence += [value for _, value in fact]
                counting = fact[-1][0] == "number"
                for _, value in fact:
                    parts = parts_of(value)
                    self.words |= {value, *parts}
                    content += filter(str.isalpha, parts)
            else:
                for word in [chunk] if plain else WORD.findall(chunk):
                    counting = self._word(word, content, named, counted, courteous)
                    courteous |= word.lower() in COURTESY
            if raw[-1] in ",;":
                part = self._part(part, content, raw[-1] == ";")
            if not raw[-1].isalnum():
                self._begins = ""
                if self.sequence[-1:] == ["not"]:  # "No, ..." denies nothing of what follows
                    self.sequence[-1] = "no"
        self._part(part, content, True)
        self.sequence.append("")
        return content

    def _word(
        self, word: str, content: list[str], named: bool, counted: bool, courteous: bool
    ) -> bool:
        """Keep a word; whether it is a number."""
        lower = word.lower()
        root = stem(lower)
        self.words.add(root)
        if self.sequence and self.sequence[-1] == "not":
            self.sequence[-1] = f"not {root}"
        elif lower not in english.ARTICLES:
            self.sequence.append(
                "not" if lower in english.NEGATORS else english.NUMBER_WORDS.get(lower, root)
            )
        if lower in english.NUMBER_WORDS:
            self.facts.append(("number", english.NUMBER_WORDS[lower]))
            return True
        if lower in english.VAGUE and counted:
            self.facts.pop()  # "two things" are counted below it
        elif lower in english.SCALES and counted:
            self.facts[-1] = ("number", _scaled(self.facts[-1][1], english.SCALES[lower]))
        elif lower not in english.NEGATORS and lower not in STOP and lower not in COURTESY:
            capital = word[0].isupper() and len(word) > 1 and lower not in english.NOT_NAMES
            code = word.isupper() and len(word) > 2
            greeted = courteous and not content  # "Thank you, Mia" may be said without Mia
            if capital and (code or (named and not greeted)):
                if self._begins in self.starters:  # "Roman Coppola"
                    self.facts.append(("name", self._begins))
                self.facts.append(("name", root))
            elif (
                capital
                and not greeted
                and lower not in english.OPENERS
                and root not in english.OPENERS
            ):
                self.starters |= set() if lower.endswith(("ly", "ed", "ing")) else {root}
            content.append(root)
            self._begins = root
            return False
        self._begins = ""
        return False

    def _part(self, start: tuple[int, int], content: list[str], always: bool) -> tuple[int, int]:
        """End a part of a sentence, which says its facts of its names; where the next begins."""
        facts, words = self.facts[start[0] :], set(content[start[1] :])
        if not always and all(kind in ("id", "name") for kind, _ in facts):
            return start
        names = {value for kind, value in facts if kind in ("id", "name")} | words & self.starters
        self._owner = (names or self._owner[0], words or self._owner[1])
        for fact in facts:
            owners = self.owners.setdefault(fact, (set(), set()))
            for kept, more in zip(owners, self._owner, strict=True):
                kept |= more
        return len(self.facts), len(content)


def parts_of(code: str) -> list[str]:
    """Stems of the words of an id and its number: `gift_card_11` is "gift card 11"."""
    return list(map(stem, code.split("_"))) if _CODE.fullmatch(code) else []


def _scaled(number: str, zeros: int) -> str:
    whole, _, fraction = number.partition(".")
    return whole.lstrip("0") + fraction.ljust(zeros, "0") if len(fraction) <= zeros else number


def _fact(chunk: str) -> list[tuple[str, str]]:
    """The facts that one token states; empty if it is an ordinary word."""
    if len(chunk) > 3 and not chunk.isalpha() and _PATH.fullmatch(chunk):
        return [("path", chunk)]
    if not any(c.isdigit() for c in chunk):
        return []
    if _SEAT.fullmatch(chunk):
        return [("id", chunk.lower())]
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
