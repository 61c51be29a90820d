"""The retail domain in one import, and its self-check.

`python -m pivotrl.environments.retail` prints how often the expert and the noisy policy succeed,
how long episodes are and how many turns are routine, by kind of task.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict

from pivotrl.environments.retail_expert import expert_actions, expert_episode, oracle
from pivotrl.environments.retail_language import POLICY, SINGLE_TOKENS, TOOLS
from pivotrl.environments.retail_noisy import noisy_action, noisy_episode
from pivotrl.environments.retail_tasks import make_tasks, split_of
from pivotrl.environments.retail_world import Retail, missing
from pivotrl.types import Role

__all__ = [
    "POLICY",
    "SINGLE_TOKENS",
    "TOOLS",
    "Retail",
    "expert_actions",
    "expert_episode",
    "make_tasks",
    "noisy_action",
    "noisy_episode",
    "oracle",
    "split_of",
]


def self_check(n: int = 1000, seed: int = 0, horizon: int | None = None) -> None:
    """Print a table of success, turns and share of routine turns by kind of task."""
    environment = Retail()
    rows: dict[str, list[tuple[float, int, float, float, int]]] = defaultdict(list)
    rng = random.Random(seed)
    for task in make_tasks("train", n, seed, horizon):
        state, routine = environment.reset(task), 0
        while not state.done:
            needs = [need for need in missing(state) if need != "reason"]
            routine += bool(needs)
            state = environment.step(state, expert_actions(state, rng)[0])
        noisy = environment.reset(task)
        while not noisy.done:
            noisy = environment.step(noisy, noisy_action(noisy, rng))
        row = (
            environment.score(state),
            state.world["turns"],
            routine / state.world["turns"],
            environment.score(noisy),
            noisy.world["turns"],
        )
        rows[task["kind"]].append(row)
        rows["all"].append(row)
    print(f"{'kind':<26}{'n':>6}{'expert':>8}{'turns':>7}{'routine':>9}{'noisy':>8}{'turns':>7}")
    for kind, group in sorted(rows.items()):
        means = [sum(column) / len(group) for column in zip(*group, strict=True)]
        print(
            f"{kind:<26}{len(group):>6}{means[0]:>8.1%}{means[1]:>7.1f}"
            f"{means[2]:>9.1%}{means[3]:>8.1%}{means[4]:>7.1f}"
        )
    start = time.perf_counter()
    episodes = [noisy_episode(rng) for _ in range(n)]
    rate = n / (time.perf_counter() - start)
    words = sum(len(m.content.split()) for e in episodes for m in e.messages) / n
    agent = sum(m.role is Role.ASSISTANT for e in episodes for m in e.messages) / n
    print(
        f"{rate:.0f} noisy episodes/s, {agent:.1f} agent turns, {words:.0f} words of content each"
    )
    print(f"{len(POLICY.split())} words of policy, {len(TOOLS)} tools, {len(SINGLE_TOKENS)} ids")


if __name__ == "__main__":
    self_check()
