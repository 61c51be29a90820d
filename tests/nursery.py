"""Runs of the command as forks of one process that has imported what a run needs.

Reads a line of JSON a run (`arguments`, `log`), answers with the fork's process id and, when that
has ended, with its exit code. `python tests/nursery.py`, by `kills`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from importlib import import_module

MODULES = (
    "flows.retrain",
    "flows.run",
    "mlflow.store.tracking.sqlalchemy_store",
    "pivotrl.engines.hf",
    "pivotrl.environments.retail",
    "pivotrl.training",
    "transformers.models.qwen3.modeling_qwen3",
)


def run(arguments: list[str], log: str) -> None:
    """As the command would: a session of its own, all that is said in the log."""
    from flows.cli import main

    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.argv = ["pivotrl", *arguments]
    code = 1
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    for name in MODULES:
        import_module(name)
    assert threading.active_count() == 1, "a fork has the caller's thread alone"
    for line in sys.stdin:
        asked = json.loads(line)
        if not (child := os.fork()):
            run(**asked)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
