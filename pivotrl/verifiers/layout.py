"""What a text of a file says apart from comments and layout, as far as its language is known.

Data are compared as what they hold, programs by their words. Nothing is executed. This module must
never know an edit; Python is read there.
"""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Callable
from typing import Any

import orjson
import yaml

from pivotrl.verifiers import sql
from pivotrl.verifiers.outcome import AGENTS

MAX_READ = 6_000
"""Characters; longer texts are compared as they are."""
MAX_HEADER, MAX_SQL = 300, 800
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DATA: dict[str, Callable[[str], Any]] = {
    "yaml": lambda text: yaml.load(text, _YAML),
    "toml": tomllib.loads,
    "json": orjson.loads,
}
_LIMITS = re.compile(r"[&*]\w|(?:[\[{]\s*|- ){20}")
"""Names for what comes again, and what is nested: small texts of these make large data."""
_TOKEN = re.compile(
    r"(?P<fixed>(?m:^)[ \t]*#(?!!?\[)[^\n]*|//\s*(?:go:|export |\+build|@ts|eslint|nolint)[^\n]*)"
    r"|(?P<comment>(?:(?<=[\s;{}(),])|\A)//[^\n]*|/\*(?:[^*]|\*(?!/))*+\*/)"
    r"|(?P<text>\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|(?P<space>\s+)|\w+|.",
    re.DOTALL,
)
_ASI = re.compile(
    r"[ \t]*(?://[^\n]*)?(?:(?:\n\s*+//[^\n]*)*\n\s*+(?![(\[`+\-/*.,?:&|=<>%])|\}|\Z)"
)
"""Where a semicolon need not be written: the line ends, and the next goes on with nothing."""
_NESTED = r"(?:[^()]++|\((?:[^()]++|\((?:[^()]++|\([^()]*+\))*+\))*+\))*+"
_HEADER = rf"(?:\b(?:if|while|for)\s*\({_NESTED}\)|\belse\b)"
_EMPTY = re.compile(rf"{_HEADER}\s*\Z")
"""A condition whose body would be the semicolon after it."""
_ALONE = re.compile(
    rf"({_HEADER})\{{((?!if\b|for\b|while\b)(?:[^{{}};]++|\{{[^{{}};]*+\}})*+;?)\}}"
)
"""A block of one statement."""
_SAME: dict[str, list[tuple[re.Pattern[str], str]]] = {
    "script": [
        (re.compile(r"(?<![\w$)\]>])\(([\w$]+)\)=>"), r"\1=>"),
        (re.compile(r"(?<=[{,])\"([A-Za-z_$][\w$]*)\":"), r"\1:"),
        (re.compile(r"(?<![,\[({]),(?=[}\])])"), ""),
        (_ALONE, r"\1\2"),
    ],
    "go": [(re.compile(r"(?<![,\[({]),(?=[}\])])"), "")],
    "free": [(re.compile(r"(?<![,\[({]),(?=[}\]])"), "")],
    "braced": [(re.compile(r"(?<![,\[({]),(?=[}\]])"), ""), (_ALONE, r"\1\2")],
}
"""What is written in two ways, once spaces and comments are gone."""
_GLUE = re.compile(r"\w\w|[-+*/<>=!&|%^?.:~@#$\\]{2}")
"""What a space must part."""


def language_of(path: str) -> str:
    """By the end of a file's name, which it else is; Python where no file is known."""
    end = path.rpartition(".")[2].lower() if path else "py"
    return next((name for name, ends in AGENTS["languages"].items() if end in ends), end)


def bare(text: str, language: str) -> object:
    """What two texts share that differ in comments and layout alone."""
    if len(text) > MAX_READ or language not in AGENTS["languages"]:
        return text
    if language in DATA and not _LIMITS.search(text):
        start = text.lstrip("\n")
        try:
            return len(start) - len(start.lstrip()), _typed(DATA[language](textwrap.dedent(text)))
        except (ValueError, TypeError, RecursionError, yaml.YAMLError):
            pass
    if language == "sql":
        return (sql.normal_form(text) if len(text) <= MAX_SQL else None) or sql.words(text)
    if language == "markup":  # whose lines may stand further in
        return text if "<pre" in text else [line.strip() for line in text.split("\n")]
    return text if language in ("yaml", "toml") else _words(text, language)


def _typed(value: Any) -> object:
    """Equal only where the types are, whatever the order of keys."""
    if isinstance(value, dict):
        # Sorted: what is made of a text must not hang on how strings hash today.
        return "{}", *((repr(key), _typed(value[key])) for key in sorted(value, key=repr))
    return tuple(map(_typed, value)) if isinstance(value, list) else repr(value)


def _words(text: str, language: str) -> str:
    out, gap = "", ""
    for token in _TOKEN.finditer(text):
        word, kind = token[0], token.lastgroup
        may_go = language == "script" and word == ";" and _ASI.match(text, token.end())
        if may_go and not _EMPTY.search(out[-MAX_HEADER:]):
            gap = "\n"
            continue
        if kind in ("space", "comment"):
            gap = "\n" if "\n" in gap + word and language in ("script", "go") else " "
            continue
        if kind == "text" and language == "script" and not re.search(r"[\"\\`]", word[1:-1]):
            word = f'"{word[1:-1]}"' if word[0] == "'" else word
        if kind == "fixed" or out.endswith("\0"):  # a line of its own
            out += "\0"
        elif gap == "\n":
            out += "" if out[-1:] in ("", *"{([,;") or word[0] in "})]" else gap
        elif gap and _GLUE.fullmatch(out[-1:] + word[0]):
            out += gap
        out, gap = out + (f"{word.strip()}\0" if kind == "fixed" else word), ""
    for pattern, put in _SAME.get(language, ()):
        out = pattern.sub(put, out)
    return out
