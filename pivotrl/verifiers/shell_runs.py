"""Commands that run others: `find -exec`, `xargs`, `sudo sh -c` and `$(...)`, as pipelines.

Nothing is executed. This module must never know how a line is parsed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace

from pivotrl.verifiers.shell_commands import Command, Form, named, pipeline

_TIME = re.compile(r"(\d{1,6})([smh]?)")
_OWN_SHELL = {"echo", "printf", "test", "[", "export", "eval", "source", ".", "read", "local", "cd"}
"""What an argument of these is for is no list of words."""


def token(form: Form) -> str:
    """A short word that stands for what runs in `$(...)`; two are equal where the forms are."""
    return f"$({hashlib.sha256(repr(form).encode()).hexdigest()[:16]})"


def listed(command: Command) -> list[str]:
    """The words of `$(ls *.a)`: those of the pattern."""
    alone = command.name == "ls" and not command.flags and not command.redirects
    return list(command.arguments) if alone and "*" in "".join(command.arguments) else []


def takes_words(words: Sequence[str]) -> bool:
    """Whether a command may take what is printed as its last operands, as `xargs` gives them."""
    bare = words[words[:1] == ["sudo"] :]
    return bool(bare) and bare[0] not in _OWN_SHELL and not bare[0].startswith(("-", "$"))


def found_and_run(command: Command) -> tuple[Command, list[str]] | None:
    """`find -exec rm {} +` as `find` and `xargs rm`; None where it is not that."""
    words = list(command.arguments)
    if command.name.removeprefix("sudo ") != "find" or words.count("-exec") != 1:
        return None
    start = words.index("-exec")
    ran, end = words[start + 1 : -1], words[-1].lstrip("\\")
    if not ran or end not in (";", "+") or "{}" not in ran or set(ran) & {"-exec", ";", "\\;"}:
        return None
    alone = ran[-1] == "{}" and ran.count("{}") == 1
    if end == "+" and not alone:
        return None
    how = [] if end == "+" else ["-n", "1"] if alone else ["-I", "{}"]
    root = ["sudo"] if command.name.startswith("sudo ") else []
    each = replace(command, arguments=tuple(words[:start]))
    return each, [*root, "xargs", *how, *(ran[:-1] if alone else ran)]


def into_folder(
    flags: list[tuple[str, str]], words: list[str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """`xargs cp -t a` as `xargs -I{} cp {} a`."""
    if words[:1] not in (["cp"], ["mv"]) or "-t" not in words[:-1] or flags:
        return flags, words
    at = words.index("-t")
    return [("I", "{}")], [*words[:at], *words[at + 2 :], "{}", words[at + 1]]


def each_of(flags: list[tuple[str, str]], inner: Command) -> tuple[list[tuple[str, str]], Command]:
    """`xargs` without what says nothing: one by one is as all at once where the program does so."""
    flags = [("n", "1") if f == ("L", "1") else f for f in flags if f != ("d", "\\n")]
    put = dict(flags).get("I")
    words = inner.arguments
    if put and words[-1:] == (put,) and " ".join(words).count(put) == 1 and not inner.redirects:
        flags = [("n", "1") if flag == "I" else (flag, value) for flag, value in flags]
        inner = replace(inner, arguments=words[:-1])
    elif put and put != "{}":
        flags = [("I", "{}") if flag == "I" else (flag, value) for flag, value in flags]
        inner = replace(inner, arguments=tuple(word.replace(put, "{}") for word in words))
    name = inner.name.removeprefix("sudo ")
    kinds = {name, *(f"{name} {flag}" for flag, _ in inner.flags)}
    if kinds & named("one_by_one"):
        flags = [flag for flag in flags if flag != ("n", "1")]
    return flags, inner


def shell_of(words: Sequence[str], is_root: bool) -> tuple[str, int, bool] | None:
    """Of `bash -c`, by `sudo` or as `su -c`: as whom it runs, which word is the line, and whether
    it starts at home; None where that is not it.
    """
    at = int(words[:1] == ["sudo"])
    who, home = "sudo" * at, False
    if at and words[1:2] in (["-u"], ["-iu"]) and len(words) > 3:
        who, home, at = f"sudo -u {words[2]}", words[1] == "-iu", 3
    name, *rest = words[at:] or [""]
    if name.rpartition("/")[2] in ("bash", "sh") and len(rest) == 2 and rest[0] in ("-c", "-lc"):
        return who, at + 2, home
    if name != "su" or at > 1 or not (at or is_root):
        return None
    home = rest[:1] in (["-"], ["-l"], ["--login"])
    match rest[home:]:
        case [user, "-c", _] if not user.startswith("-"):
            return f"sudo -u {user}", len(words) - 1, home
        case ["-c", _, user] if not user.startswith("-"):
            return f"sudo -u {user}", len(words) - 2, home
    return None


def run_as(form: Form, who: str) -> Form | None:
    """What `sudo` runs of a form, each command by itself; None where that is not sure.

    `who` may name a user: `sudo -u a`. Who writes to a file is then `sudo tee`.
    """
    if form[0] in ("pipe", "sequence"):
        parts = [run_as(part if form[0] == "pipe" else part[1], who) for part in form[1:]]
        if any(part is None for part in parts):
            return None
        if form[0] == "pipe":
            return ("pipe", *parts)
        operators = [operator for operator, _ in form[1:]]
        return ("sequence", *zip(operators, parts, strict=True))
    if form[0] != "command":
        return None
    command, goes = form[1], dict(form[1].redirects)
    target = goes.pop(">", None) or goes.pop(">>", None)
    if target is None:
        return ("command", replace(command, name=f"{who} {command.name}"))
    if command.name not in ("echo", "printf", "cat") or goes.keys() - {"<<"} or command.assignments:
        return None
    flags = () if (">", target) in command.redirects else (("a", ""),)
    tee = Command(f"{who} tee", flags, (target,), (), (), None)
    said = replace(command, redirects=tuple(goes.items()))
    return pipeline([("command", said), ("command", tee)])


def seconds(time: str) -> str:
    """`10s` and `1m` as `10` and `60`."""
    found = _TIME.fullmatch(time)
    return str(int(found[1]) * {"m": 60, "h": 3600}.get(found[2], 1)) if found else time
