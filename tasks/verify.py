"""Rollouts to verdicts: the verifier of each candidate's domain judges every action."""

from __future__ import annotations

from functools import partial

from pivotrl.config import Config
from pivotrl.manifest import Manifest, code_digest
from pivotrl.types import digest
from pivotrl.verifiers import added_versions, verifier_for
from tasks.policy import load_chat
from tasks.sample import Pool, read_candidates
from tasks.session import current
from tasks.stage import Produced, Stage, Work

MODULES = ("pivotrl.verifiers", "pivotrl.chat")
"""Code that decides a verdict; its digest is the verifier version."""


def verify(pool: Pool, rollouts: Manifest | None, label: str) -> Manifest | None:
    config = pool.config
    return _stage(
        settings=config.verifier
        | {
            "mask": list(config.verify.mask),
            "added": added_versions(),
            "estimator": "fixed" if config.profile.certainty is None else "stopped",
        },
        inputs={"rollouts": rollouts, "candidates": pool.candidates},
        extra={"pool": pool, "trajectories": pool.trajectories, "label": label},
        label=label,
    )


def check_domains(config: Config, candidates: Manifest) -> None:
    """Raises ConfigError, before anything is sampled, for a domain that no verifier knows.

    Also where commands are to be run and this machine has no sandbox.
    """
    for domain in candidates.counts["domains"]:
        verifier_for(domain, **config.verifier)


def _body(work: Work) -> Produced:
    from pivotrl import rollouts

    judging = {name: value for name, value in work.settings.items() if name != "estimator"}
    options = {name: value for name, value in judging.items() if name not in ("added", "mask")}
    pool: Pool = work.extra["pool"]
    candidates = read_candidates(work)
    sampled = work.rows("rollouts", "rollouts")
    with current().progress(work.extra["label"], len(sampled), "rollouts") as advance:
        rows = rollouts.verdicts(
            sampled,
            {c.id: c for c in candidates},
            partial(verifier_for, **options),
            load_chat(pool.model, pool.policy.weights).parse,
            version=digest([code_digest(MODULES), judging]),
            estimator=work.settings["estimator"],
            mask=judging["mask"],
            on_progress=advance,
        )
    return Produced(
        files=[work.write("verdicts", rows)],
        counts={
            "verdicts": len(rows),
            "accepted": sum(row["reward"] == 1.0 for row in rows),
            "without_reward": sum(row["reward"] is None for row in rows),
        },
    )


_stage = Stage(
    name="verify",
    body=_body,
    modules=(*MODULES, "pivotrl.rollouts", "pivotrl.store.shards"),
    computes_with=("jsonschema", "sqlglot", "bashlex"),
    by_bytes=("candidates",),
)
