"""Commands that run it for years: services, schedules, promotions. A part of `pivotrl`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows import home
from flows.arguments import Debug, Experiment, Overrides
from flows.terminal import terminal

app = typer.Typer()

PrefectPort = Annotated[int, typer.Option(help="Port of the Prefect server.", min=1, max=65535)]
MLflowPort = Annotated[int, typer.Option(help="Port of the MLflow server.", min=1, max=65535)]


@app.command(epilog="Example:  [bold]pivotrl up[/], then pivotrl deploy configs/own.toml")
def up(
    prefect_port: PrefectPort = 4200, mlflow_port: MLflowPort = 5000, debug: Debug = False
) -> None:
    """Start the Prefect and MLflow servers and a worker on loopback, and leave them running."""
    from flows import processes, servers
    from flows.run import made_home

    folder = made_home()
    console = terminal()
    with console.status("Starting the servers and a worker (about 20 seconds)"):
        servers.up(folder, prefect_port, mlflow_port)
        os.environ["PREFECT_API_URL"] = servers.api_url(folder) or ""
        # a run that died with its worker holds its deployment's one slot until somebody says so
        processes.mark_crashed(folder, processes.reap(folder))
    _show(console, folder)


@app.command(epilog="Example:  [bold]pivotrl ui[/]  ·  pivotrl ui --prefect-port 4300")
def ui(
    prefect_port: PrefectPort = 4200, mlflow_port: MLflowPort = 5000, debug: Debug = False
) -> None:
    """Serve the Prefect and MLflow pages of your runs on loopback: `up` without a worker."""
    from flows import servers
    from flows.run import made_home

    folder = made_home()
    console = terminal()
    with console.status("Starting the Prefect and MLflow servers (about 15 seconds)"):
        found = servers.up(folder, prefect_port, mlflow_port, worker=False)
    for server in found:
        if server.name != "worker":
            console.print(f"{server.name:<8} [bold]{server.url}[/]", highlight=False)
    told = escape(f"over {folder}; `pivotrl down` ends them")
    console.print(told, highlight=False, soft_wrap=True)


@app.command()
def down(debug: Debug = False) -> None:
    """End what `up` or `ui` started; a run that its worker has under way is stopped."""
    from flows import servers

    ended = servers.down(home())
    print(f"ended: {', '.join(server.name for server in ended) or 'nothing ran'}")


@app.command()
def status(debug: Debug = False) -> None:
    """Say what runs and where: servers, worker, schedules and how their last run ended."""
    _show(terminal(), home())


def _show(console: Console, folder: Path) -> None:
    from flows import servers

    found = servers.services(folder)
    table = Table("", "", "where", "log", title=escape(f"Services over {folder}"))
    for server in found:
        state = "healthy" if server.healthy else "ALIVE, NOT HEALTHY" if server.alive else "DEAD"
        table.add_row(server.name, state, server.url, Text(server.log))
    if not found:
        console.print("nothing runs; `pivotrl up` starts the servers and a worker", highlight=False)
        return
    console.print(table)
    if all(server.name != "worker" for server in found):
        console.print("no worker: schedules wait; `pivotrl up` starts one", highlight=False)
    if url := servers.api_url(folder):
        os.environ["PREFECT_API_URL"] = url
        from flows.deploy import schedules

        planned = schedules()
        table = Table("deployment", "schedule", "next run", "last run", title="Schedules")
        for row in planned:
            table.add_row(*map(Text, row))  # how a run ended may quote what a model said
        console.print(
            table if planned else "no schedules; `pivotrl deploy CONFIG --cron` makes one"
        )


@app.command(
    epilog="Examples:  [bold]pivotrl deploy configs/own.toml --cron '0 3 * * *'[/]  ·  "
    "pivotrl deploy configs/own.toml train.start=champion --cron '0 3 * * 1' --timezone Asia/Tokyo"
)
def deploy(
    config: Experiment,
    overrides: Overrides = None,
    cron: Annotated[
        str | None, typer.Option(help="When, as in crontab; without, from the page or by hand.")
    ] = None,
    timezone: Annotated[str, typer.Option(help="Of the schedule.")] = "UTC",
    pool: Annotated[
        str, typer.Option(help="Work pool: this machine's own, or one of docker or Kubernetes.")
    ] = "pivotrl",
    devices: Annotated[
        int | None,
        typer.Option(
            help="Tasks of all runs that may compute at once; as before, at first 1.",
            min=1,
            show_default=False,
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Schedule retraining: what is new goes through the line; without news a run ends at once."""
    from pivotrl.config import load_config

    loaded = load_config(config, overrides or [])
    url = _server()
    from flows.deploy import deploy as put
    from flows.deploy import events_of
    from flows.run import check

    check(loaded)
    name = put(
        config.resolve(),
        loaded,
        overrides or [],
        cron=cron,
        timezone=timezone,
        pool=pool,
        devices=devices,
    )
    console = terminal()
    page = url.removesuffix("/api")
    when = f"at {cron} {timezone}" if cron else "when it is asked to"
    console.print(f"[bold]{name}[/] runs {when}; {page}/deployments", highlight=False)
    events = " and ".join(events_of(loaded))
    console.print(f"Also at {events}; `pivotrl notify {loaded.run.name}` sends the first")
    console.print(f"At once: [bold]PREFECT_API_URL={url} prefect deployment run '{name}'[/]")


@app.command(epilog="Example:  [bold]pivotrl notify own[/]")
def notify(
    name: Annotated[str, typer.Argument(help="`run.name` of a deployed experiment.")],
    debug: Debug = False,
) -> None:
    """Say that trajectories have arrived: its deployment runs (event `pivotrl.files`)."""
    url = _server()
    from flows.deploy import notify as send

    send(name)
    print(f"sent to {url}")


def _server() -> str:
    """The address of the running Prefect server, from now on also Prefect's own."""
    from flows import servers
    from pivotrl.types import ConfigError

    url = servers.api_url(home()) or os.environ.get("PREFECT_API_URL")
    if url is None:
        raise ConfigError("no Prefect server runs; start one with `pivotrl up`")
    os.environ["PREFECT_API_URL"] = url
    return url


@app.command(epilog="Example:  [bold]pivotrl clean --keep-runs 5[/], then the same with --yes")
def clean(
    keep_runs: Annotated[int, typer.Option(help="Last runs of each name that stay.", min=1)] = 10,
    older_than: Annotated[float, typer.Option(help="Days; what is younger stays.", min=0)] = 7.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without, only show it.")] = False,
    debug: Debug = False,
) -> None:
    """Show, then remove shards, checkpoints and cache records that no kept run refers to."""
    from flows import processes
    from pivotrl.types import PivotRLError
    from tasks.housekeeping import leftovers, remove

    if yes and processes.under_way(home()):  # nothing refers yet to what it makes and reads
        raise PivotRLError("a run is under way over this home; clean it once that has ended")
    found = leftovers(home(), keep_runs, older_than)
    table = Table("what", "how many", "MiB", title="Nothing refers to")
    for kind in sorted({leftover.kind for leftover in found}):
        own = [leftover.bytes for leftover in found if leftover.kind == kind]
        table.add_row(kind, f"{len(own):,}", f"{sum(own) / 2**20:,.1f}")
    terminal().print(table if found else "nothing to remove")
    if yes:
        remove(found)
        print(f"removed {sum(leftover.bytes for leftover in found) / 2**20:,.1f} MiB")
    elif found:
        print("--yes removes it; rows in the store and registered models stay")


@app.command(epilog="Example:  [bold]pivotrl backup pivotrl-monday.tar.gz[/]")
def backup(
    out: Annotated[Path, typer.Argument(help="The archive to write, .tar.gz.")],
    debug: Debug = False,
) -> None:
    """Write all that runs left to one archive: store, registry, shards, Prefect's records."""
    from tasks.housekeeping import backup as write

    print(f"{write(home(), out) / 2**20:,.1f} MiB -> {out}")


@app.command(epilog="Example:  [bold]pivotrl restore pivotrl-monday.tar.gz[/]")
def restore(
    archive: Annotated[Path, typer.Argument(help="What `pivotrl backup` wrote.")],
    debug: Debug = False,
) -> None:
    """Unpack a backup into an empty PIVOTRL_HOME at the place where it was made."""
    from flows import processes
    from tasks.housekeeping import restore as unpack

    processes.record_lost(home(), unpack(archive, home()))
    print(f"{archive} -> {home()}")


@app.command(
    epilog="Examples:  [bold]pivotrl promote own[/] (the challenger)  ·  pivotrl promote own 7"
)
def promote(
    model: Annotated[str, typer.Argument(help="Registered model, `register.model`.")],
    version: Annotated[str, typer.Argument(help="Its number, or an alias.")] = "challenger",
    reason: Annotated[str, typer.Option(help="Kept with the promotion.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Although the gate said no.")] = False,
    debug: Debug = False,
) -> None:
    """Make a version of a model champion, if it passed the gate ([promote] in its config)."""
    from tasks.promote import promote as put

    number = put(home(), model, version, reason=reason, force=force)
    print(f"{model} version {number} is champion")


@app.command(epilog="Example:  [bold]pivotrl rollback own[/]")
def rollback(
    model: Annotated[str, typer.Argument(help="Registered model, `register.model`.")],
    debug: Debug = False,
) -> None:
    """Make the champion before this one champion again."""
    from tasks.promote import rollback as back

    before, now = back(home(), model)
    print(f"{model} version {now} is champion again, instead of {before}")
