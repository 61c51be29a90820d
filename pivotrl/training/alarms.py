"""What ends a round or deserves a warning, judged from the metrics of its steps alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pivotrl.types import PivotRLError

Metrics = Mapping[str, float]

PATIENCE = 5
"""Steps in a row before a bad sign ends the round."""
WINDOW = 5
"""Steps in the moving mean of the group's reward std."""
MOSTLY = 0.5
"""Share of a step's actions that call unknown tools, from which on it is a bad sign."""
NEARLY_ALL = 0.95
"""Share of completions cut at the limit, from which on it is a bad sign."""
MOST_LEFT_OUT = 0.5
"""Share of pivots over the context, from which on the others are no sample of them."""
DRIFT_WARNING = 0.02
DRIFT_LIMIT = 0.2
"""Mean |log-probability of the sampler - of the trainer| a token, in nats."""


def warnings(history: Sequence[Metrics]) -> tuple[str, ...]:
    """Bad signs of the last step of `history`, which holds every training step so far."""
    last = history[-1]
    out = []
    if last["completions/clipped_ratio"] >= NEARLY_ALL:
        out.append("nearly every completion was cut at the length limit")
    if last["reward"] == 0:
        out.append("no sample earned a reward")
    elif last["frac_reward_zero_std"] == 1:
        out.append("no group had a signal")
    if _share_of_unknown_tools(last) > MOSTLY:
        out.append("most actions call tools that the verifier does not know")
    if last.get("sampling/sampling_logp_difference/mean", 0.0) > DRIFT_WARNING:
        out.append("sampler and trainer disagree about log-probabilities")
    return tuple(out)


def raise_alarm(history: Sequence[Metrics], step: int) -> None:
    """Raises PivotRLError where going on would only burn time; `history` as in `warnings`."""
    # Cut completions that still differ in reward teach something; those that do not never will.
    cut = [
        row["completions/clipped_ratio"] >= NEARLY_ALL and row["frac_reward_zero_std"] == 1
        for row in history[-PATIENCE:]
    ]
    if len(cut) == PATIENCE and all(cut):
        raise PivotRLError(
            f"step {step}: for {PATIENCE} steps nearly every completion was cut at the limit and "
            "no group had a signal; raise max_tokens, or check that the model's end-of-turn token "
            "is a stop token"
        )
    recent = history[-PATIENCE:]
    if len(recent) == PATIENCE and all(row["reward"] == 0 for row in recent):
        raise PivotRLError(
            f"step {step}: no sample of {PATIENCE} steps earned a reward; look at the verdict "
            "categories of the rollouts (`train_rollouts`) and at the profile that chose the pivots"
        )
    if len(recent) == PATIENCE and all(_share_of_unknown_tools(row) > MOSTLY for row in recent):
        raise PivotRLError(
            f"step {step}: for {PATIENCE} steps most actions called tools that the verifier does "
            "not know; check that prompts show the tools that the trajectories declare"
        )
    difference = history[-1].get("sampling/sampling_logp_difference/mean", 0.0)
    if difference > DRIFT_LIMIT:
        raise PivotRLError(
            f"step {step}: sampler and trainer differ by {difference:.3f} nats a token (limit "
            f"{DRIFT_LIMIT}); check that the engine took the new weights, dropped the keys of the "
            "old ones and uses one precision"
        )


def raise_left_out(left_out: int, count: int, longest: int, what: str) -> None:
    """Raises PivotRLError where too many of `count` prompts are over `longest` tokens."""
    if left_out > MOST_LEFT_OUT * count:
        raise PivotRLError(
            f"{left_out:,} of {count:,} {what} are over {longest:,} tokens, or refused by the chat "
            "template: what is left is another selection; raise model.max_length, lower "
            "max_tokens, or select shorter ones"
        )


def _share_of_unknown_tools(metrics: Metrics) -> float:
    judged = sum(count for name, count in metrics.items() if name.startswith("verdict/"))
    return metrics.get("verdict/unknown_tool", 0.0) / judged if judged else 0.0


def is_stale(history: Sequence[Metrics], share: float) -> bool:
    """Whether the moving mean of `group_reward_std` fell under `share` of its first value."""
    spreads = [row["group_reward_std"] for row in history]
    if len(spreads) < 2 * WINDOW:
        return False
    return sum(spreads[-WINDOW:]) < share * sum(spreads[:WINDOW])
