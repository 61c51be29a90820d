"""Live, multi-turn tasks that a policy can be evaluated in; one package module a domain.

An environment knows the truth of its world. It must never know a model, a tokenizer, a verifier
or a training run: rewards in training judge from the trajectory row alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pivotrl.types import JSON, Action, ConfigError, Environment, EnvironmentState


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDomain:
    """An environment with its tasks and its own judgement of single actions."""

    environment: Environment
    make_tasks: Callable[..., list[JSON]]
    """(split, n, seed) -> tasks."""
    oracle: Callable[[EnvironmentState, Action], bool]
    """True if the expert, going on from the action, succeeds without a turn more than needed."""


def live_domain(name: str) -> LiveDomain:
    """Raises ConfigError for a domain that has no environment."""
    if name != "retail":
        raise ConfigError(f"evaluate.environment = {name!r}: known environments: retail")
    from pivotrl.environments import retail

    return LiveDomain(
        environment=retail.Retail(),
        make_tasks=retail.make_tasks,
        oracle=retail.oracle,
    )
