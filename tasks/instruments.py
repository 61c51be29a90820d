"""What training did, held against the theory: gradients at the base, drift of every policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import polars as pl

from pivotrl.config import Config
from pivotrl.manifest import Manifest
from pivotrl.policies import identify
from pivotrl.types import JSON, digest
from tasks.policy import TORCH, context_of, forget_policy, load_chat
from tasks.sample import Pool, read_candidates
from tasks.session import current
from tasks.stage import Produced, Stage, Work
from tasks.train import checkpoint_of

if TYPE_CHECKING:
    from pivotrl.instruments import Probe

GRADIENT = "gradient"
UNRELATED = 8
"""Actions of other states that each state is asked about."""


def instruments(
    pool: Pool, profiles: Sequence[Manifest], trained: Mapping[str, Manifest]
) -> Manifest | None:
    """`measured` in its counts: `gradient` of the base, and the drift of each label's policy."""
    config = pool.config
    if not config.instruments.candidates:
        return None
    paths = {label: checkpoint_of(current().home, made) for label, made in trained.items()}
    return _stage(
        settings={
            "candidates": config.instruments.candidates,
            "policies": {label: asdict(identify(path)) for label, path in paths.items()},
            "reference": asdict(pool.policy),
            "micro_batch_tokens": config.train.micro_batch_tokens,
            "max_length": config.model.max_length,
            "seed": config.run.seed,
        },
        inputs={"candidates": pool.candidates}
        | {f"profile {n}": m for n, m in enumerate(profiles)},
        extra={"config": config, "paths": paths, "trajectories": pool.trajectories},
        label="instruments",
    )


def _body(work: Work) -> Produced:
    from pivotrl.engines.hf import load_model
    from pivotrl.instruments import action_log_probs, drift, gradients

    config: Config = work.extra["config"]
    forget_policy()
    budget = config.train.micro_batch_tokens
    probes = _probes(work)
    if len(probes) < 2:
        return Produced(counts={"probes": len(probes), "measured": {}})
    base = load_model(config.model.path, dtype="float32", device=config.model.device)
    groups = gradients(base, probes, budget)
    measured: dict[str, JSON] = {GRADIENT: {"probes": len(probes), "groups": groups}}
    before = action_log_probs(base, probes, budget)
    del base
    paths = work.extra["paths"]
    with current().progress("instruments", len(paths), "policies") as advance:
        for label, path in paths.items():
            policy = load_model(path, dtype="float32", device=config.model.device)
            measured[label] = drift(probes, before, action_log_probs(policy, probes, budget))
            advance(1)
    return Produced(counts={"probes": len(probes), "measured": measured})


def _probes(work: Work) -> list[Probe]:
    """States by chance, with what the profile's samples earned there."""
    from pivotrl.instruments import Probe
    from pivotrl.rollouts import prompts

    config: Config = work.extra["config"]
    rollouts, verdicts = (
        pl.scan_parquet([f for name in work.inputs for f in work.files(name, table)])
        for table in ("rollouts", "verdicts")
    )
    earned = verdicts.filter(pl.col("reward").is_not_null()).select("rollout_id", "reward")
    acted = rollouts.select("rollout_id", "candidate_id", "sample_index", "token_ids")
    rows = acted.join(earned, on="rollout_id").sort("candidate_id", "sample_index").collect()
    groups: dict[str, list[dict[str, JSON]]] = {}
    for row in rows.iter_rows(named=True):
        if row["token_ids"]:
            groups.setdefault(row["candidate_id"], []).append(row)
    seed = config.run.seed
    everyone = read_candidates(work)
    chosen = sorted(
        (c for c in everyone if len(groups.get(c.id, ())) > 1),
        key=lambda c: digest(["instruments", seed, c.id]),
    )[: work.settings["candidates"]]
    chat = load_chat(config.model.path, work.settings["reference"]["weights"])
    longest = context_of(config.model, config.model.path) - config.profile.max_tokens
    fitting, _ = prompts(chosen, chat, longest=longest)
    acts = [[tuple(row["token_ids"]) for row in groups[item.candidate.id]] for item in fitting]
    others = [actions[0] for actions in acts]
    return [
        Probe(
            prompt_ids=item.prompt_ids,
            actions=actions,
            rewards=[row["reward"] for row in groups[item.candidate.id]],
            unrelated=(others[number + 1 :] + others[:number])[:UNRELATED],
        )
        for number, (item, actions) in enumerate(zip(fitting, acts, strict=True))
    ]


_stage = Stage(
    name="instruments",
    body=_body,
    modules=("pivotrl.training", "pivotrl.instruments", "pivotrl.rollouts"),
    computes_with=TORCH,
    by_bytes=("candidates",),
)
