"""Words of a shell command as bash has them: quotes, braces, escapes, and what variables hold.

Nothing is executed. This module must never know a command.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

MAX_BRACES = 200
_PIECE = re.compile(r"'([^']*)'|\"((?:\\.|[^\"\\])*)\"|\\(.)|([^'\"\\]+)", re.DOTALL)
_ARITHMETIC = re.compile(r"\$\(\(([\w\s+*/%$-]{1,200})\)\)")
BRACES = re.compile(r"\{([^{}]*,[^{}]*|\d{1,4}\.\.\d{1,4})\}")
_COUNTED = re.compile(
    r"\bfor\s*\(\(\s*(?P<i>\w+)\s*=\s*(?P<a>\d{1,4})\s*;\s*(?P=i)\s*(?P<than><=?)\s*(?P<b>\d{1,4})"
    r"\s*;\s*(?:(?P=i)\+\+|\+\+(?P=i)|(?P=i)\s*\+=\s*1)\s*\)\)\s*;?\s*"
)
_NEXT_LINE = re.compile(r"[ \t]*\n\s*(do|then)\b")
_TIMED = re.compile(r"(?m)(^|[;&(])[ \t]*time(?= )")
_TEST = re.compile(r"\[\[( [^&|<>=~()\[\]]+ )\]\]")


def readable(text: str) -> str:
    """A line that bash's grammar does not have here in a way that it has."""
    text = _TIMED.sub(r"\1 /usr/bin/time", text)
    text = _ARITHMETIC.sub(_summed, _COUNTED.sub(_counted, text))
    return _TEST.sub(r"[\1]", _NEXT_LINE.sub(r"; \1", text))


def _counted(loop: re.Match[str]) -> str:
    last = int(loop["b"]) - (loop["than"] == "<")
    return f"for {loop['i']} in {{{loop['a']}..{last}}}; "


def _summed(found: re.Match[str]) -> str:
    """A sum as a variable whose name says it."""
    bare = re.sub(r"[\s$]+", "", found[1])
    return f"${{_sum_{bare.encode().hex()}}}"


def unquoted(source: str, node: Any) -> str:
    """The word as bash has it: its parser drops backslashes that double quotes keep."""
    word: str = node.word
    if "\\" not in source or "`" in source or "$(" in source or "$'" in source:
        return word
    parts = _PIECE.findall(source)
    own = "".join(a or re.sub(r'\\([$`"\\]|\n)', r"\1", b) or c or d for a, b, c, d in parts)
    return own if own.replace("\\", "") == word.replace("\\", "") else word


def expanded(word: str) -> list[str]:
    """By braces, as bash does; those inside others, or too many, are left."""
    done, open_ = list[str](), [word]
    while open_ and len(done) + len(open_) <= MAX_BRACES:
        word = open_.pop(0)
        if (found := BRACES.search(word)) is None:
            done.append(word)
            continue
        if "," in found[1]:
            parts = found[1].split(",")
        else:
            first, last = map(int, found[1].split(".."))
            if found[1] != f"{first}..{last}" or not 0 <= last - first < MAX_BRACES:
                return [*done, word, *open_]
            parts = [str(number) for number in range(first, last + 1)]
        open_[:0] = [f"{word[: found.start()]}{part}{word[found.end() :]}" for part in parts]
    return [*done, *open_]


def said_by(name: str, words: Sequence[str]) -> str | None:
    """What `echo` or `printf` writes, without the line end; None where that is not sure."""
    if name == "echo" and words[:1] == ["-e"] and not any(w.startswith("-") for w in words[1:]):
        return _unescaped(" ".join(words[1:]))
    if name == "echo" and words and not words[0].startswith("-"):
        return " ".join(words)
    if name == "printf" and words and words[0] == "%s\\n":
        return "\n".join(words[1:]) if len(words) > 1 else None
    if name == "printf" and len(words) == 1 and "%" not in words[0]:
        text = _unescaped(words[0])
        return text[:-1] if text is not None and text.endswith("\n") else None
    return None


def _unescaped(text: str) -> str | None:
    text = text.replace("\\n", "\n").replace("\\t", "\t")
    return None if "\\" in text else text


def common_ending(words: Sequence[str]) -> str:
    """The ending that file patterns like `*.png` share; empty where they share none."""
    found = [re.fullmatch(r"[^/\0]*[*?]?(\.\w+)", word) for word in words]
    endings = {one[1] for one in found if one}
    return endings.pop() if words and all(found) and len(endings) == 1 else ""


def cut(word: str, name: str, ending: str) -> str:
    """`${f%.*}`, `${f/.png/.jpg}` where `f` ends in `.png`, as `${f%.png}` and `${f%.png}.jpg`."""
    dot = re.escape(ending)
    word = re.sub(rf"\$\{{{name}%\.\0?\*\}}", f"${{{name}%{ending}}}", word)
    called = rf"-s ['\"]?{dot}['\"]? \"?\${name}\"?|\"?\${name}\"? ['\"]?{dot}['\"]?"
    word = re.sub(rf"\$\(basename (?:{called})\)", f"${{{name}%{ending}}}", word)
    return re.sub(rf"\$\{{{name}/%?{dot}/([\w.-]*)\}}", rf"${{{name}%{ending}}}\1", word)


def turns_of(body: str, name: str, values: Sequence[str]) -> str | None:
    """The body of a loop once for each value; None where that is not sure."""
    used = re.compile(rf"\$(?:{name}\b|\{{{name}\}})")
    odd = rf"\$\{{{name}[^}}]|'[^'\n]*\$\{{?{name}\b[^'\n]*'|<<|\b(?:for|read|break|continue)\b"
    if re.search(odd, body) or not all(re.fullmatch(r"[\w./:@%+,=-]+", value) for value in values):
        return None
    return "\n".join(used.sub(value, body).rstrip("; \n") for value in values)
