"""Text to token ids, with the parts between control tokens cached.

Conversations of one trajectory or domain repeat most of their text, and tokenizing is the slow
part of rendering. This module must never know messages, tools or chat templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

CACHED_PARTS = 16_384


class Encoder:
    """Encodes with a transformers tokenizer, exactly as it would encode the whole text.

    `probe` is a text with several control tokens: a tokenizer that encodes it differently part by
    part (some put a space before the first word only) is never split.
    """

    def __init__(self, tokenizer: Any, *, probe: str) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        self.special_ids: dict[str, int] = {
            str(token): id for id, token in added.items() if token.special
        }
        self._separators = alternation(self.special_ids)
        self._part = lru_cache(maxsize=CACHED_PARTS)(self._encode_part)
        if self._separators is not None and self.encode(probe) != list(self._encode_part(probe)):
            self._separators = None

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; control tokens written out in it become their ids."""
        if self._separators is None:
            return list(self._encode_part(text))
        ids: list[int] = []
        for part in self._separators.split(text):
            ids += self._part(part)
        return ids

    def _encode_part(self, text: str) -> tuple[int, ...]:
        if text in self.special_ids:
            return (self.special_ids[text],)
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()


def alternation(words: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern, with one group, that finds the longest of `words`; None where there are none."""
    ordered = sorted((word for word in words if word), key=lambda word: (-len(word), word))
    return re.compile("(" + "|".join(map(re.escape, ordered)) + ")") if ordered else None
