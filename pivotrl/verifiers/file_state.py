"""What the state tells about files: which is open, and which lines of each are known.

Lines are known from what viewers showed and from edits since. This module must never judge.
"""

from __future__ import annotations

import copy
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pivotrl.types import Action, Message, Role, ToolCall, action_of
from pivotrl.verifiers.edits import applied, runs_of
from pivotrl.verifiers.file_steps import (
    END,
    MAX_CONTENT,
    WINDOW,
    Step,
    calls_of,
    located,
    same_path,
    step_of,
)
from pivotrl.verifiers.finders import command_of
from pivotrl.verifiers.outcome import AGENTS, first_of
from pivotrl.verifiers.project_commands import meant
from pivotrl.verifiers.terminal import act_of, directory_of

_UNSURE, _SHOWN, _FAILED, _OVERWRITES, _CLIPPED, _FOLDER = (
    re.compile(AGENTS[key])
    for key in ("unsure", "shown", "failed", "overwrites", "clipped", "folder")
)
_HIT = re.compile(r"(?:([^\s:]+):)?(\d{1,6}):(.*)")
_NUMBERED = re.compile(r"\s*(\d{1,6})(?:\t|:|→| \| |\|)(.*)")
_MOVES = re.compile(r"(?:^|[\s;&(])(?:cd|-C)\s+['\"]?(/[\w./+@-]*\w)")
_WORD, _ABSOLUTE = re.compile(r"[\w./+@-]+"), re.compile(r"(?:/[\w+@-]+)+")
MAX_TIES, MAX_TIED, MAX_WORDS = 3, 4_000, 64
"""Folders that are tried, and the characters and words that may tell of them."""
_AFTER = re.compile(r"\s*|\[.*\]|\(.*\)|bash-\$|</\w+>")
"""What a shell adds after a file's lines."""


class State:
    """Where the shell is, which file is open, and which lines of files are known."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.directory = directory_of(messages)
        self.opened = ""
        self._window = (1, WINDOW)
        """Lines of the open file that its viewer shows."""
        self._texts = [message.content for message in messages]
        asked = next((m.content for m in messages if m.role is Role.USER), "")
        self._asked = dict.fromkeys(_words(asked[:MAX_TIED]))
        """Words of the task."""
        self._events: list[tuple[ToolCall | None, str, str]] = []
        """(a call, the file open before it, what it showed)."""
        self._lines: dict[str, dict[int, str]] = {}
        self._whole: set[str] = set()
        self._lost: set[str] = set()
        waiting: list[ToolCall] = []
        in_text = False
        for message in messages:
            if message.role is Role.ASSISTANT:
                waiting = list(calls_of(action_of(message)))
                in_text = not message.tool_calls
                continue
            call = None
            if message.role is (Role.USER if in_text else Role.TOOL) and waiting:
                own = [c for c in waiting if c.id and c.id == message.tool_call_id]
                waiting.remove(call := (own or waiting)[0])
            shown = message.content[:MAX_CONTENT]
            self._events.append((call, self.opened, shown))
            if found := _named(shown) or _opened_by(call):
                self.opened = located(found, self.directory)
                shows = _numbered(shown) if _named(shown) else {}
                self._window = (min(shows), max(shows)) if shows else (1, WINDOW)

    def step(self, call: ToolCall) -> Step | None:
        """What a call does here; None where it is no step that is known."""
        ways = AGENTS["scrolls"]
        if call.name in ways and self.opened and not call.arguments:
            first, last = self._window
            down = (last + 1, last + WINDOW)
            up = (max(first - WINDOW, 1), max(first - 1, 1))
            return Step(kind="view", path=self.opened, lines=down if ways[call.name] > 0 else up)
        step = step_of(call, self.directory, self.opened)
        if step is None or step.kind != "command":
            return step
        return replace(step, form=meant(step.form, self.lines))

    def ties(self, *groups: Sequence[ToolCall]) -> list[State]:
        """The state in the folders that two groups of calls tell together, where it tells none.

        One moves there, or names by its whole path what the other names from there.
        """
        if self.directory is not None:
            return []
        texts = ["\n".join(map(texts_of, group))[:MAX_TIED] for group in groups]
        moves = [to for text in texts for to in _MOVES.findall(text)]
        words = [word for text in texts for word in _words(text)[:MAX_WORDS]]
        whole = [word for word in words if word.startswith("/")]
        tied = [path.removesuffix(f"/{word}") for path in whole for word in words
                if not word.startswith(("/", ".")) and path.endswith(f"/{word}")]  # fmt: skip
        # Where the shell has been, else what the task names, is no other place.
        calls = [texts_of(call)[:MAX_TIED] for call, *_ in self._events if call]
        been = {to for text in calls for to in _MOVES.findall(text)}
        shell = any(act_of(Action(tool_calls=(call,))) for call, *_ in self._events if call)
        told = {word for word in self._asked if _ABSOLUTE.fullmatch(word)}
        places = dict.fromkeys([*moves, *tied, *(word for word in whole if word in told)])
        named = {at for at in told if not any(at.startswith(f"{to}/") for to in told)}
        if not been and (len(named) > 1 or (shell and not named)):
            return []  # which folder it is, or that it is another, is not told
        sure = [at for at in places if at and (at in (been or named or places))]
        return [self._at(place) for place in sure[:MAX_TIES]]

    def _at(self, directory: str) -> State:
        """The state with the shell in another directory."""
        moved = copy.copy(self)
        moved.directory, moved._lines = directory, {}
        return moved

    def after(self, path: str, lines: Mapping[int, str]) -> State:
        """The state with other lines of a file."""
        changed = copy.copy(self)
        changed._lines = {**self._lines, path: dict(lines)}
        return changed

    def is_folder(self, path: str) -> bool:
        """Whether a path is a folder's, as far as can be told."""
        at = self.directory or ""
        if path in ("/", ".") or f"{at}/".startswith(f"{path}/"):
            return True
        name = posixpath.basename(path)
        told = re.compile(rf"(?<![\w.-]){re.escape(name)}/")
        return _FOLDER.fullmatch(name) is not None or any(map(told.search, self._texts))

    def lines(self, path: str) -> dict[int, str]:
        """The known lines of a file: the last view of each, with the edits since."""
        if path not in self._lines:
            lines: dict[int, str] = {}
            for event in self._events if path else ():
                before, lines = lines, self._after(lines, path, *event)
                self._whole -= set() if lines else {path}
                self._lost |= {path} if before and not lines else set()
            self._lines[path] = lines
        return self._lines[path]

    def lost(self, path: str) -> bool:
        """Whether a file that was known has been changed, and how is not known."""
        return not self.lines(path) and path in self._lost

    def whole(self, path: str) -> str | None:
        """The text of a file of which all lines are known, else None."""
        runs = runs_of(self.lines(path))
        known = path in self._whole and len(runs) == 1 and runs[0][0] == 1
        return runs[0][1] if known else None

    def _after(
        self, lines: dict[int, str], path: str, call: ToolCall | None, opened: str, shown: str
    ) -> dict[int, str]:
        given = texts_of(call) if call else ""
        name = posixpath.basename(path)
        spared = name not in given and not _UNSURE.search(given)  # sed edits what it names
        if call and act_of(Action(tool_calls=(call,))) and _OVERWRITES.search(given):
            return lines if spared else {}
        if not (name in given or name in shown or opened == path) or _FAILED.match(shown):
            return lines
        step = step_of(call, self.directory, opened) if call else None
        if step and same_path(step.path, path):
            if step.kind == "edit" and step.edit:
                lines = applied(step.edit, lines)
            elif step.kind == "create":
                lines = dict(enumerate(step.text.removesuffix("\n").split("\n"), 1))
                self._whole.add(path)
        where, parts = _named(shown), step.parts if step else ()
        view = parts[0] if parts else step
        if view and (view.kind != "view" or any(part.kind == "view" for part in parts[1:])):
            view = None
        if where or view:
            where = located(where, self.directory) if where else view.path if view else ""
            if same_path(where, path):
                seen = _numbered(shown, view.lines[0] if view else None)
                all_ = view and view is step and view.lines == (1, END)
                whole = all_ and not _CLIPPED.search(shown)
                lines = seen if whole else lines | seen
                self._whole |= {path} if whole else set()
        command = command_of(step.form) if step else None
        if command and command.name == "grep":
            alone = command.arguments[1] if len(command.arguments) == 2 else ""
            hits = filter(None, map(_HIT.fullmatch, shown.split("\n")))
            files = [(located(hit[1] or alone, self.directory), hit) for hit in hits]
            lines = lines | {int(hit[2]): hit[3] for file, hit in files if same_path(file, path)}
        return lines


def _words(text: str) -> list[str]:
    """The words of a text that may be paths."""
    return [posixpath.normpath(word.rstrip("./:,")) for word in _WORD.findall(text)]


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


def _named(shown: str) -> str:
    """The file that a viewer says it shows."""
    said = [*_SHOWN.finditer(shown)]
    return next(filter(None, said[-1].groups())) if said else ""


def texts_of(call: ToolCall) -> str:
    """All that a call says, but for its name."""
    values = call.arguments.values() if isinstance(call.arguments, Mapping) else ()
    return "\n".join(value for value in values if isinstance(value, str))


def _opened_by(call: ToolCall | None) -> str:
    if call is None or not isinstance(call.arguments, Mapping):
        return ""
    path = first_of(call.arguments, AGENTS["path"])
    finds = call.name.startswith(("find", "search", "grep"))
    return path if isinstance(path, str) and not finds else ""
