"""Candidates to rollouts: actions of a policy at each candidate of a shard, in one or more looks.

With `profile.certainty` the samples of a later look are taken only at candidates that are
still open. A row that the same engine has sampled before, in whichever shard, is taken from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
from rich.markup import escape

from pivotrl import adaptive
from pivotrl.chat import TemplateError
from pivotrl.config import Config
from pivotrl.engines.isolation import EngineFailure
from pivotrl.manifest import Manifest
from pivotrl.policies import PolicyFiles
from pivotrl.prefixes import unique_tokens
from pivotrl.selection import rewards
from pivotrl.types import (
    JSON,
    Candidate,
    Engine,
    RolloutStatus,
    Sample,
    SamplingParams,
    canonical,
    digest,
    seed_of,
)
from tasks.policy import ENGINES, TORCH, engine_label, engine_settings, load_policy, of_model
from tasks.session import current
from tasks.stage import (
    FileIdentity,
    Produced,
    Stage,
    Work,
    identity,
    manifests_of,
)

WHICH_ROWS = ("share", "first", "upto", "open", "max_length")
"""Settings that decide which rows are sampled, and nothing in them."""

PAID = ("sampled", "prompt_tokens", "unique_prompt_tokens", "completion_tokens")
"""Counts of what sampling cost, all tries together."""

COMPUTE: Mapping[str, tuple[str, ...]] = {"hf": TORCH, "vllm": ENGINES, "server": ()}
"""What computes in this process, by engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A policy, and the candidates that it is profiled at: those of one shard, or of all."""

    config: Config
    model: Path
    policy: PolicyFiles
    trajectories: Manifest | None
    candidates: Manifest | None
    """None, of either, where a dry session sees no further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Samples `first` to `upto` of the candidates with the ids `open`; None stands for all."""

    first: int
    upto: int
    open: Sequence[str] | None = None
    after: Manifest | None = None
    """The verdicts that left them open; it draws the edge and is no part of the key."""


@dataclass(frozen=True, slots=True)
class Proven:
    """Implements `types.Engine` for one that has sampled others of the shard.

    A call in which nothing succeeds is then its prompts' failure, and its samples have a status;
    unless the engine does not answer a prompt of one token either.
    """

    engine: Engine

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        params: SamplingParams,
        seeds: Sequence[int],
        on_progress: Callable[[int, int], None] | None = None,
        first: int = 0,
    ) -> list[list[Sample]]:
        try:
            return self.engine.sample(prompts, n, params, seeds, on_progress, first)
        except EngineFailure as failure:
            little = replace(params, max_tokens=1)
            with suppress(EngineFailure):
                ((one,),) = self.engine.sample([prompts[0][:1]], 1, little, seeds[:1])
                if one.status == RolloutStatus.OK:
                    current().say(f"[yellow]{escape(str(failure))}[/]; these have no reward")
                    return [
                        [
                            Sample.lost(RolloutStatus.ENGINE_ERROR, seed_of(seed, index))
                            for index in range(first, first + n)
                        ]
                        for seed in seeds
                    ]
            raise

    def load_weights(self, state: Mapping[str, Any]) -> None:
        self.engine.load_weights(state)


def sample(pool: Pool, look: Look, label: str) -> Manifest | None:
    engine = engine_settings(pool.config, pool.model, profiling=True).name
    stage = Stage(
        name="sample",
        body=_body,
        modules=("pivotrl.rollouts", f"pivotrl.engines.{engine}", "pivotrl.chat"),
        computes_with=COMPUTE[engine],
        retries=2,
    )
    return stage(
        settings=_of_policy(pool.config, pool.model, pool.policy)
        | {
            "share": pool.config.profile.share,
            "first": look.first,
            "upto": look.upto,
            "open": None if look.open is None else digest(sorted(look.open)),
        },
        inputs={"candidates": pool.candidates} | ({"after": look.after.bare} if look.after else {}),
        extra={
            "pool": pool,
            "trajectories": pool.trajectories,
            "open": look.open,
            "label": label,
        },
        label=label,
    )


def _of_policy(config: Config, model: Path, policy: PolicyFiles) -> dict[str, JSON]:
    """The settings on which a rollout depends."""
    engine = engine_label(engine_settings(config, model, profiling=True))
    own = {"policy": asdict(policy), "sampling": asdict(sampling_of(config)), "engine": engine}
    return of_model(config) | own


def was_profiled(config: Config, home: Path, model: Path, policy: PolicyFiles) -> bool:
    """Whether an earlier run has sampled it so; those rollouts are kept."""
    wanted = _in_rows(_of_policy(config, model, policy))
    return any(
        _in_rows(manifest.parts["settings"]) == wanted
        for manifest in manifests_of(home / "shards" / "sample")
    )


def _in_rows(settings: Mapping[str, JSON]) -> str:
    """Digest of the settings that show in a row."""
    return digest({k: v for k, v in settings.items() if k not in WHICH_ROWS})


def looks(config: Config) -> list[Look]:
    """One of all K samples or, where a certainty is enough, several."""
    samples = config.profile.samples
    ends = (samples,) if config.profile.certainty is None else adaptive.looks(samples)
    return [Look(first=first, upto=upto) for first, upto in pairwise((0, *ends))]


def still_open(config: Config, look: Look, earned: Sequence[Manifest]) -> Look:
    """The look at those candidates alone whose decision `earned`, what they have so far, left open.

    The decision of `pivots`, or of `mixed`, which has no λ. `earned`: verdicts and judgements. A
    candidate without a valid reward is open.
    """
    home, certainty = current().home, config.profile.certainty
    assert certainty is not None  # there is one look without
    limit = math.inf if config.select.rule == "mixed" else config.select.lambda_diff
    verdicts, judgements = (
        [path for manifest in earned for path in manifest.of_table(home, table)]
        for table in ("verdicts", "judgements")
    )
    found = [
        candidate_id
        for candidate_id, earned_there in rewards(verdicts, judgements).items()
        if not earned_there
        or adaptive.is_open(
            earned_there,
            samples=config.profile.samples,
            lambda_diff=limit,
            certainty=certainty,
        )
    ]
    return replace(look, open=found, after=earned[-1])


def sampling_of(config: Config) -> SamplingParams:
    profile = config.profile
    return SamplingParams(
        max_tokens=profile.max_tokens, temperature=profile.temperature, top_p=profile.top_p
    )


def read_candidates(work: Work) -> list[Candidate]:
    """The candidates that a stage is given, each joined to its trajectory."""
    from pivotrl.candidates import load_candidates

    rows = work.rows("candidates", "candidates")
    wanted = list({row["trajectory_id"] for row in rows})
    files = work.extra["trajectories"].of_table(work.home, "trajectories")
    found = pl.scan_parquet(files).filter(pl.col("trajectory_id").is_in(wanted)).collect()
    return load_candidates(rows, found.to_dicts())


def _body(work: Work) -> Produced:
    from pivotrl import rollouts

    pool: Pool = work.extra["pool"]
    config, policy = pool.config, pool.policy
    first, upto = work.settings["first"], work.settings["upto"]
    params = sampling_of(config)
    loaded = load_policy(config, pool.model, policy.weights, profiling=True)
    candidates = _wanted(work, config.profile.share)
    fitting, without = rollouts.prompts(
        candidates, loaded.chat, longest=loaded.context - params.max_tokens
    )
    fingerprint = policy.fingerprint(params, work.settings["engine"])
    stored = _stored(work, {item.candidate.id for item in fitting})
    told_tokens: list[int] = []  # a server may tell how many, and not which
    with current().progress(work.extra["label"], len(fitting), "candidates") as advance:

        def advanced(done: int, tokens: int) -> None:
            told_tokens.append(tokens)
            advance(done / (upto - first))

        rows, new = rollouts.complete(
            fitting,
            stored,
            Proven(loaded.engine) if stored or first else loaded.engine,
            policy=fingerprint,
            samples=upto - first,
            first=first,
            params=params,
            seed=config.run.seed,
            on_progress=advanced,
        )
    if rows and not (stored or first) and all(r["status"] != RolloutStatus.OK for r in rows):
        raise EngineFailure(
            f"{work.extra['label']}: the engine sampled nothing of the shard; see its warnings "
            "and run again"
        )
    own = asdict(policy) | {
        "policy": fingerprint,
        "engine": work.settings["engine"],
        "sampling": canonical(asdict(params)).decode(),
        "path": str(pool.model),
    }
    files = [work.write("rollouts", rows), work.write("policies", [own], fingerprint)]
    if without:
        rows_without = [_without_prompt(c, why, loaded.context, config) for c, why in without]
        files.append(work.write("quarantine", rows_without))
    # Lost ones are left open, and each later run would count them again.
    new = [row for row in new if row["status"] == RolloutStatus.OK]
    sampled = {row["candidate_id"] for row in new}
    prompts = [item.prompt_ids for item in fitting if item.candidate.id in sampled]
    counts = {
        "candidates": len(fitting) if not first else 0,
        "rollouts": len(rows),
        "sampled": len(new),
        "left_open": sum(row["status"] != RolloutStatus.OK for row in rows),
        "without_prompt": len(without),
        "prompt_tokens": sum(row["prompt_tokens"] for row in new),
        "unique_prompt_tokens": unique_tokens(prompts),
        "completion_tokens": sum(len(row["token_ids"]) for row in new) or sum(told_tokens),
    }
    paid = {name: counts[name] + work.before.get(name, 0) for name in PAID}
    return Produced(files=files, counts=counts | paid)


def _wanted(work: Work, share: float) -> list[Candidate]:
    found = read_candidates(work)
    if work.extra["open"] is None:
        return [c for c in found if int(digest(["profile", c.id]), 16) < share * 16**16]
    still_open = frozenset(work.extra["open"])
    return [c for c in found if c.id in still_open]


def _stored(work: Work, candidate_ids: set[str]) -> dict[tuple[str, str, int], Mapping[str, JSON]]:
    """Rows that a stage of the same code, policy, engine and seed has sampled at the candidates.

    Shards of others are told by an index that is read once; only those that hold some are hashed.
    """
    first, upto = work.settings["first"], work.settings["upto"]

    def told(parts: Mapping[str, Any]) -> JSON:
        return [_in_rows(parts["settings"]), parts["code"], parts["versions"]]

    wanted = (
        pl.col("candidate_id").is_in(list(candidate_ids))
        & pl.col("sample_index").is_between(first, upto - 1)
        & (pl.col("status") == str(RolloutStatus.OK))
    )
    rows: dict[tuple[str, str, int], Mapping[str, JSON]] = {}
    for manifest in manifests_of(work.home / "shards" / "sample"):
        if told(manifest.parts) != told(work.parts):
            continue
        theirs = manifest.parts["settings"]
        if min(upto, theirs["upto"]) <= max(first, theirs["first"]):
            continue
        files = manifest.of_table(work.home, "rollouts")
        if _sampled_in(files).isdisjoint(candidate_ids) or not manifest.whole(work.home):
            continue
        found = pl.scan_parquet(files).filter(wanted).collect()
        for row in found.to_dicts():
            rows[row["candidate_id"], row["prompt_hash"], row["sample_index"]] = row
    return rows


def _sampled_in(files: Sequence[Path]) -> frozenset[str]:
    """The candidates of shards of rollouts; none where a file is gone or damaged."""
    try:
        return frozenset[str]().union(*(_candidates_of(identity(file)) for file in files))
    except (OSError, pl.exceptions.PolarsError):
        return frozenset()


@cache
def _candidates_of(file: FileIdentity) -> frozenset[str]:
    return frozenset(pl.read_parquet(file[0], columns=["candidate_id"])["candidate_id"].unique())


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
