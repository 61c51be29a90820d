"""What a call of a coding agent does, as a step, and what the state tells about the files.

Editors, viewers and finders of many names are read alike, those of the shell among them. Lines of
files are known from what viewers showed and from edits since. This module must never judge.
"""

from __future__ import annotations

import ast
import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from pivotrl.types import JSON, Action, Message, Role, ToolCall
from pivotrl.verifiers.edits import Edit, applied, runs_of, tidy
from pivotrl.verifiers.outcome import AGENTS, first_of
from pivotrl.verifiers.shell_commands import VIEW, Command, Form
from pivotrl.verifiers.shell_forms import Unreadable, normal_form
from pivotrl.verifiers.terminal import act_of, directory_of

MAX_CONTENT = 100_000
END = 10**9
WINDOW = 100
"""Lines that SWE-agent's viewer shows."""
_ENDS, _SHOWN, _FAILED, _OVERWRITES, _CLIPPED = (
    re.compile(AGENTS[key]) for key in ("ends", "shown", "failed", "overwrites", "clipped")
)
_HIT = re.compile(r"(?:([^\s:]+):)?(\d{1,6}):(.*)")
_GLOB = re.compile(r"(?:\*\*/)?([\w.*?{},-]*)")
_NUMBERED = re.compile(r"\s*(\d{1,6})(?:\t|:|→| \| |\|)(.*)")
_AFTER = re.compile(r"\s*|\[.*\]|\(.*\)|bash-\$|</\w+>")
"""What a shell adds after a file's lines."""
_LITERAL = re.compile(r"(?:\\[]./*[$^&b]|[^\\])*")
_PIECES = re.compile(r"\\.|.", re.DOTALL)
_PUT = re.compile(r"(?:\\[./*&\[\]]|[^\\&])*")
_SED = re.compile(
    r"(?:(\d{1,9})(?:,(\d{1,9}))?|/((?:\\.|[^\\/])+)/)?(s(?=[\0/|#,@!:])|d$|[aic])(.*)", re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a call does to which file."""

    kind: str
    """`view`, `create`, `edit`, `finish` or `command`."""
    path: str = ""
    """Empty where it is the open file and nothing tells which that is."""
    lines: tuple[int, int] = (1, END)
    """Of a view: 1-based, both ends included."""
    text: str = ""
    """Of a new file; the line of a command; of an end all that is not free."""
    edit: Edit | None = None
    form: Form = ()
    """Of a command."""
    over: bool = True
    """Whether what creates a file may find one there."""


class State:
    """Where the shell is, which file is open, and which lines of files are known."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.directory = directory_of(messages)
        self.opened = ""
        self._events: list[tuple[ToolCall | None, str, str]] = []
        """(a call, the file open before it, what it showed)."""
        self._lines: dict[str, dict[int, str]] = {}
        self._whole: set[str] = set()
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
                self._whole -= set() if lines else {path}
            self._lines[path] = lines
        return self._lines[path]

    def whole(self, path: str) -> str | None:
        """The text of a file of which all lines are known, else None."""
        runs = runs_of(self.lines(path))
        known = path in self._whole and len(runs) == 1 and runs[0][0] == 1
        return runs[0][1] if known else None

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
            elif step.kind == "create":
                lines = dict(enumerate(step.text.removesuffix("\n").split("\n"), 1))
                self._whole.add(path)
        where = _named(shown)
        views = step is not None and step.kind == "view"
        if where or views:
            where = located(where, self.directory) if where else step.path if step else ""
            if same_path(where, path):
                seen = _numbered(shown, step.lines[0] if step and views else None)
                whole = step and views and step.lines == (1, END) and not _CLIPPED.search(shown)
                lines = seen if whole else lines | seen
                self._whole |= {path} if whole else set()
        command = _command_of(step.form) if step else None
        if command and command.name == "grep":
            alone = command.arguments[1] if len(command.arguments) == 2 else ""
            hits = filter(None, map(_HIT.fullmatch, shown.split("\n")))
            files = [(located(hit[1] or alone, self.directory), hit) for hit in hits]
            lines = lines | {int(hit[2]): hit[3] for file, hit in files if same_path(file, path)}
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
        rest = [(k, v) for k, v in sorted(arguments.items()) if k not in AGENTS["said"]]
        rest = [(k, v) for k, v in rest if v is not True]
        if not all(isinstance(v, str | bool) for _, v in rest):
            return None
        told = [item for item in rest if str(item[1]).lower() not in AGENTS["well"]]
        return Step(kind="finish", text=str(told))
    command = arguments.get("command")
    what = command if isinstance(command, str) else name
    path = first_of(arguments, AGENTS["path"])
    old, new, content = (first_of(arguments, AGENTS[key]) for key in ("old", "new", "content"))
    if any(isinstance(t, str) and len(t) > MAX_CONTENT for t in (old, new, content)):
        return None
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
    if edits and "start_line" in arguments:
        edit = Edit(new=text, lines=_range(arguments, name))
        return Step(kind="edit", path=where, edit=edit)
    return None


def edit_by(step: Step, state: State) -> Step | None:
    """What a command, or a file written anew, makes of one that is known, as an edit, else None."""
    every = step.edit if step.edit and step.edit.every and step.edit.old else None
    anew = every or (step.kind == "create" and step.over)
    if anew and (text := state.whole(step.path)) is not None:
        new = text.replace(every.old or "", every.new) if every else f"{step.text.rstrip()}\n"
        return Step(kind="edit", path=step.path, edit=Edit(new=new, lines=(1, text.count("\n"))))
    command = _command_of(step.form)
    if step.edit or command is None or command.redirects:
        return step if step.edit else None
    if command.name == "python" and [flag for flag, _ in command.flags] == ["c"]:
        return _by_python(command.flags[0][1], state)
    if command.name == "sed" and command.flags == (("i", ""),) and len(command.arguments) == 2:
        return _by_sed(*command.arguments, step.text, state)
    return None


def _command_of(form: Form) -> Command | None:
    """The one command that a form is."""
    bare = form[1] if form[:1] == ("literal",) else form
    return bare[1] if bare[:1] == ("command",) else None


def _by_sed(script: str, path: str, typed: str, state: State) -> Step | None:
    """`sed -i` with one act on some lines."""
    lines, found = state.lines(path), _SED.fullmatch(script)
    if found is None:
        return None
    low, high, held, act, rest = found.groups()
    holds = _pattern(held or "", typed)
    if holds is None:
        return None
    chosen = [n for n in lines if not low or int(low) <= n <= int(high or low)]
    chosen = [n for n in chosen if holds.search(lines[n])]
    if act == "s":
        parts = re.split(rf"(?<!\\){re.escape(rest[:1] or '/')}", rest[1:])
        if len(parts) != 3:
            return None
        old, new, how = parts
        pattern = _pattern(old, typed)
        if how not in ("", "g") or not old or pattern is None or not _PUT.fullmatch(new):
            return None
        put, times = re.sub(r"\\(.)", r"\1", new), int(how == "")
        made = {n: [pattern.sub(lambda _: put, lines[n], count=times)] for n in chosen}
        made = {n: line for n, line in made.items() if line != [lines[n]]}
    else:
        text = re.sub(r"^\s*(\\\n?)?", "", rest)
        made = {n: {"d": [], "c": [text], "a": [lines[n], text], "i": [text, lines[n]]}[act]
                for n in chosen if text or act == "d"}  # fmt: skip
    span = range(min(made), max(made) + 1) if made else ()
    if not span or not all(n in lines for n in span):
        return None
    whole = "".join(f"{line}\n" for n in span for line in made.get(n, [lines[n]]))
    return Step(kind="edit", path=path, edit=Edit(new=whole, lines=(span[0], span[-1])))


def _pattern(basic: str, typed: str) -> re.Pattern[str] | None:
    """A basic expression of letters and anchors; None where it is more.

    A word has lost the backslashes between double quotes: the line as it was typed tells of them.
    """
    special = any(basic.count(c) > typed.count("\\" + c) for c in "[]*")
    if special or not _LITERAL.fullmatch(basic):
        return None
    end = "$" if basic.endswith("\\$") else ""
    pieces = _PIECES.findall(basic.removesuffix("\\$" if end else ""))
    first = pieces.pop(0) if pieces[:1] == ["^"] else ""
    return re.compile(first + "".join(p if p == r"\b" else re.escape(p[-1]) for p in pieces) + end)


def _by_python(program: str, state: State) -> Step | None:
    """A program that reads a file, replaces one text, and writes the file."""
    try:
        nodes = list(ast.walk(ast.parse(program)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    known = {node.targets[0].id: node.value for node in nodes
             if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}  # fmt: skip
    calls: dict[str, list[list[JSON]]] = {}
    for node in nodes:
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            values = (known.get(a.id) if isinstance(a, ast.Name) else a for a in node.args)
            calls.setdefault(name, []).append([getattr(value, "value", None) for value in values])
    branches = any(isinstance(node, ast.If | ast.For | ast.While) for node in nodes)
    paths = {given[0] for name in ("open", "Path") for given in calls.get(name, ()) if given}
    texts, writes = calls.get("replace", []), calls.keys() & {"write", "write_text"}
    if (
        branches
        or len(paths) != 1
        or len(texts) != 1
        or not writes
        or calls.keys() - {*AGENTS["python"]}
    ):
        return None
    (path,), (old, new, *_) = paths, [*texts[0], None, None]
    if not (isinstance(path, str) and isinstance(old, str) and isinstance(new, str)):
        return None
    path = located(path, state.directory)
    times = sum(text.count(old) for _, text in runs_of(state.lines(path))) if old else 0
    every = times > 1 and len(texts[0]) == 2
    return Step(kind="edit", path=path, edit=Edit(old=old, new=new, every=every))


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
    path = first_of(call.arguments, AGENTS["path"])
    finds = call.name.startswith(("find", "search", "grep"))
    return path if isinstance(path, str) and not finds else ""


def _as_command(name: str, arguments: Mapping[str, JSON], opened: str) -> str:
    """The command line that a tool for finding is; empty for others."""
    kind = next((kind for kind, names in AGENTS["finders"].items() if name in names), "")
    keys = [AGENTS[key] for key in ("pattern", "where", "include", "output", "fold")]
    given = {key for key, value in arguments.items() if value not in ("", False)}
    if not kind or not given <= {*chain(*keys), *AGENTS["how_long"], *AGENTS["layout"]}:
        return ""
    what, where, include, output, fold = (first_of(arguments, names) for names in keys)
    where = where or (opened if name == "search_file" else ".")
    if not all(isinstance(text, str) for text in (where, what or "", include or "", output or "")):
        return ""
    glob = _GLOB.fullmatch(str((what if kind == "find" else include) or ""))
    where, text = shlex.quote(str(where)), shlex.quote(str(what))
    if not where or not glob or (what is None) != (kind == "list") or (include and kind == "list"):
        return ""
    if kind in ("list", "find"):
        return f"find {where} -name '{glob[1]}'" if kind == "find" else f"ls {where}"
    shows = AGENTS["outputs"].get(output or kind, "") + "i" * (fold is True)
    files = f"--include={glob[1]}" if glob[1] else ""
    return f"grep -n{'r' * (name != 'search_file')}{shows} {files} -e {text} {where}"


def _by_shell(line: str, directory: str | None) -> Step | None:
    """`cat f` shows a file as a viewer does, `cat > f <<X` writes one; None if unreadable."""
    try:
        form: Form = normal_form(line, directory)
    except Unreadable:
        return None
    bare = form[1] if form[0] == "literal" else form
    folders: tuple[str, ...] = ()
    if bare[0] == "sequence" and len(bare) == 3 and {part[0] for part in bare[1:]} == {"and"}:
        first = _command_of(bare[1][1])
        if first and (first.name, first.flags) == ("mkdir", (("p", ""),)):
            folders, bare = first.arguments, bare[2][1]
    command = bare[1] if bare[0] == "command" else None
    if not folders and command and command.name == VIEW and not command.redirects:
        first, last = command.flags[0][1].split("-")
        if first.isdecimal() and len(first + last) <= 12:
            lines = (int(first), END if last == "$" else int(last))
            return Step(kind="view", path=command.arguments[0], lines=lines)
    if not folders and command and not command.redirects and command.arguments:
        words = " ".join([*(f"-{f} {v}" for f, v in command.flags), *command.arguments[1:]])
        if f"{command.name} {words}".replace("\0", "") in AGENTS["lists"]:
            return Step(kind="view", path=command.arguments[0])
    if command and command.name in ("cat", "tee") and not command.flags:
        goes = dict(command.redirects)
        text, shown = goes.pop("<<", None), goes.pop(">", "/dev/null")
        files = [shown, *command.arguments] if command.name == "cat" else command.arguments
        quiet = command.name == "cat" or shown == "/dev/null"
        fixed = text is not None and (bare is not form or not re.search(r"[$`\\]", text))
        above = all(folders) and all(files[0].startswith(f"{folder}/") for folder in folders)
        if fixed and quiet and not goes and len(files) == 1 and files[0] != "/dev/null" and above:
            return Step(kind="create", path=located(files[0], directory), text=tidy(text))
    return Step(kind="command", form=form, text=line)


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
        first = _integer(first_of(arguments, ("start_line", "start", "offset")) or 1)
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
