"""Mistral's own chat format: models that come with a tekken.json and no Jinja template.

mistral-common renders (https://mistralai.github.io/mistral-common); here it looks like any other
tokenizer with a template. This module must never know how calls are read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from pivotrl.chat.encoding import alternation
from pivotrl.types import JSON

BACKEND = "MistralCommonBackend"
"""Of transformers; it has no `chat_template`, no special tokens by id, and refuses closed turns."""


class MistralTokenizer:
    """What `ChatFormat` asks of a tokenizer, answered by `transformers.MistralCommonBackend`."""

    chat_template = "mistral-common"

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.eos_token_id: int = backend.eos_token_id
        self.pad_token_id: int = backend.pad_token_id

    @cached_property
    def added_tokens_decoder(self) -> dict[int, Any]:
        """Control tokens by id; those without a use of their own (`<SPECIAL_20>`) too."""
        from transformers import AddedToken

        ids, words = self._backend.all_special_ids, self._backend.all_special_tokens
        return {
            id: AddedToken(word, special=True) for id, word in zip(ids, words, strict=True) if word
        }

    def apply_chat_template(
        self, rows: list[dict[str, JSON]], *, tools: list[JSON] | None, **_: object
    ) -> str:
        """As text, control tokens written out. The last turn is closed, or the model's to open."""
        closed = rows[-1]["role"] == "assistant"
        ids = self._backend.apply_chat_template(
            rows, tools=tools, continue_final_message=closed, return_dict=False
        )
        return self.decode([*ids, self.eos_token_id] if closed else ids)

    def decode(self, ids: Sequence[int], **_: object) -> str:
        text: str = self._backend.decode(list(ids), skip_special_tokens=False)
        return text

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        """Ids of a text with its control tokens, which mistral-common reads as plain letters."""
        controls, separators = self._controls
        ids: list[int] = []
        for part in filter(None, separators.split(text)):
            if part in controls:
                ids.append(controls[part])
            else:
                ids += self._backend(part, add_special_tokens=False)["input_ids"]
        return {"input_ids": ids}

    @cached_property
    def _controls(self) -> tuple[dict[str, int], re.Pattern[str]]:
        """Control token -> id, and the pattern that finds them."""
        controls = {str(token): id for id, token in self.added_tokens_decoder.items()}
        separators = alternation(controls)
        assert separators is not None  # mistral-common refuses a file without
        return controls, separators
