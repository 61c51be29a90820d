"""What a call of a coding agent does, as a step.

Editors, viewers and finders of many names are read alike, those of the shell among them. This
module must never know a state, and never judge.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain

from pivotrl.types import JSON, Action, ToolCall
from pivotrl.verifiers.comparison import MAX_CALLS
from pivotrl.verifiers.edits import Edit, tidy
from pivotrl.verifiers.finders import as_command, command_of, searched
from pivotrl.verifiers.outcome import AGENTS, first_of
from pivotrl.verifiers.patches import blocks, hunks
from pivotrl.verifiers.shell_commands import VIEW, Command, Form
from pivotrl.verifiers.shell_forms import Unreadable, normal_form
from pivotrl.verifiers.terminal import Act, act_of

MAX_CONTENT = 100_000
END = 10**9
WINDOW = 100
"""Lines that SWE-agent's viewer shows."""
MAX_PARTS = 16
PATCHES = ("git apply", "patch", "apply_patch")
_ENDS_OF = re.compile(r"\s*(\d{1,9})\s*[-:,]\s*(-?\d{1,9})\s*")
_EXPANDS = re.compile(r"[$`]|\\[$`\\\n]")
"""What a shell changes in a text that is not quoted."""
_ENDS = re.compile(AGENTS["ends"])
_ACTS = re.compile(AGENTS["acts"])
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a call does to which file."""

    kind: str
    """`view`, `list`, `create`, `edit`, `finish` or `command`."""
    path: str = ""
    """Empty where it is the open file and nothing tells which that is."""
    lines: tuple[int, int] = (1, END)
    """Of a view: 1-based, both ends included."""
    text: str = ""
    """Of a new file; the line of a command; of an end all that is not free."""
    told: str = ""
    """Of an end: what is free."""
    edit: Edit | None = None
    form: Form = ()
    """Of a command."""
    over: bool = True
    """Whether what creates a file may find one there."""
    parts: tuple[Step, ...] = ()
    """Steps that one call does."""


def calls_of(action: Action) -> tuple[ToolCall, ...]:
    """The calls of an action, if few; a command in its text is one too."""
    if len(action.tool_calls) > MAX_CALLS:  # which nobody reads
        return action.tool_calls
    act = act_of(action) if not action.tool_calls else None
    if act is None or act.ends != Act(lines=act.lines).ends:
        return tuple(map(_in_one_case, action.tool_calls))
    return tuple(ToolCall(name="bash", arguments={"command": line}) for line, _ in act.lines)


def _in_one_case(call: ToolCall) -> ToolCall:
    """`filePath` as `file_path`, unless both are given."""
    given = call.arguments if isinstance(call.arguments, Mapping) else {}
    made = {key if "-" in key else _snake(key).lower(): value for key, value in given.items()}
    name = _snake(call.name)
    call = call if name == call.name else replace(call, name=name.lower())
    return replace(call, arguments=made) if given and len(made) == len(given) else call


def _snake(name: str) -> str:
    return _CAPITAL.sub("_", name)


def step_of(call: ToolCall, directory: str | None, opened: str = "") -> Step | None:
    """What a call does; None where it is no step that is known."""
    if not isinstance(call.arguments, Mapping):
        return None
    arguments = {key: value for key, value in call.arguments.items() if value is not None}
    if act := act_of(Action(tool_calls=(call,))):
        ((line, named),) = act.lines
        plain = act.ends == Act(lines=act.lines).ends
        return _by_shell(line, named or directory) if plain else None
    if line := as_command(call.name, arguments, opened):
        return _by_shell(line, directory)
    name = call.name.lower()
    if _ENDS.fullmatch(name):
        rest = [(k, v) for k, v in sorted(arguments.items()) if k not in AGENTS["said"]]
        rest = [(k, v) for k, v in rest if v is not True]
        if not all(isinstance(v, str | bool) for _, v in rest):
            return None
        told = [item for item in rest if str(item[1]).lower() not in AGENTS["well"]]
        free = (arguments.get(key) for key in AGENTS["said"])
        said = "\n".join(text for text in free if isinstance(text, str))
        return Step(kind="finish", text=str(told), told=said)
    command = arguments.get("command")
    what = command if isinstance(command, str) else name
    path = first_of(arguments, AGENTS["path"])
    old, new, content = (first_of(arguments, AGENTS[key]) for key in ("old", "new", "content"))
    if any(isinstance(t, str) and len(t) > MAX_CONTENT for t in (old, new, content)):
        return None
    if (parts := _patched(name, arguments, directory)) is not None:
        return _together(parts)
    edits = re.search("edit|replace", name) is not None
    if path is None and (edits or name in ("insert", "goto")):
        where = opened
    elif isinstance(path, str) and path:
        where = located(path, directory)
    else:
        return None
    if what in AGENTS["view"] and (where or path is not None):
        return Step(kind="view", path=where, lines=_range(arguments, name))
    if what in AGENTS["create"]:
        text, over = tidy(content), what.startswith("write")
        return Step(kind="create", path=where, text=text, over=over)
    if isinstance(old, str) and (isinstance(new, str) or (new is None and path is not None)):
        every = first_of(arguments, AGENTS["every"]) in (True, "true", "True")
        edit = Edit(old=tidy(old), new=tidy(new), every=every)
        return Step(kind="edit", path=where, edit=edit)
    text = tidy(content if content is not None else new)
    text += "\n" if text and not text.endswith("\n") else ""
    if what in AGENTS["insert"]:
        at = _integer(first_of(arguments, ("insert_line", "line", "line_number")))
        return Step(kind="edit", path=where, edit=Edit(new=text, lines=(at + 1, at)))
    if edits and first_of(arguments, AGENTS["first"]) is not None:
        edit = Edit(new=text, lines=_range(arguments, name))
        return Step(kind="edit", path=where, edit=edit)
    return None


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


def _by_shell(line: str, directory: str | None) -> Step | None:
    """`cat f` shows a file as a viewer does, `cat > f <<X` writes one; None if unreadable."""
    try:
        form: Form = normal_form(line, directory)
    except Unreadable:
        return None
    return by_form(form, line, directory)


def by_form(form: Form, line: str, directory: str | None = None) -> Step:
    """A line's form as a step."""
    bare = searched(form[1] if form[0] == "literal" else form)
    is_literal = form[0] == "literal"
    folders: tuple[str, ...] = ()
    if bare[0] == "sequence" and len(bare) == 3 and {part[0] for part in bare[1:]} == {"and"}:
        first = command_of(bare[1][1])
        if first and first.name == "mkdir" and first.flags in ((), (("p", ""),)):
            folders, bare = first.arguments, bare[2][1]
    command = bare[1] if bare[0] == "command" else None
    whole = Step(kind="command", form=form, text=line)
    if bare[0] == "sequence" and not folders and len(bare) - 1 <= MAX_PARTS:
        parts = tuple(by_form(part[1], line, directory) for part in bare[1:])
        plain = {part[0] for part in bare[1:]} <= {"and", "then"}
        return replace(whole, parts=parts) if plain and all(map(is_file_step, parts)) else whole
    if command is None:
        return whole
    if written := _written(command, is_literal):
        path, text = written
        if all(path.startswith(f"{folder}/") for folder in folders):
            return Step(kind="create", path=located(path, directory), text=tidy(text))
    shown = () if folders or command.redirects else command.arguments
    patched = _patched_by(command) if command.name in PATCHES else None
    if patched:
        return replace(_together(patched), form=form)
    if command.name == "cat" and not command.flags and 1 < len(shown) <= MAX_PARTS:
        return replace(whole, parts=tuple(Step(kind="view", path=path) for path in shown))
    if not shown:
        return whole
    if command.name == "sed" and command.flags == (("i", ""),) and 2 < len(shown) <= MAX_PARTS:
        alone = (replace(command, arguments=(shown[0], path)) for path in shown[1:])
        parts = tuple(replace(whole, form=("command", one)) for one in alone)
        return replace(whole, parts=parts)
    if command.name == VIEW:
        start, end = command.flags[0][1].split("-")
        if start.isdecimal() and len(start + end) <= 12:
            lines = (int(start), END if end == "$" else int(end))
            return Step(kind="view", path=shown[0], lines=lines)
    words = " ".join([*(f"-{f} {v}" for f, v in command.flags), *shown[1:]])
    if f"{command.name} {words}".replace("\0", "") in AGENTS["lists"]:
        return Step(kind="view", path=shown[0])
    if (command.name, words) == ("ls", "") and not re.search(r"[*?\[]", shown[0]):
        return replace(whole, kind="list", path=shown[0])
    return whole


def is_read(step: Step) -> bool:
    """Whether it only shows something."""
    if step.parts:
        return all(map(is_read, step.parts))
    command = command_of(step.form) if step.kind == "command" else None
    reads = command is not None and command.name in AGENTS["reads"] and not command.redirects
    if reads and command:
        flags = (f"-{flag} {value}".strip() for flag, value in command.flags)
        reads = not _ACTS.search(" ".join((*flags, *command.arguments)))
    return reads or step.kind in ("view", "list")


def is_file_step(step: Step) -> bool:
    """Whether it shows or changes files and does nothing else that is not known."""
    if step.parts:
        return all(map(is_file_step, step.parts))
    command = command_of(step.form) if step.kind == "command" else None
    edits = command is not None and command.name == "sed"
    return is_read(step) or edits or step.kind in ("create", "edit")


def _written(command: Command, is_literal: bool) -> tuple[str, str] | None:
    """The file that a command writes anew, and its text."""
    goes = dict(command.redirects)
    if command.name == "touch" and not goes and not command.flags and len(command.arguments) == 1:
        return command.arguments[0], ""
    if command.name not in ("cat", "tee") or command.flags:
        return None
    text, shown = goes.pop("<<", None), goes.pop(">", "/dev/null")
    files = [shown, *command.arguments] if command.name == "cat" else [*command.arguments]
    quiet = command.name == "cat" or shown == "/dev/null"
    fixed = text is not None and (is_literal or not _EXPANDS.search(text))
    if not fixed or not quiet or goes or len(files) != 1 or files[0] == "/dev/null":
        return None
    return files[0], text or ""


def _patched_by(command: Command) -> tuple[Step, ...] | None:
    """The steps of a patch that comes by the input."""
    goes, flags = dict(command.redirects), dict(command.flags)
    text, strip = goes.get("<<", ""), flags.pop("p", "1" if command.name == "git apply" else "0")
    fixed = goes.keys() == {"<<"} and command.arguments in ((), ("-",)) and strip in ("0", "1")
    return _of_hunks(hunks(text, int(strip)), command.directory) if fixed and not flags else None


def _patched(
    name: str, arguments: Mapping[str, JSON], directory: str | None
) -> tuple[Step, ...] | None:
    """The steps of a tool's call that makes several edits; None where it is no such call."""
    path, text = first_of(arguments, AGENTS["path"]), first_of(arguments, AGENTS["patch"])
    where = located(path, directory) if isinstance(path, str) and path else None
    several = first_of(arguments, AGENTS["several"])
    if isinstance(several, list) and 0 < len(several) <= MAX_PARTS:
        items = [item if isinstance(item, Mapping) else {} for item in several]
        paths = [first_of(item, AGENTS["path"]) or where for item in items]
        pairs = [(first_of(i, AGENTS["old"]), first_of(i, AGENTS["new"])) for i in items]
        texts = [*paths, *chain(*pairs)]
        if not all(isinstance(text, str) for text in texts) or not all(paths):
            return None
        every = [first_of(item, AGENTS["every"]) is True for item in items]
        edits = [Edit(old=tidy(old), new=tidy(new), every=all_)
                 for (old, new), all_ in zip(pairs, every, strict=True)]  # fmt: skip
        return tuple(Step(kind="edit", path=located(str(path), directory), edit=edit)
                     for path, edit in zip(paths, edits, strict=True))  # fmt: skip
    if not isinstance(text, str) or len(text) > MAX_CONTENT:
        return None
    if where and (found := blocks(text)):
        return tuple(Step(kind="edit", path=where, edit=edit) for edit in found)
    return _of_hunks(hunks(text), directory) if re.search("patch|diff", name) else None


def _of_hunks(
    found: list[tuple[str, Edit | str]] | None, directory: str | None
) -> tuple[Step, ...] | None:
    steps = (
        Step(kind="create", path=located(path, directory), text=made)
        if isinstance(made, str)
        else Step(kind="edit", path=located(path, directory), edit=made)
        for path, made in found or ()
    )
    return tuple(steps) or None


def _together(parts: tuple[Step, ...]) -> Step:
    return parts[0] if len(parts) == 1 else Step(kind="edit", path=parts[0].path, parts=parts)


def _range(arguments: Mapping[str, JSON], name: str) -> tuple[int, int]:
    found = first_of(arguments, AGENTS["range"])
    if isinstance(found, str) and (ends := _ENDS_OF.fullmatch(found)):
        found = [*ends.groups()]
    if isinstance(found, list) and len(found) == 2:
        first, last = (_integer(value) for value in found)
    elif "line_number" in arguments:  # a window around the line
        middle = _integer(arguments["line_number"])
        first, last = middle - WINDOW // 2, max(middle, 0) + WINDOW // 2
    elif "limit" in arguments:
        first = max(_integer(first_of(arguments, AGENTS["first"]) or 1), 1)
        last = first + _integer(arguments["limit"]) - 1
    else:
        first = _integer(first_of(arguments, AGENTS["first"]) or 1)
        end = first_of(arguments, AGENTS["last"])
        last = _integer(end if end is not None else WINDOW if name == "open" else -1)
    return max(first, 1), END if last < 0 else last


def _integer(value: JSON) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return -1
    try:
        return int(value)
    except (ValueError, OverflowError):
        return -1
