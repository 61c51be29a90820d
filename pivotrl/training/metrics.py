"""What a step's groups show before any update, by TRL's names where TRL has the metric."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence

from pivotrl.training.advantages import has_signal, spread
from pivotrl.training.records import Group


def group_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """What the step's first groups showed, before any was replaced.

    `reward_std` is TRL's (sample std over the whole batch), `group_reward_std` the mean of the
    groups' population stds, which is the signal that GRPO learns from. `sampling/entropy` is the
    mean of -log-prob over all sampled tokens: `entropy` covers forwarded groups only.
    """
    by_group = [[r for r in g.rewards if r is not None] for g in groups]
    rewards = [reward for row in by_group for reward in row]
    samples = [a.sample for g in groups for a in g.acts if a.verdict.reward is not None]
    lengths = [len(sample.token_ids) for sample in samples]
    flat = sum(not has_signal(row) for row in by_group)
    metrics = {
        "reward": math.fsum(rewards) / len(rewards),
        "reward_std": spread(rewards, freedom=1),
        "group_reward_std": statistics.fmean(spread(row) for row in by_group),
        "frac_reward_zero_std": flat / len(groups),
        "zero_signal": float(flat),
        "dropped": float(sum(len(g.samples) for g in groups) - len(rewards)),
        "unique_trajectories": float(len({g.pivot.trajectory_id for g in groups})),
        "completions/mean_length": statistics.fmean(lengths),
        "completions/min_length": float(min(lengths)),
        "completions/max_length": float(max(lengths)),
        "completions/clipped_ratio": statistics.fmean(
            sample.finish_reason == "length" for sample in samples
        ),
        "sampling/entropy": -math.fsum(p for s in samples for p in s.logprobs)
        / max(1, sum(lengths)),
    }
    for domain in sorted({group.pivot.domain for group in groups}):
        own = [
            r
            for g, row in zip(groups, by_group, strict=True)
            if g.pivot.domain == domain
            for r in row
        ]
        if own:
            metrics[f"rewards/{domain}/mean"] = math.fsum(own) / len(own)
            metrics[f"rewards/{domain}/std"] = spread(own, freedom=1)
    categories = Counter(verdict.category for group in groups for verdict in group.verdicts)
    judged = max(1, sum(categories.values()))
    metrics["completions/malformed_ratio"] = categories["malformed"] / judged
    return metrics | {f"verdict/{name}": float(n) for name, n in sorted(categories.items())}


def step_metrics(groups: Sequence[Group], sampled: Sequence[Group]) -> dict[str, float]:
    """Of the groups that a step learns from, among all that were sampled for it."""
    first = {id(group) for group in sampled[: len(groups)]}
    turns = [turn for group in sampled for act in group.acts for turn in act.turns]
    return {
        "replaced": float(sum(id(group) not in first for group in groups)),
        "groups_sampled": float(len(sampled)),
        "turns": float(len(turns)),
        "num_tokens": float(sum(len(t.prompt_ids) + len(t.sample.token_ids) for t in turns)),
    }
