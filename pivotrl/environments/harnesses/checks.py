"""What a harness needs to be there, each a question with a plain sentence for an answer.

This module must never know which harness asks.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pivotrl.environments.harnesses.base import Endpoint
from pivotrl.http_client import authorization, checked_url
from pivotrl.types import ConfigError

SECONDS = 60.0
"""For a command to answer."""
CONNECT_SECONDS = 10.0

_ABSENT = "import importlib.util as u, sys; [print(m) for m in sys.argv[1:] if not u.find_spec(m)]"
_CONSTANT = (
    "import importlib, sys; print(getattr(importlib.import_module(sys.argv[1]), sys.argv[2]))"
)


def endpoint(role: str, given: Endpoint | None) -> list[str]:
    """Whether there is one for `role`, with an address and a key that can be used."""
    if given is None:
        return [f"it needs an endpoint for the {role}: give the url and model of one"]
    try:
        checked_url(given.url, f"the {role}'s url")
        authorization(given.key_env, f"the {role}'s key_env")
    except ConfigError as error:
        return [str(error)]
    return [] if given.model else [f"the {role}'s endpoint names no model: give one that it serves"]


def single(repeats: int) -> list[str]:
    """Whether one response a task is asked for, where a harness gives no more."""
    return [] if repeats == 1 else ["it gives one response a task: run it once for each repeat"]


def modules(python: Path, packages: Mapping[str, str]) -> list[str]:
    """Whether `python` can import each module (key); the value is what to install for it."""
    absent = _said(python, _ABSENT, *packages)
    if absent is None:
        return [f"{python} does not run: give the interpreter of a virtual environment as python"]
    wanted = " ".join(dict.fromkeys(packages[module] for module in absent.split()))
    return [f"{python} lacks packages: {python} -m pip install {wanted}"] if wanted else []


def docker() -> list[str]:
    """Whether there is a Docker daemon that we may use."""
    command = shutil.which("docker")
    if command is None:
        return ["there is no docker command: install Docker"]
    if not _output([command, "info", "--format", "{{.ServerVersion}}"]):
        return ["no Docker daemon answers: start it, or add this user to its group"]
    return []


def network(url: str, purpose: str) -> list[str]:
    """Whether the server of `url` can be reached; `purpose` says what is there."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), CONNECT_SECONDS).close()
    except OSError:
        return [f"no network to {parts.hostname}, where {purpose}: run on a machine that has it"]
    return []


def network_of(python: Path, module: str, constant: str, purpose: str) -> list[str]:
    """As `network`, for the address that a module of the harness holds; no word if it lacks it."""
    url = (_said(python, _CONSTANT, module, constant) or "").strip()
    return network(url, purpose) if url else []


def _said(python: Path, code: str, *words: str) -> str | None:
    return _output([str(python), "-c", code, *words])


def _output(command: list[str]) -> str | None:
    """None where it does not run, fails or does not answer in time."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
