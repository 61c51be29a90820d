"""A file tree as plain data, and what a program is that runs over it.

A tree maps paths to texts; a folder is a path that ends with `/` and holds no text. The top folder
is there without being named. This module must never know a program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

Tree = Mapping[str, str]
"""Path without a leading `/` -> text; `logs/` -> "" is a folder."""
MAX_DATA = 4_000
"""Characters that a program may read or write in all."""
MAX_FILES, MAX_TREE = 200, 20_000
"""Files and folders of a tree, and characters of all their texts."""
MAX_DEPTH = 20
"""Of folders in each other."""


class Failure(Exception):
    """A program gives up: what it says on standard error, and its exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.message, self.code = message, code


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a program or a command line has done."""

    out: str = ""
    errors: str = ""
    """Standard error: whole lines."""
    code: int = 0
    files: Tree
    """The tree after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One program with what it is given."""

    name: str
    words: Sequence[str]
    """Its arguments."""
    stdin: str
    from_file: bool
    """Standard input is a file (`<`), not a pipe."""
    files: Tree


Program = Callable[[Call], Result]


def normal(path: str) -> str:
    """A path from the top folder, without `.` and `..`; "" is the top folder."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            kept = kept[:-1]
        elif part not in ("", "."):
            kept.append(part)
    return "/".join(kept)


def is_folder(files: Tree, path: str) -> bool:
    return not (place := normal(path)) or f"{place}/" in files


def is_file(files: Tree, path: str) -> bool:
    return normal(path) in files and not path.endswith("/")


def children(files: Tree, folder: str) -> list[str]:
    """Names in a folder, sorted; those of folders without the slash."""
    start = f"{place}/" if (place := normal(folder)) else ""
    inside = (path[len(start) :].rstrip("/") for path in files if path.startswith(start))
    return sorted(name for name in inside if name and "/" not in name)


def parent(path: str) -> str:
    return normal(path).rpartition("/")[0]


def joined(folder: str, name: str) -> str:
    """`name` in a folder, the folder as it was written."""
    return f"{folder}{name}" if folder.endswith("/") else f"{folder}/{name}"


def why(files: Tree, path: str) -> str:
    """Why a path cannot be read or written as a file."""
    place = normal(path)
    if is_folder(files, path):
        return "Is a directory"
    above = [place[:i] for i, sign in enumerate(place) if sign == "/"]
    if any(folder in files for folder in above) or (place in files and path.endswith("/")):
        return "Not a directory"
    return "No such file or directory"


def cannot_make(files: Tree, path: str) -> str | None:
    """Why a file cannot be made; None if it can, or is there."""
    if is_file(files, path):
        return None
    above = parent(path)
    if is_folder(files, above) and not path.endswith("/"):
        return None if normal(path).count("/") < MAX_DEPTH else "too many folders in each other"
    return "Not a directory" if is_folder(files, above) else why(files, path)


def written(files: Tree, path: str, text: str) -> dict[str, str]:
    """The tree with a file. Raises Failure for a tree that has grown too large."""
    return bounded({**files, normal(path): text})


def bounded(files: dict[str, str]) -> dict[str, str]:
    """Raises Failure for a tree that has grown too large."""
    if len(files) > MAX_FILES or sum(map(len, files.values())) > MAX_TREE:
        raise Failure("sh: no space left")
    return files


def lines_of(text: str) -> list[str]:
    """Lines without their ends; a last one may lack it."""
    return text.removesuffix("\n").split("\n") if text else []


def text_of(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def options(
    call: Call, flags: str, valued: str = "", number: str = ""
) -> tuple[dict[str, list[str]], list[str]]:
    """(flag -> its values, operands). Raises Failure for a flag that is not known.

    `-5` is the flag `number` with the value 5.
    """
    found: dict[str, list[str]] = {}
    operands: list[str] = []
    words = list(call.words)
    while words:
        word = words.pop(0)
        if word == "--":
            return found, [*operands, *words]
        if not word.startswith("-") or word == "-":
            operands.append(word)
            continue
        if number and word[1:].isdigit():
            found.setdefault(number, []).append(word[1:])
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in valued:
                if not letters and not words:
                    raise Failure(f"{call.name}: option requires an argument -- '{letter}'", 2)
                found.setdefault(letter, []).append(letters or words.pop(0))
                break
            if letter not in flags:
                raise Failure(f"{call.name}: option not supported: {word}", 2)
            found.setdefault(letter, []).append("")
    return found, operands


def inputs(
    call: Call,
    operands: Sequence[str],
    message: str = "{name}: {path}: {why}",
    folders: bool = False,
) -> tuple[list[tuple[str, str]], list[str]]:
    """((path, text) of what can be read, what is said of the rest); no operand is the input.

    With `folders` one is an empty text too, besides what is said of it. Raises Failure where it is
    too much.
    """
    found: list[tuple[str, str]] = []
    errors = []
    for path in operands or ["-"]:
        if path == "-":
            found.append((path, call.stdin))
        elif is_file(call.files, path):
            found.append((path, call.files[normal(path)]))
        else:
            errors.append(message.format(name=call.name, path=path, why=why(call.files, path)))
            found += [(path, "")] if folders and is_folder(call.files, path) else []
    if sum(len(text) for _, text in found) > MAX_DATA:
        raise Failure(f"{call.name}: input too large")
    return found, errors
