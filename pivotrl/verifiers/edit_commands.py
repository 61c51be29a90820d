"""Commands and programs that edit a file, as the edits that they are.

This module must never judge.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pivotrl.types import JSON
from pivotrl.verifiers.edits import Edit, applied, runs_of
from pivotrl.verifiers.file_state import State
from pivotrl.verifiers.file_steps import Step, located
from pivotrl.verifiers.finders import command_of
from pivotrl.verifiers.outcome import AGENTS
from pivotrl.verifiers.python_code import parsed
from pivotrl.verifiers.shell_commands import Command, Form

MAX_ACTS = 16
MAX_REPEATS, MAX_LINE = 2, 300
"""Of an expression: what is repeated in it, and the characters of a line that it is tried on."""
_TWICE = re.compile(r"(?<!\\)[*+][*+]")
_LITERAL = re.compile(r"(?:\\[]./*[$^&bsw+]|[^\\])*")
_PIECES = re.compile(r"\\.|.", re.DOTALL)
_PUT = re.compile(r"(?:\\[./*&\[\]nt\"'-]|[^\\])*")
_SED = re.compile(
    r"(?:(\d{1,9}|\\?\$)(?:,(\d{1,9}))?|/((?:\\.|[^\\/])+)/)?(s(?=[\0/|#,@!:])|d$|[aic])(.*)",
    re.DOTALL,
)


def edit_by(step: Step, state: State) -> Step | None:
    """What a command, or a file written anew, makes of one that is known, as an edit, else None."""
    every = step.edit if step.edit and step.edit.every and step.edit.old else None
    anew = every or (step.kind == "create" and step.over)
    if anew and (text := state.whole(step.path)) is not None:
        new = text.replace(every.old or "", every.new) if every else f"{step.text.rstrip()}\n"
        return Step(kind="edit", path=step.path, edit=Edit(new=new, lines=(1, text.count("\n"))))
    command = command_of(step.form)
    if step.edit or command is None:
        return step if step.edit else None
    goes = dict(command.redirects)
    if command.name == "cat" and goes.keys() == {"<<", ">>"} and not command.arguments:
        return _appended(goes["<<"], goes[">>"], state)
    if command.redirects:
        return None
    if command.name == "python" and [flag for flag, _ in command.flags] == ["c"]:
        return _by_python(command.flags[0][1], state)
    if command.name == "sed" and command.flags == (("i", ""),) and len(command.arguments) == 2:
        script, path = command.arguments
        acts = script.split("\n")
        first = _by_sed(script, path, step.text, state)
        if first or not 1 < len(acts) <= MAX_ACTS:
            return first
        parts = tuple(
            Step(kind="command", path=path, form=_alone(command, act), text=step.text)
            for act in acts
        )
        return folded(parts, path, state)
    return None


def folded(steps: Sequence[Step], path: str, state: State) -> Step | None:
    """Edits of a file, one after the other, as one; None where it is not known what they make."""
    lines: Mapping[int, str] = state.lines(path)
    before, later = runs_of(lines), state
    for step in steps:
        found = edit_by(step, later)
        if found is None or found.edit is None:
            return None
        lines = applied(found.edit, lines)
        later = later.after(path, lines)
    made = runs_of(lines)
    if len(before) != 1 or len(made) != 1:
        return None
    old, new = (run[0][1].splitlines(keepends=True) for run in (before, made))
    start = len(posixpath.commonprefix([old, new]))
    end = len(posixpath.commonprefix([old[start:][::-1], new[start:][::-1]]))
    first, last = before[0][0] + start, before[0][0] + len(old) - end - 1
    text = "".join(new[start : len(new) - end])
    return Step(kind="edit", path=path, edit=Edit(new=text, lines=(first, last)))


def _alone(command: Command, act: str) -> Form:
    return ("command", replace(command, arguments=(act, *command.arguments[1:])))


def _appended(text: str, path: str, state: State) -> Step | None:
    """What is put after the last line of a file that is known."""
    whole = state.whole(path)
    if whole is None:
        return None
    end = whole.count("\n")
    return Step(kind="edit", path=path, edit=Edit(new=f"{text}\n", lines=(end + 1, end)))


def _by_sed(script: str, path: str, typed: str, state: State) -> Step | None:
    """`sed -i` with one act on some lines."""
    lines, found = state.lines(path), _SED.fullmatch(script)
    if found is None:
        return None
    low, high, held, act, rest = found.groups()
    if low in ("$", "\\$"):
        whole_text = state.whole(path)
        if whole_text is None:
            return None
        low = str(whole_text.count("\n"))
    holds = _pattern(held or "", typed)
    if holds is None or any(len(line) > MAX_LINE for line in lines.values()):
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
        times = int(how == "")
        made = {n: [pattern.sub(lambda m: _put(new, m[0]), lines[n], count=times)] for n in chosen}
        made = {n: line for n, line in made.items() if line != [lines[n]]}
    else:
        text = _put(re.sub(r"^\s*(\\\n?)?", "", rest).replace("&", "\\&"), "")
        made = {n: {"d": [], "c": [text], "a": [lines[n], text], "i": [text, lines[n]]}[act]
                for n in chosen if text or act == "d"}  # fmt: skip
    span = range(min(made), max(made) + 1) if made else ()
    if not span or not all(n in lines for n in span):
        return None
    whole = "".join(f"{line}\n" for n in span for line in made.get(n, [lines[n]]))
    return Step(kind="edit", path=path, edit=Edit(new=whole, lines=(span[0], span[-1])))


def _put(new: str, found: str) -> str:
    """What stands in place of what a substitution found."""
    told = {"&": found, "\\n": "\n", "\\t": "\t"}
    return "".join(told.get(p, p[-1]) for p in _PIECES.findall(new))


def _pattern(basic: str, typed: str) -> re.Pattern[str] | None:
    """A basic expression of letters, anchors and what is repeated; None where it is more.

    A word has lost the backslashes between double quotes: the line as it was typed tells of them.
    """
    special = any(basic.count(c) > typed.count("\\" + c) for c in "[]")
    stars = basic.count("*") > typed.count("\\*")
    basic = basic.replace("[[:space:]]", "\\s")
    if (special and "[" in basic) or not _LITERAL.fullmatch(basic) or (stars and "\\*" in typed):
        return None
    end = "$" if basic.endswith("\\$") else ""
    pieces = _PIECES.findall(basic.removesuffix("\\$" if end else ""))
    first = pieces.pop(0) if pieces[:1] == ["^"] else ""
    out: list[str] = []
    for index, piece in enumerate(pieces):
        repeated = pieces[index + 1 : index + 2] in (["*"], ["\\+"]) and (stars or piece != "*")
        if piece in ("\\b", "\\s", "\\w") or (piece == "." and repeated):
            out.append(piece)
        elif piece == "\\+" or (piece == "*" and stars):
            out.append(piece[-1])
        else:
            out.append(re.escape(piece[-1]))
    times = sum(piece in ("*", "+") for piece in out)
    if times > MAX_REPEATS or out[:1] in (["*"], ["+"]) or any(map(_TWICE.search, ["".join(out)])):
        return None
    return re.compile(first + "".join(out) + end)


def _by_python(program: str, state: State) -> Step | None:
    """A program that reads a file, replaces one text, and writes the file."""
    tree = parsed(program)
    if tree is None:
        return None
    nodes = list(ast.walk(tree))
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
    odd = branches or calls.keys() - {*AGENTS["python"]}
    if odd or not writes or (len(paths), len(texts)) != (1, 1):
        return None
    (path,), (old, new, *_) = paths, [*texts[0], None, None]
    if not (isinstance(path, str) and isinstance(old, str) and isinstance(new, str)):
        return None
    path = located(path, state.directory)
    times = sum(text.count(old) for _, text in runs_of(state.lines(path))) if old else 0
    every = times > 1 and len(texts[0]) == 2
    return Step(kind="edit", path=path, edit=Edit(old=old, new=new, every=every))
