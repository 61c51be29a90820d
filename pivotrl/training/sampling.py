"""From pivots to groups: sample through the engine, ask for rewards, compute advantages.

A failure of the machinery is retried with other seeds and then dropped; it never becomes a
reward. This module must never know weights or gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pivotrl.training import ranks
from pivotrl.training.advantages import advantages, has_signal
from pivotrl.training.metrics import cost_of
from pivotrl.training.plan import sampling_seed, validation_seed
from pivotrl.training.records import (
    Act,
    Draw,
    Group,
    Judge,
    Reward,
    Seed,
    TrainPivot,
    TrainRollout,
    TrainSettings,
)
from pivotrl.types import (
    Engine,
    PivotRLError,
    RolloutStatus,
    Sample,
    SamplingParams,
    Turn,
    Verdict,
    VerdictStatus,
)

ATTEMPTS = 2


def step_groups(
    engine: Engine,
    met: Sequence[Sequence[TrainPivot]],
    draw: Draw,
    settings: TrainSettings,
    step: int,
) -> tuple[list[Group], list[Group]]:
    """The groups that a step learns from, and all that were sampled for it, these first of all.

    `met[0]` are the step's pivots; groups of theirs without a signal, judged whole, give their
    place to groups with one at pivots of `met[1]`, then `met[2]`, and so on.
    Raises PivotRLError if not one sample of the first groups has a reward.
    """
    groups = sample_groups(engine, met[0], draw, settings, step)
    if all(r is None for group in groups for r in group.rewards):
        seen = sorted({v.category for group in groups for v in group.verdicts})
        raise PivotRLError(
            f"step {step}: no sample has a reward (verdicts: {', '.join(seen)}); repair the "
            "verifier or the engine, or unmask (verify.mask), and run again; the round goes on "
            "from its checkpoint"
        )
    sampled = [*groups]
    for attempt, others in enumerate(met[1:], start=1):
        known = {group.pivot.candidate_id for group in sampled}
        flat = [i for i, group in enumerate(groups) if not has_signal(group.rewards)]
        fresh = [pivot for pivot in others if pivot.candidate_id not in known][: len(flat)]
        if not fresh:
            break
        drawn = sample_groups(engine, fresh, draw, settings, step, attempt)
        sampled += drawn
        good = [group for group in drawn if has_signal(group.rewards)]
        for place, group in zip(flat, good, strict=False):
            groups[place] = group
    return groups, sampled


def sample_groups(
    engine: Engine,
    pivots: Sequence[TrainPivot],
    draw: Draw,
    settings: TrainSettings,
    step: int,
    attempt: int = 0,
) -> list[Group]:
    """One group a pivot, in order; `attempt` counts the times that groups were replaced.

    Every process samples and judges its part of the pivots, and has all groups in the end.
    """
    own = ranks.dealt(pivots)

    def seed(pivot: TrainPivot, retry: int) -> int:
        return sampling_seed(settings.seed, step, ATTEMPTS * attempt + retry, pivot.candidate_id)

    groups = []
    for pivot, acts in zip(own, draw(engine, own, settings.group_size, seed), strict=True):
        rewards = [act.verdict.reward for act in acts]
        groups.append(
            Group(
                pivot=pivot,
                acts=tuple(acts),
                advantages=advantages(rewards, settings.advantage, settings.advantage_epsilon),
            )
        )
    return ranks.collected(groups)


def validation_metrics(
    engine: Engine, pivots: Sequence[TrainPivot], draw: Draw, settings: TrainSettings
) -> dict[str, float]:
    """Mean reward at the validation pivots, with the seeds of every other validation; its cost."""

    def seed(pivot: TrainPivot, attempt: int) -> int:
        return validation_seed(settings.seed + attempt, pivot.candidate_id)

    drawn = draw(engine, ranks.dealt(pivots), settings.validation_samples, seed)
    acts = [act for row in ranks.collected(drawn) for act in row]
    rewards = [act.verdict.reward for act in acts if act.verdict.reward is not None]
    if not rewards:
        raise PivotRLError(
            "validation: no sample has a reward; repair the verifier or the engine and run again"
        )
    found = {"reward": sum(rewards) / len(rewards)} | cost_of(acts)
    return {f"validation/{name}": value for name, value in found.items()}


def rollouts_of(groups: Sequence[Group]) -> tuple[TrainRollout, ...]:
    """The rows that a step leaves for the store."""
    return tuple(
        TrainRollout(
            candidate_id=group.pivot.candidate_id,
            sample_index=index,
            reward=verdict.reward,
            category=verdict.category,
            advantage=advantage,
            tokens=len(sample.token_ids),
            finish_reason=str(sample.finish_reason),
            text=sample.text,
        )
        for group in groups
        for index, (sample, verdict, advantage) in enumerate(
            zip(group.samples, group.verdicts, group.advantages, strict=True)
        )
    )


def single_turns(reward: Reward, settings: TrainSettings, judge: Judge | None = None) -> Draw:
    """Acts of one turn: the pivot's action, judged on its own.

    `judge` decides what `reward` leaves undecided, all of a draw at once.
    """
    params = SamplingParams(max_tokens=settings.max_tokens, temperature=settings.temperature)

    def draw(
        engine: Engine, pivots: Sequence[TrainPivot], count: int, seed: Seed
    ) -> list[list[Act]]:
        rows: list[list[Sample]] = [[] for _ in pivots]
        for attempt in range(ATTEMPTS):
            lacking = [i for i, row in enumerate(rows) if not row or any(map(_failed, row))]
            if not lacking:
                break
            drawn = engine.sample(
                [pivots[i].prompt_ids for i in lacking],
                count,
                params,
                [seed(pivots[i], attempt) for i in lacking],
            )
            for i, fresh in zip(lacking, drawn, strict=True):
                pairs = zip(rows[i] or fresh, fresh, strict=True)
                rows[i] = [new if _failed(old) else old for old, new in pairs]
        acts = [
            [_act(reward, pivot, sample) for sample in row]
            for pivot, row in zip(pivots, rows, strict=True)
        ]
        return _decided(judge, pivots, acts) if judge else acts

    return draw


def _decided(judge: Judge, pivots: Sequence[TrainPivot], acts: list[list[Act]]) -> list[list[Act]]:
    undecided = [
        (pivot.candidate_id, act.sample)
        for pivot, row in zip(pivots, acts, strict=True)
        for act in row
        if act.verdict.status is VerdictStatus.UNDECIDED
    ]
    try:
        found, failed = judge(undecided), None
    except PivotRLError as error:
        found, failed = [], str(error)
    if told := next(filter(None, ranks.gathered(failed)), None):
        raise PivotRLError(told)  # everywhere: nobody waits for who ends
    verdicts = iter(found)
    return [
        [
            replace(act, verdict=next(verdicts))
            if act.verdict.status is VerdictStatus.UNDECIDED
            else act
            for act in row
        ]
        for row in acts
    ]


def _act(reward: Reward, pivot: TrainPivot, sample: Sample) -> Act:
    if _failed(sample):
        verdict = Verdict(status=VerdictStatus.ERROR, reward=None, category=str(sample.status))
    elif len(sample.logprobs) != len(sample.token_ids):
        raise PivotRLError(
            "the engine returns samples without token ids or log-probabilities; it can "
            "profile but not train: choose the in-process engine"
        )
    else:
        verdict = reward(pivot.candidate_id, sample)
    turn = Turn(prompt_ids=pivot.prompt_ids, sample=sample)
    return Act(sample=sample, verdict=verdict, turns=(turn,))


def _failed(sample: Sample) -> bool:
    return sample.status is not RolloutStatus.OK
