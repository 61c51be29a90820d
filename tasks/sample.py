"""Candidates to rollouts: K actions of a policy at each candidate of a shard."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from pivotrl.chat import TemplateError
from pivotrl.config import Config
from pivotrl.manifest import FileEntry, Manifest
from pivotrl.policies import PolicyFiles
from pivotrl.store.shards import write_shard
from pivotrl.types import JSON, Candidate, SamplingParams, canonical, digest
from tasks.policy import load_policy
from tasks.session import current
from tasks.stage import Produced, Stage, Work, read_table


def sample(
    config: Config,
    model: Path,
    policy: PolicyFiles,
    trajectories: Manifest | None,
    candidates: Manifest | None,
    shard: FileEntry,
    label: str,
) -> Manifest | None:
    profile = config.profile
    return _stage(
        settings={
            "policy": asdict(policy),
            "sampling": asdict(sampling_of(config)),
            "samples": profile.samples,
            "share": profile.share,
            "seed": config.run.seed,
            "dtype": config.model.dtype,
        },
        inputs={"candidates": candidates.only(shard) if candidates else None},
        extra={
            "config": config,
            "model": model,
            "policy": policy,
            "trajectories": trajectories,
            "label": label,
        },
        label=label,
    )


def sampling_of(config: Config) -> SamplingParams:
    profile = config.profile
    return SamplingParams(
        max_tokens=profile.max_tokens, temperature=profile.temperature, top_p=profile.top_p
    )


def read_candidates(home: Path, candidates: Manifest, trajectories: Manifest) -> list[Candidate]:
    """The candidates of a manifest, each joined to its trajectory."""
    import polars as pl

    from pivotrl.candidates import load_candidates

    rows = read_table(home, candidates, "candidates")
    wanted = list({row["trajectory_id"] for row in rows})
    files = trajectories.of_table(home, "trajectories")
    found = pl.scan_parquet(files).filter(pl.col("trajectory_id").is_in(wanted)).collect()
    return load_candidates(rows, found.to_dicts())


def _body(work: Work) -> Produced:
    from pivotrl import rollouts

    config: Config = work.extra["config"]
    policy: PolicyFiles = work.extra["policy"]
    params = sampling_of(config)
    loaded = load_policy(
        work.extra["model"],
        policy.weights,
        config.model.dtype,
        config.model.device,
        config.model.batch_rows,
    )
    candidates = read_candidates(work.home, work.inputs["candidates"], work.extra["trajectories"])
    share = config.profile.share
    profiled = [c for c in candidates if int(digest(["profile", c.id]), 16) < share * 16**16]
    fitting, without = rollouts.prompts(
        profiled, loaded.chat, longest=loaded.context - params.max_tokens
    )
    fingerprint = policy.fingerprint(params)
    with current().progress(work.extra["label"], len(fitting), "candidates") as advance:
        rows = rollouts.sample(
            fitting,
            loaded.engine,
            policy=fingerprint,
            samples=config.profile.samples,
            params=params,
            seed=config.run.seed,
            on_progress=lambda done, _tokens: advance(done / config.profile.samples),
        )
    write_shard(work.out / "rollouts.parquet", "rollouts", rows)
    write_shard(
        work.out / "policies.parquet",
        "policies",
        [
            asdict(policy)
            | {
                "policy": fingerprint,
                "sampling": canonical(asdict(params)).decode(),
                "path": str(work.extra["model"]),
            }
        ],
    )
    files: list[tuple[str, str | None, int, str | None]] = [
        ("rollouts.parquet", "rollouts", len(rows), None),
        ("policies.parquet", "policies", 1, fingerprint),
    ]
    if without:
        rows_without = [_without_prompt(c, why, loaded.context, config) for c, why in without]
        write_shard(work.out / "quarantine.parquet", "quarantine", rows_without)
        files.append(("quarantine.parquet", "quarantine", len(without), None))
    return Produced(
        files=files,
        counts={
            "rollouts": len(rows),
            "without_prompt": len(without),
            "prompt_tokens": sum(len(item.prompt_ids) for item in fitting) * config.profile.samples,
            "completion_tokens": sum(len(row["token_ids"]) for row in rows),
        },
    )


def _without_prompt(
    candidate: Candidate, why: int | TemplateError, context: int, config: Config
) -> dict[str, JSON]:
    """A row of `quarantine`."""
    if isinstance(why, int):
        reason = "prompt too long"
        remedy = (
            f"turn {candidate.turn} has {why} prompt tokens, the model takes {context} with "
            f"profile.max_tokens = {config.profile.max_tokens} of them for the action; take a "
            "model with a longer context or a smaller max_tokens"
        )
    else:
        reason = "chat template refuses"
        remedy = f"turn {candidate.turn}: {why}"
    return {
        "source_file": candidate.trajectory.source_file,
        "source_row": candidate.trajectory.source_row,
        "reason": reason,
        "remedy": remedy,
        "excerpt": candidate.id,
    }


_stage = Stage(
    name="sample",
    body=_body,
    modules=("pivotrl.rollouts", "pivotrl.engines.hf", "pivotrl.chat"),
    computes_with=("torch", "transformers"),
    retries=2,
)
