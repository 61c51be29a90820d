"""The command as forks of one process that has imported what does not depend on the environment.

A run's own process without the seconds that importing torch and MLflow takes. The process reads a
line of JSON a command, answers with the fork's process id and, when that has ended, its exit code.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = (
    "pivotrl.engines.hf",
    "pivotrl.environments.retail",
    "pivotrl.store",
    "pivotrl.training",
    "transformers.models.qwen3.modeling_qwen3",
    "mlflow.store.tracking.sqlalchemy_store",
)
OF_IMPORTS = {"PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
"""What imports look at once, for every command; the hub would be asked for half a minute."""
OF_FLOWS = ("flows", "tasks", "prefect", "ray")
"""What reads the environment as it is imported."""


class Nursery:
    """Where commands start quickly, one at a time."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env=os.environ | OF_IMPORTS,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        out: Path,
        err: Path,
        cwd: Path = ROOT,
    ) -> int:
        """The id of the command's process, which leads a session; what it says is appended."""
        assert self.process.stdin and self.process.stdout
        asked = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "said": [str(out), str(err)],
            "cwd": str(cwd),
        }
        self.process.stdin.write(json.dumps(asked).encode() + b"\n")
        return int(self.process.stdout.readline())

    def ended(self, seconds: float = 0.0) -> bool:
        """Whether the command ends within `seconds`."""
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def code(self) -> int:
        """The exit code of the command, once it has ended."""
        assert self.process.stdout
        return int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def become(
    arguments: list[str], environment: dict[str, str], said: Sequence[str], cwd: str
) -> None:
    """A command's process, in a session of its own, which heeds signals as in a terminal."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # under nohup both are ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), stream)
    sys.argv = ["pivotrl", *arguments]


def lived() -> int:
    """The exit code of the command in this process."""
    from flows.cli import main

    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    for name in MODULES:
        import_module(name)
    gc.freeze()  # or each fork copies all of it, only to look through it
    assert not sys.modules.keys() & {*OF_FLOWS}
    assert threading.active_count() == 1, "a fork has the caller's thread alone"
    for line in sys.stdin:
        if not (child := os.fork()):
            become(**json.loads(line))
            code = lived()
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            os._exit(code)  # nothing is torn down that was frozen
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    os._exit(0)
