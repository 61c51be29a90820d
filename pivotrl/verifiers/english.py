"""The little English that comparing texts needs: stems, senses, courtesies, negation, requests.

Plain word lists, the longer ones in english.toml; other languages fall through them and are
compared by facts and words alone. This module must never know a domain.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

_DATA = tomllib.loads(Path(__file__).with_name("english.toml").read_text("utf-8"))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP = _words(_DATA["stop"])
COURTESY = _words(_DATA["courtesy"])
ARTICLES = _words("a an the")
NEGATORS = _words(_DATA["negators"])
_NOT_NEGATIVE = re.compile(
    r"\bno (?:problem|worries|longer needed|later than)\b|\boh no\b"
    r"|\b(?:do not|don't) (?:hesitate|forget|worry)\b"
    r"|\bif (?:you )?(?:not|don't|do not)\b|\bwhether or not\b|\bor not\b|\bnot only\b"
    r"|\bno\.? ?(?=#?\d)"
)
_CLAUSE = re.compile(
    r"([,;:()|]|\b(?:but|so|because|since|while|although|though|which|until|if|and)\b)"
)
REQUEST = re.compile(
    r"\b(?:please|kindly)\s+(?:also\s+|then\s+)?(?:provide|confirm|share|tell|give|specify|let|reply"
    r"|choose|select|enter|send|state|type|verify|indicate|clarify|advise|respond|say|list|describe"
    r"|explain|upload|attach)\b|\b(?:i|we)(?:'ll| will)? (?:also )?(?:need|require) (?:the|an?)\b"
    r"|\b(?:need|require)\s+(?:your|you|to know|to have|to gather|some|a few|more|the following)\b"
    r"|\blet me know\s+(?:which|what|how|when|where|who|your|the|whether"
    r"|if (?!you (?:need|have|want)))\b"
    r"|\b(?:could|can|would|will) you\b|\bmay i\b|\bdo you want\b|\btell me\b"
)
OFFER = re.compile(r"\b(?:anything|something|help|assist|further|how are)\b")
"""A question out of courtesy; others without content ask about what was just said."""
_THING = re.compile(
    r"(?:\b([^\W\d_]+) )?\b"
    r"(id|number|code|name|surname|e-?mail|address|zip|phone|birthdate|date|reason|password|pin)s?\b"
    r"(?! of )"
)
YES_OR_NO = re.compile(
    r"\(?\byes\b\W{0,5}(?:/|or)\W{0,5}no\b\)?"
    r"|\b(?:reply|respond|answer|say|type)\W{1,4}(?:with\W{1,4})?yes\b[^.?!\n]{0,80}?\bor\W{1,4}no\b",
    re.IGNORECASE,
)
"""How to answer, not an answer."""
WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W_぀-ヿ㐀-鿿가-힯]+(?:'[^\W\d_]+)?")
_UNITS, _TEENS, _TENS = (_DATA[key].split() for key in ("units", "teens", "tens"))
NUMBER_WORDS = {word: str(n) for n, word in enumerate([*_UNITS, *_TEENS], 1) if n > 1}
NUMBER_WORDS |= {word: str(10 * n) for n, word in enumerate(_TENS, 2)}
_TENS_AND_UNITS = re.compile(rf"(?i)\b({'|'.join(_TENS)})[- ]({'|'.join(_UNITS)})\b")
SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
VAGUE = _words("things thing details detail")
CURRENCIES = {"$": "dollar", "€": "euro", "£": "pound", "¥": "yen"}
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
NOT_NAMES = _words(_DATA["not_names"])
_VAGUE_VERBS = _words("get set list find search look make run use check show read calculate think")
_SUFFIXES = _DATA["suffixes"].split()


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A rough stem of the word's sense: `cancelled` and `cancellation`, `bought` and `purchase`."""
    root = _root(word)
    return _SENSES.get(word) or _SENSES.get(root, root)


def _root(word: str) -> str:
    word = word.removesuffix("'s")
    for suffix in _SUFFIXES:
        least = 4 if suffix == "able" else 3
        if word.endswith(suffix) and len(word) - len(suffix) >= least and not word.endswith("ss"):
            word = word[: -len(suffix)]
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


def _senses() -> tuple[dict[str, str], dict[str, str]]:
    """Stem -> stem of its sense; phrase -> what it stands for."""
    words: dict[str, str] = {}
    phrases: dict[str, str] = {}
    for line in (*_DATA["senses"], *_DATA["irregular"]):
        sense, _, variants = line.partition(" = ")
        for variant in variants.split(", "):
            if sense.isalpha() and variant.isalpha():
                words[variant] = words[_root(variant)] = _root(sense)
            else:
                phrases[variant.replace("-", " ")] = sense
    return words, phrases


_SENSES, _PHRASES = _senses()
_PHRASE = re.compile(
    r"(?<![\w'])(?:"
    + "|".join(
        re.escape(p).replace(r"\ ", r"[\s-]") for p in sorted(_PHRASES, key=len, reverse=True)
    )
    + r")(?!\w)",
    re.IGNORECASE,
)
_SWITCH = re.compile(
    r"\b(?:turn|switch|toggl)(?:e|ed|ing|es|s)?\b((?:[ ][\w'-]{1,20}){0,4}?) (on|off)\b"
    r"|(?<=\bis )(on|off)\b",
    re.IGNORECASE,
)
_RANGE = re.compile(
    r"\b(\d{1,2})(?:st|nd|rd|th)?( ?- ?| to )(\d{1,2}(?:st|nd|rd|th)?) (" + _MONTH + r")\b"
    r"|\b(" + _MONTH + r") (\d{1,2})(?:st|nd|rd|th)?( ?- ?| to )(?=\d{1,2}\b(?!:))",
    re.IGNORECASE,
)


def respell(text: str) -> str:
    """The text with phrases replaced by what they stand for (english.toml)."""
    text = _SWITCH.sub(
        lambda m: ("enable" if (m[2] or m[3]).lower() == "on" else "disable") + (m[1] or ""), text
    )
    text = _RANGE.sub(
        lambda m: f"{m[1]} {m[4]} to {m[3]} {m[4]}" if m[1] else f"{m[5]} {m[6]} to {m[5]} ", text
    )
    text = _TENS_AND_UNITS.sub(
        lambda m: str(int(NUMBER_WORDS[m[1].lower()]) + _UNITS.index(m[2].lower()) + 1),
        re.sub(r"\bUSA?\b", "America", text),
    )
    return _PHRASE.sub(lambda m: _PHRASES[re.sub(r"[\s-]", " ", m[0].lower())], text)


@lru_cache(maxsize=4096)
def verb_of(tool_name: str) -> str | None:
    """The stem of what a tool does, `cancel` of `cancel_order`; None if its name begins vaguely."""
    first = WORD.search(tool_name)
    verb = first[0].lower() if first else ""
    return None if verb in _VAGUE_VERBS or verb in STOP or verb in COURTESY else stem(verb)


@dataclass(slots=True)
class Polarity:
    """Stems by what a text says of them."""

    denied: dict[str, set[str]] = field(default_factory=dict)
    """The first after a negation -> all of its clause."""
    scope: set[str] = field(default_factory=set)
    """All of a clause that has a negation."""
    affirmed: set[str] = field(default_factory=set)
    """All of a clause that has none."""
    denies: bool = False
    only_without: bool = True
    """Nothing is negated but by `without`."""

    def add(self, sentence: str) -> None:
        """Read a sentence in lower case."""
        pieces = ["", *_CLAUSE.split(_NOT_NEGATIVE.sub(" ", sentence))]
        negative = False
        for link, clause in zip(pieces[::2], pieces[1::2], strict=True):
            stems: list[str] = []
            negations: list[int] = []
            for word in WORD.findall(clause):
                if word in NEGATORS:
                    self.only_without &= word == "without"
                    # "not unavailable": twice denied is said.
                    if negations and negations[-1] == len(stems):
                        negations.pop()
                    else:
                        negations.append(len(stems))
                elif word not in STOP and word not in COURTESY:
                    stems.append(stem(word))
            # "Not A and B" may deny both.
            unclear = negative and link == "and"
            negative = bool(negations)
            if negations:
                self.denies = True
                self.scope.update(stems)
                for stem_ in (stems[n] for n in negations if n < len(stems)):
                    self.denied.setdefault(stem_, set()).update(stems)
            elif not unclear:
                self.affirmed.update(stems)


def wanted_things(question: str) -> set[str]:
    """What a question in lower case asks for, where it is one of the usual things."""
    wanted = set()
    for owner, thing in _THING.findall(question):
        thing = _SAME_THING.get(thing, thing)
        owned = thing in ("id", "date") and owner not in _UNOWNED
        wanted.add(f"{stem(owner)} {thing}" if owned else thing)
    return wanted


def ways_of(sentence: str) -> set[tuple[frozenset[str], frozenset[str]]]:
    """The stems of what is exchanged for, moved to or taken in place of what, in lower case."""
    found = [*_WAY.findall(sentence), *((b, a) for a, b in _INSTEAD.findall(sentence))]
    return {(_content(one), _content(other)) for one, other in found}


def _content(text: str) -> frozenset[str]:
    return frozenset(stem(word) for word in WORD.findall(text) if word not in STOP)


def acts_of(sentence: str) -> set[tuple[str, bool]]:
    """(stem of an act, done or not yet) for what a sentence in lower case says of acts."""
    acts = {
        (stem(word), False)
        for passive, word in _NOT_YET.findall(sentence)
        if passive or word not in STOP
    }
    for link, passive, word in _DONE.findall(sentence):
        if not _PARTICIPLE.fullmatch(word):
            continue
        if link in ("is", "are") and passive in ("being ", "to be "):
            acts.add((stem(word), False))
        elif passive or link not in ("is", "are") or stem(word) in ACTS:
            acts.add((stem(word), True))
    return acts


_SAME_THING = {"number": "id", "code": "id", "e-mail": "email", "surname": "name"}
_WAY = re.compile(
    r"\b(?:exchang|replac|swap|trad|chang|switch|mov|upgrad|convert|correct|from)\w* (.{1,120}?)"
    r" (?:for|to|into|with|by) (.{1,80}?)(?=[.,;?!]|$)"
)
_INSTEAD = re.compile(r"([^.,;?!]{1,80}) (?:instead of|rather than|in place of) ([^.,;?!]{1,80})")
_UNOWNED = {"", *STOP, *COURTESY, *_SAME_THING, "full", "email"}
_NOT_YET = re.compile(
    r"(?:\b(?:can|could|may|might|will|would|shall)|'ll) (?:now |also |then )?(be )?([^\W\d_]+)"
)
_DONE = re.compile(
    r"\b(has|have|had|was|were|is|are|(?:i|we)(?! ha))(?:'ve)? "
    r"(?:now |already |just |still |currently |gone ahead and )*(been |being |to be )?"
    r"(?:now |already |just |successfully )*([^\W\d_]+)"
)
_IRREGULAR = (form for line in _DATA["irregular"] for form in line.partition(" = ")[2].split(", "))
_PARTICIPLE = re.compile("|".join([r"\w+ed", "set|made|put|cut", *_IRREGULAR]))
ACTS = frozenset(map(stem, _words(_DATA["acts"])))
"""What is done to things: said in place of what a tool does, they are another statement."""
CLASSES = tuple(frozenset(map(stem, line.split())) for line in _DATA["classes"])
"""A word in the place of another of its class is another statement."""
BINDING = frozenset().union(*CLASSES)
"""Words without which a sentence is another one."""
COURTESIES = tuple(frozenset(map(stem, line.split())) for line in _DATA["courtesies"])
OPENERS = _words(_DATA["openers"]) | {*_SENSES, *_SENSES.values()}
FILLERS = _words(_DATA["fillers"])
"""Words of a search query that do not narrow it."""
