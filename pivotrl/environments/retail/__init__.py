"""Retail (as τ²-Bench): policy, database, tools and a scripted user."""

from __future__ import annotations

from pivotrl.environments.domain import LiveDomain
from pivotrl.environments.retail.expert import expert_actions
from pivotrl.environments.retail.language import SINGLE_TOKENS
from pivotrl.environments.retail.noisy import noisy_action
from pivotrl.environments.retail.tasks import draw_task
from pivotrl.environments.retail.world import Retail

DOMAIN = LiveDomain(
    name="retail",
    environment=Retail(),
    draw=draw_task,
    expert=expert_actions,
    noisy=noisy_action,
    single_tokens=SINGLE_TOKENS,
)
