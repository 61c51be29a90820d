"""What training did to a policy, held against the theory (`pivotrl.theory`).

At states with the actions that the reference policy took there: the gradient of each group, and
how the trained policy's log-probabilities of whole actions differ. This module must never know a
candidate or a verifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

import torch

from pivotrl.theory import kendall_tau
from pivotrl.training.adapters import trainable
from pivotrl.training.logprobs import choose, log_probs
from pivotrl.training.tree import Row, bins

TokenIds = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A state, and what the reference policy did there."""

    prompt_ids: TokenIds
    actions: Sequence[TokenIds]
    rewards: Sequence[float]
    """Of each action."""
    unrelated: Sequence[TokenIds]
    """Actions taken in other states."""


def gradients(
    model: Any, probes: Sequence[Probe], micro_batch_tokens: int
) -> list[tuple[float, float]]:
    """(std of the rewards, norm of the gradient of (1/G) Σ (r - mean) log π(a)) of each probe.

    Without the std in the advantage's divisor: that is what theorem 3.2 speaks of.
    """
    backend = choose(model, [probe.prompt_ids for probe in probes])
    found = []
    for probe in probes:
        mean = fmean(probe.rewards)
        weights = [(reward - mean) / len(probe.rewards) for reward in probe.rewards]
        model.zero_grad(set_to_none=True)
        if any(weights):
            for layout in bins(_rows(probe.prompt_ids, probe.actions), micro_batch_tokens):
                of_tokens, _ = log_probs(model, layout, backend)
                lengths = [len(row.completion) for row in layout.rows]
                sums = torch.stack([part.sum() for part in of_tokens.split(lengths)])
                own = [weights[row.sample] for row in layout.rows]
                (sums * torch.tensor(own, device=sums.device)).sum().backward()
        norms = [p.grad.norm() for _, p in trainable(model) if p.grad is not None]
        norm = float(torch.stack(norms).norm()) if norms else 0.0
        found.append((pstdev(probe.rewards), norm))
    model.zero_grad(set_to_none=True)
    return found


@torch.no_grad()
def action_log_probs(
    model: Any, probes: Sequence[Probe], micro_batch_tokens: int
) -> list[dict[TokenIds, float]]:
    """Natural log-probability of every action, own and unrelated, of each probe."""
    backend = choose(model, [probe.prompt_ids for probe in probes])
    everything: list[dict[TokenIds, float]] = [{} for _ in probes]
    for probe, found in zip(probes, everything, strict=True):
        actions = list(dict.fromkeys((*probe.actions, *probe.unrelated)))
        for layout in bins(_rows(probe.prompt_ids, actions), micro_batch_tokens):
            of_tokens, _ = log_probs(model, layout, backend)
            lengths = [len(row.completion) for row in layout.rows]
            for row, part in zip(layout.rows, of_tokens.split(lengths), strict=True):
                found[row.completion] = float(part.sum())
    return everything


def drift(
    probes: Sequence[Probe],
    before: Sequence[Mapping[TokenIds, float]],
    after: Sequence[Mapping[TokenIds, float]],
) -> dict[str, float | None]:
    """Means over probes: KL(π₀‖π) in nats an action, estimated on the actions of π₀, and Kendall's
    τ of the actions that were not accepted and of unrelated ones (theorem 3.3 keeps their ranks);
    None where no probe has two of them."""
    kl = [
        fmean(old[action] - new[action] for action in probe.actions)
        for probe, old, new in zip(probes, before, after, strict=True)
    ]
    taus: dict[str, list[float]] = {"unaccepted": [], "unrelated": []}
    for probe, old, new in zip(probes, before, after, strict=True):
        refused = {a for a, r in zip(probe.actions, probe.rewards, strict=True) if r == 0}
        for name, some in (("unaccepted", refused), ("unrelated", {*probe.unrelated})):
            ordered = sorted(some)
            tau = kendall_tau([old[a] for a in ordered], [new[a] for a in ordered])
            taus[name] += [] if tau is None else [tau]
    means = {f"tau_{name}": fmean(some) if some else None for name, some in taus.items()}
    return {"kl": fmean(kl) if kl else None} | means


def _rows(prompt: TokenIds, actions: Sequence[TokenIds]) -> list[Row]:
    return [
        Row(sample=number, prompt=prompt, completion=action)
        for number, action in enumerate(actions)
    ]
