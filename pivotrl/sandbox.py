"""Hostile programs in a sandbox: what do they print, and how do they end?

bubblewrap gives each sandbox namespaces of its own (no network, no other process), the machine's
/usr to read, and small file systems in memory to write, which end with it. Time, memory,
processes, files and output are bounded. Python programs see this project's own interpreter and
packages, read-only. This module must never know what a program is for, or the answer to it.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import IO

import psutil

from pivotrl import sandbox_driver
from pivotrl.types import ConfigError, PivotRLError

WORK = "/work"
ENVIRONMENT: Mapping[str, str] = {
    "HOME": "/home/user",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",  # a cache is no effect of a program
    "PYTHONHASHSEED": "0",
    "TERM": "dumb",
    "TZ": "UTC",
    "USER": "user",
}
HOME = ENVIRONMENT["HOME"]
SYSTEM = ("bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys", "usr")
"""The machine's own folders: of these none is made for a program."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
POLL_SECONDS = 0.05
START_SECONDS = 60.0
"""Until the driver is there, on a busy machine."""
SPARE_SECONDS = 5.0
"""After its own limit until a driver that says nothing counts as stopped."""
NOBODY = "65534"
_RECORD = re.compile(rb"(ok|error|timeout|memory|output|broken) (\d{1,12})\n")


class Exit(StrEnum):
    """How a program ended."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    seconds: float = 5.0
    """Of wall clock for the whole, and of CPU for each process."""
    memory: int = 2**30
    """Bytes that each process may address, and that all together may hold."""
    processes: int = 32
    storage: int = 2**25
    """Bytes that each of the three writable folders holds, and a file at most."""
    output: int = 2**18
    """Bytes of either output and of the list of files."""


LIMITS = Limits()


class NoOutcome(Exception):
    """Why a run says nothing: over a limit, or the sandbox did not work."""

    def __init__(self, reason: str, exit: Exit = Exit.ERROR) -> None:
        super().__init__(reason)
        self.exit = exit


class NotStarted(NoOutcome):
    """The machinery failed: nothing of the program ran, so it says nothing about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A program's run on one input."""

    exit: Exit
    stdout: bytes = b""
    """What it printed or gave; complete if `exit` is `ok`."""


@dataclass(slots=True)
class Clock:
    """Until when somebody must have answered."""

    end: float = 0.0
    seconds: float = 0.0

    def restart(self, seconds: float) -> None:
        self.seconds, self.end = seconds, time.monotonic() + seconds


def run_python(code: str, stdin: str = "", limits: Limits = LIMITS) -> Run:
    """The run of one Python program; see `run_tests`."""
    (run,) = run_tests(code, [stdin], limits)
    return run


def run_tests(
    code: str, inputs: Sequence[str], limits: Limits = LIMITS, before: str = "", after: str = ""
) -> Generator[Run]:
    """The program's run on each input, in turn, up to and with the first that is not `ok`.

    All are in one sandbox, each in a process of its own under `limits`, which end together when
    the iterator is closed. `before` and `after` are sources that are run before and after the
    program in its namespace, too; with `after` a run's `stdout` is not what was printed but the
    text that `after` hands to `give`. The program can fake its own output and nothing else: so keep
    from all three what it must not know. Raises `PivotRLError` if the sandbox does not start.
    """
    job = {"code": code, "before": before, "after": after, "inputs": list(inputs)}
    bounds = {name: getattr(limits, name) for name in Limits.__dataclass_fields__}
    source = inspect.getsource(sandbox_driver)
    receiver, pipe = os.pipe()
    with tempfile.TemporaryFile() as told, os.fdopen(receiver, "rb") as records:
        told.write(json.dumps(job | bounds).encode())
        told.seek(0)
        try:
            prefix = sandboxed(WORK, limits, _python_folders(), {**ENVIRONMENT, **ONE_THREAD})
            command = [*prefix, sys.executable, "-P", "-s", "-c", source, str(pipe)]
            with running(command, told, pipe) as process:
                yield from _runs(process, records, len(inputs), limits)
        except NoOutcome as error:
            raise PivotRLError(f"programs cannot be run: {error}") from None


def _runs(
    process: subprocess.Popen[bytes], records: IO[bytes], count: int, limits: Limits
) -> Iterator[Run]:
    assert process.stdout and process.stderr
    errors, fd, clock, got = process.stderr.fileno(), records.fileno(), Clock(), b""
    clock.restart(START_SECONDS)
    told = pieces(
        process.pid,
        {process.stdout.fileno(): limits.output, errors: limits.output, fd: None},
        limits.memory,
        clock,
    )
    has_started, said = False, b""
    try:
        for stream, piece in told:
            if stream == errors:
                said += piece
            if stream != fd:
                continue
            got += piece
            if not has_started:
                if not got.startswith(sandbox_driver.STARTED):
                    continue
                has_started, got = True, got[len(sandbox_driver.STARTED) :]
                clock.restart(limits.seconds + SPARE_SECONDS)
            while count and (run := _record(got, limits)):
                got = got[got.index(b"\n") + 1 + len(run.stdout) :]
                clock.restart(limits.seconds + SPARE_SECONDS)
                count -= 1
                yield run
                if run.exit is not Exit.OK:
                    return
            if not count:
                return
        reason = NoOutcome("it ended")
    except NoOutcome as over:
        reason = over
    if not has_started:
        shown = " ".join(said.decode("utf-8", "replace").split())[-300:]
        raise PivotRLError(
            f"programs cannot be run: the sandbox does not start ({shown or reason})"
        )
    yield Run(exit=reason.exit)


def _record(got: bytes, limits: Limits) -> Run | None:
    """The first record if it is complete. Raises NoOutcome for what no driver writes."""
    head = _RECORD.match(got)
    if head is None:
        if len(got) > 32:
            raise NoOutcome("its driver was overwritten")
        return None
    if head[1] == sandbox_driver.BROKEN.encode():
        raise PivotRLError("programs cannot be run: this machine has no more processes or files")
    size = int(head[2])
    if size > limits.output:
        raise NoOutcome("it wrote too much", Exit.OUTPUT)
    stdout = got[head.end() : head.end() + size]
    return Run(exit=Exit(head[1].decode()), stdout=stdout) if len(stdout) == size else None


@cache
def check_python(*imports: str) -> None:
    """Raises ConfigError, with the remedy, where no Python program can be run with the imports."""
    code = "".join(f"import {name}\n" for name in imports) + "print('works')"
    try:
        run = run_python(code, limits=Limits(seconds=60.0, memory=2**32))
        if run.stdout == b"works\n":
            return
        reason = f"a program that imports {', '.join(imports) or 'nothing'}: {run.exit}"
    except PivotRLError as error:
        reason = str(error).removeprefix("programs cannot be run: ")
    raise ConfigError(
        f"programs cannot be run: no sandbox here ({reason}); install bubblewrap 0.8 or newer "
        "(Debian: apt-get install bubblewrap), allow user namespaces, or leave out the benchmarks "
        "of code"
    )


@cache
def _python_folders() -> tuple[str, ...]:
    """Where this interpreter and its packages lie, besides /usr."""
    executable = Path(sys.executable).resolve()
    folders = {sys.prefix, sys.base_prefix, str(executable.parent.parent)}
    outer = sorted(folders, key=len)
    return tuple(
        folder
        for n, folder in enumerate(outer)
        if not any(Path(folder).is_relative_to(other) for other in ("/usr", *outer[:n]))
    )


def sandboxed(
    where: str,
    limits: Limits,
    readable: Sequence[str] = (),
    environment: Mapping[str, str] = ENVIRONMENT,
) -> list[str]:
    """The command line before a command; all but three folders is read-only.

    `where` is the working folder, one of the three; `readable` are more of the machine's folders.
    Raises NotStarted where bubblewrap is not installed.
    """
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise NotStarted("bwrap is not installed")
    first: list[str] = []
    sources = {folder: folder for folder in readable}
    if os.geteuid() == 0:  # the kernel does not limit root's processes
        first = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
        if readable:  # which may lie where nobody cannot look
            sources = {folder: f"/mnt/{n}" for n, folder in enumerate(readable)}
            binds = [word for pair in sources.items() for word in ("--ro-bind", *pair)]
            outer = [bwrap, "--die-with-parent", "--dev-bind", "/", "/", "--tmpfs", "/mnt"]
            first = [*outer, *binds, "--", *first]
    out = [*first, bwrap, "--unshare-all", "--unshare-user", "--disable-userns", "--uid", "1000"]
    out += ["--gid", "1000", "--hostname", "sandbox", "--die-with-parent", "--new-session"]
    out += ["--clearenv", *(w for k, v in environment.items() for w in ("--setenv", k, v))]
    for path in (Path("/", name) for name in SYSTEM if "bin" in name or "lib" in name):
        if path.is_symlink():
            out += ["--symlink", str(path.readlink()), str(path)]
        else:
            out += ["--ro-bind-try", str(path), str(path)]
    for shared in ("/usr", "/etc/alternatives", "/etc/ld.so.cache"):  # awk and cc are alternatives
        out += ["--ro-bind-try", shared, shared]
    out += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    for folder in sorted({"/tmp", HOME, where}, key=len):  # the outer one first
        out += ["--size", str(limits.storage), "--tmpfs", folder]
    for folder, source in sources.items():
        out += ["--ro-bind", source, folder]
    return [*out, "--remount-ro", "/", "--chdir", where, "--"]


@contextmanager
def running(
    command: Sequence[str | bytes], stdin: IO[bytes], pipe: int
) -> Iterator[subprocess.Popen[bytes]]:
    """The process of a sandboxed command, with `pipe` open in it (and closed here); at the end
    nothing of it runs. Raises NotStarted if it cannot be started."""
    try:
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(pipe,),
            cwd="/",
            env={},
        )
    except (OSError, ValueError) as error:  # ValueError: a NUL in a folder's name
        raise NotStarted(f"the sandbox cannot be started: {error}") from None
    finally:
        os.close(pipe)
    with process:
        try:
            yield process
        finally:
            _end(process)


def pieces(
    pid: int, streams: Mapping[int, int | None], memory: int, clock: Clock
) -> Iterator[tuple[int, bytes]]:
    """What comes from the descriptors, each with the bytes it may give in all, until they end.

    Raises NoOutcome when the clock has run out or the processes hold more than `memory` bytes.
    """
    left = dict(streams)
    with selectors.DefaultSelector() as open_streams:
        for stream in streams:
            open_streams.register(stream, selectors.EVENT_READ)
        look = time.monotonic() + POLL_SECONDS
        while open_streams.get_map():
            now = time.monotonic()
            if now >= clock.end:
                raise NoOutcome(f"it ran for over {clock.seconds:g} s", Exit.TIMEOUT)
            if now >= look:
                look = now + POLL_SECONDS
                if _resident(pid) > memory:
                    raise NoOutcome(f"it held over {memory:,} bytes of memory", Exit.MEMORY)
            for key, _ in open_streams.select(min(clock.end, look) - now):
                piece = os.read(key.fd, 65536)
                if not piece:
                    open_streams.unregister(key.fd)
                    continue
                if (may := left[key.fd]) is not None:
                    left[key.fd] = may - len(piece)
                    if may < len(piece):
                        raise NoOutcome(
                            f"it wrote over {streams[key.fd]:,} bytes of output or files",
                            Exit.OUTPUT,
                        )
                yield key.fd, piece


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends what still runs, from within: all of a sandbox dies with its first process."""
    if process.poll() is None:
        with suppress(psutil.Error):
            for first in psutil.Process(process.pid).children():
                first.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(1.0)  # bwrap, unless it is killed too, leaves no zombie
        process.kill()


def _resident(pid: int) -> int:
    """Bytes that the process and all below it hold."""
    total = 0
    with suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total
