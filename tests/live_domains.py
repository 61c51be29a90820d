"""What the tests of the live domains share, and what each domain promises in numbers."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from pivotrl.environments import live_domain
from pivotrl.environments.domain import LiveDomain
from pivotrl.environments.repo.tasks import COSTS
from pivotrl.environments.repo.world import max_turns as repo_max_turns
from pivotrl.environments.retail.language import ORDERS
from pivotrl.environments.retail.tasks import KINDS as RETAIL_KINDS
from pivotrl.environments.retail.world import max_turns as retail_max_turns
from pivotrl.environments.shell.language import LOCKED
from pivotrl.environments.shell.tasks import KINDS as SHELL_KINDS
from pivotrl.environments.shell.world import max_turns as shell_max_turns
from pivotrl.environments.turns import call_action as call
from pivotrl.environments.web.language import NAMES
from pivotrl.environments.web.tasks import KINDS as WEB_KINDS
from pivotrl.environments.web.world import max_turns as web_max_turns
from pivotrl.types import JSON, Action, EnvironmentState

ANY_TEXT = ("", "?", "9" * 5000, "x" * 10**5)
HOSTILE_SOURCES = (
    *("", "x", "def f(:", "import os", "1\0", "def f(a):\n    return f(a)", "(" * 599, "9" * 599),
    "while 1:\n    pass",
)
FILES: Mapping[str, str] = live_domain("repo").make_tasks("train", 1, 1)[0]["files"]


def after(domain: LiveDomain, state: EnvironmentState, *actions: Action) -> EnvironmentState:
    for action in actions:
        state = domain.environment.step(state, action)
    return state


def different(actions: Iterable[Action]) -> list[Action]:
    """Each once: asking the oracle takes an episode."""
    return list({repr(action): action for action in actions}.values())


@cache
def mixed_turns(name: str) -> list[tuple[EnvironmentState, bool]]:
    """The expert's states in some tasks, and whether some noisy actions there are right, some not.

    A group of such actions gives no signal where all are equally right.
    """
    domain, rng = live_domain(name), random.Random(0)
    found = []
    for task in domain.make_tasks("train", 25, 3):
        state = domain.environment.reset(task)
        while not state.done:
            actions = different(domain.noisy(state, rng) for _ in range(12))
            found.append((state, len({domain.oracle(state, action) for action in actions}) == 2))
            state = after(domain, state, domain.expert(state)[0])
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    policy_words: int
    tools: tuple[int, int]
    """Least and most of them."""
    single_tokens: int
    episode_words: int
    """Words of a demonstration as JSON, at most."""
    result_characters: int
    """Of a tool's result, whatever the call, at most."""
    kinds: Iterable[str]
    """Of the tasks without a horizon."""
    draws: int
    """So many tasks are all different."""
    max_turns: Callable[[JSON], int]
    turns: Mapping[int | None, tuple[int, int]]
    """Horizon -> the fewest and the most turns of the expert."""
    long: int
    """A horizon of many turns."""
    bad_horizons: tuple[int, ...]
    limits: str
    """How an error names the horizons that there are."""
    noisy_success: Mapping[int | None, tuple[float, float]]
    """Horizon -> least and most share of tasks that the noisy agent solves at skill 0."""
    equal: tuple[float, float]
    """Least and most share of turns that give no signal."""
    hostile: tuple[str, ...]
    """Texts and arguments of a hostile policy that solve no task."""
    mutations: Callable[[Action], list[Action]]
    """Actions that are wrong wherever this one is right, besides those of every domain."""
    right_actions: int
    """Of the demonstrations that are looked at, at least: none is lost on the way."""
    agreement: float
    """Least share of noisy actions whose reward is as the oracle says."""


def _retail_mutations(action: Action) -> list[Action]:
    wrong = [
        call("get_user", user_id="U999"),
        call("cancel_order", order_id="W999", reason="mistake"),
        Action(text="Thanks, goodbye."),
    ]
    for tool_call in action.tool_calls:
        for key, value in tool_call.arguments.items():
            other = value + 1 if isinstance(value, int) else f"{value}9"
            wrong.append(call(tool_call.name, **tool_call.arguments | {key: other}))
    for fact in re.findall(r"W\d+|USD\d+|rule \d", action.text):
        other = ORDERS[0] if fact[0] == "W" else "USD99" if fact[0] == "U" else "rule 7"
        wrong.append(Action(text=action.text.replace(fact, f"{other}5")))
        wrong.append(Action(text=action.text.replace(fact, "")))
    return wrong


def _shell_mutations(action: Action) -> list[Action]:
    (tool_call,) = action.tool_calls
    wrong = [Action(text="done"), call("bash", command="pwd"), call("bash", command="ls")]
    if tool_call.name == "submit":
        answers = (f"{tool_call.arguments['answer']}9", "")
        return [*wrong, *(call("submit", answer=answer) for answer in answers)]
    command = tool_call.arguments["command"]
    words = re.findall(r"[HPEK]\d+|\w+/\w+", command)
    others = (command.replace(word, f"{word}9") for word in words)
    return [*wrong, call("submit", answer=command), *(call("bash", command=o) for o in others)]


def _repo_mutations(action: Action) -> list[Action]:
    return [
        Action(text="All is done."),
        call("open", path="nowhere.py"),
        call("search", name="no_such_name"),
        call("edit", path="nowhere.py", old_str="a", new_str="b"),
        *(
            call(tool_call.name, **tool_call.arguments | {key: f"{value} 9"})
            for tool_call in action.tool_calls
            for key, value in tool_call.arguments.items()
        ),
    ]


def _web_mutations(action: Action) -> list[Action]:
    wrong = [
        call("search", query="Nobody"),
        call("open", id="P999"),
        Action(text="I could not find it."),
    ]
    if "open" in {tool_call.name for tool_call in action.tool_calls}:
        wrong.append(call("search", query=action.tool_calls[0].arguments["id"]))
    for fact in re.findall(rf"AD\d+|{'|'.join(NAMES)}", action.text):
        other = "AD1899" if fact.startswith("AD") else "Nobody"
        wrong.append(Action(text=action.text.replace(fact, other)))
        wrong.append(Action(text=f"{action.text} It is not {fact}."))
    return wrong


CASES: Mapping[str, Case] = {
    "retail": Case(
        policy_words=70,
        tools=(5, 7),
        single_tokens=300,
        episode_words=499,
        result_characters=999,
        kinds=("2 requests", *RETAIL_KINDS, *(f"{kind} refused" for kind in RETAIL_KINDS)),
        draws=1000,
        max_turns=retail_max_turns,
        turns={None: (3, 12), 1: (3, 6), 6: (12, 30)},
        long=6,
        bad_horizons=(-1, 0, 100),
        limits="1 to 79",
        noisy_success={None: (0.15, 0.35), 6: (0.0, 0.14)},
        equal=(0.4, 0.8),
        hostile=("id?", "why?", "cannot rule 2", *ANY_TEXT, *live_domain("retail").single_tokens),
        mutations=_retail_mutations,
        right_actions=150,
        agreement=0.98,
    ),
    "shell": Case(
        policy_words=80,
        tools=(2, 2),
        single_tokens=300,
        episode_words=499,
        result_characters=899,
        kinds=SHELL_KINDS,
        draws=1000,
        max_turns=shell_max_turns,
        turns={None: (4, 8)} | {turns: (turns - 1, turns) for turns in (4, 8, 12, 18, 24)},
        long=24,
        bad_horizons=(-1, 0, 3, 25),
        limits="4 to 24",
        noisy_success={None: (0.15, 0.35), 12: (0.0, 0.14)},
        equal=(0.4, 0.8),
        hostile=("cat README", "rm -rf *", "done", LOCKED, "find / | cat", *ANY_TEXT),
        mutations=_shell_mutations,
        right_actions=300,
        agreement=0.98,
    ),
    "repo": Case(
        policy_words=80,
        tools=(5, 5),
        single_tokens=150,
        episode_words=350,
        result_characters=600,
        kinds=COSTS,
        draws=3000,
        max_turns=repo_max_turns,
        turns={None: (4, 8), 4: (3, 5), 8: (5, 11), 12: (8, 16), 24: (15, 33)},
        long=24,
        bad_horizons=(-1, 0, 3, 25),
        limits="4 to 24",
        noisy_success={None: (0.1, 0.4), 12: (0.0, 0.2)},
        equal=(0.4, 0.8),
        hostile=(*ANY_TEXT, *HOSTILE_SOURCES, "return", *FILES, *FILES.values()),
        mutations=_repo_mutations,
        right_actions=150,
        agreement=0.98,
    ),
    "web": Case(
        policy_words=80,
        tools=(2, 2),
        single_tokens=300,
        episode_words=499,
        result_characters=299,
        kinds=WEB_KINDS,
        draws=1000,
        max_turns=web_max_turns,
        turns={None: (4, 8)} | {turns: (turns, turns) for turns in (4, 12, 24)},
        long=24,
        bad_horizons=(-1, 0, 3, 25),
        limits="4 to 24",
        noisy_success={None: (0.15, 0.35), 12: (0.0, 0.14)},
        equal=(0.2, 0.6),
        hostile=("a " * 50, *ANY_TEXT, *live_domain("web").single_tokens),
        mutations=_web_mutations,
        right_actions=300,
        agreement=0.95,
    ),
}
