"""The live web domain (as BrowseComp): a library, its search engine, score.

The agent sees messages and tools alone. A task is solved when the answer is right, exactly, and
the pages that it follows from were read: a guess is no success. This module must never know who
the agent is or how it speaks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pivotrl.environments.turns import spoken
from pivotrl.environments.web import pages as library
from pivotrl.environments.web.language import NAMES, POLICY, TOOLS
from pivotrl.environments.web.tasks import route
from pivotrl.types import JSON, Action, EnvironmentState, Message, Role, ToolCall, ToolSpec

MAX_TEXT = 2000
"""Characters of agent text that are looked at; the rest is ignored."""
MAX_ARGUMENT = 100
"""Characters of an argument; a longer one is bad."""
_ARGUMENTS = {tool.name: tuple(tool.parameters["properties"]) for tool in TOOLS}
_KNOWN = frozenset(name.lower() for name in NAMES)
_WORD = re.compile(r"\w+")
_UNSURE = re.compile(r"\?|\b(?:not|cannot|no|never)\b|n't\b")


class Web:
    """The web environment; stateless, `step` is pure."""

    domain = "browsing"
    tools: tuple[ToolSpec, ...] = TOOLS

    def reset(self, task: JSON) -> EnvironmentState:
        """The first state: policy and question."""
        return EnvironmentState(
            task=task,
            messages=(
                Message(role=Role.SYSTEM, content=POLICY),
                Message(role=Role.USER, content=task["question"]),
            ),
            done=False,
            world={"turns": 0, "shown": [], "opened": [], "results": [], "answer": None},
        )

    def step(self, state: EnvironmentState, action: Action) -> EnvironmentState:
        """The state after the agent's turn and the answer of a tool; a text ends the episode.

        A malformed call, several in one turn, or an empty text is answered by an error and costs
        the turn. A finished episode does not change any more.
        """
        if state.done:
            return state
        world = dict(state.world, turns=state.world["turns"] + 1)
        messages = spoken(action, world["turns"], lambda call: _use_tool(state.task, world, call))
        text = action.text[:MAX_TEXT]
        if not action.tool_calls and not action.malformed and text.strip():
            world["answer"] = text
        elif not action.tool_calls:
            messages.append(Message(role=Role.USER, content="I do not understand."))
        return EnvironmentState(
            task=state.task,
            messages=state.messages + tuple(messages),
            done=world["answer"] is not None or world["turns"] >= max_turns(state.task),
            world=world,
        )

    def score(self, state: EnvironmentState) -> float:
        """1.0 if the answer is right and was read, else 0.0."""
        answer, opened = state.world["answer"], state.world["opened"]
        if answer is None or any(page_id not in opened for page_id, _ in route(state.task)):
            return 0.0
        return float(_says(answer, state.task["answer"]))


def max_turns(task: JSON) -> int:
    """Agent turns after which an episode ends unsolved."""
    turns: int = task["turns"]
    return turns + turns // 2 + 2


def _use_tool(task: JSON, world: dict[str, JSON], call: ToolCall) -> str:
    """The tool's result; `world` is updated in place (it belongs to the new state)."""
    names = _ARGUMENTS.get(call.name) if isinstance(call.name, str) else None
    if names is None:
        return "error: unknown tool"
    if not isinstance(call.arguments, Mapping) or tuple(call.arguments) != names:
        return "error: bad arguments"
    value = call.arguments[names[0]]
    if not isinstance(value, str) or len(value) > MAX_ARGUMENT:
        return "error: bad arguments"
    pages = task["pages"]
    if call.name == "search":
        found = library.search(library.index(pages), value)
        world |= {"results": found, "shown": [*world["shown"], *found]}
        return "\n".join(f"{library.title(pages[p])} {p}" for p in found) or "no results"
    page_id = value.strip()
    if page_id not in world["shown"]:  # an id that was guessed leads nowhere
        return "error: unknown id"
    page = pages[page_id]
    world |= {
        "results": [],
        "opened": [*world["opened"], page_id],
        "shown": [*world["shown"], *library.links(page)],
    }
    return library.text(pages, page)


def _says(text: str, answer: str) -> bool:
    """Whether a text names the answer, nothing else and without doubt."""
    words = _WORD.findall(text.lower())
    facts = {word for word in words if word in _KNOWN or any(c.isdigit() for c in word)}
    return facts == {answer.lower()} and not _UNSURE.search(text.lower())
