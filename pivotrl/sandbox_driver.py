"""The driver inside a sandbox: runs one program on many inputs, a process each, under limits.

`sandbox.py` hands over its source, so it knows the standard library alone. It reads the job (JSON)
from its standard input and writes to the descriptor that it is told: `STARTED`, then for each input
`exit size\\n` and so many bytes, up to and with the first that is not `ok`. It must never be told
what the program must not know: a program can read all of its driver.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import selectors
import signal
import sys
import time
from contextlib import suppress
from types import ModuleType
from typing import Any

STARTED = b"started\n"
BROKEN = "broken"
"""The exit of a run that the driver could not start: no program's doing."""
OUT = 3
"""The descriptor that `give` writes to."""
_OUT_OF_MEMORY = 90
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_CHILD_EXITS = {0: "ok", _OUT_OF_MEMORY: "memory", -signal.SIGXCPU: "timeout"}


def main() -> None:
    c = ctypes.CDLL(None)
    c.prctl(_PR_SET_DUMPABLE, 0)  # so no program opens what this process has open
    c.prctl(_PR_SET_CHILD_SUBREAPER, 1)  # so it waits for all that a program leaves behind
    records = int(sys.argv[1])
    job = json.load(sys.stdin)
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_NPROC, job["processes"]),
        (resource.RLIMIT_AS, job["memory"]),
    ):
        resource.setrlimit(limit, (most, most))
    if job["before"]:
        with suppress(Exception):  # what it imports is there for every program
            exec(compile(job["before"], "before", "exec"), {})  # noqa: S102
    _write(records, STARTED)
    for text in job["inputs"]:
        try:
            exit, said = _run(job, text)
        except OSError:
            exit, said = BROKEN, b""
        _write(records, f"{exit} {len(said)}\n".encode() + said)
        if exit != "ok":
            break


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _run(job: dict[str, Any], text: str) -> tuple[str, bytes]:
    given = os.memfd_create("stdin")
    _write(given, text.encode("utf-8", "replace"))
    os.lseek(given, 0, os.SEEK_SET)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        _program(job, given, writer)
    os.close(given)
    os.close(writer)
    try:
        exit, said = _listen(child, reader, job["seconds"], job["output"])
    finally:
        os.close(reader)
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # all but this process and the first
    status = 0
    with suppress(ChildProcessError):
        while True:
            pid, ended = os.waitpid(-1, 0)
            status = ended if pid == child else status
    if exit == "ended":
        exit = _CHILD_EXITS.get(os.waitstatus_to_exitcode(status), "error")
    return exit, said if exit == "ok" else b""


def _listen(child: int, reader: int, seconds: float, most: int) -> tuple[str, bytes]:
    """What the child writes until it has ended, or why that is no longer waited for."""
    end, said = time.monotonic() + seconds, bytearray()
    ended = os.pidfd_open(child)
    with selectors.DefaultSelector() as streams:
        streams.register(reader, selectors.EVENT_READ)
        streams.register(ended, selectors.EVENT_READ)
        try:
            while True:
                ready = {key.fd for key, _ in streams.select(max(0.0, end - time.monotonic()))}
                if reader in ready:
                    piece = os.read(reader, 65536)
                    said += piece
                    if len(said) > most:
                        return "output", b""
                    if not piece:
                        streams.unregister(reader)
                elif ended in ready:
                    return "ended", bytes(said)
                if time.monotonic() >= end:
                    return "timeout", b""
        finally:
            os.close(ended)


def _program(job: dict[str, Any], given: int, writer: int) -> None:
    """In the child: the program as `__main__`. Leaves by an ordinary exit, so that its threads
    and its exit handlers have their turn."""
    os.setsid()
    seconds = int(job["seconds"]) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (job["storage"], job["storage"]))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(given, 0)
    os.dup2(nothing if job["after"] else writer, 1)
    os.dup2(nothing, 2)
    os.dup2(writer if job["after"] else nothing, OUT)
    os.closerange(OUT + 1, 256)
    read, write = io.FileIO(0, closefd=False), io.FileIO(1, "w", closefd=False)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(read), "utf-8")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(write), "utf-8")
    sys.argv = ["program"]
    module = sys.modules["__main__"] = ModuleType("__main__")
    names = module.__dict__
    try:
        for part in ("before", "code", "after"):
            if part == "after":
                names["give"] = lambda said: _write(OUT, said.encode())
            source = compile(job[part], part, "exec", dont_inherit=True)
            exec(source, names)  # noqa: S102  (this process is what the sandbox is for)
    except SystemExit:
        pass
    except MemoryError:
        sys.exit(_OUT_OF_MEMORY)
    sys.exit(0)


if __name__ == "__main__":
    main()
