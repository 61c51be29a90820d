"""Are two single values the same, given the type and the equivalences that are declared for them?

Coercion is what a lenient tool would do: "5", 5 and 5.0 are one number, "true" is true, 5 is "5"
where a string is declared. Strings are exact but for Unicode form, typographic quotes, white space
and spellings of one time, and two writings of one value (notations.py); notes and the like
(english.toml names them) are compared as such (notes.py).
Every step is bounded in the size of the values. This module must never know a tool.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime

from pivotrl.types import JSON
from pivotrl.verifiers import english
from pivotrl.verifiers.comparison import Context
from pivotrl.verifiers.facts import date_of, plain_letters
from pivotrl.verifiers.notations import same_value
from pivotrl.verifiers.notes import same_note
from pivotrl.verifiers.text import same_text

RELATIVE_FLOAT_NOISE = 1e-9
_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d{0,29})(?:\.\d{1,30})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_YEAR_FIRST = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}", re.ASCII)
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::00)?", re.ASCII)
_CLOCK = re.compile(r"(?i)(0?[1-9]|1[0-2])(?::([0-5]\d))?(?::00)? ?([ap])\.?m\.?", re.ASCII)
_ISO = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d.{0,30}", re.ASCII)
_UNSAID = re.compile(r"[\s().-]+")
_CODE = re.compile(r"[{}<>\[\]\\|^=]")
_NO_TITLE = re.compile(r"[/\\_@#=<>{}]")
_PROSE = re.compile(r"[^\W\d_][^_={}<>\[\]\\|*^]*[.!?]")
_NO_DEFAULT = english.ARTICLES | {"to", "your", "this", "for", "if", "when", "in", "of", "on"}
_PLAIN = str.maketrans("‘’‚“”„\u00a0\u202f‐‑", "'''\"\"\"  --")
# Names that real tool files use for JSON Schema types (BFCL, Python signatures).
_TYPES = {"dict": "object", "tuple": "array", "list": "array", "float": "number"}
_TYPES |= {"double": "number", "int": "integer", "str": "string", "bool": "boolean", "any": ""}


def declared_type(schema: JSON) -> str:
    """The declared JSON type, "" when there is none."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    kind = kind.lower() if isinstance(kind, str) else ""
    return _TYPES.get(kind, kind)


def conforms(schema: JSON, value: JSON) -> bool:
    """Whether a value is, or coerces to, the declared type, and is in the enum if there is one."""
    if not isinstance(schema, dict):
        return True
    if (enum := schema.get("enum")) and not any(_equal(v, value) for v in enum):
        return False
    kind = declared_type(schema)
    if kind in _COERCIONS:
        return _COERCIONS[kind](value) is not None
    types = {dict: "object", list: "array", type(None): "null"}
    return not kind or kind == types.get(type(value))


def is_set(schema: Mapping[str, JSON], path: str, alone: bool, tool: str) -> bool:
    """Whether an array's order means nothing; `alone`: no other's items may belong to its own.

    `tool`: what the tool says of itself; of two users it may move money from the first.
    """
    told = f"{schema.get('title', '')} {schema.get('description', '')}"
    name = spaced(path)
    if english.UNORDERED.search(told):
        return True
    if english.ORDERED.search(f"{name} {told}"):
        return False
    listed = english.LISTED.fullmatch(name) is not None
    if listed or english.PAIRS.fullmatch(name):
        said = f"{name} {told} {tool}".replace("-", " ")
        differ = english.PLACED.search(said) is not None
        return not differ and (alone or not listed or schema.get("uniqueItems") is True)
    return schema.get("uniqueItems") is True or english.SETS.fullmatch(name) is not None


def paired(schemas: Mapping[str, Mapping[str, JSON]], told: str) -> list[str]:
    """Of the arrays of an object those whose items belong together by their places.

    It is said of them, by the tool or by an array, or they are named `ids` and `new_ids`.
    """
    own = {key: str(schema.get("description", "")) for key, schema in schemas.items()}
    said = " ".join(text for text in (told, *own.values()) if english.PAIRED.search(text))
    names = {key: spaced(key).removesuffix("s") for key in schemas}
    news = {f"new {name}" for name in names.values()}
    return [
        key
        for key, name in names.items()
        if english.PAIRED.search(own[key])
        or (said and (key in said or name in said))
        or name in news
        or f"new {name}" in names.values()
    ]


def told_default(schema: Mapping[str, JSON]) -> JSON:
    """The default that a description names, else None."""
    found = english.DEFAULT.search(str(schema.get("description", ""))[:2000])
    value = (found[1] or found[2]) if found else None
    if value is None or value.lower() in _NO_DEFAULT or not conforms(schema, value):
        return None
    return value


def same_scalar(
    schema: Mapping[str, JSON],
    reference: JSON,
    given: JSON,
    declared: Mapping[str, JSON],
    context: Context,
    path: str = "",
) -> bool | None:
    """Whether two values of an argument, not both objects and not both arrays, are the same.

    None where they are texts that nothing tells apart, and nothing shows to be the same.
    """
    kind = "number" if declared.get("compare") == "number" else declared_type(schema)
    strings = isinstance(reference, str) and isinstance(given, str)
    # Without a declared type, a number or a truth value may still differ in spelling alone.
    open_ = not kind and not strings
    if kind in ("number", "integer") or open_:
        wanted, got = _number(reference), _number(given)
        if wanted is not None and got is not None:
            return _close(wanted, got, declared.get("tolerance"))
    if kind == "boolean" or open_:
        truth, other = _boolean(reference), _boolean(given)
        if truth is not None and other is not None:
            return truth == other
    if kind == "string" or strings:
        left, right = _string(reference), _string(given)
        if left is not None and right is not None:
            return _same_string(schema, left, right, declared, context, path)
    return _equal(reference, given)


def _same_string(
    schema: Mapping[str, JSON],
    reference: str,
    given: str,
    declared: Mapping[str, JSON],
    context: Context,
    path: str,
) -> bool | None:
    if reference == given:
        return True
    if len(given) > 4 * len(reference) + 1000:
        return False
    name = spaced(path)
    compare, format_ = declared.get("compare"), schema.get("format")
    if compare == "text":
        return same_text(reference, given, context)
    told = str(schema.get("description", ""))
    listed = any(key in schema for key in ("enum", "const", "pattern"))
    fixed = format_ or reference in told or listed or english.VERBATIM.search(told)
    left, right = _plain(reference), _plain(given)
    titled = compare is None and not fixed and english.TITLES.fullmatch(name) is not None
    if titled and not _NO_TITLE.search(left):
        left, right = plain_letters(left).casefold(), plain_letters(right).casefold()
    elif declared.get("casefold") or english.CASELESS.search(told):
        left, right = left.casefold(), right.casefold()
    if left == right:
        return True
    if (
        not fixed
        and " " in left
        and left[1:] == right[1:]
        and left[:1].lower() == right[:1].lower()
    ):
        return True
    if english.SPELLED.fullmatch(name):
        return _UNSAID.sub("", left) == _UNSAID.sub("", right)
    if compare is None and not listed and same_value(name, told, left, right, context.tool):
        return True
    if compare is None and not fixed and _is_free(name, told, left, context):
        return same_note(name, left, right, context)
    # 7:30 PM is 19:30 to a tool that does not say how it reads a time.
    formed = english.TIMED.search(told) and not english.EITHER.search(told)
    free = not (compare or fixed or formed)
    if (time := _minute(left, free)) and (other := _minute(right, free)):
        return time == other
    reading: Callable[[str], str | datetime | None]
    if format_ == "date-time" or all(map(_ISO.fullmatch, (left, right))):
        reading = _instant
    elif (
        compare == "date"
        or format_ == "date"
        or (free and english.DATES.fullmatch(name))
        or all(map(_YEAR_FIRST.fullmatch, (left, right)))
    ):
        reading = date_of
    else:
        return False
    return reading(left) is not None and reading(left) == reading(right)


def spaced(path: str) -> str:
    """The words of the last name of a path: `a.newItemIds[0]` is `new item ids`."""
    name = path.rpartition(".")[2].partition("[")[0]
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[_-]+", " ", name[:80]).lower()


def _is_free(name: str, told: str, text: str, context: Context) -> bool:
    """Whether the policy worded it: a note or a sentence of its own, that nobody dictated."""
    start = text.rstrip(".!?")
    named = english.NOTES.fullmatch(name) or (context.makes and english.TEXTS.fullmatch(name))
    if (named or english.WORDED.search(told)) and not _CODE.search(text):
        marks = "\"'“‘:" if english.MESSAGES.fullmatch(name) else "\"'“‘"
        dictated = re.compile(rf"[{marks}]\s{{0,4}}{re.escape(start)}", re.IGNORECASE)
        return not any(map(dictated.search, context.state))
    sentence = len(text) <= 4000 and len(text.split()) >= 5 and _PROSE.fullmatch(text)
    return bool(sentence) and not any(start in said for said in context.state)


def _number(value: JSON) -> int | float | None:
    if isinstance(value, str):
        if len(value) > 64 or not _NUMBER.fullmatch(value.strip()):
            return None
        value = float(value) if re.search(r"[.eE]", value) else int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def _close(wanted: int | float, got: int | float, tolerance: JSON) -> bool:
    try:
        if isinstance(tolerance, (int, float)) and abs(wanted - got) <= tolerance:
            return True
        if wanted == got or (wanted == int(wanted) and got == int(got)):
            return wanted == got
        return math.isclose(wanted, got, rel_tol=RELATIVE_FLOAT_NOISE)
    except OverflowError:
        return False


def _boolean(value: JSON) -> bool | None:
    if isinstance(value, str) and len(value) <= 8:
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _string(value: JSON) -> str | None:
    """What a tool that declares a string would read; 5.0 reads as "5"."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 512:
        return None
    return str(value) if isinstance(value, (str, int, float)) else None


_COERCIONS: Mapping[str, Callable[[JSON], JSON]] = {
    "number": _number,
    "integer": _number,
    "boolean": _boolean,
    "string": _string,
}


def _plain(text: str) -> str:
    """Unicode and white space normalised; line breaks inside are kept, since code needs them."""
    text = unicodedata.normalize("NFC", text).translate(_PLAIN).strip()
    if "\n" not in text and "\r" not in text:
        return " ".join(text.split())
    return "\n".join(line.rstrip() for line in text.splitlines())


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _minute(text: str, free: bool) -> tuple[int, int] | None:
    """Hour and minute of a time of day; that of twelve hours only if the form is `free`."""
    if time := _TIME.fullmatch(text):
        return int(time[1]), int(time[2])
    if free and (time := _CLOCK.fullmatch(text)):
        return int(time[1]) % 12 + 12 * (time[3] in "pP"), int(time[2] or 0)
    return None


def _equal(left: JSON, right: JSON) -> bool:
    """Equality of scalars that, unlike Python's, keeps true apart from 1."""
    if isinstance(left, (dict, list)) or isinstance(right, (dict, list)):
        return False
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)
