"""Requests with checkable constraints (IFBench), in AllenAI's own words for each constraint.

The answers are strings of words without further sense: only the constraints are judged. This
module must never know how they are checked.
"""

from __future__ import annotations

from random import Random

from pivotrl.types import JSON

# Two for each first letter, in alphabetical order, so that "the next letter" is the next pair.
WORDS = (
    *("apple", "autumn", "beach", "bread", "cloud", "crown", "dream", "drum", "earth", "engine"),
    *("forest", "flame", "garden", "glass", "harbor", "hill", "island", "iron", "jungle", "jacket"),
    *("kettle", "knife", "lamp", "leaf", "moon", "market", "night", "needle", "ocean", "orange"),
    *("paper", "pearl", "queen", "quilt", "river", "rose", "sand", "storm", "tower", "table"),
)
ADJECTIVES = ("bright", "cold", "deep", "green", "high", "long", "old", "quiet", "small", "warm")

_Constraint = tuple[str, dict[str, JSON], str, str]
"""Instruction id, its arguments, its words, and an answer that follows it."""


def ifbench(random: Random, level: int) -> dict[str, JSON]:
    adjective = random.choice(ADJECTIVES)
    first, second = random.sample(WORDS, 2)
    request = f"Write about the {adjective} {first} and the {second}."
    if level == 1:
        constraints = [random.choice((_newline, _options, _no_consecutive))(random)]
    elif level == 2:
        constraints = [random.choice((_word_count, _position))(random)]
    elif level == 3:
        constraints = [random.choice((_keywords, _numbers, _alphabet, _unique))(random)]
    else:
        constraints = random.choice(
            (_count_and_position, _count_and_newline, _numbers_and_keyword)
        )(random)
    if constraints[0][0] == "format:options":
        request = f"Is the {adjective} {first} near the {second}?"
    return {
        "prompt": " ".join((request, *(words for _, _, words, _ in constraints))),
        "instruction_id_list": [name for name, _, _, _ in constraints],
        "kwargs": [arguments for _, arguments, _, _ in constraints],
        "reference": constraints[-1][3],
    }


def _some(random: Random, n: int, avoid: tuple[str, ...] = ()) -> list[str]:
    return random.sample([word for word in WORDS if word not in avoid], n)


def _newline(random: Random) -> _Constraint:
    words = _some(random, random.randint(3, 6))
    return "format:newline", {}, "Write each word on a new line.", "\n".join(words)


def _options(random: Random) -> _Constraint:
    options = random.choice((("yes", "no", "maybe"), ("I know", "I doubt"), ("true", "false")))
    joined = "/".join(options)
    text = f"Answer with one of the following options: {joined}."
    return "format:options", {"options": joined}, text, random.choice(options)


def _no_consecutive(random: Random) -> _Constraint:
    words: list[str] = []
    for word in _some(random, 12):
        if len(words) < 6 and (not words or words[-1][0] != word[0]):
            words.append(word)
    text = "No two consecutive words can share the same first letter."
    return "words:no_consecutive", {}, text, " ".join(words)


def _word_count(random: Random) -> _Constraint:
    low = random.randint(3, 7)
    text = f"The response must contain between {low} and {low + 1} words."
    arguments: dict[str, JSON] = {"min_words": low, "max_words": low + 1}
    answer = " ".join(_some(random, random.randint(low, low + 1)))
    return "count:word_count_range", arguments, text, answer


def _position(random: Random) -> _Constraint:
    keyword = random.choice(WORDS)
    rest = _some(random, random.randint(3, 5), (keyword,))
    answer = " ".join((rest[0], keyword, *rest[1:-1], keyword, rest[-1]))
    text = (
        "The second word in your response and the second to last word in your response should be "
        f"the word {keyword}."
    )
    return "words:words_position", {"keyword": keyword}, text, answer


def _keywords(random: Random) -> _Constraint:
    count = random.randint(2, 3)
    keywords = _some(random, count)
    times = ("once", "twice", "three times")
    parts = [
        f"keyword {keyword} {often} in your response"
        for keyword, often in zip(keywords, times, strict=False)
    ]
    answer = " ".join(word for i, word in enumerate(keywords, start=1) for _ in range(i))
    arguments: dict[str, JSON] = {f"keyword{i}": word for i, word in enumerate(keywords, start=1)}
    return "count:keywords_multiple", arguments, f"Include {', '.join(parts)}.", answer


def _numbers(random: Random) -> _Constraint:
    n = random.randint(2, 6)
    words = _some(random, n)
    answer = " ".join(f"{random.randint(1, 9)} {word}" for word in words)
    return "count:numbers", {"N": n}, f"Include exactly {n} numbers in the response.", answer


def _alphabet(random: Random) -> _Constraint:
    start, length = random.randint(0, 14), random.randint(4, 5)
    answer = " ".join(WORDS[2 * i + random.randint(0, 1)] for i in range(start, start + length))
    text = (
        "Each word in your response must start with the next letter of the alphabet, looping back "
        "to 'A' after 'Z'."
    )
    return "words:alphabet", {}, text, answer


def _unique(random: Random) -> _Constraint:
    n = random.randint(4, 8)
    text = f"Use at least {n} unique words in the response."
    return "count:unique_word_count", {"N": n}, text, " ".join(_some(random, n))


def _count_and_position(random: Random) -> list[_Constraint]:
    name, arguments, text, answer = _position(random)
    n = len(answer.split())
    count = f"The response must contain between {n} and {n} words."
    return [
        ("count:word_count_range", {"min_words": n, "max_words": n}, count, answer),
        (name, arguments, text, answer),
    ]


def _count_and_newline(random: Random) -> list[_Constraint]:
    name, arguments, text, answer = _word_count(random)
    return [
        (name, arguments, text, answer),
        ("format:newline", {}, "Write each word on a new line.", answer.replace(" ", "\n")),
    ]


def _numbers_and_keyword(random: Random) -> list[_Constraint]:
    n = random.randint(2, 6)
    numbers = " ".join(str(random.randint(1, 9)) for _ in range(n))
    keyword = random.choice(WORDS)
    answer = f"{keyword} {numbers}"
    return [
        ("count:numbers", {"N": n}, f"Include exactly {n} numbers in the response.", answer),
        (
            "count:keywords_multiple",
            {"keyword1": keyword},
            f"Include keyword {keyword} once in your response.",
            answer,
        ),
    ]
