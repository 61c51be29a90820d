"""Shell commands on copies of a snapshot, in a sandbox: what do they print, what do they leave?

bubblewrap gives each run namespaces of its own (no network, no other process), the machine's /usr
to read, and small file systems in memory to write, which end with it. A command is hostile: its
time, memory, processes, files and output are bounded, and one that goes over a bound has no
outcome. This module must never know a trajectory or a verdict, and never read a file that a command
made: it is told names, modes and hashes.
"""

from __future__ import annotations

import io
import os
import posixpath
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pivotrl.sandbox import (
    HOME,
    LIMITS,
    SYSTEM,
    WORK,
    Clock,
    Limits,
    NoOutcome,
    NotStarted,
    pieces,
    running,
    sandboxed,
)
from pivotrl.types import ConfigError
from pivotrl.verifiers.comparison import excerpt, table

_RUN = table("sandbox")["run"]
MAX_COMMAND = 100_000
"""Bytes; the kernel takes 128 KiB as one argument."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    exit_code: int
    stdout: bytes
    stderr: bytes
    before: frozenset[bytes]
    """Of each file, folder and link: `type mode path target`; of each file `sha256  path` too."""
    after: frozenset[bytes]

    @property
    def shows(self) -> bool:
        """Whether it printed or changed anything."""
        return bool(self.stdout or self.stderr) or self.before != self.after


def equal_outcome(
    references: Sequence[str], given: str, files: Mapping[str, str], folder: str | None
) -> int | str:
    """The index of the first reference whose outcome `given` has, else why there is none.

    Two failures, two commands that print and change nothing, a reference that does not do the same
    twice, and a run without an outcome are no proof. Raises NotStarted.
    """
    try:
        outcome = run_in_sandbox(given, files, folder)
    except NotStarted:
        raise
    except NoOutcome as reason:
        return str(reason)
    differences: list[str] = []
    for index, reference in enumerate(references):
        wanted = _steady(reference, tuple(files.items()), folder)
        found = _difference(wanted, outcome) if isinstance(wanted, Outcome) else str(wanted)
        if found is None:
            return index
        differences.append(found)
    return differences[0] if differences else "no reference to run"


@lru_cache(maxsize=16)
def _steady(
    command: str, files: tuple[tuple[str, str], ...], folder: str | None
) -> Outcome | NoOutcome:
    """What a reference does, run twice; remembered, since actions come in groups."""
    try:
        first, second = (run_in_sandbox(command, dict(files), folder) for _ in range(2))
    except NotStarted:
        raise  # and is not remembered
    except NoOutcome as reason:
        return reason
    return first if first == second else NoOutcome("the reference does not do the same twice")


def _difference(wanted: Outcome, given: Outcome) -> str | None:
    if wanted.exit_code and given.exit_code:
        return "both fail, which proves nothing"
    if not wanted.shows and not given.shows:
        return "neither prints or changes anything, which proves nothing"
    if wanted.exit_code != given.exit_code:
        return f"exit code {given.exit_code}, not {wanted.exit_code}"
    if changed := wanted.after ^ given.after:
        return "another file: " + _shown(min(changed))
    if (wanted.stdout, wanted.stderr) != (given.stdout, given.stderr):
        return "another output: " + _shown(given.stdout or given.stderr)
    return None


def _shown(text: bytes) -> str:
    return excerpt(text.decode("utf-8", "replace"))


def check_sandbox() -> None:
    """Raises ConfigError where no command can be run, saying what to install."""
    try:
        if run_in_sandbox("cat told", {"told": "works"}).stdout == b"works":
            return
        reason = "a command in it does not see its files"
    except NoOutcome as error:
        reason = str(error)
    raise ConfigError(
        f"commands cannot be run: no sandbox here ({reason}); install bubblewrap 0.8 or newer "
        "(Debian: apt-get install bubblewrap), allow user namespaces, or leave verify.execute out"
    )


def run_in_sandbox(
    command: str, files: Mapping[str, str], folder: str | None = None, limits: Limits = LIMITS
) -> Outcome:
    """The outcome of a bash command line in a copy of `files` (relative path -> text).

    The copy lies in `folder` where that can be made (absolute, or below ~), else in `WORK`. A file
    that starts with #! can be executed. Raises NoOutcome, within `limits.seconds` and a little;
    NotStarted if that was before the command began.
    """
    line = command.encode("utf-8", "replace")
    if b"\0" in line or len(line) > MAX_COMMAND:
        raise NoOutcome("the command is no argument that a shell takes")
    prefix, clock = sandboxed(_place(folder), limits), Clock()
    receiver, pipe = os.pipe()
    run = _RUN.format(
        seconds=max(1, round(limits.seconds)),
        processes=limits.processes,
        kibibytes=limits.memory // 1024,
        file_kibibytes=limits.storage // 1024,
        folders=f"/tmp {HOME} .",
        pipe=pipe,
    )
    with tempfile.TemporaryFile() as copy, os.fdopen(receiver, "rb") as listing:
        copy.write(_archive(files))
        copy.seek(0)
        with running([*prefix, "bash", "-c", run, "bash", line], copy, pipe) as process:
            assert process.stdout and process.stderr
            found = {s.fileno(): b"" for s in (process.stdout, process.stderr, listing)}
            clock.restart(limits.seconds)
            most = dict.fromkeys(found, limits.output)
            try:
                for stream, piece in pieces(process.pid, most, limits.memory, clock):
                    found[stream] += piece
            except NoOutcome as reason:
                if found[listing.fileno()]:
                    raise
                raise NotStarted(f"the sandbox did not start: {reason}") from None
    stdout, stderr, told = found.values()
    if not told:  # the list of files before the command
        raise NotStarted("the sandbox did not start: " + " ".join(_shown(stderr).split()))
    parts = told.split(b"\0\0")
    if len(parts) != 3 or not (parts[2].isdigit() and len(parts[2]) <= 3):
        raise NoOutcome("it did not end well: " + " ".join(_shown(stderr).split()))
    before, after = (frozenset(part.split(b"\0")) for part in parts[:2])
    return Outcome(
        exit_code=int(parts[2]), stdout=stdout, stderr=stderr, before=before, after=after
    )


def _archive(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, text in files.items():
            content = text.encode("utf-8", "replace")
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755 if text.startswith("#!") else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _place(folder: str | None) -> str:
    """Where the copy lies: `folder`, unless that is relative or the system's own."""
    named = HOME + folder[1:] if folder and folder.startswith("~") else folder or WORK
    where = posixpath.normpath(named)
    return where if where[:1] == "/" and where.split("/")[1] not in ("", *SYSTEM) else WORK
