"""Writes the embedded default's data as ordinary files, which the ordinary readers read back.

`python -m pivotrl.mini.write`: expert demonstrations of the retail domain, or of those asked for
(OpenAI-chat JSONL), and the items of the eight miniature benchmarks, under `PIVOTRL_HOME/mini`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import orjson

from pivotrl.environments import ENVIRONMENTS, live_domain
from pivotrl.environments.demonstrations import write_demonstrations
from pivotrl.mini.skills import LEVELS, generate


def write_benchmarks(folder: Path, n: int = 500, seed: int = 0) -> None:
    """`n` items of each of the eight; the same arguments give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in LEVELS:
        rows = generate(name, n, seed, "test")
        lines = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        (folder / f"{name}.jsonl").write_bytes(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the miniature's data.")
    folder = Path(os.environ.get("PIVOTRL_HOME", ".pivotrl")) / "mini"
    parser.add_argument("--out", type=Path, default=folder)
    parser.add_argument(
        "--domains", nargs="+", choices=ENVIRONMENTS, default=["retail"], help="default: retail"
    )
    parser.add_argument("--demonstrations", type=int, default=900, help="of each (default 900)")
    parser.add_argument("--items", type=int, default=500, help="of each benchmark (default 500)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_benchmarks(options.out / "benchmarks", options.items, options.seed)
    for name in options.domains:
        file = options.out / f"{name}.jsonl"
        write_demonstrations(live_domain(name), file, options.demonstrations, options.seed)
    print(
        f"{options.demonstrations} demonstrations each of {', '.join(options.domains)} and "
        f"{len(LEVELS)} × {options.items} benchmark items in {options.out}"
    )


if __name__ == "__main__":
    main()
