"""What a copy, a download or a clone makes, said in full: `cp a.c b/` makes `b/a.c`.

Nothing is executed. This module must never know how a line is parsed.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

Flags = list[tuple[str, str]]
_HOST = re.compile(r"(?!ftp\.)[A-Za-z0-9][\w.-]*(?::\d+)?(?:[/?].*)?", re.DOTALL)
_FILE = re.compile(r"[a-z]+://[^/?#]+/(?:[^?#]*/)?([\w.+~%-]+)")
"""An address whose last part names a file."""
_PLAIN = re.compile(r"[\w.~=-]*")
"""What a URL has as it is."""
_OWN_WAY = {"c", "r", "m", "i", "nc", "N", "O"}
"""Flags with which `wget` goes on, goes deeper or names the file."""

BUILT = {"B", "build", "install", "P", "E", "version", "help", "preset"}
"""Flags with which `cmake` makes nothing where it is run."""


def targeted(arguments: list[str], recursive: bool) -> list[str]:
    """Of a copy, a move or a link the name of what is made: `cp a.c b/` is `cp a.c b/a.c`.

    Of a folder that is copied it is where it goes to: `cp -r a /b/a` is `cp -r a /b`.
    """
    if len(arguments) == 1:
        arguments = [*arguments, "."]
    arguments = [*(a.rstrip("/") or a for a in arguments[:-1]), *arguments[-1:]]
    # What a folder holds is not the folder.
    arguments = [f"{a[:-1]}\0." if a.endswith("/.") else a for a in arguments]
    name = posixpath.basename(arguments[0]).rpartition(":")[2] if len(arguments) == 2 else ""
    if not re.search(r"\w", name) or re.search(r"[*?${]", arguments[0]):
        return arguments
    source, to = arguments
    if recursive:
        folder = posixpath.dirname(to)
        inside = posixpath.basename(to) == name and to.startswith(("/", "~")) and folder != "/"
        return [source, folder] if inside else arguments
    into = to == "." or to.endswith(("/", ":"))
    return [source, posixpath.join(to, name)] if into else arguments


def synced(flags: Flags, arguments: list[str]) -> list[str]:
    """Where folders go to without a slash at its end: `rsync` makes a folder of it all the same."""
    deep = any(flag in ("a", "r") for flag, _ in flags)
    whole = [a.endswith("/") or (deep and "." not in posixpath.basename(a)) for a in arguments]
    if len(arguments) < 2 or not all(whole[:-1]) or arguments[-1].endswith(":/"):
        return arguments
    return [*arguments[:-1], arguments[-1].rstrip("/") or "/"]


def linked(arguments: list[str]) -> list[str]:
    """What a symbolic link points to is read from where the link is."""
    if len(arguments) != 2 or re.search(r"[~*?$\\]", arguments[0]):
        return arguments
    folder = posixpath.dirname(arguments[1])
    source = posixpath.join(folder if folder.startswith("/") else "", arguments[0])
    return [posixpath.normpath(source), arguments[1]]


def cloned(flags: Flags, arguments: list[str]) -> list[str]:
    """The address of a repository and its folder, which is named after it."""
    if not arguments or any(flag in ("bare", "mirror") for flag, _ in flags):
        return arguments
    address = arguments[0].rstrip("/").removesuffix(".git")
    name = re.split("[/:]", address)[-1]
    if ":" not in address and not address.startswith("/"):
        address = f"$PWD/{address}"  # it depends on the place
    return [address, *(arguments[1:] or [name])]


def environment_of(program: str) -> tuple[str, str]:
    """The Python environment in whose folder a program is named, and its name there."""
    folder, name = posixpath.split(program)
    home = folder.removesuffix("/bin")
    own = "env" in posixpath.basename(home) or name.startswith(("python", "pip"))
    return (home, name) if own and home != folder else ("", program)


def fetched(name: str, flags: Flags, arguments: list[str]) -> tuple[Flags, list[str]]:
    """Flags and addresses of `curl` or `wget` with the scheme, the data and the file in full."""
    arguments = [a.replace("\0", "") for a in arguments]
    arguments = [f"http://{a}" if _HOST.fullmatch(a) else a for a in arguments]
    known = dict(flags)
    file = _FILE.fullmatch(arguments[0]) if len(arguments) == 1 else None
    if name == "curl":
        flags = [("d", v) if f == "data-urlencode" and _PLAIN.fullmatch(v) else (f, v)
                 for f, v in flags]  # fmt: skip
        data = [value for flag, value in flags if flag == "d"]
        if len(data) > 1 and not any(value.startswith(("@", "{", "[")) for value in data):
            flags, data = _with([f for f in flags if f[0] != "d"], "d", "&".join(data)), data[:1]
        if ("G", "") in flags and len(arguments) == len(data) == 1:
            joint = "&" if "?" in arguments[0] else "?"
            arguments = [f"{arguments[0]}{joint}{dict(flags)['d']}"]
            flags = [f for f in flags if f[0] not in ("d", "G")]
        if file and ("O", "") in flags and "J" not in known:
            made = posixpath.join(known.get("output-dir", ""), file[1])
            kept = [f for f in flags if f[0] not in ("O", "output-dir")]
            flags = _with(kept, "o", made)
    elif file and not known.keys() & _OWN_WAY:
        kept = [f for f in flags if f[0] != "P"]
        flags = _with(kept, "O", posixpath.join(known.get("P", ""), file[1]))
    return flags, arguments


def _with(flags: Sequence[tuple[str, str]], flag: str, value: str) -> Flags:
    return sorted([*flags, (flag, value)], key=lambda pair: pair[0])
