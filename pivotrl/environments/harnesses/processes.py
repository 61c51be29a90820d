"""A process with all that it starts: its own group, which never outlives the block that wanted it.

This module must never know what runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_LOCAL = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1")))
"""What is served here is asked directly."""
END_SECONDS = 20.0
"""What a group is given to end its containers and servers, before it is killed."""


@contextmanager
def group(
    command: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
    output: int | IO[bytes],
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `command` in `folder`; what it writes goes to `output`, and it can ask nothing.

    `variables` come on top of our own environment. At the end of the block the whole group is
    gone; a signal must be an exception for the block to end by it. Raises OSError where the
    command cannot be started.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **dict.fromkeys(("NO_PROXY", "no_proxy"), _LOCAL), **variables},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C reaches us alone
    )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C does, which harnesses clean up after; then for certain."""
    if process.poll() is None:
        _signal(process, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
    _signal(process, signal.SIGKILL)
    process.wait()


def end_by(process: subprocess.Popen[bytes], deadline: float) -> None:
    """Waits until the process ends, or `deadline` (of `time.monotonic`), and ends what is left.

    What it leaves running would hold its output open, and a reader of it for ever.
    """
    with suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, deadline - time.monotonic()))
    end(process)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
