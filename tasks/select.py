"""Verdicts to pivots: the selection rule as SQL over the verdict shards, with a table of counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from prefect.artifacts import create_markdown_artifact

from pivotrl.config import Config
from pivotrl.manifest import Manifest
from pivotrl.profile_tables import bars, success_rates, verdict_table
from pivotrl.selection import Criteria, criteria_of
from pivotrl.selection import select as select_pivots
from pivotrl.store import Store
from pivotrl.types import JSON, canonical
from tasks.artifacts import show_table
from tasks.session import current
from tasks.stage import Produced, Stage, Work


def select(
    config: Config, candidates: Manifest | None, verdicts: Sequence[Manifest | None], policy: str
) -> Manifest | None:
    """`verdicts`: of every shard, and its judgements where a judge was asked."""
    return _stage(
        settings=asdict(criteria_of(config)) | {"policy": policy},
        inputs={"candidates": candidates}
        | {f"verdicts {number}": manifest for number, manifest in enumerate(verdicts)},
        extra={"name": config.run.name},
    )


def show_selection(config: Config, selection: Manifest, candidates: Manifest, policy: str) -> None:
    """Selection, success rates and verdicts as artifacts of the flow run, cached or not."""
    show_table(
        key="selection",
        table=selection.counts["domains"],
        description=f"Candidates by what the profile says of them; a pivot has σ² > 0 and a mean "
        f"reward below λ = {config.select.lambda_diff:g}.",
    )
    store = Store(current().home / "pivotrl.duckdb")
    rates = success_rates(store, candidates.key, policy)
    create_markdown_artifact(
        key="success-rates",
        markdown=f"# How often the policy is right\n\n{bars(rates)}",
        description="Profiled turns by mean reward; full bars are pivots.",
    )
    show_table(
        key="verdicts",
        table=verdict_table(store, candidates.key, policy),
        description="Actions by domain and verdict; every rejection has its category.",
    )


def _body(work: Work) -> Produced:
    settings = work.settings
    criteria = Criteria(**{k: v for k, v in settings.items() if k != "policy"})
    verdict_files, judgement_files = (
        [path for name in work.inputs for path in work.files(name, table)]
        for table in ("verdicts", "judgements")
    )
    found = select_pivots(
        verdict_files,
        work.files("candidates", "candidates"),
        judgement_files,
        criteria=criteria,
    )
    of = {"selection_id": work.folder.name}
    totals: dict[str, JSON] = {
        name: sum(row[name] for row in found.domains)
        for name in (found.domains[0] if found.domains else {})
        if name != "domain"
    }
    selection = of | {
        "name": work.extra["name"],
        "policy": settings["policy"],
        "rule": criteria.sql,
        "parameters": canonical(dict(settings)).decode(),
        "candidates": totals.get("candidates", 0),
        "pivots": len(found.pivots),
    }
    return Produced(
        files=[
            work.write("pivots", [of | row for row in found.pivots]),
            work.write("selections", [selection]),
        ],
        counts=totals | {"domains": found.domains},
    )


_stage = Stage(
    name="select",
    body=_body,
    modules=("pivotrl.selection", "pivotrl.profiling", "pivotrl.store.shards"),
    by_bytes=("candidates",),
)
