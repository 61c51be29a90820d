"""The verifier of software engineering: the same step on the same place with the same content?

A call is read as a step: view lines of a file, create it, replace or insert text, or run a command.
Views are the same where their lines overlap, edits where the changed lines are (Python: where their
syntax trees are), commands where their normal forms are. Other tools are judged by their schemas.
Source: PivotRL's software domain; its name-only rule is `ToolNameVerifier`.
"""

from __future__ import annotations

import ast
import posixpath
import re
import shlex
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pivotrl.types import JSON, Action, Candidate, Message, ToolCall, Verdict
from pivotrl.verifiers.comparison import excerpt
from pivotrl.verifiers.outcome import acceptance, never_raises, rejection, unfinished
from pivotrl.verifiers.shell_forms import VIEW, Command, Form, Unreadable, normal_form
from pivotrl.verifiers.steps import judge_steps
from pivotrl.verifiers.terminal import TerminalVerifier, act_of, directory_of
from pivotrl.verifiers.tool_use import ToolUseVerifier

MIN_OVERLAP = 0.5
"""Of the shorter view: how much of it both show."""
MAX_CONTENT = 200_000
MAX_PARSED = 6_000
"""Characters of Python that are compared as syntax trees."""
END = 10**9
WINDOW = 100
"""Lines that SWE-agent's viewer shows."""
_PATHS = ("path", "file_path", "filename", "file", "file_name", "target_file")
_OLD, _NEW = ("old_str", "old_string", "search", "find"), ("new_str", "new_string", "replace")
_CONTENT = ("file_text", "content", "contents", "text", "replacement_text", "code_edit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a call does to which file."""

    kind: str
    """`view`, `create`, `replace`, `insert`, `rewrite` (of lines), `undo` or `command`."""
    path: str = ""
    lines: tuple[int, int] | None = None
    """1-based, both ends included."""
    context: tuple[str, ...] = ()
    """The lines that a replacement names, those that it leaves as they are too: its place."""
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    form: Form = ()
    """Of a command."""


class SoftwareVerifier:
    name = "software"

    def __init__(self, *, execute: bool = False) -> None:
        self._commands = TerminalVerifier(execute=execute)

    @never_raises
    def verify(self, candidate: Candidate, action: Action) -> Verdict:
        """Judge an action (see the module). Never raises."""
        if verdict := unfinished(action):
            return verdict
        directory = directory_of(candidate.messages)
        references = (candidate.demonstration, *candidate.accepted_actions)
        verdict = judge_steps(
            references, action.tool_calls, lambda call: _step(call, directory), _difference
        )
        if verdict is None or verdict.category == "different_command":
            return self._commands.verify(candidate, action)
        return verdict


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
        return _by_shell(line, named or directory)
    if line := _as_command(call.name, arguments):
        return _by_shell(line, directory)
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


def _as_command(name: str, arguments: Mapping[str, JSON]) -> str:
    """The command line that SWE-agent's tools for finding are; empty for others."""
    what = arguments.get("file_name" if name == "find_file" else "search_term")
    where = arguments.get("dir", ".") if name != "search_file" else arguments.get("file")
    if name not in ("find_file", "search_dir", "search_file"):
        return ""
    if not isinstance(what, str) or not isinstance(where, str):
        return ""
    what, where = shlex.quote(what), shlex.quote(where)
    if name == "find_file":
        return f"find {where} -name {what}"
    return f"grep {'-r ' if name == 'search_dir' else ''}-e {what} {where}"


def _by_shell(line: str, directory: str | None) -> Step | None:
    """`cat f` shows a file as a viewer does, `cat > f <<X` writes one; None if unreadable."""
    try:
        form: Form = normal_form(line, directory)
    except Unreadable:
        return None
    bare = form[1] if form[0] == "literal" else form
    command = bare[1] if bare[0] == "command" else None
    if isinstance(command, Command) and command.name == VIEW:
        first, last = command.flags[0][1].split("-")
        if first.isdecimal() and len(first + last) <= 12:
            lines = (int(first), END if last == "$" else int(last))
            return Step(kind="view", path=command.arguments[0], lines=lines)
    if isinstance(command, Command) and command.name in ("cat", "tee") and not command.flags:
        goes = dict(command.redirects)
        text, shown = goes.pop("<<", None), goes.pop(">", "/dev/null")
        files = [shown, *command.arguments] if command.name == "cat" else command.arguments
        quiet = command.name == "cat" or shown == "/dev/null"
        fixed = text is not None and (bare is not form or not re.search(r"[$`\\]", text))
        if fixed and quiet and not goes and len(files) == 1 and files[0] != "/dev/null":
            return Step(kind="create", path=_path(files[0], directory), added=_lines(text))
    return Step(kind="command", form=form)


def _difference(wanted: Step, given: Step) -> str | None:
    """Why two steps are not the same; None where they are."""
    if wanted.kind != given.kind:
        return "different_step"
    if wanted.kind == "command":
        return None if wanted.form == given.form else "different_command"
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
    elif "line_number" in arguments:  # a window around the line
        middle = _integer(arguments["line_number"])
        first, last = middle - WINDOW // 2, max(middle, 0) + WINDOW // 2
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
    full = [index for index, line in enumerate(lines) if line]
    return tuple(lines[full[0] : full[-1] + 1]) if full else ()


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
    return not part or "\n{}\n".format("\n".join(part)) in "\n{}\n".format("\n".join(lines))


def _same_code(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether both are Python with the same syntax tree: comments and layout aside."""
    left, right = _tree(one), _tree(other)
    if left is None or right is None:
        return False
    indents = [len(lines[0]) - len(lines[0].lstrip()) for lines in (one, other)]
    return indents[0] == indents[1] and _same_tree(left, right)


def _same_tree(one: ast.AST, other: ast.AST) -> bool:
    """Node by node, up to the first difference: the reference bounds the time."""
    pairs: list[tuple[JSON, JSON]] = [(one, other)]
    while pairs:
        left, right = pairs.pop()
        if type(left) is not type(right):
            return False
        if isinstance(left, ast.AST):
            pairs += ((getattr(left, f, None), getattr(right, f, None)) for f in left._fields)
        elif isinstance(left, list):
            if len(left) != len(right):
                return False
            pairs += zip(left, right, strict=True)
        elif left != right:
            return False
    return True


@lru_cache(maxsize=64)
def _tree(lines: tuple[str, ...]) -> ast.AST | None:
    text = textwrap.dedent("\n".join(lines))
    if not text.strip() or len(text) > MAX_PARSED:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # odd escapes in what a model wrote
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
