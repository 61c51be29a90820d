"""What a run did: `report.json`, the terminal's tables, and the scores as an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from prefect.artifacts import create_markdown_artifact
from rich.table import Table
from rich.text import Text

from pivotrl.config import Config, flatten
from pivotrl.ledger import active_parameters, comparison, ledger
from pivotrl.manifest import Manifest
from pivotrl.scores import EvaluationItem, Scored, ScoreRow, ood_change, summary
from pivotrl.store import Store
from pivotrl.store.shards import write_shard
from pivotrl.suites import Suite
from pivotrl.types import JSON, FinishReason, canonical, digest
from pivotrl.whole_files import write_whole
from tasks.artifacts import show_table
from tasks.session import Session
from tasks.stage import read_table


def scored(home: Path, evaluations: Sequence[tuple[Suite, Manifest]]) -> dict[str, Scored]:
    """The stored items of each suite, as the comparison wants them."""
    out = {}
    for suite, manifest in evaluations:
        rows = read_table(home, manifest, "evaluation_items")
        items = [
            EvaluationItem(
                item_id=row["item_id"],
                repeat=row["repeat"],
                prompt="",
                output="",
                extracted=row["extracted"],
                score=row["score"],
                finish_reason=FinishReason(row["finish_reason"]),
            )
            for row in rows
        ]
        out[suite.label] = Scored(
            kind=suite.kind,
            miniature=bool(manifest.counts["miniature"]),
            items=items,
            cluster=suite.cluster,
        )
    return out


def write_report(
    config: Config, session: Session, name: str, parts: Mapping[str, JSON]
) -> dict[str, JSON]:
    """Writes `reports/<name>.json` and `report.json` under the home; returns what it wrote."""
    report: dict[str, Any] = {
        "name": name,
        "config": flatten(config),
        "stages": [asdict(record) for record in session.records],
        **parts,
    }
    text = orjson.dumps(report, option=orjson.OPT_INDENT_2)
    folder = session.home / "reports"
    folder.mkdir(exist_ok=True)
    for path in (
        folder / f"{name.replace(' ', '_').replace(':', '')}.json",
        session.home / "report.json",
    ):
        write_whole(path, text)
    return report


def write_page(
    session: Session,
    report: Mapping[str, JSON],
    went_in: tuple[Manifest, Manifest, Manifest],
    checkpoints: Sequence[Manifest],
) -> None:
    """`report.html` under the home, and one beside the run's own report.

    `went_in`: trajectories, candidates, selection; `checkpoints`: one a round.
    """
    from pivotrl.page import as_html
    from pivotrl.run_page import RunKeys, run_sections

    store = Store(session.home / "pivotrl.duckdb")
    trajectories, candidates, selection = (manifest.key for manifest in went_in)
    keys = RunKeys(
        trajectories=trajectories,
        candidates=candidates,
        selection=selection,
        trainings=[made.key for made in checkpoints],
    )
    text = as_html(report["name"], list(run_sections(report, store, keys)))
    name = report["name"].replace(" ", "_").replace(":", "")
    for path in (session.home / "reports" / f"{name}.html", session.home / "report.html"):
        path.write_text(text, encoding="utf-8")


def store_run(
    config: Config,
    home: Path,
    name: str,
    flow: str,
    started: datetime,
    report: Mapping[str, JSON],
) -> None:
    """A row of `runs` in the store; `started` in UTC."""
    ended = datetime.now(UTC)
    run_id = digest([name, started.isoformat()])
    path = home / "shards" / "runs" / f"{run_id}.parquet"
    row = {
        "run_id": run_id,
        "name": name,
        "flow": flow,
        "config": canonical(flatten(config)).decode(),
        "state": report["outcome"],
        "started_at": started.replace(tzinfo=None),
        "ended_at": ended.replace(tzinfo=None),
        "seconds": (ended - started).total_seconds(),
        "report": canonical(report).decode(),
    }
    write_shard(path, "runs", [row])
    Store(home / "pivotrl.duckdb").merge("runs", [path])


def cost(
    config: Config,
    candidates: Manifest,
    trajectories: Manifest,
    stages: Mapping[str, Sequence[Manifest]],
) -> dict[str, JSON]:
    """The ledger of the manifests that each stage made."""
    turns = candidates.counts["candidates"] / max(trajectories.counts["trajectories"], 1)
    return ledger(
        {
            name: [m.counts | {"seconds": m.seconds} for m in found]
            for name, found in stages.items()
            if found
        },
        parameters=active_parameters(config.model.path),
        samples=config.profile.samples,
        turns_per_trajectory=turns,
    )


def cost_table(costs: Mapping[str, JSON]) -> Table:
    """The ledger for the terminal."""
    table = Table(title="Cost (prompt tokens: those of the trie)", caption=comparison(costs))
    columns = {
        "rollouts": "rollouts",
        "sampled": "sampled",
        "prompt tokens": "unique_prompt_tokens",
        "completion tokens": "completion_tokens",
        "s": "seconds",
    }
    table.add_column("stage")
    for title in (*columns, "FLOPs"):
        table.add_column(title, justify="right")
    for stage, row in costs.items():
        if stage != "compared":
            cells = [f"{row[name]:,.0f}" if name in row else "" for name in columns.values()]
            flops = f"{row['flops']:.1e}" if row["flops"] else ""
            if stage == "total":
                table.add_section()
            table.add_row(stage, *cells, flops)
    return table


def selection_table(domains: Sequence[Mapping[str, JSON]], lambda_diff: float) -> Table:
    table = Table()
    table.add_column(f"pivot: σ² > 0, mean < {lambda_diff:g}")
    for row in domains:
        table.add_column(Text(row["domain"]), justify="right")
    for name in domains[0] if domains else ():
        if name != "domain" and (name == "kept" or any(row[name] for row in domains)):
            style = "bold green" if name == "kept" else None
            cells = [f"{row[name]:,}  {row[name] / row['candidates']:6.1%}" for row in domains]
            table.add_row(name.replace("_", " "), *cells, style=style)
    return table


def scores_table(models: Mapping[str, Mapping[str, Scored]]) -> Table:
    """What each model scores in each suite."""
    table = Table(title="Scores in points, with standard errors")
    for name in ("suite", "model", "n", "score", "unparsed", "truncated"):
        table.add_column(name, justify="left" if name in ("suite", "model") else "right")
    for suite in next(iter(models.values())):
        for label, of_model in models.items():
            scored_ = of_model[suite]
            found = summary(scored_.items, scored_.cluster)
            table.add_row(
                suite + (" (miniature)" if scored_.miniature else ""),
                Text(label),
                f"{found.n:,}",
                f"{100 * found.mean:.1f} ± {100 * (found.standard_error or 0):.1f}",
                f"{found.unparsed:.1%}",
                f"{found.truncated:.1%}",
                end_section=label == list(models)[-1] and len(models) > 1,
            )
    return table


def score_table(rows: Sequence[ScoreRow], label: str, base: str = "base") -> Table:
    miniature = bool(rows) and all(row.miniature for row in rows)
    title = f"Scores in points: {base} and {label}"
    table = Table(
        title=title + (" (miniature)" if miniature else ""),
        caption="± standard error; [95 % bootstrap]; p: paired, Holm-corrected",
    )
    for name in ("suite", "n", base, label, "change", "p"):
        table.add_column(name, justify="left" if name == "suite" else "right")
    for row in rows:
        colour = "green" if row.difference > 0 else "red"
        clear = f"[{colour}]" if row.p < 0.05 else ""
        interval = f"\\[{row.difference_low:.1f}, {row.difference_high:.1f}]"
        table.add_row(
            row.suite + (" (miniature)" if row.miniature and not miniature else ""),
            f"{row.n:,}",
            f"{row.base:.1f} ± {row.base_error:.1f}",
            f"{row.trained:.1f} ± {row.trained_error:.1f}",
            f"{clear}{row.difference:+.1f} {interval}",
            f"{row.p:.3f}",
        )
    change = ood_change(rows)
    if change is not None:
        table.add_section()
        table.add_row("OOD mean", "", "", "", f"{change:+.2f}", "")
    return table


def show_scores(rows: Sequence[ScoreRow], report: Mapping[str, JSON]) -> None:
    """The scores and a summary as artifacts of the flow run."""
    show_table(
        key="scores",
        table=[
            {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(row).items()}
            for row in rows
        ],
        description="Base and trained policy in points, same decoding; paired differences.",
    )
    stages = "\n".join(
        f"| {r['label']} | {'cached' if r['cached'] else 'ran'} | {r['seconds']:.1f} |"
        for r in report["stages"]
    )
    create_markdown_artifact(
        key="report",
        markdown=f"# {report['name']}\n\n| stage | | seconds |\n|---|---|---|\n{stages}\n",
        description="What each stage did.",
    )
