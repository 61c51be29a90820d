"""Keys that are sent to a terminal: which, and what reads them there, the shell or a program.

Nothing is executed. This module must never know an action or a candidate.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from pivotrl.types import JSON, Message, Role
from pivotrl.verifiers.shell_scripts import normal_script

MAX_SCREEN = 4_000
_CONTROL = re.compile(r"(?:\^|C-|c-|[Cc](?:trl|ontrol)[-+ ])([A-Za-z])")
_SHELL = re.compile(r"(?:/(?:usr/)?bin/)?(?:ba|z)?sh")
_NAMED = {"enter": "\n", "c-m": "\n", "return": "\n", "escape": "\x1b", "esc": "\x1b", "space": " "}
_LETTERS = {"\x03": "C-c", "\x04": "C-d", "\x1a": "C-z", "\x18": "C-x", "\x0f": "C-o"}
_READERS = {
    "python": re.compile(r"(>>>|\.\.\.|In \[\d+\]:) ?"),
    "sql": re.compile(
        r"(sqlite|mysql|MariaDB \[[^\]]*\]|\s*[.-]{1,3})> ?|\w+[=(*!'\"-]{1,2}[#>] ?"
    ),
    "question": re.compile(r".*[\[(][yY](es)?/[nN]o?[\])][^$#]*"),
    "program": re.compile(
        r"\((pdb|Pdb|gdb|lldb|ipdb)\) ?|:|--More--.*|\(END\)|[\w.()-]+> ?|.*[Pp]assword.*: ?"
        r"|\^X .*|-- (INSERT|VISUAL|REPLACE).*|~"
    ),
}
"""By the last line of the screen, the first that fits; else the shell reads."""
_VIM = re.compile(r"(?m)^~\n.*\Z|-- (INSERT|VISUAL|REPLACE)|\"[^\"\n]+\" \d+L", re.DOTALL)
_SAVED, _LEFT = re.compile(r":(wq|x|w\n:q)!?\n|ZZ|:wqa?\n|:xa\n"), re.compile(r":qa?!\n|ZQ")


def keys_of(value: JSON) -> str | None:
    """The keys of an argument as one text: a list has names of keys among them."""
    if isinstance(value, list) and all(isinstance(key, str) for key in value):
        return "".join(_NAMED.get(str(key).lower(), str(key)) for key in value)
    return value if isinstance(value, str) else None


def line_of(value: JSON) -> str | None:
    """The command line of an argument as one text: a list holds its words, perhaps for a shell."""
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        return value if isinstance(value, str) else None
    words = list(map(str, value))
    if len(words) == 3 and _SHELL.fullmatch(words[0]) and words[1] in ("-c", "-lc"):
        return words[2]
    return shlex.join(words) if len(words) > 1 else "".join(words)


def reader_of(messages: Sequence[Message]) -> str:
    """What reads the keys, by the last screen; empty for the shell."""
    screens = [m.content for m in messages[-4:] if m.role in (Role.TOOL, Role.USER)]
    screen = screens[-1][-MAX_SCREEN:].rstrip() if screens else ""
    last = screen.rpartition("\n")[2][-200:]
    if _VIM.search(screen) and not re.search(r"[$#] ?$", last):
        return "insert" if "-- INSERT" in screen else "program"
    return next((name for name, pattern in _READERS.items() if pattern.fullmatch(last)), "")


def normal_keys(keys: str, reader: str) -> str:
    """The keys that do the same there in one spelling."""
    keys = _LETTERS.get(keys, keys.replace("\r\n", "\n").replace("\r", "\n"))
    if control := _CONTROL.fullmatch(keys.strip()):
        return f"C-{control[1].lower()}"
    if reader == "question":
        answer = keys.strip().lower()
        return {"yes": "y", "no": "n"}.get(answer, answer) + "\n" * keys.endswith("\n")
    if reader in ("python", "sql"):
        ends = keys[len(keys.rstrip("; \n")) :]
        return (
            normal_script("python keys" if reader == "python" else reader, keys.strip())
            + ";" * (";" in ends)
            + "\n" * ("\n" in ends)
        )
    bare = keys if reader == "insert" else keys.lstrip("\x1b")
    saved = _SAVED.fullmatch(bare.removeprefix("\x1b"))
    left = _LEFT.fullmatch(bare.removeprefix("\x1b"))
    started = "\x1b" * bare.startswith("\x1b")
    return f"{started}:wq\n" if saved else f"{started}:q!\n" if left else bare
