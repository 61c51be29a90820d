"""The eight out-of-domain benchmarks by name; this package must never know an engine or model."""

from __future__ import annotations

from collections.abc import Mapping

from pivotrl.benchmarks import (
    aime25,
    ifbench,
    livecodebench,
    math500,
    mmlu_pro,
    mmlu_prox,
    scicode,
    wmt24pp,
)
from pivotrl.benchmarks.base import Benchmark, Row, Score

BENCHMARKS: Mapping[str, Benchmark] = {
    module.BENCHMARK.name: module.BENCHMARK
    for module in (
        ifbench,
        aime25,
        math500,
        livecodebench,
        scicode,
        mmlu_pro,
        mmlu_prox,
        wmt24pp,
    )
}

__all__ = ["BENCHMARKS", "Benchmark", "Row", "Score"]
