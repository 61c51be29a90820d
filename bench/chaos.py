"""kill -9 at random instants of a small run, again and again, until it ends: docs/results/chaos.md.

    python bench/chaos.py --kills 30 --seed 0

Each home takes kills until its run ends by itself; what it then holds must equal, file for file,
what a run that was never killed made, and the store must hold no rollout twice and none less.
Between kills the next start reaps what the last one left behind.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from line import command, contents, environment, small  # noqa: E402

from pivotrl.store import Store  # noqa: E402

STAGES = ("ingest", "extract", "sample", "verify", "select", "train", "evaluate", "agree")


def state(home: Path) -> tuple[dict, list[tuple]]:
    """Files by stage, and counts of every table that must not depend on kills."""
    sql = " union all ".join(
        f"select '{table}', count(*), count(distinct {key}) from {table}"
        for table, key in (
            ("rollouts", "rollout_id"),
            ("verdicts", "rollout_id"),
            ("pivots", "candidate_id"),
            ("train_rollouts", "(training_id, step, candidate_id, sample_index)"),
            ("evaluation_items", "(evaluation_id, item_id, repeat)"),
        )
    )
    return contents(home, *STAGES), Store(home / "pivotrl.duckdb").query(sql + " order by 1")[1]


def started(home: Path, data: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(*small(data)),
        env=environment(home),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def under_way(home: Path) -> str:
    """What a kill met: the stage of the newest unfinished work, or what lies between stages."""
    shelves = [p for s in ("shards", "checkpoints") for p in home.glob(f"{s}/*/*/manifest.json")]
    done = max(shelves, key=lambda path: path.stat().st_mtime, default=None)
    return f"after {done.parent.parent.name}" if done else "before the first stage"


def main() -> None:
    parser = argparse.ArgumentParser(description="Kills at random instants.")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    kills = homes = 0
    met: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write = [sys.executable, "-m", "pivotrl.mini.write", "--out", str(data)]
        write += ["--demonstrations", "60", "--items", "20"]
        subprocess.run(write, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        whole = Path(folder) / "whole"
        clock = time.monotonic()
        assert started(whole, data).wait() == 0, "the run that is not killed fails"
        seconds = time.monotonic() - clock
        expected = state(whole)
        while kills < options.kills:
            home = Path(folder) / f"home-{homes}"
            homes += 1
            while True:
                process = started(home, data)
                try:
                    code = process.wait(rng.uniform(2, 0.8 * seconds))
                    assert code == 0, f"home {homes}: exit {code} after {kills} kills"
                    break
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    kills += 1
                    met[under_way(home)] += 1
                    print(f"kill {kills}: {under_way(home)}", flush=True)
                    if kills >= options.kills:
                        assert started(home, data).wait() == 0, "the last start fails"
                        break
            assert state(home) == expected, f"home {homes} differs after its kills"
            shutil.rmtree(home)
    table = "\n".join(f"| {place} | {count} |" for place, count in met.most_common())
    text = (
        f"# kill -9, {kills} times\n\n`python bench/chaos.py --kills {options.kills} "
        f"--seed {options.seed}`: {homes} homes, each killed at random instants of a run of "
        f"{seconds:.0f} s until it ended. Every home then held, file for file and row for row, "
        f"what a run without kills made.\n\n| a kill came | times |\n|---|---|\n{table}\n"
    )
    (ROOT / "docs/results/chaos.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
