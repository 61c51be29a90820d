"""Shell tasks: a file tree with its rules, and the jobs to do, drawn from a seed.

A task is plain JSON and holds all that the world needs: of each job its answer and what the tree
is like after it. It must never know a conversation.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from pivotrl.environments.shell.files import Tree, text_of
from pivotrl.environments.shell.interpreter import run
from pivotrl.environments.shell.language import (
    ASKED,
    CODES,
    DONE,
    ENDINGS,
    HOSTS,
    LEVELS,
    LISTS,
    LOCKED,
    MERGED,
    MODES,
    NOTES,
    ORDERS,
    OWNERS,
    PORTS,
    SERVICES,
    STORES,
    TOPICS,
)
from pivotrl.types import JSON, ConfigError, digest

KINDS: Mapping[str, tuple[int, int]] = {
    "value": (3, 3),
    "count": (2, 2),
    "most": (2, 2),
    "archive": (3, 3),
    "fix": (3, 3),
    "merge": (2, 2),
    "rename": (4, 2),
    "clean": (3, 2),
}
"""Job kinds: the expert's turns, and how often they are drawn."""
USES: Mapping[str, tuple[str, ...]] = {
    "value": ("conf",),
    "count": ("logs",),
    "most": ("logs",),
    "archive": ("logs",),
    "fix": ("conf", "logs"),
    "merge": ("out",),
    "rename": ("notes",),
    "clean": ("tmp",),
}
"""Folders of which each job takes a file for itself."""
SOUGHT = ("value", "archive", "rename")
"""Kinds whose file must be found first."""
MIN_HORIZON, MAX_HORIZON = 4, 24
LOCKED_SHARE = 0.3
"""How often a job that can be about the locked service is."""


def draw_task(rng: random.Random, horizon: int | None = None) -> JSON:
    """A task of `horizon` turns of the expert or one less, from 4 to 24; without, of 4 to 8.

    One turn reads README; each job takes one to four. Raises ConfigError for another horizon.
    """
    if horizon is not None and not MIN_HORIZON <= horizon <= MAX_HORIZON:
        most = f"{MIN_HORIZON} to {MAX_HORIZON}"
        raise ConfigError(f"horizon = {horizon}: shell tasks take {most} turns")
    left = (horizon or rng.randint(5, 8)) - 1
    files, facts = _draw_files(rng)
    free = {
        **{folder: rng.sample(SERVICES, len(SERVICES)) for folder in ("conf", "logs")},
        "out": rng.sample(MERGED, len(MERGED)),
        "notes": rng.sample(NOTES, len(NOTES)),
        "tmp": [""],
    }
    jobs: list[JSON] = []
    while kinds := [kind for kind in KINDS if KINDS[kind][0] <= left and _can(kind, free)]:
        kind = rng.choices(kinds, weights=[KINDS[kind][1] for kind in kinds])[0]
        job = _draw_job(rng, kind, files, facts, free)
        jobs.append(job)
        left -= job["turns"]
    files = dict(sorted(files.items()))
    for job in jobs:
        job["goal"] = _change(files, job.pop("writes"))
    task = {"files": files, "rules": facts["rules"], "jobs": jobs}
    return {"id": digest(task), "kind": jobs[0]["kind"]} | task


def _can(kind: str, free: Mapping[str, list[str]]) -> bool:
    folders = [set(free[folder]) for folder in USES[kind]]
    return bool(set.intersection(*folders))


def _draw_files(rng: random.Random) -> tuple[dict[str, str], JSON]:
    """The tree and what is in it, by meaning."""
    hosts, ports = rng.sample(HOSTS, 18), rng.sample(PORTS, 18)
    owners, modes = rng.sample(OWNERS, 6), rng.sample(MODES, 6)
    codes, topics = iter(rng.sample(CODES, 18)), rng.sample(TOPICS, len(TOPICS))
    files = {f"{folder}/": "" for folder in ("conf", "lists", "logs", "notes", "out", "tmp")}
    files |= {f"{folder}/": "" for folder in STORES}
    facts: dict[str, JSON] = {"conf": {}, "logs": {}, "notes": {}}
    for index, service in enumerate(SERVICES):
        fields = {"host": hosts[index], "port": ports[index]}
        fields |= {"owner": owners[index], "mode": modes[index]}
        keys = rng.sample(list(fields), len(fields))
        files[f"conf/{service}"] = text_of(f"{key}={fields[key]}" for key in keys)
        levels = dict(zip(rng.sample(LEVELS, 3), (1, 2, 3), strict=True))
        found = {next(codes): count for count in (1, 2, 3)}
        lines = zip(_repeated(rng, levels), _repeated(rng, found), strict=True)
        files[f"logs/{service}"] = text_of(f"{level}:{code}" for level, code in lines)
        facts["conf"][service] = fields
        facts["logs"][service] = {"levels": levels, "codes": found}
    for note in NOTES:
        fields = {"from": owners.pop(), "about": topics.pop()}
        files[f"notes/{note}"] = text_of(f"{key}={value}" for key, value in fields.items())
        facts["notes"][note] = fields
    shared = rng.sample(topics, 5)  # any two lists have a line in common
    for name in LISTS:
        files[f"lists/{name}"] = text_of(rng.sample(shared, 3))
    facts["tmp"] = sorted(rng.sample(topics, 3))
    files |= {f"tmp/{name}": "" for name in facts["tmp"]}
    facts["rules"] = {
        "locked": rng.choice(SERVICES),
        "bad": rng.choice(LEVELS),
        "store": rng.choice(STORES),
        "order": rng.choice(ORDERS),
        "ending": rng.choice(ENDINGS),
        "keep": rng.choice(facts["tmp"]),
    }
    facts["needs"] = {"host": hosts[6:], "port": ports[6:]}
    files["README"] = text_of(f"{key}={value}" for key, value in facts["rules"].items())
    return files, facts


def _repeated(rng: random.Random, counts: Mapping[str, int]) -> list[str]:
    """Each name as often as it says, in random order."""
    names = [name for name, count in counts.items() for _ in range(count)]
    return rng.sample(names, len(names))


def _draw_job(
    rng: random.Random,
    kind: str,
    files: dict[str, str],
    facts: JSON,
    free: dict[str, list[str]],
) -> JSON:
    """A job that takes what it is about out of `free`."""
    rules = facts["rules"]
    name = _draw_name(rng, kind, rules["locked"], free)
    for folder in USES[kind]:
        free[folder].remove(name)
    job: JSON = {"kind": kind, "answer": DONE, "writes": "", "turns": KINDS[kind][0]}
    job |= _about(rng, kind, name, files, facts)
    asked = f"value {job['key']}" if kind == "value" else kind
    job["text"] = rng.choice(ASKED[asked]).format(**job)
    if job.get("service") == rules["locked"]:
        job |= {"answer": LOCKED, "writes": "", "turns": 2 if kind in SOUGHT else 1}
    return job


def _draw_name(rng: random.Random, kind: str, locked: str, free: Mapping[str, list[str]]) -> str:
    names = [n for n in free[USES[kind][0]] if all(n in free[f] for f in USES[kind])]
    if locked in names and (names == [locked] or rng.random() < LOCKED_SHARE):
        return locked
    return next(name for name in names if name != locked)


def _about(rng: random.Random, kind: str, name: str, files: dict[str, str], facts: JSON) -> JSON:
    """What a job is about, its answer, what it writes; a log that is read for needs gets them."""
    rules, log = facts["rules"], f"logs/{name}"
    about: JSON = {"service": name, "path": log}
    match kind:
        case "value":
            fields, key = facts["conf"][name], rng.choice(("port", "owner", "mode"))
            about |= {"path": f"conf/{name}", "needle": fields["host"], "key": key}
            return about | {"answer": fields[key]}
        case "count":
            return about | {"answer": str(facts["logs"][name]["levels"][rules["bad"]])}
        case "most":
            *others, most = facts["logs"][name]["codes"]
            return about | {"others": others, "answer": most}
        case "archive":
            needle = rng.choice(list(facts["logs"][name]["codes"]))
            return about | {"needle": needle, "writes": f"mv {log} {rules['store']}"}
        case "fix":
            key = rng.choice(("host", "port"))
            old, value = facts["needs"][key].pop(), facts["needs"][key].pop()
            files[log] += text_of([f"need {key}={old}", f"need {key}={value}"])
            about |= {"key": key, "old": old, "value": value}
            return about | {"writes": f"echo {key}={value} >> conf/{name}"}
        case "merge":
            a, b = rng.sample(LISTS, 2)
            flags = "ru" if rules["order"] == "down" else "u"
            writes = f"sort -{flags} lists/{a} lists/{b} > out/{name}"
            return {"a": a, "b": b, "to": name, "writes": writes}
        case "rename":
            author, topic = facts["notes"][name]["from"], facts["notes"][name]["about"]
            about = {"path": f"notes/{name}", "needle": topic, "key": "from", "value": author}
            return about | {"writes": f"mv notes/{name} notes/{author}.{rules['ending']}"}
        case _:
            removed = [f"tmp/{n}" for n in facts["tmp"] if n != rules["keep"]]
            return {"names": facts["tmp"], "writes": f"rm {' '.join(removed)}"}


def _change(files: Tree, command: str) -> dict[str, str | None]:
    """Path -> its text after the command, None where it is gone; only what changes."""
    after = run(command, files).files
    paths = sorted(files.keys() | after.keys())
    return {p: after.get(p) for p in paths if files.get(p) != after.get(p)}
