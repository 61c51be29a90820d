"""How often a functional reward agrees with what the environment itself says of an action.

This module must never know how the actions were sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pivotrl.types import Action, Candidate, EnvironmentState, Verdict, VerdictStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardAgreement:
    n: int
    """Samples with a verdict."""
    agreeing: float | None
    """Share of them where reward and oracle agree; None without any."""
    accepted_wrongly: int
    """The verifier accepts what the oracle rejects."""
    rejected_wrongly: int
    """The verifier rejects what the oracle accepts."""
    without_verdict: int
    """Verdicts that are undecided or errors: not counted in n."""


def reward_agreement(
    oracle: Callable[[EnvironmentState, Action], bool],
    verify: Callable[[Candidate, Action], Verdict],
    samples: Iterable[tuple[EnvironmentState, Candidate, Action]],
) -> RewardAgreement:
    """How often a verifier's reward (accepted: 0.5 and more) agrees with an environment's oracle.

    A sample is an action at a candidate, and the live state that the candidate's turn came from.
    """
    n = agreeing = accepted_wrongly = rejected_wrongly = without_verdict = 0
    for state, candidate, action in samples:
        verdict = verify(candidate, action)
        if verdict.status is not VerdictStatus.OK or verdict.reward is None:
            without_verdict += 1
            continue
        accepted, right = verdict.reward >= 0.5, oracle(state, action)
        n += 1
        agreeing += accepted == right
        accepted_wrongly += accepted and not right
        rejected_wrongly += right and not accepted
    return RewardAgreement(
        n=n,
        agreeing=agreeing / n if n else None,
        accepted_wrongly=accepted_wrongly,
        rejected_wrongly=rejected_wrongly,
        without_verdict=without_verdict,
    )
