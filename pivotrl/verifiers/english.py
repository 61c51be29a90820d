"""The little English that comparing texts needs: stems, stop words, courtesies, negation, requests.

Plain word lists; other languages fall through them and are compared by facts and words alone. This
module must never know a domain.
"""

from __future__ import annotations

import re
from functools import lru_cache


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP = _words(
    """a an the this that these those it its i i'm i've i'll i'd me my mine we we're we've we'll our
    us you you're you've you'll you'd your yours he she his her they them their there here and or
    but if so as at by for from in into of on onto to with about than then be am is are was were
    been being do does did doing done have has had having will would shall should can could may
    might must let's also just now very still yet too all any some both each which what who whom
    whose when where why how over under up down out off again once such only own same more most
    other ll ve re s t d m well while per via following follow regarding"""
)
COURTESY = _words(
    """please kindly thank thanks hi hello hey dear sorry apologize apologies apology great sure
    certainly absolutely course okay ok alright perfect wonderful welcome happy glad pleased help
    assist assistance assisting let know feel free anything else further question questions
    additional more need needs require contact reach hesitate day nice good bye goodbye safe travel
    travels today understand understanding patience hope enjoy best wish wishes problem worries
    like want wish ask something moment wait unfortunately however ever"""
)
NEGATORS = _words(
    """not no never cannot can't cant don't dont won't wont isn't aren't wasn't weren't doesn't
    doesnt didn't didnt haven't hasn't hadn't couldn't wouldn't shouldn't mustn't without unable
    neither nor none nothing impossible ineligible unavailable invalid incorrect unsuccessful
    unsuccessfully failed fails fail deny denied denies decline declined refuse refused rejected
    reject prohibited forbidden"""
)
_NOT_NEGATIVE = re.compile(
    r"\bno (?:problem|worries|longer needed|later than)\b|\b(?:do not|don't) hesitate\b"
    r"|\bif (?:you )?(?:not|don't|do not)\b|\bwhether or not\b|\bor not\b|\bnot only\b"
    r"|\bno\.? ?(?=#?\d)"
)
REQUEST = re.compile(
    r"\b(?:please|kindly)\s+(?:also\s+|then\s+)?(?:provide|confirm|share|tell|give|specify|let|reply"
    r"|choose|select|enter|send|state|type|verify|indicate|clarify|advise|respond|say|list)\b"
    r"|\b(?:need|require)\s+(?:your|you|to know|to have|to gather|some|a few|more|the following)\b"
    r"|\blet me know\s+(?:which|what|how|when|where|who|your|the|whether"
    r"|if (?!you (?:need|have|want)))\b"
    r"|\b(?:could|can|would|will) you\b|\bmay i\b|\bdo you want\b|\btell me\b"
)
CONFIRM = re.compile(
    r"\b(?:shall i|should i|may i|want me to|like me to)(?: do (?:so|that|this|it))?\s*\?"
)
"""A question about what was just said; it has no content of its own."""
_THING = re.compile(
    r"(?:\b([^\W\d_]+) )?\b"
    r"(id|number|code|name|e-?mail|address|phone|date|reason|password|pin)s?\b"
)
YES_OR_NO = re.compile(r"\(?\byes\s*(?:/|or)\s*no\b\)?", re.IGNORECASE)
"""How to answer, not an answer."""
WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W_぀-ヿ㐀-鿿가-힯]+(?:'[^\W\d_]+)?")
NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        (
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
        ),
        2,
    )
}
SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
VAGUE = _words("things thing details detail pieces piece")
NOT_NAMES = _words("id ids am pm est edt pst pdt utc gmt faq ok no yes not and or if")
_VAGUE_VERBS = _words("get set list find search look make run use check show read calculate think")
# Longest first.
_SUFFIXES = (
    "ations",
    "ation",
    "ingly",
    "ments",
    "ment",
    "ings",
    "ing",
    "ions",
    "ion",
    "edly",
    "ied",
    "ies",
    "ed",
    "es",
    "ly",
    "s",
    "e",
    "y",
)


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A rough English stem: `cancelled`, `cancellation` and `cancel` are one."""
    word = word.removesuffix("'s")
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3 and not word.endswith("ss"):
            word = word[: -len(suffix)]
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


@lru_cache(maxsize=4096)
def verb_of(tool_name: str) -> str | None:
    """The stem of what a tool does, `cancel` of `cancel_order`; None if its name begins vaguely."""
    first = WORD.search(tool_name)
    verb = first[0].lower() if first else ""
    return None if verb in _VAGUE_VERBS or verb in STOP or verb in COURTESY else stem(verb)


def negated_words(sentence: str) -> list[str] | None:
    """Stems in the scope of the sentence's negations (three content words); None if it has none."""
    sentence = _NOT_NEGATIVE.sub(" ", sentence)
    scope: list[str] = []
    negative, left = False, 0
    for word in WORD.findall(sentence):
        if word in NEGATORS:
            negative, left = True, 3
        elif left and word not in STOP and word not in COURTESY:
            scope.append(stem(word))
            left -= 1
    return scope if negative else None


def wanted_things(question: str) -> set[str]:
    """What a question in lower case asks for, where it is one of the usual things."""
    found = _THING.findall(question)
    named = [("" if owner in STOP or owner in COURTESY else stem(owner), t) for owner, t in found]
    return {f"{owner} {_SAME_THING.get(thing, thing)}".strip() for owner, thing in named}


def acts_of(sentence: str) -> set[tuple[str, bool]]:
    """(stem of an act, done or not yet) for what a sentence in lower case says of acts."""
    return {
        (stem(word), done)
        for pattern, done in ((_NOT_YET, False), (_DONE, True))
        for passive, word in pattern.findall(sentence)
        if passive or stem(word) in ACTS
    }


_SAME_THING = {"number": "id", "code": "id", "e-mail": "email"}
_NOT_YET = re.compile(
    r"(?:\b(?:can|could|may|might|will|would|shall)|'ll) (?:now |also |then )?(be )?([^\W\d_]+)"
)
_DONE = re.compile(
    r"(?:\b(?:has|have|had|was|were|is|are)|'ve) (?:now |already )?(been )?"
    r"(?:successfully )?([^\W\d_]+)"
)
ACTS = frozenset(
    map(
        stem,
        _words(
            """cancel return exchange refund charge book buy sell pay ship transfer delete remove
            create upgrade downgrade block unblock suspend resume"""
        ),
    )
)
"""What is done to things: said in place of what a tool does, they are another statement."""
