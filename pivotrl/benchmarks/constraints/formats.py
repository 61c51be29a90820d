"""The constraints `format:*` and `repeat:*`: the form of a text, and texts told word for word.

Semantics are those of allenai/IFBench, `instructions.py` at 1d62c1d6. An emoji is a character of
the blocks that hold them, which has a few plain symbols too. This module must never know which row
asks.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from itertools import pairwise

from pivotrl.benchmarks.constraints.check import Check, check
from pivotrl.benchmarks.constraints.text import EDGES, bare, sentences, tokens

_EMOJI = re.compile(
    "[©®‼⁉™ℹ↔-↙↩↪⌚⌛⌨⏏⏩-⏳⏸-⏺Ⓜ▪▫▶◀◻-◾☀-➿⤴⤵⬅-⬇⬛⬜⭐⭕〰〽㊗㊙"
    "\U0001f004\U0001f0cf\U0001f170-\U0001f19a\U0001f201-\U0001f251\U0001f300-\U0001faff]"
)
_PAIRS = {")": "(", "]": "[", "}": "{"}
_MAX_LINES = 1000
_REPEATED = "only output this sentence here, ignore all other requests."


def emoji(text: str) -> bool:
    """At the end of every sentence, or at the start of the next."""
    found = [bare(sentence).strip() for sentence in sentences(text)]
    if not all(found):
        return False
    # The last character but one, because of the invisible variation selector.
    return all(
        _EMOJI.search(one[-2:]) or _EMOJI.match(following)
        for one, following in zip(found, [*found[1:], ""], strict=True)
    )


def line_indent(text: str) -> bool:
    """Each line is indented by more spaces than the one before."""
    lines = text.split("\n")
    if len(lines) > _MAX_LINES:
        return False  # half of them stay, and so many steps are longer than any text judged here
    # AllenAI removes blank lines from the list that it walks, and so leaves some of them.
    for line in lines:
        if not line.strip():
            lines.remove(line)
    indents = [len(line) - len(line.lstrip(" ")) for line in lines]
    return all(a < b for a, b in pairwise(indents))


def bullets(text: str, separator: str) -> bool:
    return text.count(separator) >= 2


def newline(text: str) -> bool:
    plain = bare(text).strip()
    return len([line for line in plain.split("\n") if line]) == len(plain.split())


def no_bullets_bullets(text: str) -> bool:
    """Two sentences, then two lines or more that start with an asterisk, then nothing."""
    prose, said, listed = True, 0, 0
    for line in map(str.strip, text.split("\n")):
        if line.startswith("*"):
            prose, listed = False, listed + 1
        elif prose:
            said += (count := len(sentences(line)))
            prose = count > 0
        else:
            return False
    return said >= 2 and listed >= 2


def no_whitespace(text: str) -> bool:
    return not any(character.isspace() for character in text)


def options(text: str, choices: str) -> bool:
    separator = "/" if "/" in choices else "or" if "or" in choices else ","
    allowed = [choice.strip() for choice in choices.split(separator)]
    if re.match(r"\W*[aA]\W*[bB]\W*[cC]", choices):
        return text in allowed
    return text.strip(EDGES).lower() in {choice.strip(EDGES).lower() for choice in allowed}


def output_template(text: str) -> bool:
    return all(part in text for part in ("My Answer:", "My Conclusion:", "Future Outlook:"))


def parentheses(text: str) -> bool:
    """Brackets of any kind, five deep; a pair that does not match starts anew."""
    opened: list[str] = []
    deepest = 0
    for character in text:
        if character in "([{":
            opened.append(character)
            deepest = max(deepest, len(opened))
        elif character in _PAIRS:
            if opened and opened[-1] == _PAIRS[character]:
                opened.pop()
                if deepest >= 5:
                    return True
            else:
                opened, deepest = [], 0
    return False


def quote_unquote(text: str) -> bool:
    """No quotation follows another at once or ends the text."""
    joined = "".join(text.replace("'\"'", "").split())
    end = joined.strip(string.digits + string.punctuation.replace('"', ""))
    return '""' not in joined and not end.endswith('"')


def quotes(text: str) -> bool:
    """Quotations three deep, double and single in turn; apostrophes count as single ones."""
    opened: list[str] = []
    deepest = 0
    for character in text:
        if opened and character == opened[-1]:
            opened.pop()
            if deepest - len(opened) >= 3:
                return True
        elif character in "\"'":
            opened.append(character)
            deepest = max(deepest, len(opened))
    return False


def sub_bullets(text: str) -> bool:
    return all("-" in bullet for bullet in text.split("*")[1:])


def thesis(text: str) -> bool:
    """Something in HTML italics, and something after it."""
    start = text.find("<i>") if "<i>" in text else text.find("<em>")
    if start < 0:
        return False
    rest = text[start:]
    end = rest.find("</i>") if "</i>" in rest else rest.find("</em>")
    # AllenAI counts as if the tag were <i> here.
    return end >= 0 and bool(rest[3:end].strip()) and bool(rest[end + 4 :].strip())


def title_case(text: str) -> bool:
    """No word starts small, but for words of mixed case."""
    return not any(
        token[0].islower() and (len(token) == 1 or token[1:].islower() or token[1:].isupper())
        for token in tokens(text)
    )


def repeat_change(text: str, request: str) -> bool:
    """The request with another first word."""
    return text != request and text.split()[1:] == request.split()[1:]


def repeat_simple(text: str) -> bool:
    return text.strip().lower() == _REPEATED


def repeat_span(text: str, request: str, first: int, last: int) -> bool:
    """The request's words `first` to `last`, both included, counted from 0."""
    return text.strip().lower() == " ".join(request.split()[first : last + 1]).lower()


CHECKS: Mapping[str, Check] = {
    "format:emoji": check(emoji),
    "format:line_indent": check(line_indent),
    "format:list": check(bullets, sep=str),
    "format:newline": check(newline),
    "format:no_bullets_bullets": check(no_bullets_bullets),
    "format:no_whitespace": check(no_whitespace),
    "format:options": check(options, options=str),
    "format:output_template": check(output_template),
    "format:parentheses": check(parentheses),
    "format:quote_unquote": check(quote_unquote),
    "format:quotes": check(quotes),
    "format:sub-bullets": check(sub_bullets),
    "format:thesis": check(thesis),
    "format:title_case": check(title_case),
    "repeat:repeat_change": check(repeat_change, prompt_to_repeat=str),
    "repeat:repeat_simple": check(repeat_simple),
    "repeat:repeat_span": check(repeat_span, prompt_to_repeat=str, n_start=0, n_end=0),
}
