"""kill -9 in every stage of a small run, at random instants: docs/results/chaos.md.

    python bench/chaos.py --kills 32 --seed 0

Each home takes a kill in every stage, in the order of the run, and then its run ends; what it holds
must equal, file for file and row for row, what a run that was never killed made.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from kills import ORDER, Runs, few, state  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description="Kills at random instants.")
    parser.add_argument("--kills", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    met: Counter[str] = Counter()
    homes = 0
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write = [sys.executable, "-m", "pivotrl.mini.write", "--out", str(data)]
        write += ["--demonstrations", "60", "--items", "20"]
        subprocess.run(write, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        never = Path(folder) / "never"
        with Runs(never) as runs:
            runs.whole(few(data))
        expected = state(never)
        while met.total() < options.kills:
            home = Path(folder) / f"home-{homes}"
            homes += 1
            with Runs(home) as runs:
                for stage in ORDER:
                    if met.total() < options.kills and runs.killed_in(stage, few(data), rng):
                        met[stage] += 1
                        print(f"kill {met.total()}: {stage}", flush=True)
                runs.whole(few(data))
            assert state(home) == expected, f"home {homes} differs after its kills"
            shutil.rmtree(home)
    table = "\n".join(f"| {stage} | {met[stage]} |" for stage in ORDER)
    command = f"python bench/chaos.py --kills {options.kills} --seed {options.seed}"
    text = (
        f"# kill -9, {met.total()} times\n\n`{command}`: {homes} homes, each killed once in every "
        "stage at a random instant, then run to its end. Every home then held, file for file and "
        "row for row, what a run without kills made.\n\n"
        f"| killed in, or right after | times |\n|---|---|\n{table}\n"
    )
    (ROOT / "docs/results/chaos.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
