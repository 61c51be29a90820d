"""Who is champion: the gate's decision on a run, and aliases moved with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from prefect.artifacts import create_markdown_artifact

from pivotrl.config import Config
from pivotrl.manifest import Manifest
from pivotrl.promotion import Bar, Decision, decide, step_of
from pivotrl.scores import ScoreRow
from pivotrl.store import Store
from pivotrl.store.shards import write_shard
from pivotrl.tracking.registry import Version, find_version, scores_of, set_alias
from pivotrl.tracking.runs import metric_name
from pivotrl.types import PivotRLError, digest
from tasks.session import current
from tasks.stage import read_table
from tasks.train import metrics_by_step

CHAMPION = "champion"
GATE_TAG = "pivotrl.gate"
PASSED = "passed"
ROLLED_BACK = "rolled back from version"


def gate(config: Config, scores: Sequence[ScoreRow], checkpoint: Manifest) -> Decision:
    """Whether the run's model may become champion, said and shown as an artifact."""
    session = current()
    steps = metrics_by_step(read_table(session.home, checkpoint, "train_steps"))
    champion = find_version(session.home, config.register_.model, CHAMPION)
    best = None
    if champion:
        known = scores_of(session.home, champion)
        best = {s.suite: known[m] for s in scores if (m := metric_name(s.suite)) in known}
    bar = Bar(**config.promote.model_dump(exclude={"automatic"}))
    step = step_of(steps, checkpoint.counts["best_step"])
    decision = decide(bar, scores, step, best)
    verdict = "passed" if decision.passed else "failed"
    lines = "\n".join(f"- {reason}" for reason in decision.reasons)
    create_markdown_artifact(
        key="gate",
        markdown=f"# Gate: {verdict}\n\n{lines}\n",
        description="Whether the model may become champion ([promote]).",
    )
    session.say(f"Gate: [{'green' if decision.passed else 'yellow'}]{verdict}[/]")
    for reason in decision.reasons:
        if not decision.passed and reason.startswith("FAILS"):
            session.say(f"  {reason}")
    return decision


def promote(home: Path, model: str, wanted: str, *, reason: str = "", force: bool = False) -> str:
    """Makes a version, by number or alias, champion; returns its number.

    Raises PivotRLError if there is none, or if it failed the gate, or scores below the champion of
    now in a domain, and nobody forces it.
    """
    Store(home / "pivotrl.duckdb").query("select 1")  # one that takes no row moves no alias
    version = find_version(home, model, wanted)
    if version is None:
        raise PivotRLError(f"no {wanted} of model {model!r}; `pivotrl ui` shows what is registered")
    if version.tags.get(GATE_TAG) != PASSED and not force:
        failed = version.tags.get(f"{GATE_TAG}.reasons", "it never met the gate")
        raise PivotRLError(
            f"version {version.number} of {model} did not pass the gate; --force promotes it "
            f"nevertheless: {failed}"
        )
    champion = find_version(home, model, CHAMPION)
    moves = champion is None or champion.number != version.number
    if moves:
        if champion and not force and (better := _better(home, champion, version)):
            raise PivotRLError(
                f"version {version.number} of {model} met the gate before version "
                f"{champion.number} was champion; --force promotes it nevertheless: {better}"
            )
        set_alias(home, version, CHAMPION)
    if moves or not was_champion(home, model, version.number):  # killed before its row
        how = "forced" if version.tags.get(GATE_TAG) != PASSED else "passed the gate"
        record(home, version, CHAMPION, reason or how)
    return version.number


def _better(home: Path, champion: Version, version: Version) -> str:
    """Where the champion of today scores more than a version that met the gate earlier."""
    best, own = scores_of(home, champion), scores_of(home, version)
    return "; ".join(
        f"{suite}: {score:.1f}, the champion's {f'{best[suite]:.1f}' if suite in best else 'none'}"
        for suite, score in own.items()
        if suite not in best or score < best[suite]
    )


def was_champion(home: Path, model: str, number: str) -> bool:
    """Whether the version was champion once: who has been replaced is not put back by itself."""
    _, rows = Store(home / "pivotrl.duckdb").query(
        "select count(*) from promotions where (model, alias, version) = (?, ?, ?)",
        [model, CHAMPION, number],
    )
    return bool(rows[0][0])


def rollback(home: Path, model: str) -> tuple[str, str]:
    """The champion before this one is champion again; (number before, number now)."""
    champion = find_version(home, model, CHAMPION)
    if champion is None:
        raise PivotRLError(f"model {model!r} has no champion to roll back; see `pivotrl promote`")
    _, rows = Store(home / "pivotrl.duckdb").query(
        "select version, reason from promotions where model = ? and alias = ? order by promoted_at",
        [model, CHAMPION],
    )
    reign: list[str] = []  # who was champion before whom, without those that were rolled back
    for version, reason in rows:
        if reason.startswith(ROLLED_BACK):
            del reign[-1:]
        else:
            reign.append(version)
    if reign[-1:] != [champion.number]:  # somebody moved the alias in MLflow
        reign.append(champion.number)
    before = find_version(home, model, reign[-2]) if len(reign) > 1 else None
    if before is None:
        raise PivotRLError(f"model {model!r} had no champion before version {champion.number}")
    set_alias(home, before, CHAMPION)
    record(home, before, CHAMPION, f"{ROLLED_BACK} {champion.number}")
    return champion.number, before.number


def record_decision(home: Path, version: Version, alias: str, run: str, decision: Decision) -> None:
    """A row of `promotions` on the version that the run trained, unless its last says the same."""
    _, rows = Store(home / "pivotrl.duckdb").query(
        "select reason from promotions where (model, version, alias) = (?, ?, ?) "
        "order by promoted_at desc limit 1",
        [version.name, version.number, alias],
    )
    reasons = "; ".join(["", *decision.reasons])
    if not rows or not rows[0][0].endswith(reasons):
        record(home, version, alias, f"trained by run {run}{reasons}")


def record(home: Path, version: Version, alias: str, reason: str) -> None:
    """A row of `promotions`."""
    promotion = {
        "model": version.name,
        "version": version.number,
        "alias": alias,
        "policy_weights": version.tags.get("policy", ""),
        "training_id": version.tags.get("training"),
    }
    now = datetime.now(UTC).replace(tzinfo=None)
    promotion_id = digest(promotion | {"at": now.isoformat()})
    path = home / "shards" / "promotions" / f"{promotion_id}.parquet"
    row = promotion | {"promotion_id": promotion_id, "reason": reason, "promoted_at": now}
    write_shard(path, "promotions", [row])
    Store(home / "pivotrl.duckdb").merge("promotions", [path])
