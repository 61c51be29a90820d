"""One simple command in normal form, in the place where it runs.

Nothing is executed. This module must never know how a line is parsed.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from pivotrl.verifiers import shell_commands as commands
from pivotrl.verifiers import shell_runs as runs
from pivotrl.verifiers import shell_targets as targets
from pivotrl.verifiers.shell_commands import Command
from pivotrl.verifiers.shell_flags import (
    Spec,
    known_of,
    options_first,
    read,
    renamed,
    spec_of,
    tables,
)
from pivotrl.verifiers.shell_scripts import normal_script
from pivotrl.verifiers.shell_words import said_by

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


class Place:
    """Where commands run: the directory (None where unknown), which `cd` moves, and the home.

    Also the Python environment that is active, and whether no command took it yet.
    """

    def __init__(self, directory: str | None, home: str | None) -> None:
        self.directory, self.home = directory, home
        self.environment, self.idle = "", False

    def elsewhere(self, words: list[str], line: bool) -> list[str]:
        """A command for another machine or container, in words that say the same."""
        raise NotImplementedError

    def path(self, word: str, slash: bool = False) -> str:
        """Absolute where the directory is known."""
        end = "/" if slash and word.endswith("/") else ""
        if word.startswith("/"):
            return posixpath.normpath(word) + end
        if not word or "://" in word or word.startswith(("-", "$", "~", "\\")):
            return word
        return posixpath.normpath(posixpath.join(self.directory or "", word)) + end

    def located(self, word: str) -> str:
        """A word for a program that is not known, or the value of its option, if it is a path."""
        name, equals, value = word.rpartition("=") if word.startswith("-") else ("", "", word)
        value = self.path(value) if commands.LOOKS_LIKE_PATH.fullmatch(value) else value
        return f"{name}{equals}{value}"

    def simple(
        self,
        words: Sequence[str],
        redirects: tuple[tuple[str, str], ...],
        assigned: tuple[str, ...],
    ) -> Command:
        name, *rest = words
        for folder in ("/usr/bin/", "/bin/", "/usr/local/bin/", "/usr/sbin/", "/sbin/"):
            name = name.removeprefix(folder) or name
        given = list(takewhile(_ASSIGNMENT.match, rest)) if name == "env" else []
        if given and len(rest) > len(given):
            return self.simple(rest[len(given) :], redirects, (*assigned, *given))
        if name == "[" and rest[-1:] == ["]"]:
            name, rest = "test", rest[:-1]
        if "/" in name and name not in tables()["names"]:
            name = self.path(name)
            name = name if "/" in name else f"./{name}"  # none that is looked for
        environment, name = targets.environment_of(name)
        name, *rest = renamed([name, *rest])
        name, spec, flags, arguments = read(name, rest)
        spec = spec or known_of(name)
        if name == "xargs":
            flags, arguments = runs.into_folder(flags, arguments)
        if spec.prefix >= 0 and len(arguments) > spec.prefix:
            before = self.directory, self.environment
            if name == "sudo":  # which has programs of its own
                self.environment = ""
            if name == "sudo" and ("i", "") in flags and (user := dict(flags).get("u")):
                flags.remove(("i", ""))
                self.directory = f"~{user}"
            if named := name == "conda run" and [flag for flag, _ in flags] == ["n"]:
                self.environment = flags[0][1]
            inner = self.simple(arguments[spec.prefix :], redirects, assigned)
            self.directory, self.environment = before
            if named:
                return inner
            if name == "timeout":
                arguments[0] = runs.seconds(arguments[0])
            if name == "xargs":
                flags, inner = runs.each_of(flags, inner)
            if name == "sudo" and not flags and self.home == "/root":
                return inner
            own = [name, *(f"-{flag} {value}" for flag, value in flags), *arguments[: spec.prefix]]
            if name == "sudo" and arguments[0] == "tee":  # no `> f`, which the user's shell opens
                _, _, more, files = read("tee", arguments[1:])
                goes = tuple(map(self.path, files))
                inner = Command("tee", tuple(more), goes, redirects, assigned, None)
                return commands.plain(replace(inner, name=" ".join([*own, "tee"])))
            return replace(inner, name=" ".join([*own, inner.name]))
        if name == "python" and arguments and spec_of(script := posixpath.basename(arguments[0])):
            name, spec, more, rest = read(script, arguments[1:])
            arguments, spec = [arguments[0], *rest], (spec or known_of(name)).but(paths="first")
            name, flags = f"python {name}", [*flags, *more]
        if spec.remote >= 0 and len(arguments) > spec.remote:
            there = self.elsewhere(arguments[spec.remote :], spec.remote_line)
            arguments = [*arguments[: spec.remote], *there]
        elif spec.runs and len(arguments) > 1:  # what follows is for the program
            whole = any(flag == "m" for flag, _ in flags)
            theirs = options_first(arguments[not whole :])
            arguments[not whole :] = map(self.located, theirs)
        elif name == "make":  # variables may come anywhere
            arguments.sort(key=lambda word: (0, word) if "=" in word else (1, ""))
        if name == "sleep" and len(arguments) == 1:
            arguments = [runs.seconds(arguments[0])]
        if (said := said_by(name, arguments)) is not None:
            name, arguments = "echo", [said]
        inputs = [target for operator, target in redirects if operator == "<"]
        if spec.feeds and inputs:
            arguments = [*arguments, *inputs]
            redirects = tuple(r for r in redirects if r[0] != "<")
        if self.environment and not environment and not spec.anywhere:
            environment, self.idle = self.environment, False
        if environment:
            flags = sorted([*flags, ("@", environment)], key=lambda flag: flag[0])
        return self.placed(Command(name, tuple(flags), tuple(arguments), redirects, assigned, None),
                           spec)  # fmt: skip

    def placed(self, command: Command, spec: Spec) -> Command:
        """A command with its paths absolute, its programs in one form and its defaults said."""
        flags, arguments = list(command.flags), list(command.arguments)
        if command.name in ("curl", "wget"):
            flags, arguments = targets.fetched(command.name, flags, arguments)
        elif command.name == "git clone":
            arguments = targets.cloned(flags, arguments)
        elif command.name == "rsync":
            arguments = targets.synced(flags, arguments)
        start = commands.start_of(spec, flags)
        if command.name in ("docker cp", "scp"):
            arguments = targets.targeted(arguments, recursive=False)
        if command.name in ("cp", "mv", "ln", "install") and arguments and ("d", "") not in flags:
            if command.name == "ln" and ("s", "") not in flags:
                spec = spec.but(paths="all")
            whole = command.name == "mv" and "." not in posixpath.basename(arguments[0])
            arguments = targets.targeted(arguments, whole or any(f in "raR" for f, _ in flags))
        held = [value for flag, value in flags if flag == spec.first]
        if spec.script == "sed" and len(held) > 1:
            held = ["\n".join(held)]
        if len(held) == 1:
            flags, arguments = [f for f in flags if f[0] != spec.first], [*held, *arguments]
            start = int(spec.paths == "rest")
        if command.name == "find":
            arguments = commands.find_words(arguments, spec)
        made = targets.BUILT & {flag for flag, _ in flags}
        if command.name == "cmake" and made - {"B"}:
            spec = spec.but(default="")
        recursive = not spec.recursive or (spec.recursive, "") in flags
        if spec.default and recursive and len(arguments) <= start and command.name != "find":
            arguments += [spec.default] if len(arguments) == start else []
        if spec.script and arguments and start:
            # Variables that flags give to awk keep their names.
            named = spec.script == "awk" and any(flag == "v" for flag, _ in flags)
            language = "jq" if named else spec.script
            if language == "sed" and ("E", "") in flags:
                language = "sed -E"
            arguments[0] = normal_script(language, arguments[0].replace("\0", ""))
            plain = "\0" in arguments[0] or not re.search(r"[+?(){}|\\]", arguments[0])
            if spec.script == "sed" and plain:
                flags = [f for f in flags if f[0] != "E"]
        languages = dict(pair.split(":") for pair in spec.script_values.split())
        located = spec.path_values.split()
        for index, (flag, value) in enumerate(flags):
            value = self.path(value) if flag in located else value.replace("\0", "")
            flags[index] = (flag, normal_script(languages.get(flag, ""), value, self.directory))
        before = self.directory
        moved = [value for flag, value in flags if flag == spec.moves]
        if moved and spec.moves_file:  # by the file that is the default there
            folder, file = posixpath.split(moved[-1])
            whole = len(moved) == 1 and file in spec.moves_file.split()
            moved = [folder or "."] if whole else []
        if moved:
            flags = [f for f in flags if f[0] != spec.moves]
            to = self.path(moved[-1])
            if spec.paths == "first":  # from where it is still read
                arguments[:1] = map(self.path, arguments[:1])
            self.directory = to if to != "." else None
        command = replace(command, flags=tuple(flags), arguments=tuple(arguments))
        files = commands.file_places(command, spec)
        slash = spec.paths == "slash"
        resolved = [self.path(a, slash) if i in files else a for i, a in enumerate(arguments)]
        if command.name == "cmake" and not made:
            flags = sorted([*flags, ("B", self.directory or ".")])  # where it is run
        if command.name == "ln" and ("s", "") in flags:
            if ("r", "") in flags:
                flags.remove(("r", ""))
                resolved[:-1] = map(self.path, resolved[:-1])
            resolved = targets.linked(resolved)
        if spec.folds and resolved:
            resolved[0] = resolved[0].upper()
        if spec.paths == "bare":
            resolved = [posixpath.normpath(a) for a in arguments]
        if spec.paths == "first" and languages.get("cmd") and len(resolved) == 2:
            resolved[1] = normal_script(languages["cmd"], resolved[1].replace("\0", ""))
        if spec.set or spec.free:
            resolved.sort()
        command = replace(command, flags=tuple(flags), arguments=tuple(resolved),
                          directory=self.directory)  # fmt: skip
        self.directory = before
        return commands.plain(command, spec)
