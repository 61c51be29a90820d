"""Commit messages in command lines: the same commit may be described in other words.

This module must never know how a line is parsed, nor an action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pivotrl.verifiers.comparison import Context
from pivotrl.verifiers.shell_commands import Command, Form
from pivotrl.verifiers.values import same_scalar

_DESCRIBED = ("git commit", "git tag")


def with_messages_of(wanted: Sequence[Form], given: Sequence[Form], context: Context) -> list[Form]:
    """The given forms with the wanted ones' messages in the place of those that say the same."""
    ours, theirs = _messages(wanted), _messages(given)
    pairs = zip(ours, theirs, strict=True) if len(ours) == len(theirs) else ()
    same = {
        their: our
        for our, their in pairs
        if our != their and same_scalar({}, our, their, {}, context, "message")
    }
    return [_told(form, same) for form in given] if same else [*given]


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
