"""Whole episodes of a policy in a live environment, many at once.

Used to score a policy in its domain and to train it end to end. An engine, a chat format and an
environment come in by duck typing; everything is a pure function of them and the seeds. This module
must never know a configuration, a loss or where weights come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from pivotrl.scores import EvaluationItem
from pivotrl.types import (
    JSON,
    Action,
    Engine,
    Environment,
    EnvironmentState,
    FinishReason,
    Message,
    PivotRLError,
    RolloutStatus,
    SamplingParams,
    ToolSpec,
    Turn,
    canonical,
    digest,
    message_to_json,
    seed_of,
)


class Chat(Protocol):
    """What episodes and benchmarks need of `chat.ChatFormat`."""

    def render(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]: ...

    def parse(
        self, text: str, finish_reason: FinishReason, tools: Sequence[ToolSpec] = ()
    ) -> Action: ...


class EpisodeEnd(StrEnum):
    DONE = "done"
    """The environment ended it."""
    PROMPT_TOO_LONG = "prompt_too_long"
    """The next prompt was over the limit; the score is 0."""
    ENGINE_ERROR = "engine_error"
    """A turn could not be sampled; there is no score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    task_id: str
    score: float | None
    """None exactly after an engine error."""
    turns: tuple[Turn, ...]
    """Of the policy, in order."""
    end: EpisodeEnd
    messages: tuple[Message, ...]

    @property
    def is_cut(self) -> bool:
        """Whether a limit of tokens ended it or one of its turns."""
        lengths = [turn.sample.finish_reason is FinishReason.LENGTH for turn in self.turns]
        return self.end is EpisodeEnd.PROMPT_TOO_LONG or any(lengths)


@dataclass(slots=True, kw_only=True)
class _Live:
    """An episode under way."""

    task_id: str
    seed: int
    state: EnvironmentState
    turns: list[Turn] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)

    def finish(self, end: EpisodeEnd, score: float | None) -> Episode:
        return Episode(
            task_id=self.task_id,
            score=score,
            turns=tuple(self.turns),
            end=end,
            messages=self.state.messages,
        )


def task_id(task: JSON) -> str:
    return str(task["id"]) if "id" in task else digest(task)


def run_episodes(
    engine: Engine,
    chat: Chat,
    environment: Environment,
    tasks: Sequence[JSON],
    params: SamplingParams,
    seeds: Sequence[int],
    max_prompt_tokens: int,
    on_finished: Callable[[int], None] | None = None,
) -> list[Episode]:
    """One episode a task, in the tasks' order; all that are live take their turns together.

    `on_finished` hears how many episodes ended since the last call.
    The seed of a turn depends on the episode's, the task and the turn's number alone. A prompt over
    `max_prompt_tokens` ends its episode with score 0, a failure of the engine with none.
    """
    live = {
        index: _Live(task_id=task_id(task), seed=seed, state=environment.reset(task))
        for index, (task, seed) in enumerate(zip(tasks, seeds, strict=True))
    }
    episodes: dict[int, Episode] = {}
    while True:
        before = len(live)
        for index, episode in list(live.items()):
            if episode.turns and episode.turns[-1].sample.status is not RolloutStatus.OK:
                episodes[index] = live.pop(index).finish(EpisodeEnd.ENGINE_ERROR, None)
                continue
            if episode.state.done:
                score = environment.score(episode.state)
                episodes[index] = live.pop(index).finish(EpisodeEnd.DONE, score)
                continue
            episode.prompt = chat.render(episode.state.messages, environment.tools)
            if len(episode.prompt) > max_prompt_tokens:
                episodes[index] = live.pop(index).finish(EpisodeEnd.PROMPT_TOO_LONG, 0.0)
        if on_finished is not None:
            on_finished(before - len(live))
        if not live:
            break
        groups = engine.sample(
            [episode.prompt for episode in live.values()],
            1,
            params,
            [seed_of(e.seed, e.task_id, len(e.turns)) for e in live.values()],
        )
        for episode, (sample,) in zip(live.values(), groups, strict=True):
            action = chat.parse(sample.text, sample.finish_reason, environment.tools)
            episode.turns.append(Turn(prompt_ids=tuple(episode.prompt), sample=sample))
            episode.state = environment.step(episode.state, action)
    return [episodes[index] for index in range(len(tasks))]


def episode_item(episode: Episode) -> EvaluationItem:
    """The episode as a row among benchmark items: its conversation as JSON, its end as answer.

    Raises PivotRLError for one without a score.
    """
    if episode.score is None:
        raise PivotRLError(
            f"evaluation: an episode of task {episode.task_id} failed "
            f"({episode.turns[-1].sample.status}); run the evaluation again"
        )
    return EvaluationItem(
        item_id=episode.task_id,
        prompt="",
        output=canonical([message_to_json(message) for message in episode.messages]).decode(),
        extracted=str(episode.end),
        score=episode.score,
        finish_reason=FinishReason.LENGTH if episode.is_cut else FinishReason.STOP,
    )
