"""The little English that comparing texts needs: stems, senses, courtesies, negation, requests.

Plain word lists, the longer ones in english.toml; other languages fall through them and are
compared by facts and words alone. This module must never know a domain.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import dropwhile, pairwise, takewhile

from pivotrl.verifiers.comparison import table

_DATA = table("english")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _compiled(pattern: str) -> re.Pattern[str]:
    """Lines of a pattern in english.toml are one; `{name}` stands for a part of that name."""
    for name, part in _DATA["parts"].items():
        pattern = pattern.replace(f"{{{name}}}", part)
    return re.compile(re.sub(r"(?:^|\n) +", "", pattern), re.IGNORECASE)


def _pattern(name: str) -> re.Pattern[str]:
    return _compiled(_DATA["patterns"][name])


STOP = _words(_DATA["stop"])
COURTESY = _words(_DATA["courtesy"])
ARTICLES = _words("a an the")
NEGATORS = _words(_DATA["negators"])
_NOT_NEGATIVE = _pattern("not_negative")
_CLAUSE = _pattern("clause")
REQUEST = _pattern("request")
OFFER = _pattern("offer")
"""A question out of courtesy; others without content ask about what was just said."""
COULD_YOU, PLEASE, OPPOSITE = map(_pattern, ("could_you", "please", "opposite"))
AFFIRMS = _pattern("affirms")
UNORDERED, ORDERED, CASELESS = map(_pattern, ("unordered", "ordered", "caseless"))
SETS, PAIRS, LISTED, PLACED = map(_pattern, ("sets", "pairs", "listed", "placed"))
QUESTIONS = _pattern("questions")
SPELLED, CHANGES = map(_pattern, ("spelled", "changes"))
TITLES, NOTES, TEXTS = map(_pattern, ("titles", "notes", "texts"))
REASONS, MESSAGES = map(_pattern, ("reasons", "messages"))
WORDED, VERBATIM, DEFAULT = map(_pattern, ("worded", "verbatim", "default"))
MAKES, PAIRED, COMMAS = map(_pattern, ("makes", "paired", "commas"))
TIMED, EITHER, DATES, PATHS = map(_pattern, ("timed", "either", "dates", "paths"))
SHELLS, COMMANDS = map(_pattern, ("shells", "commands"))
EXPRESSIONS, PROGRAMS, AMOUNTS = map(_pattern, ("expressions", "programs", "amounts"))
ADDRESSES, POSTCODES = map(_pattern, ("addresses", "postcodes"))
QUERIES, DIRECTED = map(_pattern, ("queries", "directed"))
"""What a tool's schema says, and kinds of arguments by their names (see english.toml)."""
_THING = _pattern("thing")
YES_OR_NO = _pattern("yes_or_no")
"""How to answer, not an answer."""
WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W_぀-ヿ㐀-鿿가-힯]+(?:'[^\W\d_]+)?")
_UNITS, _TEENS, _TENS = (_DATA[key].split() for key in ("units", "teens", "tens"))
NUMBER_WORDS = {word: str(n) for n, word in enumerate([*_UNITS, *_TEENS], 1) if n > 1}
NUMBER_WORDS |= {word: str(10 * n) for n, word in enumerate(_TENS, 2)}
_TENS_AND_UNITS = re.compile(rf"(?i)\b({'|'.join(_TENS)})[- ]({'|'.join(_UNITS)})\b")
SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
VAGUE = _words("things thing details detail")
CURRENCIES = {"$": "dollar", "€": "euro", "£": "pound", "¥": "yen"}
NOT_NAMES = _words(_DATA["not_names"])
NOT_NAMES |= {f"{name}s" for name in NOT_NAMES}
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
    heads = {_root(line.partition(" = ")[0]) for line in _DATA["senses"]}
    for line in (*_DATA["senses"], *_DATA["irregular"]):
        sense, _, variants = line.partition(" = ")
        root = words.get(_root(sense), _root(sense))  # left is leave is depart
        for variant in variants.split(", "):
            if sense.isalpha() and variant.isalpha():
                words[variant] = root
                if _root(variant) not in heads:  # a shipment is no act of shipping
                    words[_root(variant)] = root
            else:
                phrases[variant.replace("-", " ")] = sense
    return words, phrases


_SENSES, _PHRASES = _senses()
ORDINALS = {str(n): stem(word) for n, word in enumerate(_DATA["ordinals"].split(), 3)}
"""Of a number the stem of its ordinal; `first` and `second` have other senses."""
_RESPELLED = [(_compiled(pattern), to) for pattern, to in _DATA["respelled"]]


def _any_of(phrases: Iterable[str]) -> re.Pattern[str]:
    """One of the phrases in whole words, the longest first; by first letter, as few are tried."""
    rests: dict[str, list[str]] = {}
    for phrase in sorted(phrases, key=len, reverse=True):
        rest = re.escape(phrase[1:]).replace(r"\ ", r"[\s-]")
        rests.setdefault(re.escape(phrase[0]), []).append(rest)
    either = "|".join(f"{letter}(?:{'|'.join(rest)})" for letter, rest in rests.items())
    return re.compile(rf"(?<![\w'])(?:{either})(?!\w)", re.IGNORECASE)


_PHRASE = _any_of(_PHRASES)


def respell(text: str) -> str:
    """The text with phrases replaced by what they stand for (english.toml)."""
    for pattern, to in _RESPELLED:
        text = pattern.sub(to, text)
    text = _TENS_AND_UNITS.sub(
        lambda m: str(int(NUMBER_WORDS[m[1].lower()]) + _UNITS.index(m[2].lower()) + 1), text
    )
    return _PHRASE.sub(lambda m: _PHRASES[re.sub(r"[\s-]", " ", m[0].lower())], text)


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
    if _WHY.search(question):
        wanted.add("reason")
    return wanted


def bounds_of(sentence: str) -> set[tuple[str, str]]:
    """(date, time or number, `from` or `until`) as a sentence in lower case says of them."""
    found = [*_BOUND.findall(sentence), *_LIMIT.findall(sentence)]
    return {(value, "until" if ends else "from") for ends, value in found}


def units_of(text: str) -> set[tuple[str, str]]:
    """(number, stem of what it counts) for "2 GB" and "$5"; what it is for has a slash."""
    found = [(number, "", CURRENCIES[sign]) for sign, number in _MONEY.findall(text)]
    found += [of for of in _COUNTED.findall(text.lower()) if of[2] not in STOP | _ORDER]
    return {(n.replace(",", ""), "/" * bool(per) + stem(unit)) for n, per, unit in found}


def choices_of(sentence: str) -> set[tuple[frozenset[str], frozenset[str]]]:
    """The stems on both sides of each "or" in a sentence in lower case."""
    empty = STOP | COURTESY | {"one", "ones"}
    parts = [["" if w in empty else stem(w) for w in WORD.findall(p)] for p in _OR.split(sentence)]
    found = set()
    for one, other in pairwise(parts):
        last = frozenset(takewhile(bool, dropwhile(operator.not_, reversed(one))))
        first = frozenset(takewhile(bool, dropwhile(operator.not_, other)))
        found.add((last - first, first - last))
    return found


def ways_of(sentence: str) -> set[tuple[frozenset[str], frozenset[str]]]:
    """The stems of what is exchanged for, moved to or taken in place of what, in lower case."""
    found = [*_WAY.findall(sentence), *_beside(_BECOMES, sentence)]
    found += ((other, one) for one, other in _beside(_INSTEAD, sentence))
    return {(_content(one), _content(other)) for one, other in found}


def _beside(pattern: re.Pattern[str], sentence: str) -> list[tuple[str, str]]:
    """What stands before and after each match, in its part of the sentence."""
    pieces = [_PART.split(piece) for piece in pattern.split(sentence)]
    pairs = ((one[-1][-_NEAR:], other[0][:_NEAR]) for one, other in pairwise(pieces))
    return [(one, other) for one, other in pairs if one.strip() and other.strip()]


def _content(text: str) -> frozenset[str]:
    return frozenset(stem(word) for word in WORD.findall(text) if word not in STOP)


def passives_of(text: str) -> set[str]:
    """Stems of what "is done" in a text in lower case."""
    return {stem(word) for word in _PASSIVE.findall(text) if _PARTICIPLE.fullmatch(word)}


def patients_of(text: str) -> dict[str, frozenset[str]]:
    """Stem of an act -> stems of what it was done to, in either voice, in lower case."""
    found: dict[str, frozenset[str]] = {}
    for before, passive, active, after in _PATIENT.findall(text):
        if _PARTICIPLE.fullmatch(act := passive or active):
            things = _content(before or after) - {stem(act)}
            found[stem(act)] = found.get(stem(act), frozenset()) | things
    return found


def agents_of(text: str) -> tuple[set[str], set[str]]:
    """Stems of what "was done by" others and of what who asks did to something, in lower case."""
    by = {stem(act) for act, who in _DONE_BY.findall(text) if stem(who) not in ASKING}
    return by, set(map(stem, _ASKER_DID.findall(text)))


def ends_of(text: str) -> set[tuple[str, str]]:
    """(`from` or `to`, the word that follows) in a text in lower case."""
    return {(way, stem(end)) for way, end in _END.findall(text) if end not in STOP}


def acts_of(sentence: str) -> set[tuple[str, bool]]:
    """(stem of an act, done or not yet) for what a sentence in lower case says of acts."""
    acts = {
        (stem(word), False)
        for passive, word in _NOT_YET.findall(sentence)
        if passive or word not in STOP
    }
    for link, passive, word in () if " if " in f" {sentence}" else _DONE.findall(sentence):
        if not _PARTICIPLE.fullmatch(word):
            continue
        if passive or link not in ("is", "are") or stem(word) in ACTS:
            acts.add((stem(word), True))
    return acts


_BOUND = _pattern("bound")
_LIMIT = _pattern("limit")
_MONEY = re.compile(r"([$€£¥])(\d[\d,]*)")
_ORDER = {"st", "nd", "rd", "th"}
_COUNTED = re.compile(r"(?<![\w.,])[$€£¥]?(\d[\d,]*)(?:\.\d+)? ?(per |an? )?([^\W\d_]+)")
_END = re.compile(r"\b(from|to) (?:the |my |your |our |an? )?([^\W\d_]+)")
_WHY = re.compile(r"\bwhy (?:are|do|did|would|were|have) you\b")
_OR = re.compile(  # of a list too
    r"[,;]? or\b|,(?=(?: (?!and\b)[\w'-]+){1,3}(?:,(?: (?!and\b)[\w'-]+){1,3})?,? or\b)"
)
_SAME_THING = {
    "number": "id",
    "code": "id",
    "reference": "id",
    "e-mail": "email",
    "surname": "name",
}
_WAY = _pattern("way")
GAVE_UP = _pattern("gave_up")
_BECOMES = _pattern("becomes")
_INSTEAD = _pattern("instead")
_PART, _NEAR = re.compile("[.,;?!]"), 80
"""What ends a part of a sentence; characters on either side of what parts old and new."""
_UNOWNED = {"", *STOP, *COURTESY, *_SAME_THING, "full", "email", "new"}
_NOT_YET = _pattern("not_yet")
_DONE_BY, _ASKER_DID = map(_pattern, ("done_by", "asker_did"))
_DONE = _pattern("done")
_IRREGULAR = (form for line in _DATA["irregular"] for form in line.partition(" = ")[2].split(", "))
_PARTICIPLE = re.compile("|".join([r"\w+ed", "set|made|put|cut", *_IRREGULAR]))
_PASSIVE = re.compile(
    r"\b(?:is|are|was|were|be|been|being)(?: (?:not|only|now|also|already|\w+ly))? (\w+)\b"
)
_PATIENT = re.compile(
    r"\b((?:[\w'#-]+ ){1,3})(?:is|are|was|were|(?:has|have|will|can|would) be(?:en)?) "
    r"(?:\w+ly )?(\w+)|\b(?:i|we|they|you|and|ve|have|has|will)(?: also| now)? "
    r"(?!(?:the|your|an?)\b)(\w+) "
    r"((?:(?:the|your|an?) )?[\w'#-]+(?: (?!and\b|but\b|or\b)[\w'#-]+)?)"
)
ACTS = frozenset(map(stem, _words(_DATA["acts"])))
"""What is done to things: said in place of what a tool does, they are another statement."""
CLASSES = tuple(frozenset(map(stem, line.split())) for line in _DATA["classes"])
"""A word in the place of another of its class is another statement."""
BINDING = frozenset().union(*CLASSES)
"""Words without which a sentence is another one."""
COURTESIES = tuple(frozenset(map(stem, line.split())) for line in _DATA["courtesies"])
OPENERS = _words(_DATA["openers"]) | {*_SENSES, *_SENSES.values()}
ASKING = frozenset(map(stem, _words(_DATA["asking"])))
"""Who speaks to an agent, and that they ask for something."""
NOTED = ASKING | frozenset(map(stem, _words(_DATA["noted"])))
"""What says nothing in a note beside a call."""
STREETS = {
    short: line.partition(" = ")[0]
    for line in _DATA["streets"]
    for short in line.partition(" = ")[2].split(", ")
}
"""Short forms in addresses -> the word."""
FILLERS = _words(_DATA["fillers"])
"""Words of a search query that do not narrow it."""
FINDERS = _words(_DATA["finders"])
COUNTED = frozenset(map(stem, _words(_DATA["counted"])))
"""Of a tool's name, words that do not say what it looks for; what anything may be counted in."""
_QUERY = {
    variant.replace("-", " ").lower(): line.partition(" = ")[0].lower()
    for line in _DATA["search"]["senses"]
    for variant in line.partition(" = ")[2].split(", ")
}
_IN_QUERY = _any_of(_QUERY)
_BRITISH = re.compile(r"(?<=\w\wi)s(?=(?:e|ed|es|ing|ations?)\b)")
ASKED, WEAK = (frozenset(map(stem, _words(_DATA["search"][key]))) for key in ("asked", "weak"))
"""Of a query: kinds of what is asked, and words that it need not say."""


MEASURES = tuple(frozenset(map(stem, _words(line))) for line in _DATA["search"]["measures"])
"""Of a number: units that measure the same."""


def measured_otherwise(one: str, other: str) -> bool:
    """Whether a number of one text has another unit in the other: `125 metres`, `125 feet`."""
    ours, theirs = units_of(one), units_of(other)
    return any(
        {(number, unit) for number, unit in ours | theirs if number == n} == {mine, (n, unit)}
        for mine in ours - theirs
        for n, unit in theirs - ours
        if mine[0] == n and any({mine[1], unit} <= kind for kind in MEASURES)
    )


def query_senses(text: str) -> str:
    """A query with one of the words that ask for a thing in place of the others, in American."""
    text = _BRITISH.sub("z", text)
    return _IN_QUERY.sub(lambda m: _QUERY[re.sub(r"[\s-]", " ", m[0].lower())], text)
