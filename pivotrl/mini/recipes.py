"""What each base model is made of: the episodes of one live domain, and the eight skills.

One model of this size and time does not hold four domains: two recipes that mixed them left half
the scores out of range. This module must never know how documents are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DOCUMENTS = 58_000
VOCABULARY = 2048
EPISODES = 7
"""Weight of the domain's episodes, beside those of the skills: how often a document is one."""
SKILLS: Mapping[str, float] = {
    "ifbench": 1,
    "aime25": 1.5,
    "math500": 1.5,
    "livecodebench": 0.7,
    "scicode": 0.7,
    "mmlu_pro": 0.8,
    "mmlu_prox": 0.8,
    "wmt24pp": 1,
    "drill": 4,
}
MORE_OPTIONS = {**SKILLS, "mmlu_pro": 1.6, "mmlu_prox": 1.6}
"""Beside long episodes of the shell, choosing an option is not learned from fewer."""
MORE_DRILL = {**MORE_OPTIONS, "livecodebench": 1, "scicode": 1, "drill": 6}
"""Where half of the drills are the domain's own."""
MORE_CODE = {
    **SKILLS,
    "mmlu_pro": 2.2,
    "mmlu_prox": 2.2,
    "aime25": 1.2,
    "math500": 1.1,
    "livecodebench": 1.2,
    "scicode": 2,
    "drill": 5.5,
}
"""Where long episodes leave little: the sums, which suffer least, give to what suffers most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    domain: str
    skill: float
    """How much surer the noisy agent is than by its own defaults, from 0 to 1."""
    long: tuple[int, int]
    """Horizons of its longer episodes."""
    skills: Mapping[str, float] = field(default_factory=lambda: SKILLS)
    documents: int = DOCUMENTS
    recall: float = 0.2
    """Share of recall in the drills that follow the first ones, which are recall alone."""


RECIPES: Mapping[str, Recipe] = {
    recipe.domain: recipe
    for recipe in (
        Recipe(domain="retail", skill=0.25, long=(3, 5)),  # the embedded default
        Recipe(domain="shell", skill=0.4, long=(8, 16), skills=MORE_OPTIONS),
        Recipe(
            domain="repo", skill=0.4, long=(8, 16), skills=MORE_CODE, documents=76_000, recall=0.35
        ),
        Recipe(
            domain="web", skill=0.8, long=(8, 16), skills=MORE_DRILL, documents=72_000, recall=0.35
        ),
    )
}
