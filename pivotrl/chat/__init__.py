"""Between typed messages and token ids; see `format` (templates) and `parsing` (completions)."""

from pivotrl.chat.format import ChatFormat, TemplateError
from pivotrl.chat.parsing import parse_completion

__all__ = ["ChatFormat", "TemplateError", "parse_completion"]
