"""The `pivotrl` command: thin, quick to start, errors in one line.

Exit codes: 0 done, 1 a run that could not go on, 2 a wrong configuration or command, 130 Ctrl-C.
"""

from __future__ import annotations

import csv
import json
import shlex
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.table import Table
from rich.text import Text

from flows import home, operate
from flows.arguments import Debug, Execute, Experiment, Overrides
from flows.terminal import terminal
from pivotrl.types import ConfigError, PivotRLError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Supervised agent trajectories in, a better agent out.",
    pretty_exceptions_enable=False,
)


class ExportForm(StrEnum):
    NEMO_GYM = "nemo-gym"
    TRL = "trl"


@app.command(
    epilog="Examples:  [bold]pivotrl run configs/mini.toml[/]  ·  pivotrl run configs/own.toml "
    "data.trajectories=runs.jsonl model.path=my-model  ·  pivotrl run configs/mini.toml "
    "select.lambda_diff=0.5 --dry-run"
)
def run(
    config: Experiment,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what is cached and what would run, and why.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Run the whole line: ingest, extract, sample, verify, select, train, evaluate, register."""
    from pivotrl.config import load_config

    settings = load_config(config, overrides or [])
    from flows.run import dry, real

    if dry_run:
        dry(settings)
    else:
        real(settings, command=shlex.join(["pivotrl", "run", str(config), *(overrides or [])]))


@app.command(
    epilog="Examples:  [bold]pivotrl evaluate my-model --data real --benchmarks math500,ifbench[/]"
    "  ·  pivotrl evaluate pivotrl/mini/model pivotrl-mini@challenger --config configs/mini.toml"
    "  ·  pivotrl evaluate http://127.0.0.1:8000/v1#my-model --tokenizer my-model --domains web"
)
def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Folders, registered models (NAME@ALIAS, models:/NAME/VERSION) or endpoints "
            "(http://host/v1#SERVED-NAME); further ones are compared with the first."
        ),
    ],
    benchmarks: Annotated[
        str | None, typer.Option(help="Names, apart by commas; `none`. All eight without a config.")
    ] = None,
    domains: Annotated[
        str | None, typer.Option(help="Live domains, apart by commas: retail, shell, repo, web.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="`real`, `miniature`, or a folder of <benchmark>.jsonl.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML whose [evaluate], [model] and [engine] hold.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="For an endpoint: folder with its tokenizer and template.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any key, e.g. evaluate.items=100.", metavar="KEY=VALUE"),
    ] = None,
    debug: Debug = False,
) -> None:
    """Score models on benchmarks and live domains: resumed, cached, with errors, in MLflow."""
    from flows.run import scored_side_by_side

    given = {"benchmarks": benchmarks, "domains": domains, "data": data}
    scored_side_by_side(
        models,
        {name: value for name, value in given.items() if value is not None},
        config=config,
        tokenizer=tokenizer,
        overrides=settings or [],
        command=shlex.join(["pivotrl", *sys.argv[1:]]),
    )


@app.command(
    epilog="Examples:  [bold]pivotrl compare configs/mini.toml --seeds 0,1,2[/]  ·  "
    "pivotrl compare configs/mini.toml --arm 'lambda 0.4: select.lambda_diff=0.4' "
    "--arm 'no KL: train.kl_beta=0'"
)
def compare(
    config: Experiment,
    overrides: Overrides = None,
    seeds: Annotated[str, typer.Option(help="Apart by commas.")] = "0,1,2",
    arm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:KEY=VALUE...",
            help="A sweep of your own beside pivots, instead of the usual arms; several times.",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Train in every way on the same trajectories: pivots, SFT, end to end, and controls."""
    from flows.run import side_by_side

    if not all(seed.strip().isdecimal() for seed in seeds.split(",")):
        raise ConfigError(f"--seeds {seeds}: write whole numbers apart by commas, as in 0,1,2")
    numbers = [int(seed) for seed in seeds.split(",")]
    command = shlex.join(["pivotrl", *sys.argv[1:]])
    side_by_side(config, overrides or [], numbers, arm or [], command)


@app.command(
    epilog='Examples:  [bold]pivotrl sql "select * from pivot_stats limit 5"[/]  ·  '
    'pivotrl sql "describe pivot_stats"  ·  pivotrl sql "select * from leaderboard" --json'
)
def sql(
    query: Annotated[str, typer.Argument(help="Any SQL of DuckDB; it runs read-only.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a row.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated, with a header.")] = False,
    limit: Annotated[int, typer.Option(help="Rows shown in the table.", min=1)] = 50,
    debug: Debug = False,
) -> None:
    """Ask the store: pivot_stats, domain_stats, verdict_counts, leaderboard and all tables."""
    from pivotrl.store import Store

    columns, rows = Store(home() / "pivotrl.duckdb").query(query)
    if as_csv:
        csv.writer(sys.stdout).writerows([columns, *rows])
        return
    if as_json:
        if twice := {name for name in columns if columns.count(name) > 1}:
            raise PivotRLError(f"columns of one name: {', '.join(sorted(twice))}; use AS, or --csv")
        for row in rows:
            line = dict(zip(columns, row, strict=True))
            print(orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode())
        return
    console = terminal()
    for table in tables_of(columns, rows[:limit], console.width):
        console.print(table)
    if len(rows) > limit:
        console.print(f"{limit} of {len(rows):,} rows; more with --limit or all with --json")


def tables_of(columns: list[str], rows: list[tuple], width: int) -> list[Table]:
    """One table, or, where its columns would not fit, tables that stand on their side."""
    if 12 * len(columns) <= width or not rows:
        table = Table(*columns)
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        return [table]
    at_once = max(1, (width - 24) // 20)
    tables = []
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        table = Table("", *(str(start + number + 1) for number in range(len(some))))
        for name, values in zip(columns, zip(*some, strict=True), strict=True):
            table.add_row(name, *(_cell(value) for value in values))
        tables.append(table)
    return tables


def _cell(value: object) -> Text:
    """Plain text: what the store holds is never markup."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return Text(text if len(text) <= 60 else text[:57] + "...")


@app.command(
    epilog="Example:  [bold]pivotrl plan configs/paper/tau2.toml[/]  ·  "
    "pivotrl plan configs/own.toml train.processes=8 --card H200 --prompt 4000 --json"
)
def plan(
    config: Experiment,
    overrides: Overrides = None,
    card: Annotated[str, typer.Option(help="A100, H100 or H200.")] = "H100",
    prompt: Annotated[int, typer.Option(help="Tokens of a prompt, mean.", min=1)] = 8192,
    action: Annotated[int, typer.Option(help="Tokens of an action, mean.", min=2)] = 256,
    candidates: Annotated[int, typer.Option(help="Turns to profile.", min=1)] = 10_000,
    efficiency: Annotated[
        float, typer.Option(help="Share of the card's operations that passes reach.", min=0.01)
    ] = 0.4,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Estimate memory and time of a round from the model's config.json; no weights are needed."""
    from pivotrl.config import load_config
    from pivotrl.estimation import GIB, estimate

    found = estimate(
        load_config(config, overrides or []),
        card=card,
        prompt=prompt,
        action=action,
        candidates=candidates,
        efficiency=efficiency,
    )
    if as_json:
        print(json.dumps(found, indent=2))
        return
    console = terminal()
    title = f"{found['model']}: {found['devices']} x {card}"
    table = Table("GiB of a device", "", title=title)
    table.columns[1].justify = "right"
    for name, held in found["memory"].items():
        table.add_row(name, f"{held / GIB:,.1f}")
    table.add_section()
    table.add_row("all", f"{found['memory_sum'] / GIB:,.1f} of {found['memory_card'] / GIB:,.1f}")
    console.print(table)
    table = Table("at best", "", title=f"Time, at {efficiency:.0%} of the card's operations")
    table.columns[1].justify = "right"
    for name, took in found["seconds"].items():
        table.add_row(name, f"{took:,.1f} s" if took < 5_400 else f"{took / 3600:,.1f} h")
    table.add_section()
    table.add_row("both, to pay for", f"{found['device_hours']:,.1f} device hours")
    console.print(table)
    console.print(found["advice"], soft_wrap=True, highlight=False)


@app.command(
    epilog="Example:  [bold]pivotrl inspect runs.jsonl[/]  ·  "
    "pivotrl inspect results.json --tools tools.json --json  ·  "
    "pivotrl inspect runs.jsonl --model my-model"
)
def inspect(
    paths: Annotated[list[Path], typer.Argument(help="Trajectory files of any known format.")],
    tools: Annotated[Path | None, typer.Option(help="JSON list of tools for all rows.")] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A model folder: also count prompt tokens, prompts over its context, and turns "
            "where its template breaks the prefix, as by dropping earlier reasoning."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Say what is in trajectory files: formats, turns, tools, and rows that cannot be used."""
    from pivotrl.inspection import summarise
    from pivotrl.trajectories import read_tools

    measured = None
    if model is not None:
        from transformers import AutoConfig

        from pivotrl.chat import ChatFormat

        chat = ChatFormat.load(model)  # first: its errors name the folder and the remedy
        config = AutoConfig.from_pretrained(
            str(model), local_files_only=True, trust_remote_code=False
        ).get_text_config()
        if (context := getattr(config, "max_position_embeddings", None)) is None:
            raise ConfigError(f"{model}: config.json names no max_position_embeddings; add it")
        measured = (chat, context)
    declared = read_tools(tools) if tools else None
    summary = asdict(summarise(paths, tools=declared, model=measured))
    if as_json:
        print(orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode())
        return
    table = Table("what", "how many", title="Trajectories")
    for name, value in summary.items():
        if isinstance(value, dict):
            for key, count in value.items():
                table.add_row(Text(f"{name.replace('_', ' ')}: {key}"), f"{count:,}")
        else:
            table.add_row(name.replace("_", " "), f"{value:,}")
    terminal().print(table)


@app.command(
    epilog="Example:  [bold]pivotrl verify --jsonl actions.jsonl[/]; a row has domain, tools, "
    "messages, demonstration and action, the last two assistant messages in OpenAI chat form"
)
def verify(
    jsonl: Annotated[Path, typer.Option("--jsonl", help="Actions to judge, one object a line.")],
    execute: Execute = False,
    debug: Debug = False,
) -> None:
    """Judge actions one by one: prints each row with its `verdict`."""
    from pivotrl.trajectories.rows import RowError, read_rows
    from pivotrl.verifiers.cases import judge_row
    from pivotrl.verifiers.execution import check_sandbox

    if execute:
        check_sandbox()
    for row in read_rows(jsonl):
        value = {"row": row.number} if isinstance(row.value, RowError) else row.value
        shown = value if isinstance(value, dict) else {"row": row.number, "value": value}
        verdict = orjson.loads(orjson.dumps(asdict(judge_row(row, execute=execute))))
        print(orjson.dumps(shown | {"verdict": verdict}).decode())


@app.command(epilog="Example:  [bold]pivotrl verdicts tests/verdicts[/]")
def verdicts(
    paths: Annotated[list[Path], typer.Argument(help="Labelled cases: files or folders.")],
    execute: Execute = False,
    ask: Annotated[
        bool, typer.Option("--ask", help="As with `judge.url`: what a judge would be asked.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Measure the verifiers on labelled cases: precision and recall, and every miss."""
    from pivotrl.trajectories.rows import files_of, read_rows
    from pivotrl.verifiers.cases import judge_cases, rates
    from pivotrl.verifiers.execution import check_sandbox

    if execute:
        check_sandbox()
    rows = ((str(f), row) for f in files_of(paths) for row in read_rows(f))
    cases = list(judge_cases(rows, execute=execute, ask=ask))
    domains = {
        domain: rates(c for c in cases if c.domain == domain)
        for domain in sorted({c.domain for c in cases})
    }
    misses = [case for case in cases if case.says != case.accepted]
    if as_json:
        found = {
            "domains": {d: asdict(r) for d, r in domains.items()},
            "misses": [asdict(case) for case in misses],
        }
        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    console = terminal()
    table = Table("domain", "cases", "precision", "recall", title="Verdicts on labelled cases")
    if ask:
        for name in ("asks a judge", "recall, if that is right"):
            table.add_column(name)
    for domain, rate in domains.items():
        shown = (rate.precision, rate.recall, rate.recall_judged)
        precision, recall, judged = (f"{x:.3f}" if x is not None else "" for x in shown)
        asked = [f"{rate.asked:,}", judged] if ask else []
        table.add_row(Text(domain), f"{rate.n:,}", precision, recall, *asked)
    console.print(table)
    for case in misses:
        undecided = case.verdict.status == "undecided"
        refused = "asks a judge" if undecided else f"rejects ({case.verdict.category})"
        what = "accepts what is wrong" if case.says else refused
        console.print(Text(f"{case.source}, row {case.row}: {what}: {case.why}"), soft_wrap=True)


@app.command(
    epilog="Examples:  [bold]pivotrl export pivots.jsonl[/] (NeMo-Gym)  ·  "
    "pivotrl export pivots.jsonl --form trl --model pivotrl/mini/model"
)
def export(
    out: Annotated[Path, typer.Argument(help="The JSONL file to write.")],
    form: Annotated[ExportForm, typer.Option(help="Whose rows.")] = ExportForm.NEMO_GYM,
    model: Annotated[
        Path | None, typer.Option(help="For trl: the model whose template renders the prompts.")
    ] = None,
    max_prompt: Annotated[int, typer.Option(help="For trl: longest prompt, in tokens.")] = 8192,
    debug: Debug = False,
) -> None:
    """Write the last selection's pivots for another trainer: NeMo-Gym, or TRL's GRPOTrainer."""
    from pivotrl.chat import ChatFormat
    from pivotrl.export import nemo_gym_rows, pivots_of, trl_rows
    from pivotrl.store import Store

    pivots = pivots_of(Store(home() / "pivotrl.duckdb"))
    if form is ExportForm.NEMO_GYM:
        rows = nemo_gym_rows(pivots)
    elif model is None:
        raise ConfigError("trl rows need a chat template; add --model DIR")
    else:
        rows = trl_rows([candidate for candidate, _ in pivots], ChatFormat.load(model), max_prompt)
    unfinished = out.with_name(out.name + ".unfinished")
    unfinished.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    unfinished.replace(out)
    left_out = len(pivots) - len(rows)
    more = f", {left_out:,} left out: they do not fit its form" if left_out else ""
    print(f"{len(rows):,} pivots -> {out}{more}")


@app.command(
    epilog='Examples:  [bold]pivotrl browse[/]  ·  pivotrl browse "selected and mean < 0.2"  ·  '
    "pivotrl verdicts .pivotrl/marks.jsonl judges what was marked"
)
def browse(
    where: Annotated[str, typer.Argument(help="SQL condition on pivot_stats.")] = "selected",
    limit: Annotated[int, typer.Option(help="Turns at most, hardest first.", min=1)] = 1000,
    debug: Debug = False,
) -> None:
    """Walk turns in the terminal: state, demonstration, actions, verdicts; mark a wrong verdict."""
    from flows.browse import Browser, turns
    from pivotrl.store import Store

    found = turns(Store(home() / "pivotrl.duckdb"), where, limit)
    if not found:
        raise ConfigError(f"no profiled turn where {where}; another condition, or a run first")
    Browser(home(), found).run()


app.add_typer(operate.app)


@app.command()
def version() -> None:
    """Print the version."""
    from pivotrl import __version__

    print(__version__)


def main() -> None:
    """Entry point: one line an error, unless --debug."""
    try:
        app(standalone_mode=True)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        known = isinstance(error, PivotRLError)
        line = str(error) if known else f"{type(error).__name__}: {error} (--debug shows where)"
        text = Text.assemble(("error: ", "red"), " ".join(line.split()))
        terminal(stderr=True).print(text, soft_wrap=True)
        sys.exit(error.exit_code if isinstance(error, PivotRLError) else 1)


if __name__ == "__main__":
    main()
