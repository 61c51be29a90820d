"""What a call of a coding agent does, as a step, and what the state tells about the files.

Editors, viewers and finders of many names are read alike, those of the shell among them. Lines of
files are known from what viewers showed and from edits since. This module must never judge.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pivotrl.types import JSON, Action, Message, Role, ToolCall
from pivotrl.verifiers.edits import Edit, applied, tidy
from pivotrl.verifiers.shell_commands import VIEW, Command
from pivotrl.verifiers.shell_forms import Unreadable, normal_form
from pivotrl.verifiers.shell_lines import Form
from pivotrl.verifiers.terminal import act_of, directory_of

MAX_CONTENT = 100_000
END = 10**9
WINDOW = 100
"""Lines that SWE-agent's viewer shows."""
_PATHS = ("path", "file_path", "filename", "file", "file_name", "target_file")
_OLD = ("old_str", "old_string", "search", "find", "old_text")
_NEW = ("new_str", "new_string", "replace", "new_text", "replacement")
_CONTENT = ("file_text", "content", "contents", "text", "replacement_text", "code_edit",
            "new_content")  # fmt: skip
_EVERY = ("replace_all", "replace-all", "allow_multiple")
_VIEWS = ("view", "open", "read", "read_file", "open_file", "view_file", "cat", "goto")
_ENDS = re.compile(
    r"(finish|submit|done|complete|exit)(_(task|work|solution|review))?|attempt_completion"
    r"|(mark_)?task_?(complete|completed|done|finished)|final_answer"
)
_SAID = ("message", "result", "summary", "answer", "final_answer", "thought", "explanation",
         "response", "output", "outputs", "text", "reason", "security_risk", "command")  # fmt: skip
"""What an agent says as it ends: free."""
_WELL = ("true", "success", "complete", "completed", "done")
_SHOWN = re.compile(
    r"\[File: (\S+) \(\d+ lines total\)\]|`cat -n` on (?:a snippet of )?([^\s:]+)"
    r"|\(Open file: (/\S+?)\)"
)
_NUMBERED = re.compile(r"\s*(\d{1,6})(?:\t|:|→| \| |\|)(.*)")
_AFTER = re.compile(r"\s*|\[.*\]|\(.*\)|bash-\$|</\w+>")
"""What a shell adds after a file's lines."""
_FAILED = re.compile(
    r"(?i)\W*(error|invalid|traceback|failed|could not|cannot|string not found|old_str"
    r"|no (replacement|match|such|changes|occurrence)|your (proposed )?edit has introduced)"
)
_OVERWRITES = re.compile(r"\bgit (checkout|stash|apply|reset|restore|revert)\b|\bpatch\b|sed .*-i")
_LITERAL = re.compile(r"(?:\\[]./*[$^&]|[^\\])*")
_PUT = re.compile(r"(?:\\[./*&\[\]]|[^\\&])*")
_SUBSTITUTE = re.compile(r"(\d{0,9})s([\0/|#,@!:])(.*\2.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a call does to which file."""

    kind: str
    """`view`, `create`, `edit`, `undo`, `finish` or `command`."""
    path: str = ""
    """Empty where it is the open file and nothing tells which that is."""
    lines: tuple[int, int] = (1, END)
    """Of a view: 1-based, both ends included."""
    text: str = ""
    """Of a new file; the line of a command; of an end all that is not free."""
    edit: Edit | None = None
    form: Form = ()
    """Of a command."""


class State:
    """Where the shell is, which file is open, and which lines of files are known."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.directory = directory_of(messages)
        self.opened = ""
        self._events: list[tuple[ToolCall | None, str, str]] = []
        """(a call, the file open before it, what it showed)."""
        self._lines: dict[str, dict[int, str]] = {}
        waiting: list[ToolCall] = []
        for message in messages:
            if message.role is Role.ASSISTANT:
                waiting = list(message.tool_calls)
                continue
            call = None
            if message.role is Role.TOOL and waiting:
                own = [c for c in waiting if c.id and c.id == message.tool_call_id]
                waiting.remove(call := (own or waiting)[0])
            shown = message.content[:MAX_CONTENT]
            self._events.append((call, self.opened, shown))
            if found := _named(shown) or _opened_by(call):
                self.opened = located(found, self.directory)

    def lines(self, path: str) -> dict[int, str]:
        """The known lines of a file: the last view of each, with the edits since."""
        if path not in self._lines:
            lines: dict[int, str] = {}
            for event in self._events if path else ():
                lines = self._after(lines, path, *event)
            self._lines[path] = lines
        return self._lines[path]

    def _after(
        self, lines: dict[int, str], path: str, call: ToolCall | None, opened: str, shown: str
    ) -> dict[int, str]:
        values = call.arguments.values() if call and isinstance(call.arguments, Mapping) else ()
        given = "\n".join(value for value in values if isinstance(value, str))
        if call and act_of(Action(tool_calls=(call,))) and _OVERWRITES.search(given):
            return {}
        name = posixpath.basename(path)
        if not (name in given or name in shown or opened == path) or _FAILED.match(shown):
            return lines
        step = step_of(call, self.directory, opened) if call else None
        if step and same_path(step.path, path):
            if step.kind == "edit" and step.edit:
                lines = applied(step.edit, lines)
            elif step.kind in ("create", "undo"):
                lines = dict(enumerate(step.text.split("\n"), 1)) if step.text else {}
        where = _named(shown)
        views = step is not None and step.kind == "view"
        if where or views:
            where = located(where, self.directory) if where else step.path if step else ""
            if same_path(where, path):
                lines = lines | _numbered(shown, step.lines[0] if step and views else None)
        return lines


def _numbered(shown: str, first: int | None = None) -> dict[int, str]:
    """The lines that a viewer showed, by their numbers; else counted from `first` on."""
    rows = shown.partition("<output>\n")[2].partition("</output>")[0] or shown
    found = [_NUMBERED.fullmatch(row) for row in rows.split("\n")]
    if 2 * sum(map(bool, found)) >= sum(map(bool, rows.split("\n"))):
        return {int(row[1]): row[2] for row in found if row}
    lines = rows.split("\n") if first is not None else []
    while lines and _AFTER.fullmatch(lines[-1]):
        lines.pop()
    return dict(enumerate(lines, first or 1))


def step_of(call: ToolCall, directory: str | None, opened: str = "") -> Step | None:
    """What a call does; None where it is no step that is known."""
    if not isinstance(call.arguments, Mapping):
        return None
    arguments = {key: value for key, value in call.arguments.items() if value is not None}
    if act := act_of(Action(tool_calls=(call,))):
        ((line, named),) = act.lines
        return _by_shell(line, named or directory)
    if line := _as_command(call.name, arguments, opened):
        return _by_shell(line, directory)
    name = call.name.lower()
    if _ENDS.fullmatch(name):
        rest = [(k, v) for k, v in sorted(arguments.items()) if k not in _SAID and v is not True]
        if not all(isinstance(v, str | bool) for _, v in rest):
            return None
        return Step(kind="finish", text=str([i for i in rest if str(i[1]).lower() not in _WELL]))
    command = arguments.get("command")
    what = command if isinstance(command, str) else name
    path = _first(arguments, _PATHS)
    old, new, content = (_first(arguments, keys) for keys in (_OLD, _NEW, _CONTENT))
    if any(isinstance(t, str) and len(t) > MAX_CONTENT for t in (old, new, content)):
        return None
    edits = re.search("edit|replace", name) is not None
    if path is None and (edits or name in ("insert", "goto")):
        where = opened
    elif isinstance(path, str) and path:
        where = located(path, directory)
    else:
        return None
    if what in _VIEWS and (where or path is not None):
        return Step(kind="view", path=where, lines=_range(arguments, name))
    if what in ("create", "write", "write_file", "create_file"):
        return Step(kind="create", path=where, text=tidy(content))
    if isinstance(old, str) and (isinstance(new, str) or (new is None and path is not None)):
        every = _first(arguments, _EVERY) in (True, "true", "True")
        edit = Edit(old=tidy(old), new=tidy(new), every=every)
        return Step(kind="edit", path=where, edit=edit)
    text = tidy(content if content is not None else new)
    text += "\n" if text and not text.endswith("\n") else ""
    if what in ("insert", "insert_line", "insert_text"):
        at = _integer(_first(arguments, ("insert_line", "line", "line_number")))
        return Step(kind="edit", path=where, edit=Edit(new=text, lines=(at + 1, at)))
    if edits and "start_line" in arguments:
        edit = Edit(new=text, lines=_range(arguments, name))
        return Step(kind="edit", path=where, edit=edit)
    if what == "undo_edit":
        return Step(kind="undo", path=where)
    return None


def by_sed(step: Step, state: State) -> Step | None:
    """`sed -i s/a/b/` of one place that is known, as the edit that it makes."""
    if step.form[:1] != ("command",) or not isinstance(command := step.form[1], Command):
        return None
    flags, rest = dict(command.flags), list(command.arguments)
    script = flags.pop("e", "") or (rest.pop(0) if rest else "")
    found = _SUBSTITUTE.fullmatch(script)
    if command.name != "sed" or command.flags[-1:] != (("i", ""),) or len(command.flags) > 2:
        return None
    if len(rest) != 1 or found is None:
        return None
    old, new, *how = re.split(rf"(?<!\\){re.escape(found[2])}", found[3])
    # A word has lost the backslashes between double quotes: the line tells of them.
    special = any(old.count(c) > step.text.count("\\" + c) for c in "[]*^$")
    if how not in ([""], ["g"]) or special or not (_LITERAL.fullmatch(old) and _PUT.fullmatch(new)):
        return None
    old, new = (re.sub(r"\\(.)", r"\1", part) for part in (old, new))
    lines = state.lines(rest[0])
    holds = [n for n in ([int(found[1])] if found[1] else lines) if old in lines.get(n, "")]
    if not old or len(holds) != 1 or lines[holds[0]].count(old) > 1:  # it may change many lines
        return None
    made = lines[holds[0]].replace(old, new) + "\n"
    return Step(kind="edit", path=rest[0], edit=Edit(new=made, lines=(holds[0], holds[0])))


def located(path: str, directory: str | None) -> str:
    """A path, absolute where the directory is known."""
    if directory is not None and not path.startswith(("/", "~", "$")):
        path = posixpath.join(directory, path)
    return posixpath.normpath(path)


def same_path(one: str, other: str) -> bool:
    """Equal, or one is absolute, the other relative, and the one ends with the other."""
    if one == other:
        return True
    absolute, relative = (one, other) if one.startswith("/") else (other, one)
    return (
        bool(relative)
        and absolute.startswith("/")
        and not relative.startswith(("/", "."))
        and absolute.endswith("/" + relative)
    )


def _named(shown: str) -> str:
    """The file that a viewer says it shows."""
    said = [*_SHOWN.finditer(shown)]
    return next(filter(None, said[-1].groups())) if said else ""


def _opened_by(call: ToolCall | None) -> str:
    if call is None or not isinstance(call.arguments, Mapping):
        return ""
    path = _first(call.arguments, _PATHS)
    finds = call.name.startswith(("find", "search", "grep"))
    return path if isinstance(path, str) and not finds else ""


def _as_command(name: str, arguments: Mapping[str, JSON], opened: str) -> str:
    """The command line that SWE-agent's tools for finding are; empty for others."""
    what = arguments.get("file_name" if name == "find_file" else "search_term")
    where = arguments.get("dir", ".") if name != "search_file" else arguments.get("file", opened)
    if name not in ("find_file", "search_dir", "search_file") or not where:
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
            return Step(kind="create", path=located(files[0], directory), text=tidy(text))
    return Step(kind="command", form=form, text=line)


def _first(arguments: Mapping[str, JSON], keys: Sequence[str]) -> JSON:
    return next((arguments[key] for key in keys if key in arguments), None)


def _range(arguments: Mapping[str, JSON], name: str) -> tuple[int, int]:
    found = arguments.get("view_range")
    if isinstance(found, list) and len(found) == 2:
        first, last = (_integer(value) for value in found)
    elif "line_number" in arguments:  # a window around the line
        middle = _integer(arguments["line_number"])
        first, last = middle - WINDOW // 2, max(middle, 0) + WINDOW // 2
    elif "limit" in arguments:
        first = max(_integer(arguments.get("offset", 1)), 1)
        last = first + _integer(arguments["limit"]) - 1
    else:
        first = _integer(_first(arguments, ("start_line", "start", "offset")) or 1)
        end = WINDOW if name == "open" else -1
        last = _integer(arguments.get("end_line", arguments.get("end", end)))
    return max(first, 1), END if last < 0 else last


def _integer(value: JSON) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return -1
    try:
        return int(value)
    except (ValueError, OverflowError):
        return -1
