"""What orchestration, store and tracking take of the demo's wall clock: docs/results/overhead.md.

    python bench/overhead.py

Runs `make demo` twice, over a home without a run, and times both from outside. What each stage's
body took is in its manifest; the rest is overhead: interpreter and imports, the demo's data,
Prefect's server and tasks, keys and hashes, merges, MLflow, the report. The second run is
unchanged, all of it overhead.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from flows import home
from pivotrl.store import Store

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs/results/overhead.md"


def demo() -> float:
    """Seconds of `make demo`, all of it."""
    start = time.perf_counter()
    subprocess.run(["make", "demo"], cwd=ROOT, check=True)
    return time.perf_counter() - start


def bodies(folder: Path) -> float:
    """Seconds in the bodies of the last run's stages."""
    store = Store(folder / "pivotrl.duckdb")
    _, rows = store.query("select report from runs order by started_at desc limit 1")
    files = [
        file
        for stage in json.loads(rows[0][0])["stages"]
        for file in folder.glob(f"*/{stage['stage']}/{stage['key']}/manifest.json")
    ]
    return sum(json.loads(file.read_text())["seconds"] for file in files)


def main() -> None:
    if (home() / "pivotrl.duckdb").exists():
        sys.exit(f"{home()} holds runs: their stages would be cached; name another PIVOTRL_HOME")
    first = demo()
    inside = bodies(home())
    again = demo()
    text = (
        "# Overhead of the demo\n\n`python bench/overhead.py`\n\n"
        "| | s |\n|---|---|\n"
        f"| `make demo` | {first:.1f} |\n"
        f"| bodies of its stages | {inside:.1f} |\n"
        f"| the rest | {first - inside:.1f} |\n\n"
        f"Not in a stage's body: {1 - inside / first:.1%} of the wall clock (target: 5 %).\n\n"
        f"Unchanged second `make demo`: {again:.1f} s in all (target: 20 s).\n"
    )
    OUT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
