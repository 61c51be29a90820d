"""What a run did: `report.json`, the terminal's tables, and the scores as an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from rich.table import Table

from pivotrl.comparison import Scored, ScoreRow, ood_change
from pivotrl.config import Config, flatten
from pivotrl.evaluation import EvaluationItem
from pivotrl.manifest import Manifest
from pivotrl.store import Store
from pivotrl.store.shards import write_shard
from pivotrl.suites import Suite
from pivotrl.types import JSON, FinishReason, canonical, digest
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
                prompt="",
                output="",
                extracted=row["extracted"],
                score=row["score"],
                finish_reason=FinishReason.STOP,
            )
            for row in rows
        ]
        miniature = bool(manifest.counts["miniature"])
        out[suite.label] = Scored(kind=suite.kind, miniature=miniature, items=items)
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
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_bytes(text)
        unfinished.replace(path)
    return report


def store_run(
    config: Config, home: Path, name: str, started: datetime, report: Mapping[str, JSON]
) -> None:
    """A row of `runs` in the store; `started` in UTC."""
    ended = datetime.now(UTC)
    run_id = digest([name, started.isoformat()])
    path = home / "shards" / "runs" / f"{run_id}.parquet"
    row = {
        "run_id": run_id,
        "name": name,
        "flow": "retrain",
        "config": canonical(flatten(config)).decode(),
        "state": report["outcome"],
        "started_at": started.replace(tzinfo=None),
        "ended_at": ended.replace(tzinfo=None),
        "seconds": (ended - started).total_seconds(),
        "report": canonical(report).decode(),
    }
    write_shard(path, "runs", [row])
    Store(home / "pivotrl.duckdb").merge("runs", [path])


def cost(manifests: Mapping[str, Sequence[Manifest]]) -> dict[str, JSON]:
    """Rollouts, tokens and seconds by stage, as they were when each stage ran."""
    out: dict[str, JSON] = {}
    for stage, found in manifests.items():
        row: dict[str, float] = {"seconds": round(sum(m.seconds for m in found), 1)}
        for name in ("rollouts", "prompt_tokens", "completion_tokens"):
            if any(name in m.counts for m in found):
                row[name] = sum(m.counts.get(name, 0) for m in found)
        out[stage] = row
    return out


def selection_table(domains: Sequence[Mapping[str, JSON]], lambda_diff: float) -> Table:
    table = Table()
    table.add_column(f"pivot: σ² > 0, mean < {lambda_diff:g}")
    for row in domains:
        table.add_column(row["domain"], justify="right")
    for name in domains[0] if domains else ():
        if name != "domain" and (name == "kept" or any(row[name] for row in domains)):
            style = "bold green" if name == "kept" else None
            cells = [f"{row[name]:,}  {row[name] / row['candidates']:6.1%}" for row in domains]
            table.add_row(name.replace("_", " "), *cells, style=style)
    return table


def score_table(rows: Sequence[ScoreRow], label: str) -> Table:
    miniature = bool(rows) and all(row.miniature for row in rows)
    title = f"Scores in points: base and {label}"
    table = Table(title=title + (" (miniature)" if miniature else ""))
    for name in ("suite", "n", "base", label, "change", "p (Holm)"):
        table.add_column(name, justify="left" if name == "suite" else "right")
    for row in rows:
        colour = "green" if row.difference > 0 else "red"
        clear = f"[{colour}]" if row.p < 0.05 else ""
        table.add_row(
            row.suite + (" (miniature)" if row.miniature and not miniature else ""),
            f"{row.n:,}",
            f"{row.base:.1f} ± {row.base_error:.1f}",
            f"{row.trained:.1f} ± {row.trained_error:.1f}",
            f"{clear}{row.difference:+.1f} ± {row.difference_error:.1f}",
            f"{row.p:.3f}",
        )
    change = ood_change(rows)
    if change is not None:
        table.add_section()
        table.add_row("benchmarks, mean", "", "", "", f"{change:+.2f}", "")
    return table


def show_scores(rows: Sequence[ScoreRow], report: Mapping[str, JSON]) -> None:
    """The scores and a summary as artifacts of the flow run."""
    create_table_artifact(
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
