"""Prompts of candidates, and what has none."""

from __future__ import annotations

import shutil
from pathlib import Path

from tiny_model import CHAT_TEMPLATE, make_tiny_model

from pivotrl.candidates import extract
from pivotrl.chat import ChatFormat, TemplateError
from pivotrl.policies import identify
from pivotrl.rollouts import Prompted, complete, prompts
from pivotrl.types import (
    Message,
    Role,
    RolloutStatus,
    Sample,
    SamplingParams,
    Trajectory,
    seed_of,
)

REFUSAL = "{% if messages | length > 3 %}{{ raise_exception('too many roles') }}{% endif %}"


def test_a_turn_that_the_template_refuses_is_set_apart_from_the_others(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    (folder / "chat_template.jinja").write_text(REFUSAL + CHAT_TEMPLATE)
    user, answer = (Message(role=role, content="Yes.") for role in (Role.USER, Role.ASSISTANT))
    talk = (user, answer, user, answer, user, answer)
    turns = extract(Trajectory(id="t", messages=talk, tools=(), domain="retail"))
    fitting, without = prompts(list(turns), ChatFormat.load(folder), longest=1000)
    assert [item.candidate.turn for item in fitting] == [1, 3]
    ((candidate, why),) = without
    assert candidate.turn == 5 and isinstance(why, TemplateError)
    assert "too many roles" in str(why)


def test_what_ends_a_completion_is_part_of_the_policy(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "one")
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    assert identify(folder) == identify(other)
    (other / "generation_config.json").write_text('{"eos_token_id": [0, 1]}')
    assert identify(folder) != identify(other)


class Recorder:
    """An engine that says what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int]] = []

    def sample(self, prompts, n, params, seeds, on_progress=None, first=0):  # type: ignore[no-untyped-def]
        self.asked.append((len(prompts), n, first))
        return [
            [Sample.lost(RolloutStatus.OK, seed_of(seed, first + j)) for j in range(n)]
            for seed in seeds
        ]

    def load_weights(self, state) -> None:  # type: ignore[no-untyped-def]
        raise AssertionError


def test_each_gap_is_sampled_alone_and_rows_of_another_prompt_are_none_of_it() -> None:
    user, answer = (Message(role=role, content="Yes.") for role in (Role.USER, Role.ASSISTANT))
    talk = (user, answer, user, answer)
    one, other = extract(Trajectory(id="t", messages=talk, tools=(), domain="retail"))
    wanted = [
        Prompted(candidate=one, prompt_ids=(1, 2, 3)),
        Prompted(candidate=other, prompt_ids=(4, 5)),
    ]

    def completed(prompted, stored):  # type: ignore[no-untyped-def]
        engine = Recorder()
        rows, new = complete(
            prompted,
            stored,
            engine,
            samples=8,
            first=0,
            policy="p",
            params=SamplingParams(max_tokens=1),
            seed=0,
        )
        return rows, new, engine.asked

    rows, new, asked = completed(wanted, {})
    assert rows == new and asked == [(2, 8, 0)]
    stored = {
        (row["candidate_id"], row["prompt_hash"], row["sample_index"]): row | {"text": "stored"}
        for row in rows
        if row["candidate_id"] == one.id and row["sample_index"] not in (0, 3, 4)
    }
    again, new, asked = completed(wanted, stored)
    assert asked == [(1, 1, 0), (1, 8, 0), (1, 2, 3)]
    assert [row["text"] == "stored" for row in again[:8]] == [i not in (0, 3, 4) for i in range(8)]
    assert len(new) == 3 + 8

    reordered = [Prompted(candidate=one, prompt_ids=(1, 3, 2))]
    again, new, asked = completed(reordered, stored)
    assert again == new and asked == [(1, 8, 0)]
