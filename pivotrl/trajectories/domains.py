"""What kind of agent a trajectory shows, told from the names of its tools.

For rows that name no domain, where the configuration names none. This module must never know a
verifier.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

CONVERSATION = "tool_use"
_EDITOR = re.compile(
    r"str_replace\w*|edit|(\w+_)?editor|edit_(file|tool|\w*lines)|apply_(patch|diff)|write_file"
    r"|(search_and_)?replace_in_file"
)
_SHELL = re.compile(
    r"(execute_|run_)?(bash|shell|sh|terminal|command|cmd|commands|tmux)(_(command|exec|tool))?"
    r"|run|exec|send_keys|keystrokes"
)
_BROWSER = re.compile(
    r"((web|google|bing|brave|internet|wiki|wikipedia)_?)?search((_the)?_(web|internet|google))?"
    r"|(browse|browser|visit|open|fetch|goto|go_to|navigate|read|get)(_to)?(_(url|page|website"
    r"|webpage|link))?|browser_\w+|find(_in_page|_on_page)?|click|scroll(_\w+)?"
)
_NEUTRAL = re.compile(r"finish|submit|(final_)?answer|done|think|plan|todo\w*|task_complete")


def infer(tools: Iterable[str]) -> str:
    """`software` where a tool edits files; `terminal` and `browsing` where nothing else is there.

    Tools to think or finish with say nothing. Any other tool makes it a conversation with tools.
    """
    names = [name.lower() for name in tools if not _NEUTRAL.fullmatch(name.lower())]
    if any(_EDITOR.fullmatch(name) for name in names):
        return "software"
    for domain, known in (("terminal", _SHELL), ("browsing", _BROWSER)):
        if names and all(known.fullmatch(name) for name in names):
            return domain
    return CONVERSATION
