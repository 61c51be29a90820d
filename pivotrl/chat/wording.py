"""How a chat template wants its messages: templates differ in what they take and refuse.

This module must never know a tokenizer or how calls are written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from pivotrl.types import JSON, Message, digest, message_to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    arguments_as_text: bool = False
    """A call's arguments as JSON text, not as an object."""
    empty_as_none: bool = False
    """No content, not empty content, beside calls (DeepSeek)."""
    nine_letters: bool = False
    """Ids of calls in nine letters or digits (Mistral): a hash of the given id."""

    def rows(self, messages: Sequence[Message]) -> list[dict[str, JSON]]:
        """The messages in OpenAI chat form, as this template wants them."""
        rows = [message_to_json(message) for message in messages]
        for row in rows:
            for call in row.get("tool_calls", ()):
                if self.arguments_as_text:
                    function = call["function"]
                    function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
                if self.nine_letters:
                    call["id"] = digest(call.get("id"))[:9]
            if self.nine_letters and "tool_call_id" in row:
                row["tool_call_id"] = digest(row["tool_call_id"])[:9]
            if self.empty_as_none and "tool_calls" in row and not row["content"]:
                row["content"] = None
        return rows


WORDINGS = tuple(
    Wording(arguments_as_text=text, empty_as_none=none, nine_letters=nine)
    for nine, none, text in product((False, True), repeat=3)
)
"""The plainest first."""
