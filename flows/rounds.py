"""A round: a policy profiled, its pivots selected, and trained on. Part of the main job's story."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.events import emit_event

from pivotrl.config import Config
from pivotrl.manifest import Manifest
from pivotrl.policies import PolicyFiles, identify
from pivotrl.types import PivotRLError
from tasks.judge import judge
from tasks.merge import merge
from tasks.policy import engine_label, engine_settings
from tasks.report import selection_table
from tasks.sample import Pool, looks, sample, sampling_of, still_open
from tasks.select import select, show_selection
from tasks.session import current
from tasks.task_runs import in_one_task
from tasks.train import checkpoint_of, train
from tasks.verify import verify

if TYPE_CHECKING:
    from pivotrl.judging import Budget


STALE = "pivotrl.stale"
"""Event: the reward's spread collapsed in the last round; its pivots want to be profiled anew."""

MOST_TASKS = 50
"""Of a profile's samples in a look: with more shards, several are a task."""

MERGE_SECONDS = 30.0
"""Between two merges while a profile goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    profiles: list[Manifest]
    selection: Manifest | None
    checkpoint: Manifest | None
    """None without pivots, or where a dry session sees no further."""


def train_in_rounds(base: Pool, budget: Budget | None) -> list[Round] | None:
    """Rounds until one has no pivots or leaves nothing to profile anew.

    That is one that ended with its steps, neither stale nor saturated, or no better than it began.
    None where a dry session sees no end.
    """
    config = base.config
    start = starting_point(config)
    rounds: list[Round] = []
    for number in range(config.train.rounds):
        story = as_flow(f"round {number + 1}", one_round) if config.train.rounds > 1 else one_round
        pool = replace(base, model=start, policy=identify(start))
        done = story(number, pool, base.policy, budget)
        rounds.append(done)
        if done.selection is None or (done.selection.counts["kept"] and done.checkpoint is None):
            return None
        if done.checkpoint is None:
            break
        counts = done.checkpoint.counts
        if counts["stop_reason"] == "completed" or not counts["best_step"]:
            break
        start = checkpoint_of(current().home, done.checkpoint)
    last = rounds[-1].checkpoint
    if last is not None and last.counts["stop_reason"] == "stale" and not current().dry:
        emit_event(STALE, resource=event_source(config.run.name))
    return rounds


def event_source(name: str) -> dict[str, str]:
    """The resource of Prefect events about the experiment of that name."""
    return {"prefect.resource.id": f"pivotrl.{name}"}


def one_round(number: int, pool: Pool, base: PolicyFiles, budget: Budget | None) -> Round:
    """The policy of the pool profiled, its pivots selected, and trained on."""
    session, config, candidates = current(), pool.config, pool.candidates
    rollouts, earned = profile(pool, budget)
    engine = engine_label(engine_settings(config, pool.model, profiling=True))
    fingerprint = pool.policy.fingerprint(sampling_of(config), engine)
    selection = select(config, candidates, earned, fingerprint)
    merge(f"profile {number}", *rollouts, *earned, selection)
    checkpoint = None
    if candidates is not None and selection is not None and not session.dry:
        show_selection(config, selection, candidates, fingerprint)
        table = selection_table(selection.counts["domains"], config.select.lambda_diff)
        session.console.print(table)
        if selection.counts.get("unprofiled"):
            session.say(f"{selection.counts['unprofiled']:,} unprofiled: {too_few(config)}")
    if selection is not None and selection.counts["kept"]:
        checkpoint = train(pool, number, base, selection)
        merge(f"training {number}", checkpoint)
    profiles = [manifest for manifest in (*rollouts, *earned) if manifest is not None]
    return Round(profiles=profiles, selection=selection, checkpoint=checkpoint)


def too_few(config: Config) -> str:
    few = f"n < {config.select.minimum_valid:g} * samples"
    asked = f"select candidate_id, samples, n from pivot_stats where {few}"
    return f'`pivotrl sql "{asked}"` lists those with too few rewards'


def as_flow(name: str, story: Callable[..., Round]) -> Callable[..., Round]:
    """The story as a node of its own in Prefect's graph; a dry session has no graph."""
    if current().dry:
        return story

    def told(*arguments: Any) -> Round:
        # What Prefect is not given it need not keep: manifests are long.
        @flow(name=name, flow_run_name=name, persist_result=False, validate_parameters=False)
        def as_told() -> Round:
            return story(*arguments)

        return as_told()

    return told


def starting_point(config: Config) -> Path:
    """The base, or the folder of the registered champion; the base where there is none yet."""
    if config.train.start == "base":
        return config.model.path
    from pivotrl.tracking.registry import find_version, load_path

    home, model = current().home, config.register_.model
    if find_version(home, model, "champion") is None:
        current().say(f"[yellow]No {model}@champion yet[/]: this run starts from the base")
        return config.model.path
    return load_path(home, f"{model}@champion")


def profile(
    pool: Pool, budget: Budget | None
) -> tuple[list[Manifest | None], list[Manifest | None]]:
    """Every shard sampled, verified and, with a budget, judged: rollouts, and what they earn.

    In one look or, where certainty is enough, in several, each at what the last left open. A dry
    session that cannot see further has a None. What is done goes to the store on the way.
    """
    config, candidates = pool.config, pool.candidates
    if candidates is None:
        return [None], [None]
    if config.profile.certainty is not None and config.select.rule not in ("pivots", "mixed"):
        current().say(
            "[yellow]profile.certainty[/] is about the rule `pivots`: what select.rule takes may "
            "differ from what it would of all profile.samples"
        )
    found = [entry for entry in candidates.files if entry.table == "candidates"]
    name = "+".join(config.evaluate.domains) or config.run.name
    shards = [
        (replace(pool, candidates=candidates.only(shard)), f"{name} {number}/{len(found)}")
        for number, shard in enumerate(found, 1)
    ]
    a_task = math.ceil(len(shards) / MOST_TASKS)
    rollouts: list[Manifest | None] = []
    earned: list[Manifest | None] = []
    to_merge: list[Manifest | None] = []
    merged = time.monotonic()
    for first in range(0, len(shards), a_task):
        some = shards[first : first + a_task]
        story = partial(profile_shards, some, budget)
        is_one = len(some) == 1
        label = f"profile {some[0][1]} and {len(some) - 1} more"
        of = (pool.trajectories, candidates)
        made, gained = story() if is_one else in_one_task(label, story, *of)
        rollouts += made
        earned += gained
        to_merge += [*made, *gained]
        if time.monotonic() - merged >= MERGE_SECONDS:
            merge(f"up to {some[-1][1]}", *to_merge)
            to_merge, merged = [], time.monotonic()
    made_ = [manifest for manifest in rollouts if manifest is not None]
    without = sum(manifest.counts["without_prompt"] for manifest in made_)
    if without and not any(manifest.counts["rollouts"] for manifest in made_):
        merge("turns without a prompt", *made_)
        raise PivotRLError(
            f"none of {without} candidates has a prompt: longer than the model's context less "
            f"profile.max_tokens = {config.profile.max_tokens}, or refused by its chat template; "
            '`pivotrl sql "select reason, remedy from quarantine"` says which'
        )
    return rollouts, earned


def profile_shards(
    shards: Sequence[tuple[Pool, str]], budget: Budget | None
) -> tuple[list[Manifest | None], list[Manifest | None]]:
    """What `profile` says, of a few shards and their labels."""
    rollouts: list[Manifest | None] = []
    earned: list[Manifest | None] = []
    for of, name in shards:
        seen: list[Manifest] = []  # what this shard has earned so far
        for look in looks(of.config):
            label = name + f" from {look.first}" * (look.first > 0)
            if look.first:
                look = still_open(of.config, look, seen)
            if look.open == []:
                break
            made = sample(of, look, f"sample {label}")
            found = [verify(of, made, f"verify {label}")]
            if budget is not None:
                found.append(judge(of, made, found[0], f"judge {label}", budget))
            rollouts.append(made)
            earned += found
            if None in found:
                break
            seen += [manifest for manifest in found if manifest is not None]
    return rollouts, earned
