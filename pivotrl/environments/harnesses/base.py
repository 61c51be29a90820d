"""What a harness is: checks, commands in an interpreter of its own, and a reader of its results.

It speaks to every model through an endpoint, and what it wrote is a foreign file. This module must
never know an engine, a configuration or a store.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pivotrl.environments.harnesses.processes import end_by, group
from pivotrl.scores import EvaluationItem
from pivotrl.types import ConfigError, PivotRLError

LONGEST_LINE = 4_096
"""Bytes; a longer line of a harness is passed on in pieces."""
LONGEST_LOG = 64 * 2**20
"""Bytes of a harness's words that are kept; later ones are passed on alone."""
LOG = "harness.log"

Say = Callable[[str], None]
"""Called with each line that a harness writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A model behind OpenAI's chat completions, with tools."""

    url: str
    """Ends in `/v1`."""
    model: str
    key_env: str | None = None
    """The environment variable that holds the key; None where the server wants none."""

    @property
    def key(self) -> str:
        """Some word also where the server wants none, since clients insist on one."""
        return os.environ.get(self.key_env, "") if self.key_env else "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessSettings:
    folder: Path
    """New or empty; all that the harness writes."""
    agent: Endpoint
    user: Endpoint | None = None
    """Plays the user, where the benchmark has one."""
    judge: Endpoint | None = None
    """Grades answers, where a model does that."""
    python: Path = Path(sys.executable)
    """The interpreter of the virtual environment that has the harness."""
    tasks: tuple[str, ...] = ()
    """Only these, by the benchmark's own ids; all of them if empty."""
    limit: int | None = None
    """At most so many tasks, the first ones."""
    repeats: int = 1
    """Responses to each task."""
    concurrency: int = 4
    """Tasks at once."""
    seconds: float = 86_400.0
    """Wall time of the whole; then the harness is ended."""
    options: tuple[str, ...] = ()
    """More words for the command that runs the agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness:
    name: str
    domain: str
    """As trajectories have it: tool_use, software, terminal, browsing."""
    missing: Callable[[HarnessSettings], list[str]]
    """What it cannot run without: a sentence with the remedy each, none when all is there."""
    commands: Callable[[HarnessSettings], list[list[str]]]
    """Run one after the other, in the settings' folder."""
    variables: Callable[[HarnessSettings], Mapping[str, str]]
    """What the commands find in their environment beside ours; keys travel here alone."""
    secrets: tuple[str, ...] = ()
    """Variables of our own environment whose values are never said or kept."""
    read: Callable[[Path], list[EvaluationItem]]
    """The items in a folder where the commands ran. Raises PivotRLError for what is not in the
    harness's format, and where its machinery failed on a task: an error is no score."""


def run(
    harness: Harness, settings: HarnessSettings, say: Say = lambda line: None
) -> list[EvaluationItem]:
    """The benchmark's items as the harness scored them; its words are kept in `harness.log`.

    Raises ConfigError with all that is missing, before anything starts; PivotRLError where a
    command fails or the time is over; and what `harness.read` raises. Nothing that the harness
    started in its group outlives the call.
    """
    missing = harness.missing(settings)
    if missing:
        raise ConfigError(f"{harness.name} cannot run: {'; '.join(missing)}")
    folder = settings.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ConfigError(f"{folder}: old results would count; give an empty folder")
    deadline = time.monotonic() + settings.seconds
    for command in harness.commands(settings):
        code, last = _one(harness, settings, folder, command, deadline, say)
        if time.monotonic() >= deadline:
            raise PivotRLError(
                f"{harness.name}: not done after {settings.seconds:g} s; give it fewer tasks "
                f"(its words: {folder / LOG})"
            )
        if code:
            raise PivotRLError(
                f"{harness.name}: its command ended with {code}: {last[:300]} "
                f"(all of it: {folder / LOG})"
            )
    items = harness.read(folder)
    unknown = set(settings.tasks[: settings.limit]) - {item.item_id for item in items}
    if unknown:
        raise PivotRLError(
            f"{harness.name}: no result of task {min(unknown)!r} ({len(unknown)} such); give ids "
            "that the benchmark has"
        )
    return items


def _one(
    harness: Harness,
    settings: HarnessSettings,
    folder: Path,
    command: list[str],
    deadline: float,
    say: Say,
) -> tuple[int, str]:
    """A command's exit code and its last line."""
    endpoints = (settings.agent, settings.user, settings.judge)
    keys = [given.key for given in endpoints if given and given.key_env and given.key]
    keys += [os.environ[name] for name in harness.secrets if os.environ.get(name)]
    last = ""
    with (
        (folder / LOG).open("ab", buffering=0) as log,
        group(command, folder, harness.variables(settings), subprocess.PIPE) as process,
    ):
        threading.Thread(target=end_by, args=(process, deadline), daemon=True).start()
        for line in _lines(process, keys):
            if log.tell() < LONGEST_LOG:
                log.write(f"{line}\n".encode())
            last = line.strip() or last
            say(line)
        return process.wait(), last


def _lines(process: subprocess.Popen[bytes], keys: list[str]) -> Iterator[str]:
    """What a process writes, without the keys that it was given."""
    assert process.stdout is not None
    secrets = [key.encode() for key in keys]
    held = max(map(len, secrets), default=1) - 1
    rest = b""
    while piece := process.stdout.readline(LONGEST_LINE):
        line = rest + piece
        for secret in secrets:
            line = line.replace(secret, b"***")
        whole = len(piece) < LONGEST_LINE or piece.endswith(b"\n") or not held
        line, rest = (line, b"") if whole else (line[:-held], line[-held:])  # a key may go on
        yield line.decode(errors="replace").rstrip()
    if rest:
        yield rest.decode(errors="replace").rstrip()
