"""What a step's groups show before any update, by TRL's names where TRL has the metric."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from pivotrl.prefixes import unique_tokens
from pivotrl.training.advantages import has_signal, spread
from pivotrl.training.records import Act, Group
from pivotrl.types import RolloutStatus

MEANINGS = {
    "reward": "Mean reward of the step's first groups, before any was replaced.",
    "reward_std": "Sample standard deviation of their rewards over the whole batch, as TRL's.",
    "group_reward_std": "Mean of the groups' population standard deviations: the signal of GRPO.",
    "frac_reward_zero_std": "Share of groups whose rewards are all equal.",
    "zero_signal": "How many groups that is.",
    "dropped": "Actions without a reward: an error, or nobody could tell. They are no zeros.",
    "replaced": "Groups without a signal that gave their place to another pivot's.",
    "groups_sampled": "Groups drawn for the step, the replaced ones too.",
    "turns": "Turns sampled: one an action, or one a turn of an episode.",
    "prompt_tokens": "Tokens of these turns' prompts.",
    "unique_prompt_tokens": "Those of the trie of the prompts.",
    "completion_tokens": "Tokens that were sampled.",
    "unique_trajectories": "Trajectories that the step's pivots come from.",
    "num_tokens": "Tokens of prompts and actions since the round began.",
    "completions/mean_length": "Tokens of an action, mean.",
    "completions/min_length": "The shortest.",
    "completions/max_length": "The longest.",
    "completions/mean_terminated_length": "Tokens of an action that ended by itself, mean.",
    "completions/min_terminated_length": "The shortest of these.",
    "completions/max_terminated_length": "The longest of these.",
    "completions/clipped_ratio": "Share of actions that the length limit cut.",
    "completions/malformed_ratio": "Share of actions that no parser reads.",
    "rewards/<domain>/mean": "Mean reward of a domain.",
    "rewards/<domain>/std": "Sample standard deviation there.",
    "verdict/<category>": "How many actions got this verdict.",
    "validation/reward": "Mean reward at held-out turns, of the policy that the round would keep.",
    "validation/turns": "Turns sampled for that.",
    "validation/prompt_tokens": "Tokens of their prompts.",
    "validation/unique_prompt_tokens": "Those of the trie of the prompts.",
    "validation/completion_tokens": "Tokens that were sampled for it.",
    "loss": "Mean loss of the step's updates.",
    "grad_norm": "Norm of the gradient before it is clipped.",
    "learning_rate": "As the step used it.",
    "kl": "Nats a token to the reference policy (k3 estimator, Schulman 2020).",
    "entropy": "Nats a token of the policy, over tokens that were learned from.",
    "sampling/entropy": "Mean of -log-prob over all sampled tokens.",
    "clip_ratio/low_mean": "Share of tokens whose ratio was clipped below.",
    "clip_ratio/high_mean": "Share of tokens whose ratio was clipped above.",
    "clip_ratio/region_mean": "Share of tokens that either was.",
    "cispo_clip_ratio": "With the loss `cispo`: share of tokens whose weight was cut.",
    "sampling/sampling_logp_difference/mean": "Nats a token between sampler and trainer.",
    "sampling/sampling_logp_difference/max": "The largest.",
    "sampling/importance_sampling_ratio/min": "Ratio of trainer to sampler, the smallest.",
    "sampling/importance_sampling_ratio/mean": "Its mean.",
    "sampling/importance_sampling_ratio/max": "The largest.",
    "token_ratio": "Tokens of separate rows over those of the prefix tree.",
    "flops": "Operations of log-probs, loss and backward pass.",
    "mfu": "Share of the card's peak, where the card is known.",
    "seconds/sample": "To draw and judge the step's actions.",
    "seconds/train": "To update the weights and hand them to the engine.",
    "seconds/validate": "To validate.",
}
"""Every metric of a training step, by the name it has in `train_steps`, in MLflow and in TRL."""


def group_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """What the step's first groups showed, before any was replaced.

    `reward_std` is TRL's (sample std over the whole batch), `group_reward_std` the mean of the
    groups' population stds, which is the signal that GRPO learns from. `sampling/entropy` is the
    mean of -log-prob over all sampled tokens: `entropy` covers forwarded groups only.
    """
    by_group = [[r for r in g.rewards if r is not None] for g in groups]
    rewards = [reward for row in by_group for reward in row]
    # all that were sampled, as TRL has it: a cut one may have no reward (verify.mask)
    samples = [s for g in groups for s in g.samples if s.status is RolloutStatus.OK]
    lengths = [len(sample.token_ids) for sample in samples]
    ended = [len(s.token_ids) for s in samples if s.finish_reason == "stop"] or [0]
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
        "completions/mean_terminated_length": statistics.fmean(ended),
        "completions/min_terminated_length": float(min(ended)),
        "completions/max_terminated_length": float(max(ended)),
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
    cost = cost_of(act for group in sampled for act in group.acts)
    return {
        "replaced": float(sum(id(group) not in first for group in groups)),
        "groups_sampled": float(len(sampled)),
        "num_tokens": cost["prompt_tokens"] + cost["completion_tokens"],
        **cost,
    }


def cost_of(acts: Iterable[Act]) -> dict[str, float]:
    """What the acts took to sample, in turns and tokens."""
    turns = [turn for act in acts for turn in act.turns]
    prompts = [turn.prompt_ids for turn in turns]
    return {
        "turns": float(len(turns)),
        "prompt_tokens": float(sum(map(len, prompts))),
        "unique_prompt_tokens": float(unique_tokens([*dict.fromkeys(prompts)])),
        "completion_tokens": float(sum(len(turn.sample.token_ids) for turn in turns)),
    }
