"""Scores of a policy: benchmark items, live episodes, and the statistics that compare two.

An engine, a chat format, a benchmark and an environment come in by duck typing; everything is a
pure function of them and the seed. This module must never know a configuration, a file or where
weights come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import fmean, stdev
from typing import Protocol

from pivotrl.benchmarks.base import Benchmark, Row
from pivotrl.types import (
    JSON,
    Action,
    Candidate,
    Engine,
    Environment,
    EnvironmentState,
    FinishReason,
    Message,
    PivotRLError,
    RolloutStatus,
    Sample,
    SamplingParams,
    ToolSpec,
    Verdict,
    VerdictStatus,
    canonical,
    digest,
    message_to_json,
    seed_of,
)

Progress = Callable[[int, int], None]
"""Called with the rows and tokens that were sampled since the last call."""


class Chat(Protocol):
    """What evaluation needs of `chat.ChatFormat`."""

    def render(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]: ...

    def parse(
        self, text: str, finish_reason: FinishReason, tools: Sequence[ToolSpec] = ()
    ) -> Action: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationItem:
    item_id: str
    prompt: str
    """The messages' contents, apart by blank lines."""
    output: str
    extracted: str | None
    """The answer that the scorer found in the output; None if it found none."""
    score: float
    finish_reason: FinishReason


class EpisodeEnd(StrEnum):
    DONE = "done"
    """The environment ended it."""
    PROMPT_TOO_LONG = "prompt_too_long"
    """The next prompt was over the limit; the score is 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    task_id: str
    score: float
    turns: int
    """Actions of the policy."""
    tokens: int
    """Sampled tokens, all turns together."""
    truncated_turns: int
    """Actions that the token limit cut."""
    end: EpisodeEnd
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSummary:
    n: int
    mean: float
    standard_error: float | None
    """Of the mean, from the sample standard deviation; None for a single item."""
    unparsed: float
    """Share of outputs without an answer to judge; they score 0."""
    truncated: float
    """Share of outputs that a length limit cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    n: int
    difference: float
    """Mean of (second - first) over items."""
    standard_error: float
    p: float
    """Two-sided, by the normal approximation of the paired t statistic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardAgreement:
    n: int
    """Samples with a verdict."""
    agreeing: float | None
    """Share of them where reward and oracle agree; None without any."""
    accepted_wrongly: int
    """The verifier accepts what the oracle rejects."""
    rejected_wrongly: int
    """The verifier rejects what the oracle accepts."""
    without_verdict: int
    """Verdicts that are undecided or errors: not counted in n."""


def evaluate_benchmark(
    engine: Engine,
    chat: Chat,
    benchmark: Benchmark,
    items: Sequence[Mapping[str, JSON]],
    params: SamplingParams,
    seed: int,
    on_progress: Progress | None = None,
) -> list[EvaluationItem]:
    """One response to each item, scored; reasoning is not shown to the scorer.

    Items carry an `id` (`load_items` sees to it). The seed of an item depends on `seed`, benchmark
    and id alone, so two policies meet the same draws. Raises `PivotRLError` for an item that the
    benchmark cannot judge (before sampling) and when the engine failed on a row.
    """
    prompts = [_checked_prompt(benchmark, item) for item in items]
    samples = _sample(
        engine,
        [chat.render(messages, ()) for messages in prompts],
        params,
        [seed_of(seed, benchmark.name, item["id"]) for item in items],
        on_progress,
    )
    results = []
    for item, messages, sample in zip(items, prompts, samples, strict=True):
        score = benchmark.score(item, chat.parse(sample.text, sample.finish_reason).text)
        results.append(
            EvaluationItem(
                item_id=item["id"],
                prompt="\n\n".join(message.content for message in messages),
                output=sample.text,
                extracted=score.extracted,
                score=score.value,
                finish_reason=sample.finish_reason,
            )
        )
    return results


def _checked_prompt(benchmark: Benchmark, item: Row) -> tuple[Message, ...]:
    try:
        benchmark.score(item, "")
        return benchmark.prompt(item)
    except (KeyError, ValueError, TypeError) as error:
        raise PivotRLError(
            f"{benchmark.name} item {item['id']}: {type(error).__name__} {error}; mend or drop the "
            "row"
        ) from None


def _sample(
    engine: Engine,
    prompts: list[list[int]],
    params: SamplingParams,
    seeds: list[int],
    on_progress: Progress | None,
) -> list[Sample]:
    if not prompts:
        return []
    samples = [group[0] for group in engine.sample(prompts, 1, params, seeds, on_progress)]
    failed = [sample.status for sample in samples if sample.status is not RolloutStatus.OK]
    if failed:  # an error is not a score, and a mean over the rest would be another suite
        raise PivotRLError(
            f"evaluation: {len(failed)} of {len(samples)} samples failed ({failed[0]}); "
            "run the evaluation again"
        )
    return samples


@dataclass(slots=True, kw_only=True)
class _Live:
    """An episode under way."""

    task_id: str
    state: EnvironmentState
    turns: int = 0
    tokens: int = 0
    truncated_turns: int = 0
    prompt: list[int] = field(default_factory=list)

    def finish(self, end: EpisodeEnd, score: float) -> Episode:
        return Episode(
            task_id=self.task_id,
            score=score,
            turns=self.turns,
            tokens=self.tokens,
            truncated_turns=self.truncated_turns,
            end=end,
            messages=self.state.messages,
        )


def run_episodes(
    engine: Engine,
    chat: Chat,
    environment: Environment,
    tasks: Sequence[JSON],
    params: SamplingParams,
    seed: int,
    max_prompt_tokens: int,
    on_finished: Callable[[int], None] | None = None,
) -> list[Episode]:
    """One episode a task, in the tasks' order; all that are live take their turns together.

    `on_finished` hears how many episodes ended since the last call.
    The seed of a turn depends on `seed`, the task and the turn's number alone. A prompt over
    `max_prompt_tokens` ends its episode with score 0. Raises `PivotRLError` when the engine failed
    on a turn.
    """
    ids = [str(task["id"]) if "id" in task else digest(task) for task in tasks]
    live = {
        index: _Live(task_id=ids[index], state=environment.reset(task))
        for index, task in enumerate(tasks)
    }
    episodes: dict[int, Episode] = {}
    while live:
        before = len(live)
        for index, episode in list(live.items()):
            if episode.state.done:
                score = environment.score(episode.state)
                episodes[index] = live.pop(index).finish(EpisodeEnd.DONE, score)
                continue
            episode.prompt = chat.render(episode.state.messages, environment.tools)
            if len(episode.prompt) > max_prompt_tokens:
                episodes[index] = live.pop(index).finish(EpisodeEnd.PROMPT_TOO_LONG, 0.0)
        if on_finished is not None:
            on_finished(before - len(live))
        samples = _sample(
            engine,
            [episode.prompt for episode in live.values()],
            params,
            [seed_of(seed, episode.task_id, episode.turns) for episode in live.values()],
            None,
        )
        for episode, sample in zip(live.values(), samples, strict=True):
            action = chat.parse(sample.text, sample.finish_reason, environment.tools)
            episode.state = environment.step(episode.state, action)
            episode.turns += 1
            episode.tokens += len(sample.token_ids)
            episode.truncated_turns += sample.finish_reason is FinishReason.LENGTH
    return [episodes[index] for index in range(len(tasks))]


def episode_item(episode: Episode) -> EvaluationItem:
    """The episode as a row among benchmark items: its conversation as JSON, its end as answer."""
    cut = episode.end is EpisodeEnd.PROMPT_TOO_LONG or episode.truncated_turns > 0
    return EvaluationItem(
        item_id=episode.task_id,
        prompt="",
        output=canonical([message_to_json(message) for message in episode.messages]).decode(),
        extracted=str(episode.end),
        score=episode.score,
        finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP,
    )


def summary(items: Sequence[EvaluationItem]) -> ScoreSummary:
    """Raises `PivotRLError` without items."""
    if not items:
        raise PivotRLError("evaluation: no items to summarise; evaluate at least one")
    n = len(items)
    scores = [item.score for item in items]
    return ScoreSummary(
        n=n,
        mean=fmean(scores),
        standard_error=stdev(scores) / math.sqrt(n) if n > 1 else None,
        unparsed=sum(item.extracted is None for item in items) / n,
        truncated=sum(item.finish_reason is FinishReason.LENGTH for item in items) / n,
    )


def paired_difference(
    first: Sequence[EvaluationItem], second: Sequence[EvaluationItem]
) -> PairedDifference:
    """How much the second policy's mean is above the first's, on the same items.

    Raises `PivotRLError` unless both have the same item ids, each once, and at least two.
    """
    before = {item.item_id: item.score for item in first}
    after = {item.item_id: item.score for item in second}
    if before.keys() != after.keys() or len(before) != len(first) or len(after) != len(second):
        raise PivotRLError(
            "evaluation: the two runs have different items; evaluate both on one set"
        )
    if len(before) < 2:
        raise PivotRLError("evaluation: a paired difference needs two items or more")
    differences = [after[item_id] - before[item_id] for item_id in before]
    mean = fmean(differences)
    error = stdev(differences) / math.sqrt(len(differences))
    deviations = abs(mean) / error if error > 0 else 0.0 if mean == 0 else math.inf
    p = math.erfc(deviations / math.sqrt(2))
    return PairedDifference(n=len(differences), difference=mean, standard_error=error, p=p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the given order (Holm 1979)."""
    m = len(p_values)
    adjusted = [0.0] * m
    floor = 0.0
    for rank, index in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        floor = max(floor, min(1.0, (m - rank) * p_values[index]))
        adjusted[index] = floor
    return adjusted


def reward_agreement(
    oracle: Callable[[EnvironmentState, Action], bool],
    verify: Callable[[Candidate, Action], Verdict],
    samples: Iterable[tuple[EnvironmentState, Candidate, Action]],
) -> RewardAgreement:
    """How often a verifier's reward (accepted: 0.5 and more) agrees with an environment's oracle.

    A sample is an action at a candidate, and the live state that the candidate's turn came from.
    """
    n = agreeing = accepted_wrongly = rejected_wrongly = without_verdict = 0
    for state, candidate, action in samples:
        verdict = verify(candidate, action)
        if verdict.status is not VerdictStatus.OK or verdict.reward is None:
            without_verdict += 1
            continue
        accepted, right = verdict.reward >= 0.5, oracle(state, action)
        n += 1
        agreeing += accepted == right
        accepted_wrongly += accepted and not right
        rejected_wrongly += right and not accepted
    return RewardAgreement(
        n=n,
        agreeing=agreeing / n if n else None,
        accepted_wrongly=accepted_wrongly,
        rejected_wrongly=rejected_wrongly,
        without_verdict=without_verdict,
    )
