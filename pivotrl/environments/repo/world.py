"""The live repo domain (as SWE-Bench): files, tests, tools, score.

The agent sees messages and tools alone. A task is solved when the agent has submitted, all tests
pass, and they were run after the last edit. This module must never know who the agent is.
"""

from __future__ import annotations

from collections.abc import Mapping

from pivotrl.environments.repo.checks import MAX_FILE, cases_of, failures, functions_of
from pivotrl.environments.repo.language import PARAMETERS, POLICY, TOOLS
from pivotrl.environments.turns import spoken
from pivotrl.types import JSON, Action, EnvironmentState, Message, Role, ToolCall, ToolSpec


class Repo:
    """The repo environment; stateless, `step` is pure."""

    domain = "software"
    tools: tuple[ToolSpec, ...] = TOOLS

    def reset(self, task: JSON) -> EnvironmentState:
        """The first state: policy and issues."""
        tests = cases_of(task)
        return EnvironmentState(
            task=task,
            messages=(
                Message(role=Role.SYSTEM, content=POLICY),
                Message(role=Role.USER, content="\n".join(task["issues"])),
            ),
            done=False,
            world={
                "files": task["files"],
                "tests": tests,
                "failing": failures(task["files"], tests),
                "turns": 0,
                "ran": False,
                "reported": [],
                "known": [],
                "defined": [],
                "opened": [],
                "edited": [],
                "submitted": False,
            },
        )

    def step(self, state: EnvironmentState, action: Action) -> EnvironmentState:
        """The state after the agent's turn and the tool's answer.

        A malformed call, several in one turn, or none is answered by an error and costs the turn.
        A finished episode does not change any more.
        """
        if state.done:
            return state
        world = dict(state.world, turns=state.world["turns"] + 1)
        messages = spoken(action, world["turns"], lambda call: _use_tool(world, call))
        if not action.tool_calls:
            messages.append(Message(role=Role.USER, content="Make a call."))
        return EnvironmentState(
            task=state.task,
            messages=state.messages + tuple(messages),
            done=world["submitted"] or world["turns"] >= max_turns(state.task),
            world=world,
        )

    def score(self, state: EnvironmentState) -> float:
        """1.0 if the work was submitted after the tests had passed, else 0.0."""
        world = state.world
        return float(world["submitted"] and world["ran"] and not world["failing"])


def max_turns(task: JSON) -> int:
    """Agent turns after which an episode ends unsolved."""
    return 5 + 5 * len(task["bugs"])


def _use_tool(world: dict[str, JSON], call: ToolCall) -> str:
    """The tool's answer; `world` is updated in place (it belongs to the new state)."""
    expected = PARAMETERS.get(call.name) if isinstance(call.name, str) else None
    if expected is None:
        return "error: unknown tool"
    given = call.arguments
    if not (
        isinstance(given, Mapping)
        and set(given) == set(expected)
        and all(isinstance(v, str) and len(v) <= MAX_FILE for v in given.values())
    ):
        return "error: bad arguments"
    match call.name:
        case "run_tests":
            return _run_tests(world)
        case "search":
            return _search(world, given["name"].removeprefix("def "))
        case "open":
            return _open(world, given["path"].removeprefix("./"))
        case "edit":
            return _edit(world, **{**given, "path": given["path"].removeprefix("./")})
        case _:
            world["submitted"] = True
            return "submitted"


def _run_tests(world: dict[str, JSON]) -> str:
    world["ran"] = True
    if not world["failing"]:
        return "all passed"
    first = world["failing"][0]
    world["reported"] = [*world["reported"], first["issue"]]
    if first["path"] is not None:
        world["known"] = [*world["known"], first["path"]]
    text: str = first["text"]
    return text


def _search(world: dict[str, JSON], name: str) -> str:
    start = f"def {name}("
    for path, text in world["files"].items():
        for line in text.split("\n"):
            if line.startswith(start):
                world["known"] = [*world["known"], path]
                world["defined"] = [*world["defined"], name]
                return f"{path}: {line}"
    return "error: not found"


def _open(world: dict[str, JSON], path: str) -> str:
    text: str | None = world["files"].get(path)
    if text is None:
        return "error: no such file"
    world["opened"] = [*world["opened"], path]
    return text


def _edit(world: dict[str, JSON], path: str, old_str: str, new_str: str) -> str:
    text: str = world["files"].get(path, "")
    if not text or not path.endswith(".py"):
        return "error: no such source"
    if path not in world["opened"]:
        return "error: open the file first"
    if not old_str or text.count(old_str) != 1:
        return "error: old_str must occur once"
    made = text.replace(old_str, new_str)
    before, after = functions_of(text), functions_of(made)
    if before is None or after is None or before.keys() != after.keys():
        return "error: not valid code with the same functions"
    world["files"] = world["files"] | {path: made}
    world["failing"] = failures(world["files"], world["tests"])
    world["edited"] = [*world["edited"], path]
    world["ran"] = False
    return "edited"
