"""Live, multi-turn tasks that a policy can be evaluated in; one package a domain.

An environment knows the truth of its world. It must never know a model, a tokenizer, a verifier
or a training run: rewards in training judge from the trajectory row alone.
"""

from __future__ import annotations

from importlib import import_module

from pivotrl.environments.domain import LiveDomain
from pivotrl.types import ConfigError

ENVIRONMENTS = ("retail", "shell", "repo", "web")


def live_domain(name: str) -> LiveDomain:
    """Raises ConfigError for a name that is no environment."""
    if name not in ENVIRONMENTS:
        known = ", ".join(ENVIRONMENTS)
        raise ConfigError(f"evaluate.domains: no live domain {name!r}; known: {known}")
    domain: LiveDomain = import_module(f"pivotrl.environments.{name}").DOMAIN
    return domain
