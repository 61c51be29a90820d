"""Web (as BrowseComp): a small made-up library, to be searched and read in several hops."""

from __future__ import annotations

from pivotrl.environments.domain import LiveDomain
from pivotrl.environments.web.expert import expert_actions
from pivotrl.environments.web.language import SINGLE_TOKENS
from pivotrl.environments.web.noisy import noisy_action
from pivotrl.environments.web.tasks import draw_task
from pivotrl.environments.web.world import Web

DOMAIN = LiveDomain(
    name="web",
    environment=Web(),
    draw=draw_task,
    expert=expert_actions,
    noisy=noisy_action,
    single_tokens=SINGLE_TOKENS,
)
