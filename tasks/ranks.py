"""A round of training on several processes, of one machine or more, which `torchrun` starts.

An order (JSON) goes down to all of them; the first answers a line a step and a last one with the
result. What else they say is in `ranks.log` beside the order.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.markup import escape

from pivotrl.config import Config
from pivotrl.manifest import Manifest
from pivotrl.types import PivotRLError
from tasks.session import Session, current, running
from tasks.stage import Work

_RAISED = re.compile(r"^(?:\[rank\d+\]: )?(?:\w+\.)*\w*(?:Error|Exception): (.+)", re.MULTILINE)
TOLD = 600
"""Characters of a failure that are told."""


def launched(stage: str, work: Work, on_step: Callable[[], None]) -> Any:
    """The RoundResult of `train` or `sft` for `work`; raises PivotRLError where a process fails."""
    from pivotrl.training import RoundResult, StopReason

    config: Config = work.extra["config"]
    train = config.train
    me = psutil.Process()
    order = work.folder / "order.json"
    order.write_text(
        json.dumps(
            {
                "stage": stage,
                "home": str(work.home),
                "folder": str(work.folder),
                "settings": work.settings,
                "inputs": {n: m.model_dump(mode="json") for n, m in work.inputs.items()},
                "config": config.model_dump(mode="json", by_alias=True),
                "start": str(work.extra["start"]),
                "trajectories": work.extra["trajectories"].model_dump(mode="json"),
                "parent": [me.pid, me.create_time()],
            }
        )
    )
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(train.processes)]
    if train.nodes > 1:
        host, _, port = train.master.rpartition(":")
        line += ["--nnodes", str(train.nodes), "--master-addr", host, "--master-port", port]
        rest = f"--node-rank 1 (2, ...) -m tasks.ranks {order}"
        current().say(f"  on each other machine: {' '.join(['python', *line[1:], rest])}")
        line += ["--node-rank", "0"]
    else:
        line.append("--standalone")
    line += ["-m", "tasks.ranks", str(order)]
    threads = str(max(1, (os.cpu_count() or 1) // train.processes))
    answer: dict[str, Any] | None = None
    with (work.folder / "ranks.log").open("w+") as log:
        process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=log, text=True,
            env=os.environ | {"OMP_NUM_THREADS": threads},
        )  # fmt: skip
        try:
            assert process.stdout is not None
            for said in process.stdout:
                message = json.loads(said)
                answer = message.get("result", answer)
                if "step" in message:
                    on_step()
                if "said" in message:
                    current().say(message["said"])
            code = process.wait()
        finally:
            process.terminate()  # torchrun ends its processes
            process.wait()
        if code or answer is None:
            log.seek(0)
            found = _RAISED.search(log.read())
            raise PivotRLError(
                f"training on {train.nodes} x {train.processes} processes ended with {code}: "
                f"{found[1][:TOLD] if found else 'without a word'} "
                f"(all of it: {log.name}); run again, the round goes on from its checkpoint"
            )
    return RoundResult(
        **answer
        | {
            "checkpoint": Path(answer["checkpoint"]),
            "stop_reason": StopReason(answer["stop_reason"]),
            "validation": tuple((step, score) for step, score in answer["validation"]),
            "records": Path(answer["records"]),
        }
    )


def main() -> None:
    """One of the processes."""
    from pivotrl.training import ranks
    from tasks.round import ROUNDS

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print what they like
    order = json.loads(Path(sys.argv[1]).read_bytes())
    if os.environ["GROUP_RANK"] == "0":  # the machine that the order comes from
        threading.Thread(target=_end_with, args=order["parent"], daemon=True).start()
    config = Config.model_validate(order["config"])
    device = ranks.join(config.model.device)
    work = Work(
        home=Path(order["home"]),
        folder=Path(order["folder"]),
        settings=order["settings"],
        inputs={name: Manifest.model_validate(m) for name, m in order["inputs"].items()},
        extra={
            "config": config,
            "start": Path(order["start"]),
            "trajectories": Manifest.model_validate(order["trajectories"]),
        },
    )
    is_first = ranks.number() == 0

    def tell(message: dict[str, Any]) -> None:
        if is_first:
            print(json.dumps(message, default=str), file=answers, flush=True)

    logged = warnings.showwarning

    def said(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        logged(message, category, *where, **more)
        if issubclass(category, RuntimeWarning):  # ours; those of libraries are in the log alone
            tell({"said": f"  [yellow]{escape(str(message))}[/]"})

    warnings.showwarning = said
    console = Console(quiet=True)
    with running(_Told(home=work.home, console=console, tell=tell)):
        result = ROUNDS[order["stage"]](work, device, lambda: tell({"step": 1}))
    tell({"result": asdict(result)})


@dataclass(kw_only=True)
class _Told(Session):
    """A session whose words go to the process that started this one."""

    tell: Callable[[dict[str, Any]], None]

    def say(self, line: str) -> None:
        self.tell({"said": line})


def _end_with(pid: int, started: float) -> None:
    """Who was killed cannot end its children: they look after it themselves."""
    with suppress(psutil.Error):
        parent = psutil.Process(pid)
        while abs(parent.create_time() - started) < 1 and parent.status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
            parent = psutil.Process(pid)
    os._exit(1)


if __name__ == "__main__":
    main()
