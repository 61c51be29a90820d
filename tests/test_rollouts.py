"""Prompts of candidates, and what has none."""

from __future__ import annotations

import shutil
from pathlib import Path

from tiny_model import CHAT_TEMPLATE, make_tiny_model

from pivotrl.candidates import extract
from pivotrl.chat import ChatFormat, TemplateError
from pivotrl.policies import identify
from pivotrl.rollouts import prompts
from pivotrl.types import Message, Role, Trajectory

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
