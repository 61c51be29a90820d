"""The constraints `words:*` and `sentence:*`: which words stand where.

Semantics are those of allenai/IFBench, `instructions.py` at 1d62c1d6. This module must never know
which row asks.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

from pivotrl.benchmarks.constraints.check import Check, check
from pivotrl.benchmarks.constraints.english import is_verb, syllables
from pivotrl.benchmarks.constraints.text import (
    EDGES,
    bare,
    bare_words,
    sentences,
    tokens,
    word_tokens,
)

_CLUSTER = re.compile("[bcdfghjklmnpqrstvwxyz]{2}")
_PRIMES = frozenset(n for n in range(2, 100) if all(n % d for d in range(2, n)))


def alphabet(text: str) -> bool:
    first = [word[0] for word in bare_words(text)]
    if not first or first[0] not in string.ascii_lowercase:
        return False
    start = string.ascii_lowercase.index(first[0])
    return all(letter == string.ascii_lowercase[(start + i) % 26] for i, letter in enumerate(first))


def consonants(text: str) -> bool:
    return all(_CLUSTER.search(word) for word in text.lower().split())


def keywords_specific_position(text: str, keyword: str, sentence: int, word: int) -> bool:
    found = sentences(text)
    words = word_tokens(found[sentence - 1]) if len(found) >= sentence else []
    return len(words) >= word and words[word - 1].lower() == keyword.strip().lower()


def last_first(text: str) -> bool:
    """The last word of a sentence is the first of the next."""
    for one, following in pairwise(sentences(text)):
        last, first = one.rstrip(EDGES).split(), following.lstrip(EDGES).split()
        if not last or not first or last[-1].lower() != first[0].lower():
            return False
    return True


def no_consecutive(text: str) -> bool:
    return all(a[0] != b[0] for a, b in pairwise(bare_words(text)))


def odd_even_syllables(text: str) -> bool:
    odd = [syllables(word) % 2 for word in bare_words(text)]
    return all(a != b for a, b in pairwise(odd))


def palindrome(text: str) -> bool:
    return sum(len(word) >= 5 and word == word[::-1] for word in bare_words(text)) >= 10


def paragraph_last_first(text: str) -> bool:
    """Each line ends with the word that it started with."""
    lines = (line.strip().lower().strip(EDGES).split() for line in text.split("\n"))
    return all(not words or words[0] == words[-1] for words in lines)


def prime_lengths(text: str) -> bool:
    return all(len(word) in _PRIMES for word in bare(text).split())


def repeats(text: str, n: int) -> bool:
    return max(Counter(bare_words(text)).values(), default=0) <= n


def start_verb(text: str) -> bool:
    first = tokens(text)[:1]
    return bool(first) and is_verb(first[0])


def vowel(text: str) -> bool:
    """One paragraph with three kinds of vowel at most."""
    return "\n" not in text.strip() and len(set(text.lower()) & set("aeiou")) <= 3


def words_position(text: str, keyword: str) -> bool:
    words = word_tokens(text)
    return len(words) > 1 and words[1].lower() == words[-2].lower() == keyword.strip().lower()


def alliteration_increment(text: str) -> bool:
    """Each sentence has more words in alliterating runs than the one before."""
    counts = [_alliterating(sentence) for sentence in sentences(text)]
    return all(a < b for a, b in pairwise(counts))


def _alliterating(sentence: str) -> int:
    first = [word.lstrip(EDGES)[:1] for word in sentence.lower().split()]
    same = [a == b for a, b in pairwise(letter for letter in first if letter)]
    # A run of n equal letters has n - 1 pairs; its first pair counts for two words.
    return sum(same) + sum(b and not a for a, b in pairwise([False, *same]))


def increment(text: str, n: int) -> bool:
    """Each sentence has exactly n words more than the one before."""
    counts = [len(bare(sentence).split()) for sentence in sentences(text)]
    return all(b == a + n for a, b in pairwise(counts))


def keyword(text: str, word: str, n: int) -> bool:
    """The word is in the n-th sentence."""
    found = sentences(text)
    pattern = rf"\b{re.escape(word)}\b"
    return len(found) >= n and bool(re.search(pattern, found[n - 1], re.IGNORECASE))


CHECKS: Mapping[str, Check] = {
    "sentence:alliteration_increment": check(alliteration_increment),
    "sentence:increment": check(increment, small_n=0),
    "sentence:keyword": check(keyword, word=str, N=1),
    "words:alphabet": check(alphabet),
    "words:consonants": check(consonants),
    "words:keywords_specific_position": check(keywords_specific_position, keyword=str, n=1, m=1),
    "words:last_first": check(last_first),
    "words:no_consecutive": check(no_consecutive),
    "words:odd_even_syllables": check(odd_even_syllables),
    "words:palindrome": check(palindrome),
    "words:paragraph_last_first": check(paragraph_last_first),
    "words:prime_lengths": check(prime_lengths),
    "words:repeats": check(repeats, small_n=0),
    "words:start_verb": check(start_verb),
    "words:vowel": check(vowel),
    "words:words_position": check(words_position, keyword=str),
}
