"""The constraints `count:*` and `ratio:*`: how often something occurs in a text.

Semantics are those of allenai/IFBench, `instructions.py` at 1d62c1d6. This module must never know
which row asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

from pivotrl.benchmarks.constraints.check import Check, check
from pivotrl.benchmarks.constraints.english import PRONOUNS, STOP_WORDS
from pivotrl.benchmarks.constraints.text import (
    EDGES,
    bare,
    bare_words,
    sentences,
    tokens,
)

_CONJUNCTIONS = frozenset(("and", "but", "for", "nor", "or", "so", "yet"))
_KEYWORD_COUNTS = (1, 2, 3, 5, 7)
_NAMES = re.compile(
    r"\b(?:Emma|Liam|Sophia|Jackson|Olivia|Noah|Ava|Lucas|Isabella|Mason|Mia|Ethan|Charlotte"
    r"|Alexander|Amelia|Benjamin|Harper|Leo|Zoe|Daniel|Chloe|Samuel|Lily|Matthew|Grace|Owen"
    r"|Abigail|Gabriel|Ella|Jacob|Scarlett|Nathan|Victoria|Elijah|Layla|Nicholas|Audrey|David"
    r"|Hannah|Christopher|Penelope|Thomas|Nora|Andrew|Aria|Joseph|Claire|Ryan|Stella|Jonathan)\b"
)
_JAPANESE = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")


def word_count_range(text: str, low: int, high: int) -> bool:
    return low <= len(re.findall(r"\w+", text)) <= high


def unique_word_count(text: str, n: int) -> bool:
    return len({word.strip(EDGES) for word in text.lower().split()}) >= n


def conjunctions(text: str, n: int) -> bool:
    # AllenAI tells words apart as written: "and" and "And," are two.
    return len({w for w in text.split() if w.strip(EDGES).lower() in _CONJUNCTIONS}) >= n


def keywords_multiple(text: str, *keywords: str | None) -> bool:
    return all(
        len(re.findall(rf"\b{re.escape(keyword.strip())}\b", text, re.IGNORECASE)) == count
        for keyword, count in zip(keywords, _KEYWORD_COUNTS, strict=True)
        if keyword is not None
    )


def numbers(text: str, n: int) -> bool:
    return len(re.findall(r"\d+", bare(text))) == n


def person_names(text: str, n: int) -> bool:
    return len(set(_NAMES.findall(text))) >= n


def pronouns(text: str, n: int) -> bool:
    return sum(token in PRONOUNS for token in tokens(text.lower().replace("/", " "))) >= n


def punctuation(text: str) -> bool:
    """Each of `.,!?;:`, and besides one interrobang."""
    for interrobang in ("?!", "!?"):
        if interrobang in text:
            return set(".,!?;:") <= set(text.replace(interrobang, "", 1))
    return "‽" in text and set(".,!?;:") <= set(text)


def words_japanese(text: str, n: int) -> bool:
    every_nth = (word.strip(EDGES) for word in text.split()[n - 1 :: n])
    return all(_JAPANESE.search(word) or word.isdigit() or not word for word in every_nth)


def stop_words(text: str, percentage: int) -> bool:
    words = re.findall(r"\w+", text.lower())
    stops = sum(word in STOP_WORDS for word in words)
    return bool(words) and stops / len(words) * 100 <= percentage


def _endings(text: str) -> tuple[int, int, int]:
    """How many sentences end in a full stop, a question mark and an exclamation mark."""
    last = [sentence[-1] for sentence in sentences(text)]
    return last.count("."), last.count("?"), last.count("!")


def sentence_type(text: str) -> bool:
    statements, questions, _ = _endings(text)
    return statements == 2 * questions


def sentence_balance(text: str) -> bool:
    return len(set(_endings(text))) == 1


def sentence_words(text: str) -> bool:
    """Three sentences of as many characters each, and no word twice."""
    found = [sentence.strip() for sentence in sentences(text)]
    words = bare_words(" ".join(found))
    same_length = len({len(sentence) for sentence in found}) == 1
    return len(found) == 3 and same_length and len(words) == len(set(words))


def overlap(text: str, reference: str, percentage: int) -> bool:
    """The share of the text's distinct trigrams of tokens that the reference has, within 2 %."""
    ours, theirs = _trigrams(text), _trigrams(reference)
    return bool(ours) and abs(100 * len(ours & theirs) / len(ours) - percentage) <= 2


def _trigrams(text: str) -> set[tuple[str, str, str]]:
    return {(a, b, c) for (a, b), (_, c) in pairwise(pairwise(tokens(text)))}


CHECKS: Mapping[str, Check] = {
    "count:conjunctions": check(conjunctions, small_n=0),
    "count:keywords_multiple": check(
        keywords_multiple,
        keyword1=str,
        keyword2=str | None,
        keyword3=str | None,
        keyword4=str | None,
        keyword5=str | None,
    ),
    "count:numbers": check(numbers, N=0),
    "count:person_names": check(person_names, N=0),
    "count:pronouns": check(pronouns, N=0),
    "count:punctuation": check(punctuation),
    "count:unique_word_count": check(unique_word_count, N=0),
    "count:word_count_range": check(word_count_range, min_words=0, max_words=0),
    "count:words_japanese": check(words_japanese, N=1),
    "ratio:overlap": check(overlap, reference_text=str, percentage=0),
    "ratio:sentence_balance": check(sentence_balance),
    "ratio:sentence_type": check(sentence_type),
    "ratio:sentence_words": check(sentence_words),
    "ratio:stop_words": check(stop_words, percentage=0),
}
