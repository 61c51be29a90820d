"""How a live domain behaves: `python -m pivotrl.environments.check retail [--horizon N]`.

Prints, by kind of task, how often the expert and the noisy agent succeed and how long they take,
then how much a model has to read. This module must never know a model.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from statistics import fmean

from pivotrl.environments import ENVIRONMENTS, live_domain
from pivotrl.types import Role


def main() -> None:
    parser = argparse.ArgumentParser(description="Print how a live domain behaves.")
    parser.add_argument("domain", choices=ENVIRONMENTS)
    parser.add_argument("--n", type=int, default=500, help="tasks (default 500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skill", type=float, default=0.0, help="of the noisy agent, 0 to 1")
    parser.add_argument("--horizon", type=int)
    options = parser.parse_args()
    domain = live_domain(options.domain)
    rng = random.Random(options.seed)
    rows: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    start = time.perf_counter()
    for task in domain.make_tasks("train", options.n, options.seed, options.horizon):
        row: list[float] = []
        for policy in (
            lambda state: domain.expert(state, rng)[0],
            lambda state: domain.noisy(state, rng, options.skill),
        ):
            ended = domain.episode(task, policy)
            row += [
                domain.environment.score(ended),
                sum(message.role is Role.ASSISTANT for message in ended.messages),
                sum(len(message.content.split()) for message in ended.messages),
            ]
        rows[task["kind"]].append(tuple(row))
        rows["all"].append(tuple(row))
    print(f"{'':<24}{'':>6}{'expert':>24}{'noisy':>24}")
    print(f"{'kind':<24}{'n':>6}" + f"{'solved':>8}{'turns':>8}{'words':>8}" * 2)
    for kind, group in sorted(rows.items()):
        means = [fmean(column) for column in zip(*group, strict=True)]
        cells = "".join(
            f"{solved:>8.1%}{turns:>8.1f}{words:>8.0f}"
            for solved, turns, words in (means[:3], means[3:])
        )
        print(f"{kind:<24}{len(group):>6}{cells}")
    print(f"{2 * options.n / (time.perf_counter() - start):.0f} episodes/s")


if __name__ == "__main__":
    main()
