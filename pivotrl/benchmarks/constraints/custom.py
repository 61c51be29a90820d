"""The constraints `custom:*`: single tasks whose answer has one form.

Semantics are those of allenai/IFBench, `instructions.py` at 1d62c1d6; what makes its CSV reader
raise fails here. This module must never know which row asks.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Mapping
from itertools import pairwise

from pivotrl.benchmarks.constraints.check import Check, check
from pivotrl.benchmarks.constraints.text import EDGES, bare_words, sentences

_CAPITALS = (
    *("Reykjavik", "Helsinki", "Oslo", "Tallinn", "Stockholm", "Riga", "Moscow", "Copenhagen"),
    *("Vilnius", "Minsk", "Dublin", "Berlin", "Amsterdam", "Warsaw", "London", "Brussels"),
    *("Prague", "Luxembourg", "Paris", "Vienna", "Bratislava", "Budapest", "Vaduz", "Chisinau"),
    *("Bern", "Ljubljana", "Zagreb"),
)
_AFRICAN_LINES = 52
_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_SHORT_MONTHS = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
_QUESTION = re.compile(r"Question \d+[.|):;]?\s*")
_OPTION = re.compile(r"[A-Ea-e][.|)]\s*\w")
_SPECIAL = re.compile(r"[^\w\s]")


def _ascii(text: str) -> str:
    """Without diacritics, and without what is not ASCII then."""
    # One by one: a whole text has its marks sorted, in quadratic time.
    parts = "".join(unicodedata.normalize("NFKD", c) for c in text)
    return parts.encode("ascii", "ignore").decode()


def character_reverse(text: str) -> bool:
    return "elgae dlab" in text.lower()


def _rows(text: str, delimiter: str = ",") -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error:
        return []


def csv_city(text: str) -> bool:
    rows = _rows(text)
    header = ["ID", "Country", "City", "Year", "Count"]
    return len(rows) == 8 and rows[0] == header and all(len(row) == 5 for row in rows)


def _quoted_rows(text: str, columns: str, delimiter: str, gap: str) -> list[list[str]]:
    """The rows, quotation marks kept; none where the header is not these columns."""
    header = f"{delimiter}{gap}".join(f'({name}|"{name}")' for name in columns.split())
    if not re.fullmatch(header, text.split("\n", 1)[0].strip()):
        return []
    return _rows(text.replace('"', '"""'), delimiter)


def csv_quotes(text: str) -> bool:
    rows = _quoted_rows(text, "StudentID Subject Grade Semester Score", "\t", " *")
    fields = [field.strip() for row in rows for field in row]
    return (
        len(rows) == 4
        and all(len(row) == 5 for row in rows)
        and all(field.startswith('"') and field.endswith('"') for field in fields)
    )


def csv_special_character(text: str) -> bool:
    """Up to the first row with a quoted special character, every row has five fields."""
    rows = _quoted_rows(text, "ProductID Category Brand Price Stock", ",", "[ \t]*")
    if len(rows) != 15:
        return False
    for row in rows[1:]:
        if len(row) != 5:
            return False
        if any(_has_special(field) for field in row):
            return True
    return False


def _has_special(field: str) -> bool:
    line = field.split("\n", 1)[0]
    return line.startswith('"') and bool(_SPECIAL.search(line[1 : max(line.rfind('"'), 1)]))


def date_format_list(text: str) -> bool:
    """Dates within Napoleon's life, apart by commas."""
    return all(_is_date(part.strip()) for part in text.split(","))


def _is_date(text: str) -> bool:
    match = _DATE.fullmatch(text)
    if match is None:
        return False
    year, month, day = map(int, match.groups())
    return 1769 <= year <= 1821 and month <= 12 and (day <= _SHORT_MONTHS.get(month, 31))


def european_capitals_sort(text: str) -> bool:
    parts = (part.strip() for part in _ascii(text).split(","))
    return tuple(part for part in parts if part) == _CAPITALS


def mcq_count_length(text: str) -> bool:
    """Four questions, each longer than the one before and with five options; nothing before."""
    questions = [part.strip() for part in _QUESTION.split(text) if part.strip()]
    if not text.startswith("Question") or len(questions) != 4:
        return False
    lengths = []
    for question in questions:
        lines = [line.strip() for line in question.split("\n")]
        options = [i for i, line in enumerate(lines) if _OPTION.match(line)]
        if len(options) != 5:
            return False
        lengths.append(len(" ".join(lines[: options[0]]).strip()))
    return all(a < b for a, b in pairwise(lengths))


def multiples(text: str) -> bool:
    return re.findall(r"\d+", text) == [str(n) for n in range(14, 51, 7)]


def reverse_newline(text: str) -> bool:
    """Lines in falling order from the one with Zimbabwe on, as many as Africa has countries."""
    lines = [line for raw in text.split("\n") if (line := raw.strip(EDGES))]
    start = next((i for i, line in enumerate(lines) if "Zimbabwe" in line), len(lines))
    countries = [_ascii(line) for line in lines[start:]]
    return len(countries) >= _AFRICAN_LINES and all(a >= b for a, b in pairwise(countries))


def sentence_alphabet(text: str) -> bool:
    found = sentences(text)
    first = "".join(sentence.lstrip(EDGES + "\t\n\r\v\f")[:1].lower() for sentence in found)
    return len(found) == 26 and first == "abcdefghijklmnopqrstuvwxyz"


def word_reverse(text: str) -> bool:
    # AllenAI also asks that the words are one sentence; without punctuation they always are.
    return "bald eagle" in " ".join(reversed(bare_words(text)))


CHECKS: Mapping[str, Check] = {
    "custom:character_reverse": check(character_reverse),
    "custom:csv_city": check(csv_city),
    "custom:csv_quotes": check(csv_quotes),
    "custom:csv_special_character": check(csv_special_character),
    "custom:date_format_list": check(date_format_list),
    "custom:european_capitals_sort": check(european_capitals_sort),
    "custom:mcq_count_length": check(mcq_count_length),
    "custom:multiples": check(multiples),
    "custom:reverse_newline": check(reverse_newline),
    "custom:sentence_alphabet": check(sentence_alphabet),
    "custom:word_reverse": check(word_reverse),
}
