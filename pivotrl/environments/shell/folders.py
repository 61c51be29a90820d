"""Programs that show or change the tree, as GNU's do in the locale C: ls, find, mv, rm.

What they support they do as the originals; other options are refused by name. Folders are listed in
sorted order, find included. This module must never know the shell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from pivotrl.environments.shell.files import (
    MAX_DEPTH,
    Call,
    Failure,
    Program,
    Result,
    Tree,
    bounded,
    cannot_make,
    children,
    is_file,
    is_folder,
    joined,
    normal,
    options,
    parent,
    text_of,
    why,
    written,
)


def ls(call: Call) -> Result:
    flags, operands = options(call, "1aAdR")
    operands = sorted(operands) or ["."]
    files, errors = call.files, []
    singles, folders = [], []
    for path in operands:
        if is_folder(files, path) and "d" not in flags:
            folders.append(path)
        elif is_folder(files, path) or is_file(files, path):
            singles.append(path)
        else:
            errors.append(f"ls: cannot access '{path}': {why(files, path)}")
    blocks = [text_of(singles)] if singles else []
    titled = len(operands) > 1 or "R" in flags
    while folders:
        path = folders.pop(0)
        names = children(files, path)
        dots = "a" in flags or "A" in flags
        names = [n for n in names if dots or not n.startswith(".")]
        listed = [".", "..", *names] if "a" in flags else names
        blocks.append((f"{path}:\n" if titled else "") + text_of(listed))
        if "R" in flags:
            below = [joined(path, name) for name in names]
            folders[:0] = [folder for folder in below if is_folder(files, folder)]
    return Result(
        out="\n".join(blocks), errors=text_of(errors), code=2 if errors else 0, files=files
    )


def find(call: Call) -> Result:
    words = list(call.words)
    starts = []
    while words and not words[0].startswith(("-", "!")):
        starts.append(words.pop(0))
    tests, depth = _find_tests(words)
    out, errors = [], []
    for start in starts or ["."]:
        if not (is_folder(call.files, start) or is_file(call.files, start)):
            errors.append(f"find: '{start}': {why(call.files, start)}")
            continue
        for path in _tree_below(call.files, start, depth):
            if all(_find_fits(call.files, path, test, text) != no for no, test, text in tests):
                out.append(path)
    return Result(
        out=text_of(out), errors=text_of(errors), code=int(bool(errors)), files=call.files
    )


def _find_tests(words: list[str]) -> tuple[list[tuple[bool, str, str]], int]:
    """((negated, test, its value)..., how deep to go)."""
    tests: list[tuple[bool, str, str]] = []
    depth, negated = MAX_DEPTH, False
    while words:
        word = words.pop(0)
        if word in ("!", "-not"):
            negated = not negated
            continue
        if word in ("-name", "-type", "-maxdepth") and not words:
            raise Failure(f"find: missing argument to `{word}'")
        if word == "-maxdepth":
            value = words.pop(0)
            if not value.isdigit() or len(value) > 4:
                raise Failure(f"find: not supported: -maxdepth {value}")
            depth = int(value)
        elif word in ("-name", "-type"):
            value = words.pop(0)
            if word == "-type" and value not in ("f", "d"):
                raise Failure(f"find: not supported: -type {value}")
            tests.append((negated, word, value))
        elif word == "-empty":
            tests.append((negated, word, ""))
        elif word != "-print":
            raise Failure(f"find: not supported: {word}")
        negated = False
    return tests, depth


def _tree_below(files: Tree, path: str, depth: int) -> list[str]:
    found = [path]
    if depth > 0 and is_folder(files, path):
        for name in children(files, path):
            found += _tree_below(files, joined(path, name), depth - 1)
    return found


def _find_fits(files: Tree, path: str, test: str, value: str) -> bool:
    folder = is_folder(files, path)
    if test == "-type":
        return folder == (value == "d")
    if test == "-empty":
        return not (children(files, path) if folder else files[normal(path)])
    return fnmatchcase(path.rstrip("/").rpartition("/")[2], value)


def mkdir(call: Call) -> Result:
    flags, operands = options(call, "p")
    files, errors = dict(call.files), []
    _require(call, operands)
    for path in operands:
        place = normal(path)
        reason = None
        if is_file(files, place) or (is_folder(files, path) and "p" not in flags):
            reason = "File exists"
        elif "p" not in flags and not is_folder(files, parent(path)):
            reason = why(files, path)
        elif why(files, f"{place}/x") == "Not a directory":
            reason = "Not a directory"
        if reason:
            errors.append(f"mkdir: cannot create directory '{path}': {reason}")
            continue
        if place.count("/") >= MAX_DEPTH:
            raise Failure("mkdir: too many folders in each other")
        for index, sign in enumerate(f"{place}/"):
            if sign == "/":
                files.setdefault(f"{place[:index]}/", "")
    return _changed(call, files, errors)


def touch(call: Call) -> Result:
    flags, operands = options(call, "c")
    files, errors = dict(call.files), []
    if not operands:
        raise Failure("touch: missing file operand\nTry 'touch --help' for more information.")
    for path in operands:
        if is_file(files, path) or is_folder(files, path):
            continue
        if (reason := cannot_make(files, path)) is not None:
            errors.append(f"touch: cannot touch '{path}': {reason}")
        elif "c" not in flags:
            files = written(files, path, "")
    return _changed(call, files, errors)


def rm(call: Call) -> Result:
    flags, operands = options(call, "rRf")
    files, errors = dict(call.files), []
    if "f" not in flags:
        _require(call, operands)
    for path in operands:
        place = normal(path)
        if is_file(files, path):
            del files[place]
        elif not is_folder(files, path):
            if "f" not in flags or why(files, path) == "Not a directory":
                errors.append(f"rm: cannot remove '{path}': {why(files, path)}")
        elif flags.keys().isdisjoint("rR"):
            errors.append(f"rm: cannot remove '{path}': Is a directory")
        elif path.rstrip("/").rpartition("/")[2] in (".", "..", ""):
            refused = "rm: refusing to remove '.' or '..' directory: skipping"
            errors.append(f"{refused} '{path}'")
        else:
            files = {p: text for p, text in files.items() if not p.startswith(f"{place}/")}
    return _changed(call, files, errors)


def mv(call: Call) -> Result:
    flags, operands = options(call, "fn")
    files, errors = dict(call.files), []
    for source, target in _pairs(call, operands):
        place, to = normal(source), normal(target)
        if not (is_file(files, source) or is_folder(files, source)):
            errors.append(f"mv: cannot stat '{source}': {why(files, source)}")
        elif place == "" or (to == place and is_folder(files, source)):
            reason = f"to a subdirectory of itself, '{joined(target, source)}'"
            errors.append(f"mv: cannot move '{source}' {reason}")
        elif to == place:
            errors.append(f"mv: '{source}' and '{target}' are the same file")
        elif to.startswith(f"{place}/"):
            reason = f"to a subdirectory of itself, '{target}'"
            errors.append(f"mv: cannot move '{source}' {reason}")
        elif "n" in flags and (is_file(files, target) or is_folder(files, target)):
            continue
        elif refused := _cannot_put(files, source, target, "move"):
            errors.append(f"mv: {refused}")
        elif is_folder(files, target) and children(files, target):
            errors.append(f"mv: cannot move '{source}' to '{target}': Directory not empty")
        else:
            files = _placed(files, place, to)
            files = {p: t for p, t in files.items()
                     if p != place and not p.startswith(f"{place}/")}  # fmt: skip
    return _changed(call, files, errors)


def cp(call: Call) -> Result:
    flags, operands = options(call, "rRafn")
    files, errors = dict(call.files), []
    for source, target in _pairs(call, operands):
        place, to = normal(source), normal(target)
        if not (is_file(files, source) or is_folder(files, source)):
            errors.append(f"cp: cannot stat '{source}': {why(files, source)}")
        elif is_folder(files, source) and flags.keys().isdisjoint("rRa"):
            errors.append(f"cp: -r not specified; omitting directory '{source}'")
        elif to == place:
            errors.append(f"cp: '{source}' and '{target}' are the same file")
        elif f"{to}/".startswith(f"{place}/") or place == "":
            errors.append(f"cp: cannot copy a directory, '{source}', into itself, '{target}'")
        elif "n" in flags and is_file(files, target):
            continue
        elif refused := _cannot_put(files, source, target, "copy"):
            errors.append(f"cp: {refused}")
        else:
            files = bounded(_placed(files, place, to))
    return _changed(call, files, errors)


def _pairs(call: Call, operands: Sequence[str]) -> list[tuple[str, str]]:
    """(what, the path that it gets); a target that is a folder takes them in."""
    if len(operands) < 2:
        missing = "destination file operand after" if operands else "file operand"
        name = f" '{operands[0]}'" if operands else ""
        help_ = f"Try '{call.name} --help' for more information."
        raise Failure(f"{call.name}: missing {missing}{name}\n{help_}")
    *sources, target = operands
    if is_folder(call.files, target):
        names = [source.rstrip("/").rpartition("/")[2] for source in sources]
        return [(s, joined(target, name)) for s, name in zip(sources, names, strict=True)]
    if len(sources) > 1:
        raise Failure(f"{call.name}: target '{target}': {why(call.files, target)}")
    return [(sources[0], target)]


def _cannot_put(files: Tree, source: str, target: str, verb: str) -> str | None:
    """Why what is at `source` cannot be made at `target`; None if it can."""
    if is_folder(files, source) and is_file(files, target):
        return f"cannot overwrite non-directory '{target}' with directory '{source}'"
    if is_file(files, source) and is_folder(files, target):
        return f"cannot overwrite directory '{target}' with non-directory"
    reason = cannot_make(files, target.rstrip("/") if is_folder(files, source) else target)
    if reason is None:
        return None
    if verb == "copy":
        made = "directory" if is_folder(files, source) else "regular file"
        return f"cannot create {made} '{target}': {reason}"
    return f"cannot move '{source}' to '{target}': {reason}"


def _placed(files: Tree, place: str, to: str) -> dict[str, str]:
    """The tree with a copy of a file or of a folder."""
    if place in files:
        return {**files, to: files[place]}
    inside = {p: text for p, text in files.items() if p.startswith(f"{place}/")}
    return {**files, **{to + path[len(place) :]: text for path, text in inside.items()}}


def _require(call: Call, operands: Sequence[str]) -> None:
    if not operands:
        help_ = f"Try '{call.name} --help' for more information."
        raise Failure(f"{call.name}: missing operand\n{help_}")


def _changed(call: Call, files: Mapping[str, str], errors: Sequence[str]) -> Result:
    return Result(errors=text_of(errors), code=int(bool(errors)), files=bounded(dict(files)))


FOLDERS: Mapping[str, Program] = {
    program.__name__: program for program in (cp, find, ls, mkdir, mv, rm, touch)
}
