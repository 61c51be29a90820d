"""Edits of a file: two are the same where both make the same of one text.

That text is the file as far as it is known, else the wider of the two texts that they replace.
What they make is the same line for line, or but for layout, which in Python is one syntax tree.
This module must never know a tool, a shell or a candidate.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pivotrl.types import JSON
from pivotrl.verifiers.layout import DATA, bare
from pivotrl.verifiers.python_code import canonical, exact, same

MAX_PARSED = 6_000
"""Characters of Python that are compared as syntax trees."""
MAX_SHARED = 50
"""Lines that two texts have in common where neither has all of the other's."""
MAX_DEPTH = 20
"""Indentations that a fragment may fall below its first line."""
_SPACES = re.compile(r"[^\S\n]\n")
_OPENS = {"elif": "if 1:", "else": "if 1:", "except": "try:", "finally": "try:"}

Run = tuple[int, str]
"""The number of the first line, and the lines that are known from there on, each with its end."""

Change = tuple[int, int, str]
"""Where what is replaced starts and ends in a text, and by what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A text (`old`) or lines of a file replaced by `new`."""

    new: str
    old: str | None = None
    lines: tuple[int, int] = (0, 0)
    """1-based, both included, where `old` is None; (n + 1, n) inserts after line n."""
    every: bool = False
    """Wherever `old` occurs."""


def tidy(text: JSON) -> str:
    """Without what no program sees: returns and spaces at the ends of lines."""
    if not isinstance(text, str):
        return ""
    if _SPACES.search(text) is None:  # as nearly always, and much is read
        return text
    *lines, last = text.split("\n")
    return "\n".join([*(line.rstrip() for line in lines), last])


def runs_of(lines: Mapping[int, str]) -> list[Run]:
    """Numbered lines as contiguous runs."""
    runs: list[tuple[int, list[str]]] = []
    for number in sorted(lines):
        if not runs or number != runs[-1][0] + len(runs[-1][1]):
            runs.append((number, []))
        runs[-1][1].append(lines[number].rstrip() + "\n")
    return [(first, "".join(text)) for first, text in runs]


def applied(edit: Edit, lines: Mapping[int, str]) -> dict[int, str]:
    """The known lines after an edit; none where it is not known what it did to them."""
    runs = runs_of(lines)
    place = _place(edit, runs)
    if place is None or edit.every:
        return {}
    index, start, end = place
    first, text = runs[index]
    made = (text[:start] + edit.new + text[end:]).removesuffix("\n").split("\n")
    last = first + text.count("\n") - 1
    moved = {n if n < first else n + len(made) - (last - first + 1): line
             for n, line in lines.items() if not first <= n <= last}  # fmt: skip
    return moved | dict(enumerate(made, first))


def same_edit(wanted: Edit, given: Edit, lines: Mapping[int, str], language: str) -> bool:
    """Whether both make the same of the file of which `lines` are known."""
    if wanted.every != given.every or (wanted.every and wanted.old != given.old):
        return False
    runs = runs_of(lines)
    one, other = _place(wanted, runs), _place(given, runs)
    if one and other:
        text = runs[one[0]][1]
        return one[0] == other[0] and _same_result(
            text, (one[1], one[2], wanted.new), (other[1], other[2], given.new), language
        )
    if wanted.old is None or given.old is None:
        alike = wanted.old == given.old and wanted.lines == given.lines
        return alike and same_lines((), _split(wanted.new), _split(given.new), language)
    wide, narrow = (wanted, given) if len(wanted.old) >= len(given.old) else (given, wanted)
    text, part = wide.old or "", narrow.old or ""
    start = text.find(part) if part and text.count(part) == 1 else 0 if part == text else -1
    if start < 0 and not (one or other) and (whole := _overlapping(wanted, given)):
        return _same_result(*whole, language)
    if start < 0 or (part != text and sum(run.count(part) for _, run in runs) > 1):
        return False
    end = start + len(part)
    if found := one or other:  # the wider text must agree with the known lines around
        known = runs[found[0]][1]
        before, then = known[: found[1]], known[found[2] :]
        if not (before.endswith(text[:start]) or text[:start].endswith(before)) or not (
            then.startswith(text[end:]) or text[end:].startswith(then)
        ):
            return False
    results = (0, len(text), wide.new), (start, end, narrow.new)
    return _same_result(text, *(results if wide is wanted else results[::-1]), language)


def _overlapping(wanted: Edit, given: Edit) -> tuple[str, Change, Change] | None:
    """The text of which one edit replaces the start and one the end, and what they make of it."""
    for first, last in ((wanted, given), (given, wanted)):
        start, end = first.old or "", last.old or ""
        above, below = (text.removesuffix("\n").split("\n") for text in (start, end))
        sizes = range(min(len(above), len(below), MAX_SHARED), 0, -1)
        shared = next((n for n in sizes if above[-n:] == below[:n] and any(above[-n:])), 0)
        if shared:
            text = "".join(f"{line}\n" for line in (*above, *below[shared:]))
            at = sum(len(line) + 1 for line in above[:-shared])
            upper, lower = (0, len(start), first.new), (at, at + len(end), last.new)
            return (text, upper, lower) if first is wanted else (text, lower, upper)
    return None


def same_lines(
    before: Sequence[str],
    wanted: Sequence[str],
    given: Sequence[str],
    language: str,
) -> bool:
    """Whether what is made of `before` is the same; comments matter where nothing else changes."""
    whole = before, wanted, given
    start = _shared(before, wanted, given)
    before, wanted, given = before[start:], wanted[start:], given[start:]
    end = _shared(before[::-1], wanted[::-1], given[::-1])
    before, wanted, given = (_full(t[: len(t) - end]) for t in (before, wanted, given))
    if wanted == given:
        return True
    if language != "python":
        old, one, other = (bare("\n".join(lines), language) for lines in whole)
        return old != one == other
    if same_code(wanted, given) or same_code(*whole[1:]):
        return not same_code(before, wanted)
    meant = same_code(*whole[1:], canonical)
    return meant and not (same_code(before, wanted) or same_code(*whole[:2], canonical))


def same_code(
    one: Sequence[str], other: Sequence[str], read: Callable[[str], ast.Module | None] = exact
) -> bool:
    """Whether both are Python of one syntax tree, which leaves layout, or more by `canonical`."""
    texts = _parsable(one, other)
    if not all(texts):
        return read is exact and texts[0] == texts[1] == ""
    return same(read(texts[0]), read(texts[1]))


def _parsable(one: Sequence[str], other: Sequence[str]) -> tuple[str, str]:
    """Both fragments with what a parser needs around them; empty where there is no code."""
    if any(len(lines) + sum(map(len, lines)) > MAX_PARSED for lines in (one, other)):
        return ("1", "")
    code = [[t for t in lines if t.strip() and t.lstrip()[0] != "#"] for lines in (one, other)]
    if not all(code):
        return ("1" * bool(code[0]), "1" * bool(code[1]))
    indent = _indent(code[0][0])
    if indent != _indent(code[1][0]):
        return ("1", "")
    widths = {"", *(_indent(line) for line in (*code[0], *code[1]))}
    outer = [width for width in widths if len(width) < len(indent)]
    if len(outer) > MAX_DEPTH:
        return ("1", "")
    # The blocks that a fragment falls back to.
    head = "".join(f"{width}if 1:\n" for width in sorted(outer, key=len))
    return (head + _closed(one), head + _closed(other))


def _place(edit: Edit, runs: Sequence[Run]) -> tuple[int, int, int] | None:
    """(which run, start, end) of what an edit replaces; None where it is not there just once."""
    if edit.old is None:
        first, last = edit.lines
        for index, (number, text) in enumerate(runs):
            if number <= first and last < number + text.count("\n") and first <= last + 1:
                ends = [0, *(m.end() for m in re.finditer("\n", text))]
                return index, ends[first - number], ends[last - number + 1]
        return None
    counts = [text.count(edit.old) if edit.old else 0 for _, text in runs]
    if sum(counts) != 1:
        return None
    index = counts.index(1)
    start = runs[index][1].index(edit.old)
    return index, start, start + len(edit.old)


def _same_result(text: str, wanted: Change, given: Change, language: str) -> bool:
    """Of two replacements in a text: on the whole lines that they touch."""
    low, high = min(wanted[0], given[0]), max(wanted[1], given[1])
    low = text.rfind("\n", 0, low) + 1
    if high > low and text[high - 1] != "\n":
        high = text.find("\n", high) + 1 or len(text)
    windows = [(low, high)]
    # More context helps a parser alone.
    if language == "python" and max(len(new.rstrip()) for *_, new in (wanted, given)) <= MAX_PARSED:
        windows.append(_statement(text, low, high))
    elif language in DATA:
        windows.append((0, len(text)))
    for start, end in windows:
        before = text[start:end]
        one, other = (text[start:a] + new + text[b:end] for a, b, new in (wanted, given))
        if before.endswith("\n") and _joins(one) != _joins(other):  # the next line is drawn up
            return False
        if same_lines(_split(before), _split(one), _split(other), language):
            return True
    return False


def _statement(text: str, low: int, high: int) -> tuple[int, int]:
    """Whole lines and those around them, from a line that is indented less to the next such."""
    width = len(_indent(text[low:].lstrip("\n").partition("\n")[0]))
    for line in reversed(text[:low].splitlines(keepends=True)):
        low -= len(line)
        if line.strip() and len(_indent(line)) < width:
            width = len(_indent(line))
            break
    for line in text[high:].splitlines(keepends=True):
        high += len(line)
        if line.strip() and len(_indent(line)) <= width:
            break
    return low, high


def _joins(text: str) -> bool:
    return bool(text) and not text.endswith("\n")


def _split(text: str) -> list[str]:
    return tidy(text + "\n").split("\n")[:-1]


def _full(lines: Sequence[str]) -> Sequence[str]:
    """Without empty lines at both ends."""
    full = [index for index, line in enumerate(lines) if line]
    return lines[full[0] : full[-1] + 1] if full else lines[:0]


def _shared(*texts: Sequence[str]) -> int:
    """How many lines all texts begin with alike."""
    count = 0
    for first, *others in zip(*texts, strict=False):
        if any(line != first for line in others):
            break
        count += 1
    return count


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _closed(lines: Sequence[str]) -> str:
    """A fragment with the beginning of its first clause and a body for its last."""
    code = [t for t in lines if t.strip() and t.lstrip()[0] != "#"]
    opening = _OPENS.get(re.split(r"\W", code[0].lstrip(), maxsplit=1)[0])
    start = _indent(code[0])
    head = [f"{start}{opening}", f"{start} pass"] if opening else []
    tail = [f"{_indent(code[-1])} pass"] if re.search(r":\s*(#.*)?$", code[-1]) else []
    return "\n".join([*head, *lines, *tail]) + "\n"
