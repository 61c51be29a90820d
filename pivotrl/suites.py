"""What a configuration asks to be scored, told before anything runs.

A suite is the live domain in one decoding, or one benchmark. This module must never know a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pivotrl.config import Config
from pivotrl.types import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What is scored in one task."""

    name: str
    kind: str
    temperature: float = 0.0

    @property
    def label(self) -> str:
        decoding = f"T={self.temperature:g}" if self.temperature else "greedy"
        return self.name if self.kind == "benchmark" else f"{self.name} {decoding}"


def suites(config: Config) -> list[Suite]:
    """The live domain, sampled and greedy, then the benchmarks. Raises ConfigError."""
    evaluate = config.evaluate
    out = []
    if evaluate.environment:
        out += [Suite(name=evaluate.environment, kind="domain", temperature=t) for t in (1.0, 0.0)]
    if evaluate.benchmarks:
        from pivotrl.benchmarks import BENCHMARKS

        for name in evaluate.benchmarks:
            if name not in BENCHMARKS:
                known = ", ".join(BENCHMARKS)
                raise ConfigError(f"evaluate.benchmarks: no benchmark {name!r}; known: {known}")
            if not (items_file(config, name)).is_file():
                raise ConfigError(
                    f"{items_file(config, name)}: no items for {name} "
                    "(evaluate.benchmark_items is the folder with one <benchmark>.jsonl each)"
                )
            out.append(Suite(name=name, kind="benchmark"))
    return out


def items_file(config: Config, name: str) -> Path:
    return (config.evaluate.benchmark_items or Path()) / f"{name}.jsonl"
