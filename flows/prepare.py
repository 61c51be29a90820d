"""Sees to it that what is scored can be, before anything starts: rows, sandbox, harnesses."""

from __future__ import annotations

from pathlib import Path

from pivotrl.config import Config
from pivotrl.suites import rows_folder, suites
from pivotrl.types import ConfigError


def prepare(config: Config, home: Path) -> None:
    """Real rows are fetched once, miniature ones written; the first of each must be judgeable.

    Raises PivotRLError, with the remedy, for what is missing: rows, network, sandbox, and
    what a harness of others needs.
    """
    from pivotrl.benchmarks import BENCHMARKS
    from pivotrl.benchmarks.rows import fetch, load_rows
    from pivotrl.evaluation import check_row
    from pivotrl.mini.write import write_benchmarks
    from tasks.harness import check_harness

    for suite in suites(config):
        if suite.by_harness:
            check_harness(config, suite.name)
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
        check_row(BENCHMARKS[name], load_rows(BENCHMARKS[name], file, 1)[0])
