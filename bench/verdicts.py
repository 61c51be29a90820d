"""How fast the verifiers judge, and whether anything raises; BFCL as an outside oracle.

    python bench/verdicts.py --actions 100000 --bfcl DIR

Hostile actions (`hostile.py`) for each verifier, one core, CPU time, without execution or judge.
DIR holds `BFCL_v4_*.jsonl` with their `possible_answer`. Writes docs/results/verdicts.md.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from pathlib import Path

import bfcl
import hostile

from pivotrl.types import VerdictStatus
from pivotrl.verifiers import TOOL_USE_DOMAINS, verifier_for

ROOT = Path(__file__).parents[1]
VERIFIERS = ("tool_use", "software", "terminal", "browsing", "strict")


def measure(name: str, actions: int, seed: int) -> str:
    """A row of the table: verdicts a second of their own time, the slowest, what raised."""
    verifier = verifier_for("tool_use", "strict") if name == "strict" else verifier_for(name)
    domains = TOOL_USE_DOMAINS if name == "tool_use" else (name,)
    pool = [case for case in hostile.cases() if name == "strict" or case[0].domain in domains]
    pairs = hostile.hostile_pairs(random.Random(f"{seed} {name}"), pool)
    gc.collect()
    gc.freeze()  # what was there before is no part of a verdict
    gc.disable()  # nor is what others left: it is collected between verdicts
    total, slowest, errors, accepted = 0.0, (0.0, ""), 0, 0
    for number, (kind, candidate, action) in zip(range(actions), pairs, strict=False):
        if number % 500 == 0:
            gc.collect()
        start = time.process_time()
        verdict = verifier.verify(candidate, action)
        took = time.process_time() - start
        total, slowest = total + took, max(slowest, (took, f"{kind}: {verdict.category}"))
        accepted += verdict.reward == 1.0
        if verdict.status is VerdictStatus.ERROR:
            errors += 1
            print(name, kind, dict(verdict.details), flush=True)
    rate, milliseconds = actions / total, 1000 * slowest[0]
    row = f"| {name} | {actions} | {errors} | {rate:.0f} | {milliseconds:.1f} ms ({slowest[1]}) |"
    return f"{row} {accepted} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Verdicts a second on hostile actions.")
    parser.add_argument("--actions", type=int, default=100_000, help="for each verifier")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bfcl", type=Path, help="folder of BFCL files; left out: not measured")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "verdicts.md")
    options = parser.parse_args()
    lines = [
        "# Verdicts on hostile actions",
        "",
        f"`python bench/verdicts.py --actions {options.actions} --seed {options.seed}"
        f"{' --bfcl DIR' if options.bfcl else ''}`; one core, CPU time, no execution, no judge.",
        "Half of the actions are mutated labelled cases; the others are garbage, nested up to",
        "100,000 deep, strings up to 1 MB, odd Unicode, NaN, wrong types and thousands of calls.",
        "",
        "| verifier | actions | exceptions | verdicts a second | slowest | accepted |",
        "|---|---|---|---|---|---|",
    ]
    for name in VERIFIERS:
        lines.append(measure(name, options.actions, options.seed))
        print(lines[-1], flush=True)
    if options.bfcl:
        lines += ["", *bfcl.report(bfcl.tally(options.bfcl))]
        print(*lines[-5:], sep="\n")
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
