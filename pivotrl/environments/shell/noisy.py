"""A noisy shell agent, whose episodes the miniature base model is pretrained on.

It is sure of routine turns (README, where a file is, what to look at) and errs at decisions, where
it takes a plausible but wrong alternative, most often one that README would have told. So a model
that imitates it half-knows the domain. This module must never be used to make demonstrations.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from pivotrl.environments.shell.expert import (
    READ_RULES,
    bash,
    commands_of,
    current,
    found,
    knows_rules,
    merges,
    read_everywhere,
    read_facts,
    seek,
    submit,
    writes,
)
from pivotrl.environments.shell.language import (
    DONE,
    ENDINGS,
    LEVELS,
    LOCKED,
    STORES,
)
from pivotrl.environments.shell.tasks import SOUGHT
from pivotrl.environments.shell.world import SILENT
from pivotrl.environments.turns import OTHER_WAY, decider
from pivotrl.types import JSON, Action, EnvironmentState

RIGHT: dict[str, float] = {
    "locked": 0.35,
    "free": 0.95,
    "key": 0.55,
    "level": 0.45,
    "most": 0.45,
    "store": 0.45,
    "need": 0.6,
    "append": 0.7,
    "order": 0.5,
    "unique": 0.8,
    "ending": 0.45,
    "keep": 0.4,
}
"""How often each decision is right at skill 0; every other turn is always right."""


def noisy_action(state: EnvironmentState, rng: random.Random, skill: float = 0.0) -> Action:
    """The noisy policy's turn; `skill` in [0, 1] moves each decision from `RIGHT` to certainty."""

    right = decider(RIGHT, rng, skill)
    job, rules = current(state), state.task["rules"]
    ready = [] if knows_rules(state) else [list(READ_RULES[:1])]
    if job["kind"] in SOUGHT and not found(state):
        ready.append(seek(job)[:3])
    if ready:
        return bash(rng.choice(rng.choice(ready) if rng.random() < OTHER_WAY else ready[0]))
    passed = {*READ_RULES, *(seek(job) + read_everywhere(job) if job["kind"] in SOUGHT else ())}
    seen = [output for command, output in commands_of(state) if command not in passed]
    if not seen and "service" in job:
        locked = job["service"] == rules["locked"]
        if right("locked" if locked else "free") == locked:
            return submit(LOCKED)
    if not seen and job["kind"] in ("value", "count", "most", "fix", "rename", "clean"):
        return bash(_look_up(job, rules, rng, right))
    if not seen or job["kind"] in ("fix", "rename", "clean"):
        done = bool(seen) and seen[-1] == SILENT
        return submit(DONE) if done else bash(_change(job, rules, rng, right))
    return submit(DONE if seen[-1] == SILENT else _answer(job, seen[-1], rng, right))


def _look_up(job: JSON, rules: JSON, rng: random.Random, right: Callable[[str], bool]) -> str:
    """What to look at, of a configuration or a log perhaps the wrong lines."""
    ways = read_facts(job, rules)[:2]
    if job["kind"] == "count" and not right("level"):
        ways = read_facts(job, {"bad": _other(rng, LEVELS, rules["bad"])})[:1]
    if job["kind"] == "value" and not right("key"):
        key = _other(rng, ("port", "owner", "mode"), job["key"])
        ways = read_facts(job | {"key": key}, rules)[:1]
    return rng.choice(ways)


def _answer(job: JSON, seen: str, rng: random.Random, right: Callable[[str], bool]) -> str:
    """The answer that can be read off what was last shown."""
    match job["kind"]:
        case "value":
            fields = dict(re.findall(r"(\w+)=(\w+)", seen))
            value = fields.get(job["key"]) or next(iter(fields.values()), DONE)
            return str(value)
        case "most":
            counts = [(code, count) for count, code in re.findall(r"(\d) (\w+)", seen)]
            best = max(counts, key=lambda pair: pair[1], default=(DONE, ""))[0]
            return best if right("most") else rng.choice([c for c in job["others"] if c != best])
        case _:
            return seen.split()[-1]


def _change(job: JSON, rules: JSON, rng: random.Random, right: Callable[[str], bool]) -> str:
    """The command that makes the job's change, or one that is like it."""
    match job["kind"]:
        case "archive":
            if not right("store"):
                rules = rules | {"store": _other(rng, STORES, rules["store"])}
        case "fix":
            if not right("need"):
                job = job | {"value": job["old"]}
            if not right("append"):
                return writes(rules, job)[0].replace(">>", ">")
        case "merge":
            down = (rules["order"] == "down") == right("order")
            commands = merges(job, down)[:2]
            if not right("unique"):
                both = f"lists/{job['a']} lists/{job['b']} > out/{job['to']}"
                commands = [f"sort {'-r ' if down else ''}{both}"]
            return rng.choice(commands)
        case "rename":
            if not right("ending"):
                rules = rules | {"ending": _other(rng, ENDINGS, rules["ending"])}
        case _:
            if not right("keep"):
                rules = rules | {"keep": _other(rng, [*job["names"], ""], rules["keep"])}
    return writes(rules, job)[0]


def _other(rng: random.Random, names: Sequence[str], name: str) -> str:
    return rng.choice([other for other in names if other != name])
