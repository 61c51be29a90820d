"""Words, sentences and tokens of a text, near to NLTK's, which AllenAI's checks stand on.

`sentences` is Punkt's algorithm (Kiss and Strunk, 2006) without its trained tables: the
abbreviations are a short list, and a capitalised word starts a sentence after one of them only if
it is a function word. `tokens` has the rules of the Penn Treebank tokenizer that these checks can
tell apart; quotation marks stay as they are. Every pattern here takes time linear in the text.
This module must never know a constraint.
"""

from __future__ import annotations

import re
import string

from pivotrl.benchmarks.constraints.english import ABBREVIATIONS, STOP_WORDS

EDGES = string.punctuation + " "

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)

_END = re.compile(r"[.?!](?:(?=[)\";}\]*:@'({\[!?])|(?=\s+(?P<next>\S+)))")
_CLOSERS = re.compile(r"[\"')\]}]+(?=\s|--|\Z)\s*")
_WORD_BEFORE = re.compile(r"'?[^\s)\";}\]*:@'({\[!?,]+\Z")
_LONGEST_ABBREVIATION = 40
_SPACE = re.compile(r"\s")
_NUMBER = re.compile(r"-?[.,]?\d[\d,.-]*\.")

_APART = re.compile(r"\.{2,}|--|`+|''|[;@#$%&*?!\[\](){}<>\"“”«»‘’„]|[:,](?!\d)")
_FINAL_STOP = re.compile(r"(?<=[^.])\.(?=[\])}>\"'»”’ ]*\Z)")
_ENCLITIC = re.compile(r"(?<=[^' ])(n't|'(?:s|m|d|ll|re|ve)?)(?=\s|\Z)", re.IGNORECASE)
_TWO_WORDS = re.compile(
    r"\b(can(?=not\b)|gon(?=na\b)|got(?=ta\b)|wan(?=na\b)|gim(?=me\b)|lem(?=me\b))", re.IGNORECASE
)


def bare(text: str) -> str:
    """Without ASCII punctuation."""
    return text.translate(_NO_PUNCTUATION)


def bare_words(text: str) -> list[str]:
    """Lower case, without ASCII punctuation."""
    return bare(text).lower().split()


def sentences(text: str) -> list[str]:
    """The sentences of a text, each from its first to its last visible character."""
    found: list[str] = []
    start = 0
    for match in _ends(text):
        following = match["next"] or text[match.end()]
        end = match.end()
        if not _breaks(text[max(start, end - _LONGEST_ABBREVIATION) : end], following):
            continue
        next_start = match.start("next") if match["next"] else end
        if closers := _CLOSERS.match(text, next_start):
            end = next_start + len(closers.group().rstrip())
            next_start = closers.end()
        found.append(text[start:end])
        start = next_start
    found.append(text[start:].rstrip())
    return [sentence for sentence in found if sentence]


def _ends(text: str) -> list[re.Match[str]]:
    """Where a sentence may end: the last end mark of a word."""
    found: list[re.Match[str]] = []
    for match in _END.finditer(text):
        if found and not _SPACE.search(text, found[-1].end(), match.start()):
            found.pop()
        found.append(match)
    return found


def _breaks(before: str, following: str) -> bool:
    """Whether the end mark that `before` ends with ends a sentence there."""
    if not before.endswith("."):
        return True
    starter = following[0].isupper() and following.rstrip(EDGES).lower() in STOP_WORDS
    if before.endswith(".."):
        return starter
    last = _WORD_BEFORE.search(before)
    name = last.group()[:-1].lower() if last else ""
    initial = len(name) == 1 and name.isalpha()
    if name in ABBREVIATIONS or name.rpartition("-")[2] in ABBREVIATIONS:
        return starter and not initial
    if initial:
        return starter or not (following[0].isalpha() or following[0] in ";:,.!?")
    if _NUMBER.fullmatch(name + "."):
        return not (following[0].islower() or following[0] in ";:,.!?")
    return True


def tokens(text: str) -> list[str]:
    found: list[str] = []
    for sentence in sentences(text):
        apart = _FINAL_STOP.sub(" . ", sentence)
        apart = _APART.sub(r" \g<0> ", apart)
        found += _TWO_WORDS.sub(r"\1 ", _ENCLITIC.sub(r" \1", apart)).split()
    return found


def word_tokens(text: str) -> list[str]:
    """Tokens with a letter or digit in them."""
    return [token for token in tokens(text) if any(c.isalnum() for c in token)]
