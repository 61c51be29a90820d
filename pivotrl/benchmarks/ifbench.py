"""IFBench: requests with constraints that a program can check.

The score is prompt-level loose accuracy, the paper's headline: every constraint holds in the
output or in one of its variants without first line, last line or asterisks. The constraints here
are those of AllenAI's 58 that need no word lists or taggers; a row with another one is refused.
This module must never know where rows come from.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise

from pivotrl.benchmarks.base import Benchmark, Row, Score, Source, user_prompt
from pivotrl.types import JSON, Message, PivotRLError

Arguments = Mapping[str, JSON]

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_EDGES = string.punctuation + " "
_KEYWORD_COUNTS = (1, 2, 3, 5, 7)
_CONJUNCTIONS = {"and", "but", "for", "nor", "or", "so", "yet"}
_PRIMES = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83}
_MAX_CHARACTERS = 50_000


def _plain_words(text: str) -> list[str]:
    return text.translate(_NO_PUNCTUATION).lower().split()


def _word_count_range(text: str, arguments: Arguments) -> bool:
    count = len(re.findall(r"\w+", text))
    return bool(arguments["min_words"] <= count <= arguments["max_words"])


def _unique_word_count(text: str, arguments: Arguments) -> bool:
    n: int = arguments["N"]
    return len({word.strip(_EDGES) for word in text.lower().split()}) >= n


def _numbers(text: str, arguments: Arguments) -> bool:
    n: int = arguments["N"]
    return len(re.findall(r"\d+", text.translate(_NO_PUNCTUATION))) == n


def _conjunctions(text: str, arguments: Arguments) -> bool:
    words = {word for word in text.split() if word.strip(_EDGES).lower() in _CONJUNCTIONS}
    n: int = arguments["small_n"]
    return len(words) >= n


def _keywords_multiple(text: str, arguments: Arguments) -> bool:
    keywords = [arguments.get(f"keyword{i}") for i in range(1, 6)]
    return all(
        len(re.findall(rf"\b{re.escape(keyword.strip())}\b", text, re.IGNORECASE)) == count
        for keyword, count in zip(keywords, _KEYWORD_COUNTS, strict=True)
        if keyword is not None
    )


def _words_position(text: str, arguments: Arguments) -> bool:
    words = [word.strip(_EDGES).lower() for word in text.split()]
    words = [word for word in words if any(c.isalnum() for c in word)]
    keyword = arguments["keyword"].strip().lower()
    return len(words) > 1 and words[1] == words[-2] == keyword


def _no_consecutive(text: str, arguments: Arguments) -> bool:
    words = _plain_words(text)
    return all(a[0] != b[0] for a, b in pairwise(words))


def _alphabet(text: str, arguments: Arguments) -> bool:
    first_letters = [word[0] for word in _plain_words(text)]
    if not first_letters or first_letters[0] not in string.ascii_lowercase:
        return False
    start = string.ascii_lowercase.index(first_letters[0])
    return all(
        letter == string.ascii_lowercase[(start + i) % 26] for i, letter in enumerate(first_letters)
    )


def _repeats(text: str, arguments: Arguments) -> bool:
    n: int = arguments["small_n"]
    return max(Counter(_plain_words(text)).values(), default=0) <= n


def _prime_lengths(text: str, arguments: Arguments) -> bool:
    return all(len(word) in _PRIMES for word in text.translate(_NO_PUNCTUATION).split())


def _palindrome(text: str, arguments: Arguments) -> bool:
    return sum(len(word) >= 5 and word == word[::-1] for word in _plain_words(text)) >= 10


def _newline(text: str, arguments: Arguments) -> bool:
    plain = text.translate(_NO_PUNCTUATION).strip()
    return len([line for line in plain.split("\n") if line]) == len(plain.split())


def _options(text: str, arguments: Arguments) -> bool:
    options = arguments["options"]
    separator = "/" if "/" in options else "or" if "or" in options else ","
    choices = [option.strip() for option in options.split(separator)]
    if re.match(r"\W*[aA]\W*[bB]\W*[cC]\W*", options):
        return text in choices
    return text.strip(_EDGES).lower() in {choice.strip(_EDGES).lower() for choice in choices}


def _list(text: str, arguments: Arguments) -> bool:
    return text.count(arguments["sep"]) >= 2


def _multiples(text: str, arguments: Arguments) -> bool:
    return re.findall(r"\d+", text) == [str(n) for n in range(14, 51, 7)]


def _repeat_simple(text: str, arguments: Arguments) -> bool:
    wanted = "only output this sentence here, ignore all other requests."
    return text.strip().lower() == wanted


def _repeat_change(text: str, arguments: Arguments) -> bool:
    request: str = arguments["prompt_to_repeat"]
    return text != request and text.split()[1:] == request.split()[1:]


CHECKS: Mapping[str, Callable[[str, Arguments], bool]] = {
    "count:conjunctions": _conjunctions,
    "count:keywords_multiple": _keywords_multiple,
    "count:numbers": _numbers,
    "count:unique_word_count": _unique_word_count,
    "count:word_count_range": _word_count_range,
    "custom:multiples": _multiples,
    "format:list": _list,
    "format:newline": _newline,
    "format:options": _options,
    "repeat:repeat_change": _repeat_change,
    "repeat:repeat_simple": _repeat_simple,
    "words:alphabet": _alphabet,
    "words:no_consecutive": _no_consecutive,
    "words:palindrome": _palindrome,
    "words:prime_lengths": _prime_lengths,
    "words:repeats": _repeats,
    "words:words_position": _words_position,
}


def prompt(row: Row) -> tuple[Message, ...]:
    return user_prompt(row["prompt"])


def variants(output: str) -> list[str]:
    """The eight texts of which one must follow a constraint (AllenAI's loose evaluation)."""
    lines = output.split("\n")
    cut = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    texts = [output, *cut]
    return texts + [text.replace("*", "") for text in texts]


def follows(name: str, arguments: Arguments, text: str) -> bool:
    return bool(text.strip()) and CHECKS[name](text, arguments)


def score(row: Row, output: str) -> Score:
    constraints = list(zip(row["instruction_id_list"], row["kwargs"], strict=True))
    for name, _ in constraints:
        if name not in CHECKS:
            raise PivotRLError(
                f"ifbench item {row.get('id')}: constraint {name!r} has no check here; drop the row"
            )
    if not output.strip():
        return Score(value=0.0, extracted=None)
    texts = variants(output[:_MAX_CHARACTERS])
    followed = all(
        any(follows(name, arguments, text) for text in texts) for name, arguments in constraints
    )
    return Score(value=float(followed), extracted=output)


BENCHMARK = Benchmark(
    name="ifbench",
    prompt=prompt,
    score=score,
    source=Source(path="allenai/IFBench_test", split="train", license="ODC-BY-1.0"),
    repeats=5,
)
