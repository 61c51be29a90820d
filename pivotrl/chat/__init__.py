"""Between typed messages and token ids; see `format` (templates) and `parsing` (completions)."""

from pivotrl.chat.format import ChatFormat, TemplateError
from pivotrl.chat.parsing import parse_completion
from pivotrl.chat.prompts import Prompts, prompts_of

__all__ = ["ChatFormat", "Prompts", "TemplateError", "parse_completion", "prompts_of"]
