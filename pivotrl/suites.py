"""What a configuration asks to be scored, told before anything runs.

A suite is a live domain in one decoding, or one benchmark. This module must never know a model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pivotrl.config import Config
from pivotrl.types import ConfigError

GREEDY = " greedy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What is scored in one task."""

    name: str
    kind: str
    temperature: float = 0.0
    top_p: float = 1.0
    horizon: int | None = None
    """Of a live domain of ours: longer or shorter tasks than it draws by itself."""
    by_harness: bool = False
    """Run by a harness of others, which decides how it decodes."""

    @property
    def label(self) -> str:
        if self.kind == "benchmark" or self.by_harness:
            return self.name
        name = self.name if self.horizon is None else f"{self.name} x{self.horizon}"
        return f"{name} T={self.temperature:g}" if self.temperature else f"{name}{GREEDY}"

    @property
    def cluster(self) -> Callable[[str], str]:
        """From an item's id to what it was drawn with; a live task is drawn by itself."""
        from pivotrl.benchmarks import BENCHMARKS

        return BENCHMARKS[self.name].cluster if self.kind == "benchmark" else str


def suites(config: Config) -> list[Suite]:
    """Our live domains, sampled and greedy, those of harnesses, then the benchmarks.

    Raises ConfigError for a name that is none of them.
    """
    from pivotrl.benchmarks import BENCHMARKS
    from pivotrl.environments import live_domain
    from pivotrl.environments.harnesses import HARNESSES

    evaluate = config.evaluate
    ours = [name for name in evaluate.domains if name not in HARNESSES]
    for name in ours:
        live_domain(name)
    for name in evaluate.benchmarks:
        if name not in BENCHMARKS:
            known = ", ".join(BENCHMARKS)
            raise ConfigError(f"evaluate.benchmarks: no benchmark {name!r}; known: {known}")
    return [
        *(
            Suite(name=name, kind="domain", temperature=t, horizon=evaluate.horizon)
            for name in ours
            for t in (1, 0)
        ),
        *(
            Suite(name=name, kind="domain", by_harness=True)
            for name in evaluate.domains
            if name in HARNESSES
        ),
        *(
            Suite(
                name=name, kind="benchmark", temperature=evaluate.temperature, top_p=evaluate.top_p
            )
            for name in evaluate.benchmarks
        ),
    ]


def rows_folder(config: Config, home: Path) -> Path:
    """Where the benchmarks' rows lie, one <benchmark>.jsonl each."""
    match config.evaluate.data:
        case "real":
            return home / "benchmarks"
        case "miniature":
            return home / "mini" / "benchmarks"
        case folder:
            return Path(folder)
