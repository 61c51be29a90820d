"""Small programs inside a command line in normal form: sed, awk, jq, SQL, Python, modes of chmod.

Only layout is taken away. Nothing is executed. This module must never know a command line.
"""

from __future__ import annotations

import ast
import re
import warnings

import orjson

MAX_SCRIPT = 2_000
_SUBSTITUTE = re.compile(
    r"s(?P<d>[/|#,@!:%_])(?P<old>(?:\\.|(?!(?P=d))[^\\])*)(?P=d)"
    r"(?P<new>(?:\\.|(?!(?P=d))[^\\])*)(?P=d)(?P<end>\w*)", re.DOTALL
)  # fmt: skip
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|/(?:\\.|[^/\\\n])*/|\s+|.', re.DOTALL)
_LOOSE = set("{}()[],;:|=<>!+*&?")
"""Next to them a space says nothing, if what is on its other side cannot join them."""
_JOINS = set("=<>!+*&|?/~^%-")
_MODE = re.compile(r"([ugoa]*)([=+-])([rwxXst]*)")
_BITS = {"r": 4, "w": 2, "x": 1}
_SQL = re.compile(r"'[^']*'|\"[^\"]*\"|\s+|\w+|.", re.DOTALL)
_SQL_WORDS = re.compile(
    r"(?i)select|from|where|and|or|not|insert|into|values|update|set|delete|create|table|drop|alter"
    r"|add|order|group|by|limit|offset|join|left|inner|on|as|count|sum|avg|min|max|distinct|desc|asc"
    r"|in|is|null|like|between|having|database|index|primary|key|if|exists|union|all"
)


def normal_script(language: str, text: str) -> str:
    """One form for programs that differ in layout alone; the text itself where that is not sure."""
    if len(text) > MAX_SCRIPT:
        return text
    if language == "sed" and (found := _SUBSTITUTE.fullmatch(text)):
        mark = found["d"]
        if mark == "/" or f"\\{mark}" not in text:
            parts = [found[part].replace(r"\/", "/") for part in ("old", "new")]
            return "\0".join(["s", *parts, found["end"]])
    if language in ("awk", "jq"):
        return _loose(text)
    if language == "sql":
        return _sql(text)
    if language == "mode":
        return _mode(text)
    if language == "json" and text[:1] in ("{", "["):
        try:
            return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS).decode()
        except (orjson.JSONDecodeError, TypeError, RecursionError):
            return text
    if language == "python":
        try:
            with warnings.catch_warnings(action="ignore"):  # odd escapes in what a model wrote
                return ast.unparse(ast.parse(text))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return text
    return text


def _loose(text: str) -> str:
    """Without spaces that part nothing; strings and patterns keep theirs."""
    if "\\(" in text or "#" in text or "\0" in text:  # strings that hold programs, comments
        return text
    tokens = _TOKEN.findall(text.strip())
    out: list[str] = []
    for index, token in enumerate(tokens):
        if not token.isspace():
            out.append(token)
            continue
        before, after = tokens[index - 1][-1], tokens[index + 1][0]
        edge = before in "{};" or after in "};"
        if "\n" in token:
            out += [] if edge else ["\n"]
        elif not (edge or before in _LOOSE or after in _LOOSE) or {before, after} <= _JOINS:
            out.append(" ")
    return "".join(out).replace(";}", "}")


def _sql(text: str) -> str:
    words = _SQL.findall(text.strip().rstrip("; \n"))
    return "".join(
        word.upper() if _SQL_WORDS.fullmatch(word) else " " if word.isspace() else word
        for word in words
    )


def _mode(text: str) -> str:
    """Octal where all rights of all are set; `a` where nobody is named."""
    if re.fullmatch(r"0?[0-7]{3}", text):
        return text[-3:]
    clauses = [_MODE.fullmatch(clause) for clause in text.split(",")]
    rights: dict[str, int] = {}
    for clause in clauses:
        if clause is None:
            return text
        for who in (clause[1] or "a").replace("a", "ugo"):
            if clause[2] != "=" or not set(clause[3]) <= _BITS.keys() or not clause[1]:
                rights.clear()
                break
            rights[who] = sum(_BITS[letter] for letter in set(clause[3]))
        if not rights:
            break
    if rights.keys() == {"u", "g", "o"}:
        return "".join(str(rights[who]) for who in "ugo")
    return ",".join(
        f"{''.join(sorted((c[1] or 'a').replace('ugo', 'a')))}{c[2]}{''.join(sorted(c[3]))}"
        for c in clauses
        if c
    )
