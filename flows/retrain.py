"""The main job: trajectories in, a better model registered. Reads as what happens, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from prefect import flow

from flows.evaluate import score
from flows.rounds import train_in_rounds
from pivotrl.config import Config
from pivotrl.ledger import JUDGE
from pivotrl.manifest import Manifest
from pivotrl.policies import identify
from pivotrl.promotion import Decision
from pivotrl.scores import ScoreRow, compare
from pivotrl.suites import Suite, suites
from pivotrl.tracking.client import Unreachable
from pivotrl.types import JSON
from tasks.agree import agree
from tasks.evaluate import Asked
from tasks.extract import extract
from tasks.ingest import ingest
from tasks.instruments import instruments
from tasks.judge import judge_budget
from tasks.merge import merge
from tasks.promote import gate, promote, was_champion
from tasks.register import register
from tasks.report import (
    cost,
    cost_table,
    score_table,
    scored,
    show_scores,
    write_page,
    write_report,
)
from tasks.sample import Pool
from tasks.session import current
from tasks.train import checkpoint_of, train_end_to_end, train_sft
from tasks.verify import check_domains


@flow(name="retrain", persist_result=False, validate_parameters=False)
def retrain(config: Config, name: str) -> dict[str, JSON] | None:
    """One run of the whole line; the report, or None where a dry session cannot see further."""
    session = current()
    base = identify(config.model.path)
    asked = suites(config)
    budget = judge_budget(config)

    trajectories = ingest(config)
    candidates = extract(config, trajectories)
    merge("candidates", trajectories, candidates)
    if candidates is not None:
        check_domains(config, candidates)

    pool = Pool(
        config=config,
        model=config.model.path,
        policy=base,
        trajectories=trajectories,
        candidates=candidates,
    )
    rounds = train_in_rounds(pool, budget)
    if rounds is None:
        return None
    selection = rounds[-1].selection
    trainings = [(r.selection, r.checkpoint) for r in rounds if r.selection and r.checkpoint]
    profiles = [manifest for done in rounds for manifest in done.profiles]
    assert trajectories and candidates and selection  # rounds is at least 1
    parts: dict[str, JSON] = {"ingest": trajectories.counts, "extract": candidates.counts}
    spent = {
        "ingest": [trajectories],
        "extract": [candidates],
        "profile": [m for m in profiles if m.kind != JUDGE],
        JUDGE: [m for m in profiles if m.kind == JUDGE],
        "select": [done.selection for done in rounds if done.selection],
    }
    if not trainings:
        session.say(
            "[yellow]No pivots[/]: the table shows why. Raise select.lambda_diff where turns are "
            "too easy, sample more (profile.samples), or start from a policy that is right more "
            "often where all are wrong. Nothing was trained."
        )
        parts |= {
            "outcome": "no pivots",
            "selection": selection.counts,
            "cost": cost(config, candidates, trajectories, spent),
        }
        if session.dry:
            return None
        report = write_report(config, session, name, parts)
        write_page(session, report, (trajectories, candidates, selection), [])
        return report

    selection, checkpoint = trainings[-1]
    trained = checkpoint_of(session.home, checkpoint)
    policy = identify(trained)
    live = dict.fromkeys(s.name for s in asked if s.kind == "domain" and not s.by_harness)
    agreed = {domain: agree(config, config.model.path, base, domain) for domain in live}
    before = score(Asked(label="base", config=config, path=config.model.path, policy=base), asked)
    ours = Asked(label="trained", config=config, path=trained, policy=policy, after=checkpoint)
    after = score(ours, asked)
    controls = {
        label: (made, score_trained(config, made, asked, label))
        for label, made in train_controls(pool).items()
    }
    policies = {"trained": checkpoint} | {label: made for label, (made, _) in controls.items()}
    measured = instruments(pool, rounds[0].profiles, policies)
    if session.dry:
        return None

    tables = {"trained": compare(scored(session.home, before), scored(session.home, after))}
    for label, (_, evaluations) in controls.items():
        tables[label] = compare(scored(session.home, before), scored(session.home, evaluations))
    for label, rows in tables.items():
        if rows:
            session.console.print(score_table(rows, label))
    agreement = {domain: found.counts for domain, found in agreed.items() if found is not None}
    for domain, found in agreement.items():
        if found["agreeing"] is not None:
            session.say(
                f"Reward against the oracle of {domain}: {found['agreeing']:.1%} agree of "
                f"{found['n']:,} actions"
            )
    tags = {
        "policy": policy.weights,
        "base_policy": base.weights,
        "data": trajectories.fingerprint,
        "selection": selection.key,
    }
    checkpoints = [made for _, made in trainings]
    went_in = (trajectories, candidates, selection)
    decision, model = remember(config, name, went_in, checkpoints, tables["trained"], tags)
    parts |= {
        "outcome": "trained",
        "selection": selection.counts,
        "training": checkpoint.counts | {"seconds": checkpoint.seconds},
        "controls": {
            label: made.counts | {"seconds": made.seconds} for label, (made, _) in controls.items()
        },
        "agreement": agreement,
        "instruments": measured.counts["measured"] if measured else {},
        "scores": {label: [asdict(row) for row in rows] for label, rows in tables.items()},
        "model": model,
        "gate": decision and asdict(decision),
        "cost": cost(
            config,
            candidates,
            trajectories,
            spent
            | {
                "train": checkpoints,
                "agree": [found for found in agreed.values() if found is not None],
                "evaluate": [m for _, m in (*before, *after)],
                "controls": [
                    m for made, scores in controls.values() for m in (made, *(s for _, s in scores))
                ],
                "instruments": [measured] if measured else [],
            },
        ),
    }
    session.console.print(cost_table(parts["cost"]))
    report = write_report(config, session, name, parts)
    write_page(session, report, went_in, checkpoints)
    show_scores(tables["trained"], report)
    return report


def remember(
    config: Config,
    name: str,
    went_in: tuple[Manifest, Manifest, Manifest],
    checkpoints: Sequence[Manifest],
    scores: Sequence[ScoreRow],
    tags: Mapping[str, str],
) -> tuple[Decision | None, dict[str, JSON] | None]:
    """The gate's decision and the registered model; None where MLflow did not answer.

    `went_in`: trajectories, candidates, selection.
    """
    session = current()
    decision = model = None
    try:
        decision = gate(config, scores, checkpoints[-1])
        model = register(config, name, *went_in, checkpoints, scores, decision, tags)
        of = (session.home, config.register_.model, model["version"])
        if config.promote.automatic and decision.passed and not was_champion(*of):
            # forced: the gate has decided a moment ago
            champion = promote(*of, reason="passed the gate", force=True)
            session.say(f"Champion: {config.register_.model} version {champion}")
    except Unreachable as error:
        session.say(
            f"[yellow]{'Not registered' if model is None else 'Not promoted'}[/]: {error}. All "
            "else is done; the same command, or the next scheduled run, does it once MLflow is back"
        )
    return decision, model


def train_controls(pool: Pool) -> dict[str, Manifest]:
    """The control arms that the configuration asks for, every setting of the sweep."""
    config = pool.config
    made: dict[str, Manifest | None] = {}
    if config.sft.enabled:
        for learning_rate in config.sft.learning_rates:
            for epochs in config.sft.epochs:
                label = f"sft {learning_rate:g} x {epochs}"
                made[label] = train_sft(pool, learning_rate, epochs)
    if config.end_to_end.enabled:
        made["end to end"] = train_end_to_end(pool)
    return {label: manifest for label, manifest in made.items() if manifest is not None}


def score_trained(
    config: Config, made: Manifest, asked: Sequence[Suite], label: str
) -> list[tuple[Suite, Manifest]]:
    """Scored as the others are."""
    model = checkpoint_of(current().home, made)
    of = Asked(label=label, config=config, path=model, policy=identify(model), after=made)
    evaluations = score(of, asked)
    merge(label, made)
    return evaluations
