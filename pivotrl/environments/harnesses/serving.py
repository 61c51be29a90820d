"""Our own model as an endpoint: vLLM in a process of its own, on loopback, for as long as a block.

Chat completions with tools, so that any harness can speak to it. The model folder's chat template
is the prompt; calls are told from text by vLLM's parser of that form. This module must never know
which harness asks.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from pivotrl.environments.harnesses.base import Endpoint
from pivotrl.environments.harnesses.processes import group
from pivotrl.types import PivotRLError

HOST = "127.0.0.1"
MODEL = "policy"
LOG = "serve.log"
START_SECONDS = 900.0
"""A large model is read and compiled for minutes."""
VARIABLES = {
    "VLLM_HOST_IP": HOST,  # what vLLM starts listens on this machine alone
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}


@contextmanager
def served(
    model: Path,
    folder: Path,
    *,
    tool_parser: str = "hermes",
    options: Sequence[str] = (),
    start_seconds: float = START_SECONDS,
) -> Iterator[Endpoint]:
    """The model folder `model`, served; what the server says is in `folder`/serve.log.

    `tool_parser` is vLLM's name of the form in which the model writes calls; `options` are more
    words for `vllm serve`. Raises PivotRLError where the server ends or is not ready within
    `start_seconds`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder.resolve() / LOG
    port = _free_port()
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model.resolve()), "--served-model-name", MODEL),
        *("--host", HOST, "--port", str(port)),
        *("--load-format", "safetensors", "--generation-config", "vllm"),
        *("--enable-prefix-caching", "--enable-auto-tool-choice"),
        *("--tool-call-parser", tool_parser),
        *options,
    ]
    with log.open("wb") as output, group(command, folder, VARIABLES, output) as process:
        _wait(process, port, log, time.monotonic() + start_seconds)
        yield Endpoint(url=f"http://{HOST}:{port}/v1", model=MODEL)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path, deadline: float) -> None:
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise PivotRLError(
                f"vLLM ended by itself (exit code {process.returncode}); {log} says why"
            )
        try:
            if (
                httpx.get(f"http://{HOST}:{port}/health", timeout=5, trust_env=False).status_code
                == 200
            ):
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    raise PivotRLError(f"vLLM is not ready in time; {log} says how far it came")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port
