"""A small shell over a file tree that is plain data: no process, no file of the host.

Quotes, patterns of file names, pipes, redirections, `;`, `&&` and `||` mean what they mean in sh;
what it does not support (variables, substitutions, loops) is an error that says so, never a guess.
Everything is bounded: the line, its commands, what they read and write, the tree. Programs:
`filters`, `folders`. This module must never know a task.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from pivotrl.environments.shell.files import (
    MAX_DATA,
    Call,
    Failure,
    Program,
    Result,
    Tree,
    cannot_make,
    children,
    is_file,
    is_folder,
    joined,
    normal,
    why,
    written,
)
from pivotrl.environments.shell.filters import FILTERS
from pivotrl.environments.shell.folders import FOLDERS

PROGRAMS: Mapping[str, Program] = {**FILTERS, **FOLDERS}
MAX_LINE, MAX_COMMANDS, MAX_WORDS = 1_000, 10, 300
"""Characters of a command line, programs that it runs, words of one after its patterns."""
_SPECIAL = ("2>>", "2>&1", "2>", "&&", "||", ">>", ">", "<<", "<", "|", ";", "\n")
_REDIRECTIONS = (">", ">>", "<", "2>", "2>>", "2>&1")
_NULL = "dev/null"
_UNREAD = re.compile(r"\[\^|\[\[[:.=]")
"""Brackets that fnmatch reads otherwise than a shell."""
_EXPANSION = re.compile(r"\$[\w({?#!@*$-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    text: str
    pattern: str
    """The text as a pattern of names: what is quoted stands for itself."""
    is_pattern: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Simple:
    """One program with its words and redirections."""

    words: tuple[Word, ...]
    redirections: tuple[tuple[str, str], ...]
    """(operator, path or "")."""


def run(line: str, files: Tree) -> Result:
    """What a command line writes, its exit code and the tree after it. Never raises."""
    result = Result(files=files)
    try:
        steps = _steps(_tokens(line))
    except Failure as failure:
        return _failed(failure, files)
    for operator, commands in steps:
        if (operator == "&&" and result.code) or (operator == "||" and not result.code):
            continue
        then = _pipeline(commands, result.files)
        result = replace(then, out=result.out + then.out, errors=result.errors + then.errors)
    return result


def _failed(failure: Failure, files: Tree) -> Result:
    return Result(errors=f"{failure.message}\n", code=failure.code, files=files)


def _pipeline(commands: Sequence[Simple], files: Tree) -> Result:
    result, errors = Result(files=files), ""
    for command in commands:
        try:
            result = _simple(command, result.out, result.files)
        except Failure as failure:
            result = _failed(failure, result.files)
        errors += result.errors
        if len(result.out) > MAX_DATA:
            result = Result(code=1, files=result.files)
            errors += "sh: output too large\n"
    return replace(result, errors=errors)


def _simple(command: Simple, stdin: str, files: Tree) -> Result:
    """Redirections are opened first, as a shell does it, then the program runs."""
    from_file = False
    for operator, path in command.redirections:
        if operator == "<":
            null = normal(path) == _NULL
            if not null and not is_file(files, path):
                raise Failure(f"sh: cannot open {path}: {why(files, path)}", 2)
            stdin, from_file = "" if null else files[normal(path)], True
        elif path and normal(path) != _NULL:
            reason = "Is a directory" if is_folder(files, path) else cannot_make(files, path)
            if reason is not None:
                raise Failure(f"sh: cannot create {path}: {reason}", 2)
            if not operator.endswith(">>") or not is_file(files, path):
                files = written(files, path, "")
    words = [text for word in command.words for text in _expanded(word, files)]
    if len(words) > MAX_WORDS:
        raise Failure("sh: too many words", 2)
    result = Result(files=files)
    if words:
        given = Call(name=words[0], words=words[1:], stdin=stdin, from_file=from_file, files=files)
        try:
            result = PROGRAMS.get(words[0], _not_found)(given)
        except Failure as failure:
            result = _failed(failure, files)
    return _sent(command, result)


def _not_found(call: Call) -> Result:
    raise Failure(f"sh: {call.name}: not found", 127)


def _sent(command: Simple, result: Result) -> Result:
    """A program's output where the redirections send it."""
    goes = {"out": "out", "errors": "errors"}  # a stream, or "> path"
    for operator, path in command.redirections:
        if operator == "2>&1":
            goes["errors"] = goes["out"]
        elif operator != "<":
            goes["errors" if operator.startswith("2") else "out"] = f"> {normal(path)}"
    files, shown = result.files, {"out": "", "errors": ""}
    for stream, text in (("out", result.out), ("errors", result.errors)):
        to = goes[stream]
        if to in shown:
            shown[to] += text
        elif (place := to.removeprefix("> ")) in files:
            files = written(files, place, files[place] + text)
    return replace(result, out=shown["out"], errors=shown["errors"], files=files)


def _expanded(word: Word, files: Tree) -> list[str]:
    """The paths that fit a pattern, sorted; the word itself where it is none or none fits."""
    if not word.is_pattern:
        return [word.text]
    found = ["/"] if word.pattern.startswith("/") else [""]
    for part in filter(None, word.pattern.split("/")):
        hidden = part.startswith(".")
        found = [
            joined(folder, name) if folder else name
            for folder in found
            if is_folder(files, folder)
            for name in ([part] if part in (".", "..") else children(files, folder))
            if fnmatchcase(name, part) and (hidden or not name.startswith("."))
        ]
    return sorted(found) or [word.text]


def _steps(tokens: Sequence[Word | str]) -> list[tuple[str, list[Simple]]]:
    """(operator before it, commands of the pipeline)... Raises Failure on a syntax error."""
    steps: list[tuple[str, list[Simple]]] = []
    operator, pipeline, count = ";", list[Simple](), 0
    words, redirections = list[Word](), list[tuple[str, str]]()
    queue = deque([*tokens, "\n"])
    while queue:
        token = queue.popleft()
        if isinstance(token, Word):
            words.append(token)
        elif token in _REDIRECTIONS:
            path = None if token == "2>&1" else queue.popleft()
            if isinstance(path, str):
                raise Failure(f"sh: syntax error near {token}", 2)
            redirections.append((token, path.text if path else ""))
        elif words or redirections:
            pipeline.append(Simple(words=tuple(words), redirections=tuple(redirections)))
            words, redirections, count = [], [], count + 1
            if token != "|":
                steps.append((operator, pipeline))
                operator, pipeline = token, []
        elif token != "\n" or pipeline or operator in ("&&", "||"):
            raise Failure(f"sh: syntax error near {token.strip() or 'the end'}", 2)
    if count > MAX_COMMANDS:
        raise Failure("sh: too many commands", 2)
    return steps


def _tokens(line: str) -> list[Word | str]:
    """Words and operators. Raises Failure for what this shell does not read."""
    if len(line) > MAX_LINE:
        raise Failure("sh: line too long", 2)
    if not all(" " <= sign <= "~" or sign in "\n\t" for sign in line):
        raise Failure("sh: only ASCII is read", 2)
    tokens: list[Word | str] = []
    index = 0
    while index < len(line):
        if line[index] in " \t":
            index += 1
        elif line[index] == "#":
            end = line.find("\n", index)
            index = len(line) if end < 0 else end
        elif operator := next((o for o in _SPECIAL if line.startswith(o, index)), None):
            if operator == "<<":
                raise Failure("sh: not supported: <<", 2)
            tokens.append(operator)
            index += len(operator)
        else:
            word, index = _word(line, index)
            tokens.append(word)
    return tokens


def _word(line: str, index: int) -> tuple[Word, int]:
    """The word that starts at `index`, and the place after it."""
    text, pattern, is_pattern, quote = "", "", False, ""
    start = index
    while index < len(line) and (quote or line[index] not in " \t\n;|<>&"):
        sign, index = line[index], index + 1
        if sign == quote or (not quote and sign in "'\""):
            quote = "" if quote else sign
            continue
        if quote != "'" and (sign == "`" or _EXPANSION.match(line, index - 1)):
            raise Failure(f"sh: not supported: {line[index - 1 : index + 1]}", 2)
        if not quote and (sign in "(){}" or (sign == "~" and index == start + 1)):
            raise Failure(f"sh: not supported: {sign}", 2)
        literal = quote
        following = line[index : index + 1]
        if sign == "\\" and (not quote or (quote == '"' and following in '\\"$`')):
            if not following:
                raise Failure("sh: syntax error near \\", 2)
            sign, index, literal = following, index + 1, "\\"
        text += sign
        is_pattern |= not literal and sign in "*?["
        pattern += f"[{sign}]" if literal and sign in "*?[" else sign
    if quote:
        raise Failure("sh: unterminated quote", 2)
    if line[index : index + 1] == "&" and not line.startswith("&&", index):
        raise Failure("sh: not supported: &", 2)
    if line[index : index + 1] in ("<", ">") and line[start:index].isdigit():
        raise Failure(f"sh: not supported: {line[start : index + 1]}", 2)
    if is_pattern and (unread := _UNREAD.search(pattern)):
        raise Failure(f"sh: not supported: {unread[0]} in a name", 2)
    return Word(text=text, pattern=pattern, is_pattern=is_pattern), index
