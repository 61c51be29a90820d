"""The verifier of software engineering: the same step on the same place with the same content?

A call is read as a step (`file_steps`): view lines of a file, create or edit it, run a command, or
finish. Views are the same where their lines overlap, edits where they make the same of the file
(`edits`), commands where their normal forms are, and the end whatever is said. Other tools are
judged by their schemas. Where the state does not tell the directory, two calls may together.
Source: PivotRL's software domain; its name-only rule is `ToolNameVerifier`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from pivotrl.types import Action, Candidate, Message, ToolCall, Verdict, action_of
from pivotrl.verifiers import outcome
from pivotrl.verifiers.comparison import MAX_CALLS, excerpt
from pivotrl.verifiers.edit_commands import edit_by
from pivotrl.verifiers.edits import same_edit, same_lines
from pivotrl.verifiers.file_state import State
from pivotrl.verifiers.file_steps import END, Step, calls_of, is_read, same_path
from pivotrl.verifiers.finders import command_of, same_search
from pivotrl.verifiers.layout import language_of
from pivotrl.verifiers.project_commands import same_tests
from pivotrl.verifiers.shell_sequences import changes
from pivotrl.verifiers.step_groups import same_work, without_last_reads
from pivotrl.verifiers.terminal import TerminalVerifier
from pivotrl.verifiers.text import differs_in_report
from pivotrl.verifiers.tool_use import ToolUseVerifier

_OTHERWISE = ("wrong_edit", "different_step", "wrong_tool")
"""What may do the same by other code or another tool."""
MIN_OVERLAP = 0.5
"""Of the shorter view: how much of it both show."""


class SoftwareVerifier:
    name = "software"

    def __init__(self, *, execute: bool = False, ask: bool = False) -> None:
        """With `ask` another edit and an edit by a command are undecided, for a judge."""
        self._commands, self._ask = TerminalVerifier(execute=execute, ask=ask), ask
        self._state = outcome.Prepare(lambda candidate: State(candidate.messages))

    @outcome.never_raises
    def verify(self, candidate: Candidate, action: Action) -> Verdict:
        """Judge an action (see the module). Never raises."""
        if verdict := outcome.unfinished(action):
            return verdict
        references = (candidate.demonstration, *candidate.accepted_actions)
        if candidate.trajectory.tools_declared:
            tools = {tool.name for tool in candidate.tools} | set(_names(candidate.demonstration))
            if not {call.name for call in action.tool_calls} <= tools:
                return outcome.rejection("unknown_tool", {})
        known = self._state(candidate)
        calls = calls_of(action)
        messages = [replace(m, tool_calls=calls_of(action_of(m))) for m in references]
        verdict = _judged(messages, calls, known)
        if verdict and not verdict.reward and len(calls) <= MAX_CALLS:
            states = (s for m in messages for s in known.ties(calls, m.tool_calls))
            tied = (_judged(messages, calls, state) for state in states)
            verdict = next((found for found in tied if found and found.reward), verdict)
        if verdict is None or verdict.category == "different_command":
            verdict = self._commands.verify(candidate, action)
        if self._ask and verdict.category in _OTHERWISE:
            sides = [_kinds(made, known) for made in (messages[0].tool_calls, calls)]
            if {"shows", "changes"} != {*sides}:
                return outcome.undecided("another_way", verdict.details)
        return verdict


class ToolNameVerifier:
    """The paper's deliberately coarse rule: the same tools in the same order, or text for text."""

    name = "tool_name"

    def __init__(self) -> None:
        self._others = ToolUseVerifier()

    @outcome.never_raises
    def verify(self, candidate: Candidate, action: Action) -> Verdict:
        """Judge an action. Never raises."""
        if verdict := outcome.unfinished(action):
            return verdict
        references = (candidate.demonstration, *candidate.accepted_actions)
        if not action.tool_calls or not any(r.tool_calls for r in references):
            return self._others.verify(candidate, action)
        names = [call.name for call in action.tool_calls]
        for index, reference in enumerate(references):
            if _names(reference) == names:
                return outcome.acceptance({"reference": index})
        return outcome.rejection(
            "wrong_tool", {"expected": excerpt(", ".join(_names(references[0])))}
        )


def _judged(messages: Sequence[Message], calls: Sequence[ToolCall], state: State) -> Verdict | None:
    """The verdict on calls as steps; None where they cannot be read so."""

    def difference(wanted: Step, given: Step) -> str | None:
        return _difference(wanted, given, state)

    steps = outcome.steps_of(calls, state.step) if len(calls) <= MAX_CALLS else None
    bare = without_last_reads(steps) if steps else None
    ways = [done for done in (steps, bare if bare != steps else None) if done]
    for (index, message), done in product(enumerate(messages), ways):
        wanted = outcome.steps_of(message.tool_calls, state.step)
        if wanted and same_work(wanted, done, state, difference):
            return outcome.acceptance({"reference": index})
    return outcome.judge_steps(messages, calls, state.step, difference)


def _kinds(calls: Sequence[ToolCall], state: State) -> str:
    """Whether calls only show something, or are known to change something."""
    steps = outcome.steps_of(calls[:MAX_CALLS], state.step) or []
    if any(s.kind in ("create", "edit", "finish") or changes(s.form) for s in steps):
        return "changes"
    return "shows" if steps and all(map(is_read, steps)) else ""


def _names(message: Message) -> list[str]:
    return [call.name for call in message.tool_calls]


def _difference(wanted: Step, given: Step, state: State) -> str | None:
    """Why two steps are not the same; None where they are."""
    if wanted.parts or given.parts:
        return None if wanted.form and wanted.form == given.form else "different_command"
    if wanted.kind == given.kind == "command" and wanted.form == given.form:
        return None
    one, other = (edit_by(s, state) for s in (wanted, given))
    if one and other and one.edit and other.edit:
        if not same_path(one.path, other.path):
            return "wrong_file"
        same = same_edit(one.edit, other.edit, state.lines(one.path), language_of(one.path))
        return None if same else "wrong_edit"
    if {wanted.kind, given.kind} == {"view", "list"}:
        whole = wanted.lines == given.lines == (1, END) and state.is_folder(wanted.path)
        return None if whole and same_path(wanted.path, given.path) else "different_step"
    if wanted.kind != given.kind:
        return "different_step"
    if wanted.kind in ("command", "list"):
        runs = [run for step in (wanted, given) if (run := command_of(step.form))]
        alike = wanted.form == given.form or same_search(wanted.form, given.form)
        alike = alike or same_tests(runs, state.lines, state.lost)
        return None if alike else "different_command"
    if wanted.kind == "finish":
        same = wanted.text == given.text and not differs_in_report(wanted.told, given.told)
        return None if same else "wrong_argument"
    if not same_path(wanted.path, given.path):
        return "wrong_file"
    if wanted.kind == "view":
        return None if _overlap(wanted.lines, given.lines) else "wrong_lines"
    texts = (wanted.text.split("\n"), given.text.split("\n"))
    same = same_lines((), *texts, language=language_of(wanted.path))
    return None if same else "wrong_edit"


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    shared = min(one[1], other[1]) - max(one[0], other[0]) + 1
    shorter = min(one[1] - one[0], other[1] - other[0]) + 1
    return shared > 0 and shared >= MIN_OVERLAP * shorter
