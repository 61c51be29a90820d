"""What orchestration, store and tracking take of a run's wall clock: docs/results/overhead.md.

    make demo && python bench/overhead.py && make demo && python bench/overhead.py --again

Reads what the last run left: its wall clock is in `runs`, what each stage's body took in its
manifest. The rest is overhead: imports, Prefect's server and tasks, keys and hashes, merges,
MLflow, the report. With `--again` the run is the unchanged second one, all of it overhead.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from flows import home
from pivotrl.store import Store

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs/results/overhead.md"


def measured(folder: Path) -> dict[str, float]:
    """Seconds of the last run."""
    _, rows = Store(folder / "pivotrl.duckdb").query(
        "select seconds, report from runs order by started_at desc limit 1"
    )
    wall, report = rows[0][0], json.loads(rows[0][1])
    body = around = 0.0
    for stage in report["stages"]:
        manifests = list(folder.glob(f"*/{stage['stage']}/{stage['key']}/manifest.json"))
        if manifests and not stage["cached"]:
            took = json.loads(manifests[0].read_text())["seconds"]
            body += took
            around += stage["seconds"] - took
    return {
        "wall": wall,
        "bodies": body,
        "around stages": around,
        "elsewhere": wall - body - around,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Overhead of the last run.")
    parser.add_argument("--home", type=Path, default=home())
    parser.add_argument("--again", action="store_true", help="the run was the unchanged second one")
    options = parser.parse_args()
    found = measured(options.home)
    if options.again:
        line = f"\nUnchanged second run: {found['wall']:.1f} s in all (target: 20 s).\n"
        OUT.write_text(OUT.read_text() + line)
    else:
        rows = "\n".join(f"| {name} | {took:.1f} |" for name, took in found.items())
        share = 1 - found["bodies"] / found["wall"]
        OUT.write_text(
            "# Overhead of the demo\n\n`make demo && python bench/overhead.py`\n\n"
            f"| | s |\n|---|---|\n{rows}\n\n"
            f"Not in a stage's body: {share:.1%} of the wall clock (target: 5 %).\n"
        )
    print(OUT.read_text())


if __name__ == "__main__":
    main()
