"""The paper's experiment: every way to train on the same trajectories, over seeds, as one flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from prefect import flow
from rich.table import Table
from rich.text import Text

from flows.retrain import retrain
from pivotrl.comparison import (
    END_TO_END,
    PIVOTS,
    Outcome,
    best_sft,
    equal_accuracy,
    outcomes,
    summary,
)
from pivotrl.comparison_page import interval_text, sections
from pivotrl.config import Config
from pivotrl.page import as_html
from pivotrl.scores import ScoreRow
from pivotrl.tracking.client import Unreachable
from pivotrl.types import JSON, PivotRLError
from tasks.comparison import log_comparison
from tasks.report import write_report
from tasks.session import current


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to train with one seed."""

    name: str
    config: Config


@flow(name="compare", persist_result=False, validate_parameters=False)
def compare(config: Config, name: str, arms: Sequence[Arm]) -> dict[str, JSON]:
    """Each arm is a run of the whole line, stages that arms share are cached; then the tables."""
    found: list[tuple[int, Outcome]] = []
    models: dict[tuple[int, str], str] = {}
    scores: dict[tuple[int, str], list[ScoreRow]] = {}
    gradient: dict[str, JSON] = {}
    for arm in arms:
        seed = arm.config.run.seed
        title = f"{arm.name}, seed {seed}"
        current().say(f"[bold]{title}[/]")
        report = retrain.with_options(flow_run_name=title)(arm.config, f"{name} {title}")
        if report is None or report["outcome"] != "trained":
            raise PivotRLError(f"{title}: there are no pivots to train on; widen select.*")
        for outcome in outcomes(arm.name, report):
            found.append((seed, outcome))
            label = outcome.arm if outcome.arm in report["controls"] else "trained"
            scores[seed, outcome.arm] = [ScoreRow(**row) for row in report["scores"][label]]
        if report["model"]:
            models[seed, arm.name] = report["model"]["run_id"]
        gradient = gradient or report["instruments"].get("gradient", {})
    everyone = best_sft([outcome for _, outcome in found])
    arms_found = summary(everyone)
    rivals = [
        {"seed": seed} | equal_accuracy(ours, theirs)
        for seed, ours in found
        if ours.arm == PIVOTS
        for other, theirs in found
        if theirs.arm == END_TO_END and other == seed
    ]
    current().console.print(_table(arms_found))
    for row in rivals:
        bound = "" if row["reached"] else " at least (not reached)"
        current().say(
            f"To the success of pivots, seed {row['seed']}: end-to-end RL samples "
            f"{row['turn_ratio']:.1f} times the turns and takes {row['time_ratio']:.1f} times as "
            f"long{bound}"
        )
    parts: dict[str, JSON] = {
        "outcome": "compared",
        "seeds": sorted({seed for seed, _ in found}),
        "domain": "+".join(config.evaluate.domains),
        "arms": arms_found,
        "equal_accuracy": rivals,
        "gradient": gradient,
        "runs": [{"seed": seed} | asdict(outcome) for seed, outcome in found],
    }
    page = current().home / "compare.html"
    text = as_html(f"Ways to train: {config.run.name}", list(sections([parts])))
    page.write_text(text, encoding="utf-8")
    try:
        log_comparison(config, name, found, models, scores, arms_found, page)
    except Unreachable as error:
        current().say(f"[yellow]Not in MLflow[/]: {error}. The same command logs it later")
    current().say(f"Tables and curves: {page}")
    return write_report(config, current(), name, parts)


def _table(arms: dict[str, JSON]) -> Table:
    table = Table(
        title="Ways to train, in points", caption="mean [95 % interval over seeds]; OOD: change"
    )
    for title in ("arm", "in domain", "gain", "OOD mean", "turns sampled", "s"):
        table.add_column(title, justify="left" if title == "arm" else "right")
    for arm, row in arms.items():
        cells = [Text(interval_text(row[key])) for key in ("in_domain", "gain", "ood_mean")]
        table.add_row(arm, *cells, f"{row['rollout_turns']:,}", f"{row['seconds']:,.0f}")
    return table
