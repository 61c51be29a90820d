"""The expert of the shell domain: all that is right at a state.

What the agent knows is what its commands have shown it. This module must never be used for
rewards: those judge from the trajectory row alone.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from pivotrl.environments.shell.language import LOCKED
from pivotrl.environments.shell.tasks import SOUGHT
from pivotrl.environments.shell.world import is_made
from pivotrl.environments.turns import call_action, varied
from pivotrl.types import JSON, Action, EnvironmentState

READ_RULES = ("cat README", "head README", "tail README")


def expert_actions(state: EnvironmentState, rng: random.Random | None = None) -> list[Action]:
    """All right actions at an unfinished state, the demonstrated one first.

    With `rng` the demonstration varies: another spelling, sometimes another of the right ways.
    """
    job = current(state)
    ways = look_ups(state)
    if not ways and not is_made(state.world["files"], job["goal"]):
        ways = [writes(state.task["rules"], job)]
    if not ways:
        return [submit(job["answer"])]
    return [bash(command) for command in varied(ways, rng)]


def current(state: EnvironmentState) -> JSON:
    """The job that is to be done."""
    job: JSON = state.task["jobs"][state.world["job"]]
    return job


def bash(command: str) -> Action:
    return call_action("bash", command=command)


def submit(answer: str) -> Action:
    return call_action("submit", answer=answer)


def look_ups(state: EnvironmentState) -> list[list[str]]:
    """Groups of equivalent commands, each for another thing that must still be found out."""
    rules, job = state.task["rules"], current(state)
    known = knows_rules(state)
    sought = job["kind"] in SOUGHT and not found(state)
    open_ = job["answer"] != LOCKED and not _is_known(state)
    groups = [] if known else [list(READ_RULES)]
    if sought:
        groups.append(seek(job) + (read_everywhere(job) if open_ else []))
    elif open_ and (known or job["kind"] != "count"):
        groups.append(read_facts(job, rules))
    return groups


def knows_rules(state: EnvironmentState) -> bool:
    lines = [f"{key}={value}" for key, value in state.task["rules"].items()]
    return any(all(line in output for line in lines) for _, _, output in state.world["shown"])


def found(state: EnvironmentState) -> bool:
    """Whether the job's file was told from the others of its folder."""
    path = current(state)["path"]
    folder = path.partition("/")[0]
    return any(set(re.findall(rf"{folder}/\w+", output)) == {path} for output in _outputs(state))


def _is_known(state: EnvironmentState) -> bool:
    """Whether what the job's answer or change depends on was shown, README and its file aside."""
    job, outputs = current(state), _outputs(state)
    match job["kind"]:
        case "value" | "rename":
            line = f"{job['key']}={job.get('value', job['answer'])}"
            return any(line in output for output in outputs)
        case "count":
            return any(
                output == job["answer"] and job["path"] in command
                and state.task["rules"]["bad"] in command
                for command, output in commands_of(state)
            )  # fmt: skip
        case "most":
            return any(re.search(rf"\b3 {job['answer']}\b", output) for output in outputs)
        case "fix":
            return any(f"need {job['key']}={job['value']}" in output for output in outputs)
        case "clean":
            return any(all(name in output for name in job["names"]) for output in outputs)
        case _:
            return True


def commands_of(state: EnvironmentState) -> list[tuple[str, str]]:
    """(command, what it showed) of this job."""
    job = state.world["job"]
    return [(command, output) for of, command, output in state.world["shown"] if of == job]


def _outputs(state: EnvironmentState) -> list[str]:
    return [output for _, output in commands_of(state)]


def seek(job: JSON) -> list[str]:
    """Ways to the file of a folder that mentions something."""
    folder, needle = job["path"].partition("/")[0], job["needle"]
    return [
        f"grep -l {needle} {folder}/*",
        f"grep -rl {needle} {folder}",
        f"grep {needle} {folder}/*",
        f"grep -r {needle} {folder}",
    ]


def read_everywhere(job: JSON) -> list[str]:
    """Ways to see what is asked of all files at once, before it is known which counts."""
    if "key" not in job:
        return []
    folder, key = job["path"].partition("/")[0], job["key"]
    return [f"grep {key} {folder}/*", f"grep -r {key} {folder}"]


def read_facts(job: JSON, rules: JSON) -> list[str]:
    """Ways to what the job's answer or change depends on."""
    path = job.get("path", "")
    match job["kind"]:
        case "value" | "rename":
            key = job["key"]
            here = [f"grep {key} {path}", f"cat {path}", f"head {path}", f"grep {key}= {path}"]
            return [*here, *read_everywhere(job)]
        case "count":
            return [f"grep -c {rules['bad']} {path}", f"grep {rules['bad']} {path} | wc -l"]
        case "most":
            counted = f"cut -d: -f2 {path} | sort | uniq -c"
            last = [f"{counted} | sort -n | tail -n 1", f"{counted} | sort -nr | head -n 1"]
            return [counted, f"{counted} | sort -n", f"{counted} | sort -nr", *last]
        case "fix":
            both = [f"grep need {path}", f"tail -n 2 {path}"]
            return [*both, f"tail -n 1 {path}", f"tail -n 3 {path}", f"cat {path}"]
        case _:
            return ["ls tmp", "ls tmp/*", "find tmp", "ls -d tmp/*"]


def writes(rules: JSON, job: JSON) -> list[str]:
    """Ways to make the job's change."""
    match job["kind"]:
        case "archive":
            into = f"mv {job['path']} {rules['store']}"
            return [into, f"{into}/", f"{into}/{job['service']}"]
        case "fix":
            return [f"echo {job['key']}={job['value']} >> conf/{job['service']}"]
        case "merge":
            return merges(job, rules["order"] == "down")
        case "rename":
            return [f"mv {job['path']} notes/{job['value']}.{rules['ending']}"]
        case _:
            removed = [f"tmp/{name}" for name in job["names"] if name != rules["keep"]]
            return [f"rm {' '.join(removed)}"]


def merges(job: JSON, down: bool) -> list[str]:
    """Ways to the merged lists, both orders of the two."""
    out, r, reverse = f"> out/{job['to']}", "r" if down else "", "-r " if down else ""
    pairs: Sequence[str] = [f"lists/{job[a]} lists/{job[b]}" for a, b in ("ab", "ba")]
    return [
        command
        for both in pairs
        for command in (
            f"sort -{r}u {both} {out}",
            f"sort {reverse}{both} | uniq {out}",
            f"cat {both} | sort -{r}u {out}",
            f"cat {both} | sort {reverse}| uniq {out}",
        )
    ]
