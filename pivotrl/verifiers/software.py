"""The verifier of software engineering: the same step on the same place with the same content?

A call is read as a step: view lines of a file, create it, replace or insert text, or run a command.
Views are the same where their lines overlap, edits where the changed lines are (Python: where their
syntax trees are), commands where their normal forms are. Other tools are judged by their schemas.
Source: PivotRL's software domain; its name-only rule is `ToolNameVerifier`.
"""

from __future__ import annotations

import ast
import posixpath
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pivotrl.types import JSON, Action, Candidate, Message, ToolCall, Verdict, action_of
from pivotrl.verifiers.comparison import excerpt
from pivotrl.verifiers.outcome import acceptance, never_raises, rejection, unfinished
from pivotrl.verifiers.shell_forms import VIEW, Form, Unreadable, normal_form
from pivotrl.verifiers.steps import judge_steps
from pivotrl.verifiers.terminal import TerminalVerifier, act_of, directory_of
from pivotrl.verifiers.tool_use import ToolUseVerifier

MIN_OVERLAP = 0.5
"""Of the shorter view: how much of it both show."""
MAX_CONTENT = 200_000
MAX_PARSED = 20_000
"""Characters of Python that are compared as syntax trees."""
END = 10**9
_PATHS = ("path", "file_path", "filename", "file", "file_name", "target_file")
_OLD, _NEW = ("old_str", "old_string", "search", "find"), ("new_str", "new_string", "replace")
_CONTENT = ("file_text", "content", "contents", "text", "replacement_text", "code_edit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a call does to which file."""

    kind: str
    """`view`, `create`, `replace`, `insert`, `rewrite` (of lines) or `undo`."""
    path: str
    lines: tuple[int, int] | None = None
    """1-based, both ends included."""
    context: tuple[str, ...] = ()
    """The lines that a replacement names, those that it leaves as they are too: its place."""
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


class SoftwareVerifier:
    name = "software"

    def __init__(self) -> None:
        self._commands, self._others = TerminalVerifier(), ToolUseVerifier()

    @never_raises
    def verify(self, candidate: Candidate, action: Action) -> Verdict:
        """Judge an action (see the module). Never raises."""
        if verdict := unfinished(action):
            return verdict
        directory = directory_of(candidate.messages)
        references = (candidate.demonstration, *candidate.accepted_actions)
        return judge_steps(
            references, action.tool_calls, lambda call: _step(call, directory), _difference
        ) or self._rest(candidate, action)

    def _rest(self, candidate: Candidate, action: Action) -> Verdict:
        """No step on a file on one of the sides: a command, another tool, or text."""
        if act_of(action_of(candidate.demonstration)) is not None:
            return self._commands.verify(candidate, action)
        return self._others.verify(candidate, action)


class ToolNameVerifier:
    """The paper's deliberately coarse rule: the same tools in the same order, or text for text."""

    name = "tool_name"

    def __init__(self) -> None:
        self._others = ToolUseVerifier()

    @never_raises
    def verify(self, candidate: Candidate, action: Action) -> Verdict:
        """Judge an action. Never raises."""
        if verdict := unfinished(action):
            return verdict
        references = (candidate.demonstration, *candidate.accepted_actions)
        if not action.tool_calls or not any(r.tool_calls for r in references):
            return self._others.verify(candidate, action)
        names = [call.name for call in action.tool_calls]
        for index, reference in enumerate(references):
            if _names(reference) == names:
                return acceptance({"reference": index})
        return rejection("wrong_tool", {"expected": excerpt(", ".join(_names(references[0])))})


def _names(message: Message) -> list[str]:
    return [call.name for call in message.tool_calls]


def _step(call: ToolCall, directory: str | None) -> Step | None:
    arguments = call.arguments
    if not isinstance(arguments, Mapping):
        return None
    if act := act_of(Action(tool_calls=(call,))):
        ((line, named),) = act.lines
        return _viewed_by_shell(line, named or directory)
    name = call.name.lower()
    command = arguments.get("command")
    what = command if isinstance(command, str) else name
    path = _first(arguments, _PATHS)
    if not isinstance(path, str) or not path:
        return None
    where = _path(path, directory)
    old, new, content = (_first(arguments, keys) for keys in (_OLD, _NEW, _CONTENT))
    if any(isinstance(t, str) and len(t) > MAX_CONTENT for t in (old, new, content)):
        return None
    if what in ("view", "open", "read", "read_file", "open_file", "view_file", "cat"):
        return Step(kind="view", path=where, lines=_range(arguments))
    if what in ("create", "write", "write_file", "create_file"):
        return Step(kind="create", path=where, added=_lines(content))
    if isinstance(old, str) and (isinstance(new, str) or new is None):
        context = _lines(old)
        removed, added = _minimal(context, _lines(new))
        return Step(kind="replace", path=where, context=context, removed=removed, added=added)
    if what in ("insert", "insert_line", "insert_text"):
        text = content if content is not None else new
        at = _integer(arguments.get("insert_line", arguments.get("line")))
        return Step(kind="insert", path=where, lines=(at, at), added=_lines(text))
    if what in ("edit", "edit_file") and "start_line" in arguments:
        return Step(kind="rewrite", path=where, lines=_range(arguments), added=_lines(content))
    if what == "undo_edit":
        return Step(kind="undo", path=where)
    return None


def _viewed_by_shell(line: str, directory: str | None) -> Step | None:
    """`cat f` and its like show a file as a viewer does."""
    try:
        form: Form = normal_form(line, directory)
    except Unreadable:
        return None
    if form[0] != "command" or form[1].name != VIEW:
        return None
    ((_, lines),), (path,) = form[1].flags, form[1].arguments
    first, last = lines.split("-")
    if not first.isdigit() or len(first + last) > 12:
        return None
    return Step(kind="view", path=path, lines=(int(first), END if last == "$" else int(last)))


def _difference(wanted: Step, given: Step) -> str | None:
    """Why two steps are not the same; None where they are."""
    if wanted.kind != given.kind:
        return "different_step"
    if not _same_path(wanted.path, given.path):
        return "wrong_file"
    if wanted.kind == "view":
        return None if _overlap(wanted.lines, given.lines) else "wrong_lines"
    if wanted.lines != given.lines:
        return "wrong_lines"
    if not (_holds(wanted.context, given.context) or _holds(given.context, wanted.context)):
        return "wrong_lines"
    if wanted.removed != given.removed and not _same_code(wanted.removed, given.removed):
        return "wrong_edit"
    if wanted.added != given.added and not _same_code(wanted.added, given.added):
        return "wrong_edit"
    return None


def _first(arguments: Mapping[str, JSON], keys: Sequence[str]) -> JSON:
    return next((arguments[key] for key in keys if key in arguments), None)


def _path(path: str, directory: str | None) -> str:
    if directory is not None and not path.startswith(("/", "~", "$")):
        path = posixpath.join(directory, path)
    return posixpath.normpath(path)


def _same_path(one: str, other: str) -> bool:
    """Equal, or one is absolute, the other relative, and the one ends with the other."""
    if one == other:
        return True
    absolute, relative = (one, other) if one.startswith("/") else (other, one)
    return (
        absolute.startswith("/")
        and not relative.startswith(("/", "."))
        and absolute.endswith("/" + relative)
    )


def _range(arguments: Mapping[str, JSON]) -> tuple[int, int]:
    found = arguments.get("view_range")
    if isinstance(found, list) and len(found) == 2:
        first, last = (_integer(value) for value in found)
    else:
        first = _integer(arguments.get("start_line", arguments.get("start", 1)))
        last = _integer(arguments.get("end_line", arguments.get("end", -1)))
    return max(first, 1), END if last < 0 else last


def _integer(value: JSON) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return -1
    try:
        return int(value)
    except (ValueError, OverflowError):
        return -1


def _overlap(one: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    if one is None or other is None:
        return one == other
    shared = min(one[1], other[1]) - max(one[0], other[0]) + 1
    shorter = min(one[1] - one[0], other[1] - other[0]) + 1
    return shared > 0 and shared >= MIN_OVERLAP * shorter


def _lines(text: JSON) -> tuple[str, ...]:
    """Lines without what no program sees: spaces at their ends, empty lines at both ends."""
    if not isinstance(text, str):
        return ()
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[0]:
        del lines[0]
    while lines and not lines[-1]:
        del lines[-1]
    return tuple(lines)


def _minimal(
    removed: tuple[str, ...], added: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """An edit without the lines around it that it leaves as they are."""
    start = 0
    while start < min(len(removed), len(added)) and removed[start] == added[start]:
        start += 1
    removed, added = removed[start:], added[start:]
    end = 0
    while end < min(len(removed), len(added)) and removed[-1 - end] == added[-1 - end]:
        end += 1
    return removed[: len(removed) - end], added[: len(added) - end]


def _holds(lines: Sequence[str], part: Sequence[str]) -> bool:
    """Whether `part` is a run of `lines`."""
    return any(
        lines[start : start + len(part)] == part for start in range(len(lines) - len(part) + 1)
    )


def _same_code(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether both are Python with the same syntax tree: comments and layout aside."""
    trees = [_tree(lines) for lines in (one, other)]
    return trees[0] is not None and trees[0] == trees[1]


def _tree(lines: Sequence[str]) -> str | None:
    text = textwrap.dedent("\n".join(lines))
    if not text.strip() or len(text) > MAX_PARSED:
        return None
    indent = len(lines[0]) - len(lines[0].lstrip())
    try:
        with warnings.catch_warnings(action="ignore"):  # odd escapes in what a model wrote
            return f"{indent} {ast.dump(ast.parse(text))}"
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
