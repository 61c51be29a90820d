"""Patches as edits: unified diffs, `*** Begin Patch`, and blocks of SEARCH and REPLACE.

This module must never know a tool or a state.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pivotrl.verifiers.edits import Edit, tidy

MAX_HUNKS = 64
_FILE = re.compile(
    r"(?m)^(?:--- (?P<old>[^\n]*)\n\+\+\+ (?P<new>[^\n]*)"
    r"|\*\*\* (?P<act>Update|Add|Delete) File: (?P<path>[^\n]*))\n"
)
_HUNK = re.compile(r"(?m)^@@(?: -(\d{1,9})(?:,(\d{1,9}))? \+)?[^\n]*(?:\n|\Z)")
_MARK = re.compile(
    r"(?:[<-]{5,9} ?(?P<old>SEARCH)|(?P<new>={5,9})|[>+]{5,9} ?(?P<end>REPLACE)).?\s*"
)
_HEAD = re.compile(r":(?:start|end)_line: ?\d+|-{7}")
"""What Roo writes before the text that it looks for."""
_NEXT = {("end", "old"), ("old", "new"), ("new", "end")}


def hunks(text: str, strip: int = 1) -> list[tuple[str, Edit | str]] | None:
    """(path, an edit or the text of a new file) of a patch; None where it is none, or does more.

    `strip` folders are taken from the paths of a diff.
    """
    files = [*_FILE.finditer(text)]
    found: list[tuple[str, Edit | str]] = []
    for index, file in enumerate(files if len(files) <= MAX_HUNKS else ()):
        then = files[index + 1].start() if index + 1 < len(files) else len(text)
        body = text[file.end() : then]
        body = re.sub(r"(?m)^(?:diff --git|index |\*\*\* End|\\ No newline).*\n?", "", body)
        new_file = file["act"] == "Add" or (file["old"] or "").strip().startswith("/dev/null")
        path = (file["path"] or file["new"] or "").partition("\t")[0].strip()
        if file["act"] == "Delete" or path == "/dev/null":
            return None
        if not file["act"] and not path.startswith("/"):
            path = "/".join(path.split("/")[strip:])
        if new_file:
            lines = _HUNK.sub("", body).split("\n")
            found.append((path, "".join(f"{line[1:]}\n" for line in lines if line[:1] == "+")))
        else:
            edits = [*_edits(body)]
            if None in edits or not edits:
                return None
            found += [(path, edit) for edit in edits if edit]
    return found if 0 < len(found) <= MAX_HUNKS else None


def blocks(text: str) -> list[Edit]:
    """The edits of blocks of SEARCH and REPLACE; none where one is not whole."""
    found: list[Edit] = []
    parts: dict[str, list[str]] = {}
    where = "end"
    for line in text.split("\n"):
        mark = _MARK.fullmatch(line)
        if mark and (where, mark.lastgroup) in _NEXT:
            where = mark.lastgroup or ""
            parts[where] = []
            if where == "end":
                old, new = ("".join(f"{part}\n" for part in parts[key]) for key in ("old", "new"))
                found.append(Edit(old=tidy(old), new=tidy(new)))
        elif where == "old" and not parts[where] and _HEAD.fullmatch(line):
            continue
        elif where != "end":
            parts[where].append(line)
    return found if where == "end" and len(found) <= MAX_HUNKS else []


def _edits(body: str) -> Iterator[Edit | None]:
    """Of one file, hunk by hunk; None for one that cannot be read."""
    starts = [*_HUNK.finditer(body)]
    if not starts:  # one hunk without a head
        yield _edit(body, 0)
    for index, start in enumerate(starts[:MAX_HUNKS]):
        then = starts[index + 1].start() if index + 1 < len(starts) else len(body)
        yield _edit(body[start.end() : then], int(start[1] or 0))


def _edit(body: str, number: int) -> Edit | None:
    lines = body.removesuffix("\n").split("\n")
    if any(line[:1] not in (" ", "-", "+", "") for line in lines):
        return None
    old, new = (
        "".join(f"{tidy(line[1:]).rstrip()}\n" for line in lines if line[:1] in kept)
        for kept in (" -", " +")
    )
    return Edit(old=old, new=new) if old else Edit(new=new, lines=(number + 1, number))
