"""Sees to it that the rows of the benchmarks are there before anything starts."""

from __future__ import annotations

from pathlib import Path

from pivotrl.config import Config
from pivotrl.suites import rows_folder
from pivotrl.types import ConfigError


def prepare_rows(config: Config, home: Path) -> None:
    """Real rows are fetched once, miniature ones written. ConfigError, with the remedy, else."""
    from pivotrl.benchmarks import BENCHMARKS
    from pivotrl.benchmarks.rows import fetch
    from pivotrl.mini.write import write_benchmarks

    folder = rows_folder(config, home)
    if config.evaluate.data == "miniature" and config.evaluate.benchmarks:
        write_benchmarks(folder)
    for name in config.evaluate.benchmarks:
        file = folder / f"{name}.jsonl"
        if config.evaluate.data == "real" and not file.is_file():
            fetch(BENCHMARKS[name], file)
        if not file.is_file():
            raise ConfigError(
                f"{file}: no rows of {name} (evaluate.data is `real`, `miniature`, or a folder "
                "with one <benchmark>.jsonl each)"
            )
