"""Repo (as SWE-Bench): small repositories, issues, a failing test, and tools to read and edit."""

from __future__ import annotations

from pivotrl.environments.domain import LiveDomain
from pivotrl.environments.repo.expert import expert_actions
from pivotrl.environments.repo.language import SINGLE_TOKENS
from pivotrl.environments.repo.noisy import noisy_action
from pivotrl.environments.repo.tasks import draw_task
from pivotrl.environments.repo.world import Repo

DOMAIN = LiveDomain(
    name="repo",
    environment=Repo(),
    draw=draw_task,
    expert=expert_actions,
    noisy=noisy_action,
    single_tokens=SINGLE_TOKENS,
)
