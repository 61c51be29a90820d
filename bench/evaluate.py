"""Items a second of an evaluation against lm-evaluation-harness, in one process.

    pip install lm_eval==0.4.13
    python bench/evaluate.py --json

Same model (the embedded default, float32), same prompts (a miniature benchmark's, rendered once),
greedy, same limit, same threads. Ours is timed with scoring; theirs is `HFLM.generate_until` alone,
at the best of several batch sizes. Runs alternate, garbage collection is off as in `timeit`, the
median counts. Writes
docs/results/evaluate.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pivotrl.benchmarks import BENCHMARKS
from pivotrl.chat import ChatFormat
from pivotrl.engines.hf import HFEngine, load_model
from pivotrl.evaluation import evaluate_benchmark
from pivotrl.mini.skills import generate
from pivotrl.types import SamplingParams

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "pivotrl/mini/model"
MAX_TOKENS = 96
BATCHES = (1, 16, 64, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--benchmarks", nargs="+", default=["ifbench", "math500", "mmlu_pro"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = {name: measured(name, options.items, options.runs) for name in options.benchmarks}
    text = page(rows, options)
    (ROOT / "docs/results/evaluate.md").write_text(text)
    print(json.dumps({"benchmarks": rows}) if options.json else text)


def measured(name: str, n: int, runs: int) -> dict[str, Any]:
    """Seconds and agreement of one benchmark."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    chat = ChatFormat.load(MODEL)
    benchmark = BENCHMARKS[name]
    rows = generate(name, n, 0, "test")
    engine = HFEngine(
        load_model(MODEL),
        stop_ids=chat.stop_ids,
        pad_id=chat.pad_id,
        decode=chat.decode,
        max_batch_rows=256,
    )
    params = SamplingParams(max_tokens=MAX_TOKENS, temperature=0.0)
    prompts = [chat.decode(chat.render(benchmark.prompt(row), ())) for row in rows]
    theirs = {
        size: HFLM(
            pretrained=str(MODEL), device="cpu", dtype="float32", batch_size=size,
            max_length=1024, add_bos_token=False,
        )
        for size in BATCHES
    }  # fmt: skip
    end = theirs[BATCHES[0]].tokenizer.decode(sorted(chat.stop_ids)[:1])
    asked = {"until": [end], "max_gen_toks": MAX_TOKENS, "do_sample": False}

    def their_texts(size: int) -> list[str]:
        requests = [
            Instance("generate_until", {}, (prompt, dict(asked)), index)
            for index, prompt in enumerate(prompts)
        ]
        found: list[str] = theirs[size].generate_until(requests, disable_tqdm=True)
        return found

    def ours() -> list[str]:
        asked = [(row, 0) for row in rows]
        return [i.output for i in evaluate_benchmark(engine, chat, benchmark, asked, params, 0)]

    best = min(BATCHES, key=lambda size: timed(lambda: their_texts(size))[0])
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(runs):
        took, our = timed(ours)
        seconds["ours"].append(took)
        took, their = timed(lambda: their_texts(best))
        seconds["theirs"].append(took)
    mine, other = (statistics.median(seconds[who]) for who in ("ours", "theirs"))
    same = sum(a.strip() == b.strip() for a, b in zip(our, their, strict=True))
    return {
        "items": n,
        "ours_per_second": round(n / mine, 2),
        "theirs_per_second": round(n / other, 2),
        "their_batch": best,
        "speedup": round(other / mine, 2),
        "same_text": round(same / n, 3),
    }


def timed(work: Callable[[], list[str]]) -> tuple[float, list[str]]:
    """Without garbage collection, as `timeit`: the harness's imports would make ours long."""
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    found = work()
    took = time.perf_counter() - start
    gc.enable()
    return took, found


def page(rows: dict[str, dict[str, Any]], options: argparse.Namespace) -> str:
    lines = [
        "# Evaluation against lm-evaluation-harness",
        "",
        f"`python bench/evaluate.py --items {options.items} --runs {options.runs}`; median of",
        "runs, greedy, float32, CPU; target: 2 times the items a second.",
        "",
        "| miniature of | items | ours, items/s | theirs | their batch | ratio | same text |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['items']} | {row['ours_per_second']} | {row['theirs_per_second']} | "
        f"{row['their_batch']} | {row['speedup']} | {row['same_text']:.1%} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
