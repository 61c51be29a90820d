"""The live shell domain (as Terminal-Bench): a file tree, a shell, jobs one after the other, score.

The agent sees messages and tools alone. A task is solved when each job got its answer and the tree
is at last what the jobs make of it, file by file. Command lines run in an interpreter over plain
data. This module must never know who the agent is.
"""

from __future__ import annotations

from collections.abc import Mapping

from pivotrl.environments.shell.files import Result
from pivotrl.environments.shell.interpreter import run
from pivotrl.environments.shell.language import POLICY, TOOLS
from pivotrl.environments.turns import spoken
from pivotrl.types import JSON, Action, EnvironmentState, Message, Role, ToolCall, ToolSpec

MAX_SHOWN, MAX_WIDTH = 8, 80
"""Lines of output that are shown, and characters of one."""
MAX_ANSWER = 100
"""Characters of an answer; a longer one is bad."""
SILENT = "(no output)"
_ARGUMENTS = {"bash": "command", "submit": "answer"}


class Shell:
    """The shell environment; stateless, `step` is pure."""

    domain = "terminal"
    tools: tuple[ToolSpec, ...] = TOOLS

    def reset(self, task: JSON) -> EnvironmentState:
        """The first state: policy and the first job."""
        return EnvironmentState(
            task=task,
            messages=(
                Message(role=Role.SYSTEM, content=POLICY),
                Message(role=Role.USER, content=task["jobs"][0]["text"]),
            ),
            done=False,
            world={"files": task["files"], "job": 0, "turns": 0, "shown": [], "right": True},
        )

    def step(self, state: EnvironmentState, action: Action) -> EnvironmentState:
        """The state after the agent's turn and what is shown of it.

        A malformed call, several in one turn or none is answered by an error and costs the turn. A
        finished episode does not change any more.
        """
        if state.done:
            return state
        world = dict(state.world, turns=state.world["turns"] + 1)
        messages = spoken(action, world["turns"], lambda call: _use_tool(state.task, world, call))
        if not action.tool_calls:
            messages.append(Message(role=Role.USER, content="Call bash or submit."))
        finished = world["job"] == len(state.task["jobs"])
        return EnvironmentState(
            task=state.task,
            messages=state.messages + tuple(messages),
            done=finished or world["turns"] >= max_turns(state.task),
            world=world,
        )

    def score(self, state: EnvironmentState) -> float:
        """1.0 if all jobs were answered rightly and the tree is as they make it, else 0.0."""
        world, task = state.world, state.task
        if not (world["right"] and world["job"] == len(task["jobs"])):
            return 0.0
        goal = dict(task["files"])
        for job in task["jobs"]:
            goal |= job["goal"]
        return float(world["files"] == {p: text for p, text in goal.items() if text is not None})


def max_turns(task: JSON) -> int:
    """Agent turns after which an episode ends unsolved."""
    return 5 + sum(2 + job["turns"] for job in task["jobs"])


def is_made(files: Mapping[str, str], change: Mapping[str, str | None]) -> bool:
    """Whether a tree is as a change leaves it, where it changes anything."""
    return all(files.get(path) == text for path, text in change.items())


def _use_tool(task: JSON, world: dict[str, JSON], call: ToolCall) -> str:
    """What the tool shows; `world` is updated in place (it belongs to the new state)."""
    key = _ARGUMENTS.get(call.name) if isinstance(call.name, str) else None
    if key is None:
        return "error: unknown tool"
    text = _text(call.arguments[key]) if _has_only(call.arguments, key) else None
    if text is None:
        return "error: bad arguments"
    job = world["job"]
    if call.name == "bash":
        result = run(text, world["files"])
        output = _shown(result)
        world["files"] = result.files
        world["shown"] = [*world["shown"], [job, text, output]]
        return output
    answer = " ".join(text.split())
    if len(answer) > MAX_ANSWER:
        return "error: bad arguments"
    world["right"] = world["right"] and answer == task["jobs"][job]["answer"]
    world["job"] = job + 1
    rest = task["jobs"][job + 1 :]
    return f"Next: {rest[0]['text']}" if rest else "All jobs are submitted."


def _has_only(arguments: JSON, key: str) -> bool:
    return isinstance(arguments, Mapping) and set(arguments) == {key}


def _text(value: JSON) -> str | None:
    """A string, or a whole number as one; None for what is neither."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**15:
        return str(value)
    return value if isinstance(value, str) else None


def _shown(result: Result) -> str:
    """The first lines of what a command line wrote, and its exit code where it is not 0."""
    lines = (result.out + result.errors).split("\n")
    lines = [line[:MAX_WIDTH] for line in (lines if lines[-1] else lines[:-1])]
    if len(lines) > MAX_SHOWN:
        lines = [*lines[:MAX_SHOWN], f"({len(lines) - MAX_SHOWN} more lines)"]
    if result.code:
        lines.append(f"exit {result.code}")
    return "\n".join(lines) if lines else SILENT
