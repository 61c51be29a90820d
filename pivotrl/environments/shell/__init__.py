"""Shell (as Terminal-Bench): a file tree, a small shell of our own, jobs by the rules of a README.

Commands are interpreted over plain data, never run on the host.
"""

from __future__ import annotations

from pivotrl.environments.domain import LiveDomain
from pivotrl.environments.shell.expert import expert_actions
from pivotrl.environments.shell.language import SINGLE_TOKENS
from pivotrl.environments.shell.noisy import noisy_action
from pivotrl.environments.shell.tasks import draw_task
from pivotrl.environments.shell.world import Shell

DOMAIN = LiveDomain(
    name="shell",
    environment=Shell(),
    draw=draw_task,
    expert=expert_actions,
    noisy=noisy_action,
    single_tokens=SINGLE_TOKENS,
)
