"""Programs that turn text into text, as GNU's do in the locale C: cat, grep, sort and the like.

What they support they do as the originals; other options are refused by name. They read files and
write none. This module must never know the shell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from pivotrl.environments.shell import patterns
from pivotrl.environments.shell.files import (
    Call,
    Failure,
    Program,
    Result,
    children,
    inputs,
    is_folder,
    joined,
    lines_of,
    options,
    text_of,
)

_NUMBER = re.compile(r"[ \t]*(-?[0-9]{0,300}(?:\.[0-9]{0,300})?)")
_KEY = re.compile(r"([0-9]{1,4})([fnr]*)(?:,([0-9]{1,4})([fnr]*))?")
_RANGE = re.compile(r"([0-9]{0,4})(-?)([0-9]{0,4})")
_ENDS = {"n": "\n", "t": "\t", "\\": "\\"}


def cat(call: Call) -> Result:
    flags, operands = options(call, "n")
    found, errors = inputs(call, operands)
    text = "".join(text for _, text in found)
    if "n" in flags:
        ends = text.endswith("\n") or not text
        text = text_of(f"{n:6}\t{line}" for n, line in enumerate(lines_of(text), 1))
        text = text if ends else text.removesuffix("\n")
    return _said(call, text, errors)


def echo(call: Call) -> Result:
    words, flags = list(call.words), ""
    while words and re.fullmatch("-[neE]+", words[0]):
        flags += words.pop(0)[1:]
    text = " ".join(words)
    if "e" in flags:
        text = re.sub(r"\\([nt\\])", lambda found: _ENDS[found[1]], text)
    return _said(call, text if "n" in flags else f"{text}\n")


def grep(call: Call) -> Result:
    """Exit code 0 where a line is selected, else 1; 2 where something could not be read."""
    flags, operands = options(call, "ivclLnrRhHwxqsEFG", "em")
    wanted = flags.get("e") or operands[:1]
    if not wanted:
        raise Failure("Usage: grep [OPTION]... PATTERNS [FILE]...", 2)
    operands = operands if "e" in flags else operands[1:]
    try:
        pattern = patterns.compiled(
            wanted, extended="E" in flags, fixed="F" in flags, fold="i" in flags
        )
    except patterns.BadPattern as reason:
        raise Failure(f"grep: {reason}", 2) from None
    most = _count(call, flags["m"][-1]) if "m" in flags else None
    recursive = not flags.keys().isdisjoint("rR")
    named = len(operands) > 1 or (
        recursive and (not operands or is_folder(call.files, operands[0]))
    )
    named = ("H" in flags or named) and "h" not in flags
    paths = _below(call, operands) if recursive else operands
    found, errors = (
        inputs(call, paths, folders="c" in flags) if paths or not recursive else ([], [])
    )
    out: list[str] = []
    any_selected = False
    for path, text in found:
        label = "(standard input)" if path == "-" else path
        selected = [
            (number, line)
            for number, line in enumerate(lines_of(text), 1)
            if patterns.matches(pattern, line, word="w" in flags, whole="x" in flags)
            != ("v" in flags)
        ][:most]
        any_selected |= bool(selected)
        start = f"{label}:" if named else ""
        if "l" in flags or "L" in flags:
            out += [label] if bool(selected) == ("l" in flags) else []
        elif "c" in flags:
            out.append(f"{start}{len(selected)}")
        elif "n" in flags:
            out += [f"{start}{number}:{line}" for number, line in selected]
        else:
            out += [start + line for _, line in selected]
    code = 2 if errors and not (any_selected and "q" in flags) else int(not any_selected)
    return Result(
        out="" if "q" in flags else text_of(out),
        errors="" if "s" in flags else text_of(errors),
        code=code,
        files=call.files,
    )


def _below(call: Call, operands: Sequence[str]) -> list[str]:
    """The files in the folders among the operands, and the other operands."""
    paths: list[str] = []
    for path in operands or [""]:
        if path == "" or is_folder(call.files, path):
            names = children(call.files, path)
            paths += _below(call, [joined(path, n) if path else n for n in names]) if names else []
        else:
            paths.append(path)
    return paths


def head(call: Call) -> Result:
    def part(lines: list[str], count: str) -> list[str]:
        return lines[: int(count)] if count != "-0" else lines

    return _end_of(call, part)


def tail(call: Call) -> Result:
    def part(lines: list[str], count: str) -> list[str]:
        if count.startswith("+"):
            return lines[max(0, int(count) - 1) :]
        return lines[max(0, len(lines) - abs(int(count))) :]

    return _end_of(call, part)


def _end_of(call: Call, part: Callable[[list[str], str], list[str]]) -> Result:
    flags, operands = options(call, "qv", "n", number="n")
    count = flags["n"][-1] if "n" in flags else "10"
    if not re.fullmatch("[+-]?[0-9]{1,6}", count):
        raise Failure(f"{call.name}: invalid number of lines: '{count}'")
    message = "{name}: cannot open '{path}' for reading: {why}"
    found, errors = inputs(call, operands, message)
    errors = [_as_read(call, error) for error in errors]
    titled = (len(operands) > 1 or "v" in flags) and "q" not in flags
    parts = []
    for path, text in found:
        label = "standard input" if path == "-" else path
        title = f"==> {label} <==\n" if titled else ""
        lines = re.findall(r"[^\n]*\n|[^\n]+", text)
        parts.append(title + "".join(part(lines, count)))
    return _said(call, ("\n" if titled else "").join(parts), errors)


def _as_read(call: Call, error: str) -> str:
    """A folder can be opened, but not read."""
    found = re.fullmatch(r".* cannot open '(.*)' for reading: Is a directory", error)
    return f"{call.name}: error reading '{found[1]}': Is a directory" if found else error


@dataclass(frozen=True, slots=True, kw_only=True)
class _SortKey:
    first: int
    last: int | None
    """Fields from 1; None is the end of the line."""
    flags: str


def sort(call: Call) -> Result:
    flags, operands = options(call, "fnru", "kt")
    separator = flags["t"][-1] if "t" in flags else None
    if separator is not None and len(separator) != 1:
        raise Failure(f"sort: multi-character tab '{separator}'", 2)
    own = "".join(flag for flag in "fnr" if flag in flags)
    keys = [_sort_key(text, own) for text in flags.get("k", [])]
    keys = keys or [_SortKey(first=1, last=None, flags=own)]
    found, errors = inputs(call, operands, "sort: cannot read: {path}: {why}")
    if errors:
        raise Failure(_read_failed(errors[0]), 2)
    lines = [line for _, text in found for line in lines_of(text)]
    if "u" not in flags:
        lines.sort(reverse="r" in flags)
    for key in reversed(keys):
        lines.sort(key=lambda line: _sort_value(line, key, separator), reverse="r" in key.flags)
    if "u" in flags:
        alike = groupby(lines, lambda line: [_sort_value(line, key, separator) for key in keys])
        lines = [next(group) for _, group in alike]
    return _said(call, text_of(lines))


def _read_failed(error: str) -> str:
    """A folder can be opened, but not read."""
    return error.replace("cannot read", "read failed") if "Is a directory" in error else error


def _sort_key(text: str, own: str) -> _SortKey:
    found = _KEY.fullmatch(text)
    if found is None or int(found[1]) == 0 or found[3] == "0":
        raise Failure(f"sort: key not supported: '{text}'", 2)
    flags = f"{found[2]}{found[4] or ''}"
    return _SortKey(first=int(found[1]), last=int(found[3]) if found[3] else None,
                    flags=flags or own)  # fmt: skip


def _sort_value(line: str, key: _SortKey, separator: str | None) -> tuple[float, str]:
    if separator is None:
        fields = re.findall(r"[ \t]*[^ \t]+|[ \t]+", line)
    else:
        fields = line.split(separator)
    text = (separator or "").join(fields[key.first - 1 : key.last])
    if "n" in key.flags:
        found = _NUMBER.match(text)
        return float(found[1]) if found and re.search("[0-9]", found[1]) else 0.0, ""
    return 0.0, text.upper() if "f" in key.flags else text


def uniq(call: Call) -> Result:
    flags, operands = options(call, "cdiu")
    if len(operands) > 1:
        raise Failure(f"uniq: extra operand not supported: '{operands[1]}'")
    found, errors = inputs(call, operands)
    if errors:
        raise Failure(_read_error(call, errors[0]))
    lines = lines_of(found[0][1])
    groups = [list(g) for _, g in groupby(lines, str.lower if "i" in flags else None)]
    if "d" in flags:
        groups = [group for group in groups if len(group) > 1]
    if "u" in flags:
        groups = [group for group in groups if len(group) == 1]
    return _said(call, text_of(f"{len(g):7} {g[0]}" if "c" in flags else g[0] for g in groups))


def _read_error(call: Call, error: str) -> str:
    """A folder can be opened, but not read."""
    found = re.fullmatch(rf"{call.name}: (.*): Is a directory", error)
    return f"{call.name}: error reading '{found[1]}'" if found else error


def wc(call: Call) -> Result:
    flags, operands = options(call, "lwcm")
    found, errors = inputs(call, operands, folders=True)
    rows = []
    for path, text in found:
        counts = {"l": text.count("\n"), "w": len(text.split()), "m": len(text), "c": len(text)}
        rows.append((path, [n for f, n in counts.items() if (f in flags if flags else f != "m")]))
    size = sum(len(text) for _, text in found)
    is_pipe = not call.from_file and any(path == "-" for path, _ in found)
    width = max(len(str(size)), 7 if is_pipe or any("Is a dir" in e for e in errors) else 1)
    if len(operands) < 2 and len(rows) == 1 and len(rows[0][1]) == 1:
        width = 1
    if len(operands) > 1:
        columns = [sum(column) for column in zip(*(c for _, c in rows), strict=True)]
        rows.append(("total", columns or [0] * (len(flags) or 3)))
    out = []
    for path, numbers in rows:
        text = " ".join(f"{number:{width}}" for number in numbers)
        out.append(text if path == "-" and not operands else f"{text} {path}")
    return _said(call, text_of(out), errors)


def cut(call: Call) -> Result:
    flags, operands = options(call, "s", "dfcb")
    lists = [(kind, flags[kind][-1]) for kind in "fcb" if kind in flags]
    if len(lists) != 1:
        raise Failure("cut: you must specify a list of bytes, characters, or fields")
    (kind, ranges), separator = lists[0], flags.get("d", ["\t"])[-1]
    if len(separator) != 1:
        raise Failure("cut: the delimiter must be a single character")
    chosen = [_cut_range(part) for part in ranges.split(",")]
    found, errors = inputs(call, operands)
    out = []
    for line in (line for _, text in found for line in lines_of(text)):
        if kind == "f" and separator not in line:
            out += [] if "s" in flags else [line]
            continue
        parts = line.split(separator) if kind == "f" else list(line)
        kept = [p for n, p in enumerate(parts, 1) if any(a <= n <= b for a, b in chosen)]
        out.append((separator if kind == "f" else "").join(kept))
    return _said(call, text_of(out), errors)


def _cut_range(text: str) -> tuple[int, int]:
    found = _RANGE.fullmatch(text)
    if found is None or not (found[1] or found[3]) or (found[3] and not found[2]):
        raise Failure(f"cut: invalid list: '{text}'")
    first = int(found[1] or 1)
    last = int(found[3]) if found[3] else 10_000 if found[2] else first
    if not 0 < first <= last:
        raise Failure(f"cut: invalid list: '{text}'")
    return first, last


def tr(call: Call) -> Result:
    flags, operands = options(call, "cds")
    least, most = (1, 2 if "s" in flags else 1) if "d" in flags else (2 - ("s" in flags), 2)
    if len(operands) < least:
        raise Failure("tr: missing operand" + (f" after '{operands[0]}'" if operands else ""))
    if len(operands) > most:
        raise Failure(f"tr: extra operand '{operands[most]}'")
    first, *others = (_characters(text) for text in operands)
    second = others[0] if others else ""
    if "c" in flags:
        first = "".join(sorted(patterns.ASCII - set(first)))
    text = call.stdin
    if "d" in flags:
        text = text.translate({ord(c): None for c in first})
    elif second:
        filled = second + second[-1] * (len(first) - len(second))
        text = text.translate({ord(a): b for a, b in zip(first, filled, strict=False)})
    elif others:
        raise Failure("tr: when not truncating set1, string2 must be non-empty")
    if "s" in flags:
        squeezed = set(second or first)
        text = "".join(c for c, before in zip(text, f"\0{text}", strict=False)
                       if c != before or c not in squeezed)  # fmt: skip
    return _said(call, text)


_CLASS = re.compile(r"\[:([a-z]+):\]")


def _characters(text: str) -> str:
    """The characters that a set of tr stands for."""
    index = 0
    signs: list[str] = []
    while index < len(text):
        name = _CLASS.match(text, index)
        if name and name[1] in patterns.CLASSES:
            signs += sorted(patterns.CLASSES[name[1]])
            index = name.end()
        elif text[index] == "\\" and text[index + 1 : index + 2] in _ENDS:
            signs.append(_ENDS[text[index + 1]])
            index += 2
        elif text[index] == "-" and signs and index + 1 < len(text):
            low, high = ord(signs.pop()), ord(text[index + 1])
            if high < low:
                raise Failure(f"tr: range-endpoints of '{text}' are in reverse order")
            signs += map(chr, range(low, high + 1))
            index += 2
        elif text[index] in "\\[" and not text.endswith("["):
            raise Failure(f"tr: set not supported: '{text}'")
        else:
            signs.append(text[index])
            index += 1
    return "".join(signs)


def _count(call: Call, text: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text):
        raise Failure(f"{call.name}: invalid max count", 2)
    return int(text)


def _said(call: Call, out: str, errors: Iterable[str] = ()) -> Result:
    errors = list(errors)
    return Result(out=out, errors=text_of(errors), code=int(bool(errors)), files=call.files)


FILTERS: Mapping[str, Program] = {
    program.__name__: program for program in (cat, cut, echo, grep, head, sort, tail, tr, uniq, wc)
}
