"""Ingest and extraction against a bare parse of the same file, on one core, and their memory.

    python bench/ingest.py --megabytes 200

Two made files of OpenAI chat: conversations with a tool (short messages) and terminal logs (long
ones). Time is what the two stages' bodies take; the parse is `orjson.loads` of each line. Every
measurement is a process of its own. Writes docs/results/ingest.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import orjson

from pivotrl.types import JSON

ROOT = Path(__file__).parents[1]
WORDS = ("order", "item", "was", "sent", "back", "its", "size", "did", "not", "fit", "refund")
KINDS = {"short messages": 500, "long messages": 3000}
"""Mean characters of a tool's result."""
TURNS = 24


def trajectory(rng: random.Random, number: int, result_characters: int) -> JSON:
    def words(characters: float) -> str:
        return " ".join(rng.choices(WORDS, k=max(3, int(characters / 5))))

    messages: list[JSON] = [
        {"role": "system", "content": words(1500)},
        {"role": "user", "content": f"Case {number}: {words(200)}"},
    ]
    for turn in range(TURNS // 2):
        call = {"name": "look_up", "arguments": json.dumps({"id": f"#{turn}", "what": words(30)})}
        messages += [
            {"role": "assistant", "tool_calls": [{"id": f"c{turn}", "function": call}]},
            {"role": "tool", "tool_call_id": f"c{turn}", "content": words(result_characters)},
            {"role": "assistant", "content": words(200)},
            {"role": "user", "content": words(100)},
        ]
    properties = {name: {"type": "string", "description": words(60)} for name in ("id", "what")}
    tool = {"name": "look_up", "parameters": {"type": "object", "properties": properties}}
    tools = [{"type": "function", "function": tool}]
    return {"messages": messages, "tools": tools, "task_id": str(number), "domain": "retail"}


def make(path: Path, megabytes: int, result_characters: int) -> None:
    rng = random.Random(0)
    number = 0
    with path.open("wb") as file:
        while file.tell() < megabytes * 10**6:
            file.write(orjson.dumps(trajectory(rng, number, result_characters)) + b"\n")
            number += 1


def parse(path: Path) -> dict[str, float]:
    start = time.perf_counter()
    with path.open("rb") as file:
        for line in file:
            orjson.loads(line)
    return {"seconds": time.perf_counter() - start}


def stages(path: Path, home: Path) -> dict[str, float]:
    from rich.console import Console

    import_module("flows")  # sets Prefect's folders before it is imported
    from pivotrl.config import load_config
    from tasks.extract import extract
    from tasks.ingest import ingest
    from tasks.session import Session, running

    config = load_config(ROOT / "configs/own.toml", [f"data.trajectories={path}"])
    with running(Session(home=home, console=Console(quiet=True))):
        trajectories = ingest(config)
        assert trajectories is not None
        candidates = extract(config, trajectories)
        assert candidates is not None
    return {
        "seconds": trajectories.seconds + candidates.seconds,
        "candidates": candidates.counts["candidates"],
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measured(what: str, path: Path, home: Path) -> dict[str, float]:
    """One measurement in a process of its own, on one core."""
    home.mkdir(exist_ok=True)
    environment = os.environ | {"POLARS_MAX_THREADS": "1", "PIVOTRL_HOME": str(home)}
    command = [sys.executable, __file__, "--measure", what, str(path), str(home)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, path, home = options.measure
        os.sched_setaffinity(0, {0})
        result = parse(Path(path)) if what == "parse" else stages(Path(path), Path(home))
        print(json.dumps(result))
        return
    lines = [
        "# Ingest and extraction",
        "",
        f"`python bench/ingest.py --megabytes {options.megabytes}`; one core.",
        "",
        "| file | MB | candidates | bare parse, s | stages, s | ratio | peak resident MB |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for kind, characters in KINDS.items():
            file = Path(folder) / f"{kind.split()[0]}.jsonl"
            make(file, options.megabytes, characters)
            bare = min(measured("parse", file, Path(folder))["seconds"] for _ in range(3))
            found = measured("stages", file, Path(folder) / kind.split()[0])
            lines.append(
                f"| {kind} | {file.stat().st_size / 1e6:.0f} | {found['candidates']:,.0f} | "
                f"{bare:.2f} | {found['seconds']:.2f} | {found['seconds'] / bare:.1f} | "
                f"{found['megabytes']:.0f} |"
            )
            print(lines[-1], flush=True)
    (ROOT / "docs/results/ingest.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
