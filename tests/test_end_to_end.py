"""End-to-end RL: whole episodes as what GRPO draws, their turns packed as a tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_models import train_settings

import pivotrl.mini
from pivotrl.chat import ChatFormat
from pivotrl.end_to_end import whole_episodes
from pivotrl.engines.hf import HFEngine, load_model
from pivotrl.environments.retail import DOMAIN
from pivotrl.training import Act, TrainPivot
from pivotrl.training.improvement import improve
from pivotrl.training.metrics import step_metrics
from pivotrl.training.optimizer import adamw
from pivotrl.training.records import Group
from pivotrl.training.sampling import sample_groups, validation_metrics
from pivotrl.types import RolloutStatus, Sample, Verdict, VerdictStatus

BASE = Path(pivotrl.mini.__file__).parent / "model"
TASKS = {task["id"]: task for task in DOMAIN.make_tasks("train", 3, 0)}
SETTINGS = train_settings(group_size=4, max_tokens=48, steps=1, micro_batch_tokens=2000)
LONGEST = 4000


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return ChatFormat.load(BASE)


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model(BASE)


def engine_of(model: Any, chat: ChatFormat) -> HFEngine:
    return HFEngine(model, stop_ids=chat.stop_ids, pad_id=chat.pad_id, decode=chat.decode)


def starts(chat: ChatFormat) -> list[TrainPivot]:
    environment = DOMAIN.environment
    return [
        TrainPivot(
            candidate_id=name,
            trajectory_id=name,
            prompt_ids=tuple(chat.render(environment.reset(task).messages, environment.tools)),
            domain="retail",
        )
        for name, task in TASKS.items()
    ]


def draw_of(chat: ChatFormat) -> Any:
    return whole_episodes(DOMAIN.environment, chat, TASKS, SETTINGS, LONGEST)


@pytest.fixture(scope="module")
def groups(model: Any, chat: ChatFormat) -> list[Group]:
    return sample_groups(engine_of(model, chat), starts(chat), draw_of(chat), SETTINGS, 1)


def test_episodes_of_a_task_are_a_group_and_differ(groups: list[Group], chat: ChatFormat) -> None:
    assert [len(group.acts) for group in groups] == [4, 4, 4]
    for group in groups:
        assert len({act.sample.token_ids for act in group.acts}) > 1
        assert all(act.turns[0].prompt_ids == group.pivot.prompt_ids for act in group.acts)
        assert {v.category for v in group.verdicts} <= {"solved", "unsolved", "prompt_too_long"}
        for act in group.acts:
            assert act.sample.token_ids == tuple(i for t in act.turns for i in t.sample.token_ids)
            for before, after in zip(act.turns, act.turns[1:], strict=False):
                said = before.prompt_ids + before.sample.token_ids
                assert after.prompt_ids[: len(said)] == said  # so that a tree holds each once
    n = sum(len(act.turns) for group in groups for act in group.acts)
    assert step_metrics(groups, groups)["turns"] == n > 12


def test_the_same_seed_plays_the_same_episodes(model: Any, chat: ChatFormat) -> None:
    engine, draw = engine_of(model, chat), draw_of(chat)
    settings = replace(SETTINGS, validation_samples=1)
    first, second = (validation_metrics(engine, starts(chat), draw, settings) for _ in range(2))
    assert first == second


def test_all_turns_learn_from_the_end_as_in_one_masked_sequence(
    groups: list[Group], chat: ChatFormat
) -> None:
    """The reference is the textbook: one row an episode, what the environment said is masked."""
    rewards = [1.0, 0.0, 0.0, 1.0]
    advantages = (1.0, -1.0, -1.0, 1.0)
    judged = [
        replace(
            group,
            acts=tuple(
                replace(act, verdict=replace(act.verdict, reward=reward))
                for act, reward in zip(group.acts, rewards, strict=True)
            ),
            advantages=advantages,
        )
        for group in groups
    ]
    packed, plain = load_model(BASE, dtype="float64"), load_model(BASE, dtype="float64")
    optimizer = adamw(packed, 0.0)
    kept: dict[str, torch.Tensor] = {}
    settings = replace(SETTINGS, max_grad_norm=1e9, learning_rate=1e-12)
    hook = optimizer.register_step_pre_hook(
        lambda *_: kept.update({n: p.grad.clone() for n, p in packed.named_parameters()})
    )
    metrics = improve(packed, None, optimizer, judged, "split", settings, 1)
    hook.remove()
    assert metrics["token_ratio"] > 2

    acts = [act for group in judged for act in group.acts]
    total = sum(len(act.sample.token_ids) for act in acts)
    for act, advantage in zip(acts, advantages * len(judged), strict=True):
        last = act.turns[-1]
        ids = torch.tensor([last.prompt_ids + last.sample.token_ids])
        logprobs = plain(ids).logits[0, :-1].log_softmax(-1)
        chosen = logprobs.gather(1, ids[0, 1:, None])[:, 0]
        mask = torch.zeros(len(chosen), dtype=torch.bool)
        for turn in act.turns:
            start = len(turn.prompt_ids) - 1
            mask[start : start + len(turn.sample.token_ids)] = True
        sampled = torch.tensor(act.sample.logprobs, dtype=torch.float64)
        trust = (chosen[mask].detach() - sampled).exp().clamp(max=settings.importance_cap)
        (-(trust * advantage * chosen[mask]).sum() / total).backward()
    wanted = torch.cat([parameter.grad.flatten() for parameter in plain.parameters()])
    found = torch.cat([kept[name].flatten() for name, _ in plain.named_parameters()])
    assert float(torch.dist(found, wanted) / wanted.norm()) <= 1e-6


def test_an_engine_that_fails_is_asked_again_and_then_no_reward(
    model: Any, chat: ChatFormat
) -> None:
    class Failing:
        def __init__(self, times: int) -> None:
            self.engine, self.left = engine_of(model, chat), times

        def sample(self, prompts: Sequence[Any], *others: Any, **more: Any) -> list[list[Sample]]:
            rows = self.engine.sample(prompts, *others, **more)
            if self.left > 0:
                self.left -= 1
                rows[0] = [replace(rows[0][0], status=RolloutStatus.ENGINE_ERROR)]
            return rows

    def first_act(times: int) -> Act:
        failing: Any = Failing(times)
        return sample_groups(failing, starts(chat)[:1], draw_of(chat), SETTINGS, 1)[0].acts[0]

    assert first_act(1).verdict.reward is not None
    lost = first_act(100)
    assert lost.verdict == Verdict(status=VerdictStatus.ERROR, reward=None, category="engine_error")
