"""What a live domain is: an environment, its tasks, and an expert that knows every right way.

Demonstrations, the oracle and episodes of any policy follow from these alone. This module must
never know a model, a tokenizer, a verifier or a training run.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from pivotrl.types import JSON, Action, Environment, EnvironmentState, seed_of

TaskSplit = Literal["train", "validation", "test"]


class Expert(Protocol):
    def __call__(
        self, state: EnvironmentState, rng: random.Random | None = None
    ) -> list[Action]: ...


class Noisy(Protocol):
    def __call__(
        self, state: EnvironmentState, rng: random.Random, skill: float = 0.0
    ) -> Action: ...


class Draw(Protocol):
    def __call__(self, rng: random.Random, horizon: int | None = None) -> JSON: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDomain:
    name: str
    environment: Environment
    draw: Draw
    """A task with `id` (a hash of its content) and `kind`; a longer `horizon` takes more turns."""
    expert: Expert
    """All right actions at an unfinished state, the demonstrated one first; `rng` varies it."""
    noisy: Noisy
    """The turn of an agent that half-knows the domain; `skill` 1 makes it certain."""

    single_tokens: tuple[str, ...] = ()
    """Identifiers that a small tokenizer should hold as one token each."""

    def task_stream(
        self, rng: random.Random, split: TaskSplit, horizon: int | None = None
    ) -> Iterator[JSON]:
        """Tasks of a split, for ever; repeats are possible."""
        while True:
            task = self.draw(rng, horizon)
            if split_of(task) == split:
                yield task

    def make_tasks(
        self, split: TaskSplit, n: int, seed: int, horizon: int | None = None
    ) -> list[JSON]:
        """`n` distinct tasks of a split; the splits share no task whatever the seeds."""
        tasks: dict[str, JSON] = {}
        stream = self.task_stream(random.Random(seed_of(self.name, split, seed)), split, horizon)
        while len(tasks) < n:
            task = next(stream)
            tasks[task["id"]] = task
        return list(tasks.values())

    def episode(self, task: JSON, policy: Callable[[EnvironmentState], Action]) -> EnvironmentState:
        """The finished episode of a policy on a task."""
        state = self.environment.reset(task)
        while not state.done:
            state = self.environment.step(state, policy(state))
        return state

    def noisy_episode(
        self, rng: random.Random, skill: float = 0.0, horizon: int | None = None
    ) -> EnvironmentState:
        """A finished episode of the noisy agent on a fresh task of the train split."""
        task = next(self.task_stream(rng, "train", horizon))
        return self.episode(task, lambda state: self.noisy(state, rng, skill))

    def demonstration(
        self, task: JSON, rng: random.Random | None = None
    ) -> tuple[EnvironmentState, list[list[Action]]]:
        """A finished episode of the expert and, for each of its turns, all right actions."""
        right: list[list[Action]] = []

        def act(state: EnvironmentState) -> Action:
            right.append(self.expert(state, rng))
            return right[-1][0]

        return self.episode(task, act), right

    def oracle(self, state: EnvironmentState, action: Action) -> bool:
        """Whether the expert, going on after `action`, succeeds without an additional turn."""
        needed = self._turns_to_success(state)
        if needed is None or state.done:
            return False
        then = self._turns_to_success(self.environment.step(state, action))
        return then is not None and then + 1 <= needed

    def _turns_to_success(self, state: EnvironmentState) -> int | None:
        turns = 0
        while not state.done:
            state = self.environment.step(state, self.expert(state)[0])
            turns += 1
        return turns if self.environment.score(state) == 1.0 else None


def split_of(task: JSON) -> TaskSplit:
    """70 % train, 10 % validation, 20 % test, by the task's id."""
    bucket = int(task["id"][:8], 16) % 10
    return "train" if bucket < 7 else "validation" if bucket == 7 else "test"
