"""Words of a command line as bash reads them: without quotes, with braces expanded.

This module must never know a command.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

MAX_BRACES = 200
_PIECE = re.compile(r"'([^']*)'|\"((?:\\.|[^\"\\])*)\"|\\(.)|([^'\"\\]+)", re.DOTALL)
BRACES = re.compile(r"\{([^{}]*,[^{}]*|\d{1,4}\.\.\d{1,4})\}")


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
        text = _unescaped(" ".join(words[1:]))
        return text if text is not None else None
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
