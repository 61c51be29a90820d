"""What a template makes of a trajectory's prompts: their tokens, and where their prefix breaks.

A template that drops earlier reasoning or moves the tools makes a turn's prompt no prefix of the
next turn's: nothing is shared between them, and the later prompt shows the model another past than
the earlier. This module must never know a model or a verifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pivotrl.chat.format import ChatFormat, TemplateError
from pivotrl.types import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    tokens: Mapping[int, int]
    """Turn -> tokens of its prompt."""
    refused: Mapping[int, str]
    """Turn -> why the template refuses its prompt."""
    breaks: tuple[int, ...]
    """Turns of which the prompt does not begin with the one before it, token for token."""


def prompts_of(chat: ChatFormat, trajectory: Trajectory, turns: Sequence[int]) -> Prompts:
    """The prompts at `turns` (indices of messages, in order), each rendered whole."""
    tokens: dict[int, int] = {}
    refused: dict[int, str] = {}
    breaks: list[int] = []
    before: list[int] = []
    for turn in turns:
        try:
            ids = chat.render(trajectory.messages[:turn], trajectory.tools)
        except TemplateError as error:
            refused[turn] = str(error)
            continue
        if ids[: len(before)] != before:
            breaks.append(turn)
        tokens[turn], before = len(ids), ids
    return Prompts(tokens=tokens, refused=refused, breaks=tuple(breaks))
