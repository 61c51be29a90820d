"""The expert of the web domain: all that is right at a state.

This module must never be used for rewards: those judge from the trajectory row alone.
"""

from __future__ import annotations

import random

from pivotrl.environments.turns import call_action
from pivotrl.environments.web.language import ANSWERS
from pivotrl.environments.web.tasks import queries
from pivotrl.types import Action, EnvironmentState


def expert_actions(state: EnvironmentState, rng: random.Random | None = None) -> list[Action]:
    """All right actions at an unfinished state, the demonstrated one first.

    The legs of a question may be followed in any order; the expert takes them as they are asked.
    With `rng` the wording varies.
    """
    ways = _right_ways(state)
    first = ways[0]
    chosen = rng.randrange(min(2, len(first))) if rng else 0  # the first two are in its style
    first = [first[chosen], *first[:chosen], *first[chosen + 1 :]]
    return [*first, *(action for way in ways[1:] for action in way)]


def _right_ways(state: EnvironmentState) -> list[list[Action]]:
    """Groups of equivalent actions; each group goes on with another leg."""
    ways = []
    for leg in state.task["legs"]:
        unread = [page_id for page_id in leg["pages"] if page_id not in state.world["opened"]]
        if unread and unread[0] in state.world["shown"]:
            ways.append([call_action("open", id=unread[0])])
        elif unread:
            page = state.task["pages"][unread[0]]
            ways.append([call_action("search", query=query) for query in queries(page)])
    return ways or [[Action(text=w.format(state.task["answer"])) for w in ANSWERS]]
