"""Commit messages in command lines: the same commit may be described in other words.

This module must never know how a line is parsed, nor an action.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pivotrl.verifiers.comparison import MATCH, Context
from pivotrl.verifiers.facts import read
from pivotrl.verifiers.shell_commands import Command, Form
from pivotrl.verifiers.text import MAX_CHARACTERS, contradiction, unlike

_DESCRIBED = ("git commit", "git tag")
_FOR_MACHINES = re.compile(
    r"(?m)^(?:fixup|squash|amend)!|^\w+(?:\([^)\n]{0,80}\))?!?:(?=\s)|\[[^]\n]{0,80}\]|#\d+"
)
"""Kinds of commits, what skips a build, and issues."""


def with_messages_of(wanted: Sequence[Form], given: Sequence[Form], context: Context) -> list[Form]:
    """The given forms with the wanted ones' messages in the place of those that say the same."""
    ours, theirs = _messages(wanted), _messages(given)
    pairs = zip(ours, theirs, strict=True) if len(ours) == len(theirs) else ()
    same = {
        their: our for our, their in pairs if our != their and _describe_one(our, their, context)
    }
    return [_told(form, same) for form in given] if same else [*given]


def _describe_one(our: str, their: str, context: Context) -> bool:
    """Whether two messages have the same words in whatever form, and say the same to machines."""
    if max(len(our), len(their)) > MAX_CHARACTERS or any(our in said for said in context.state):
        return False  # as it was dictated
    if "$" in our + their or _FOR_MACHINES.findall(our) != _FOR_MACHINES.findall(their):
        return False
    one, other = read(our), read(their)
    return not any(unlike(one, other)) and contradiction(one, other, context) == MATCH


def _messages(form: Any) -> list[str]:
    if isinstance(form, Command):
        described = form.name in _DESCRIBED
        return [text for flag, text in form.flags if flag == "m"] if described else []
    inner = form if isinstance(form, tuple | list) else ()
    return [text for part in inner for text in _messages(part)]


def _told(form: Any, same: Mapping[str, str]) -> Any:
    if isinstance(form, Command):
        flags = tuple((f, same.get(text, text) if f == "m" else text) for f, text in form.flags)
        return replace(form, flags=flags) if form.name in _DESCRIBED else form
    return tuple(_told(part, same) for part in form) if isinstance(form, tuple) else form
