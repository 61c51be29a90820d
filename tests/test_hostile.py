"""Actions as a hostile policy would write them: every verifier judges them, none of them raises."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pivotrl.types import Action, Candidate, Message, Role, ToolCall, Trajectory, VerdictStatus
from pivotrl.verifiers import OWN_DOMAINS, verifier_for

PIECES = [
    *"abc;|&()<>{}$`'\"\\\n -/=!#*?[]",
    *("cd ", "ls", " -la", "<<EOF\n", "EOF", "$(", "2>&1", "<&-", ">|", "|&", "&&", "||", "${x}"),
    *("if ", "then ", "fi", "for ", "do ", "done", "[[ ", " ]]", "case ", "esac", "function "),
    *("cat ", "head -n ", "sed -n '1,5p' ", "view", "-", "--", "~", "é", "\x00", "\ud800"),
    " 99999999999999999999999 ",
]
NAMES = ["bash", "str_replace_editor", "edit", "view", "search", "open_url", "find", "other"]
KEYS = ["command", "path", "query", "url", "pattern", "old_str", "new_str", "file_text", "id"]
KEYS += ["view_range", "start_line", "end_line", "insert_line", "workdir"]
COMMANDS = ["view", "str_replace", "create", "insert"]


def text(rng: random.Random) -> str:
    return "".join(rng.choices(PIECES, k=rng.randrange(30)))


def value(rng: random.Random, depth: int = 0) -> Any:
    simple = [text(rng), rng.randrange(-9, 99), None, True, 1e308, float("nan")]
    nested = [[value(rng, depth + 1)], {text(rng): value(rng, depth + 1)}] if depth < 3 else []
    return rng.choice([*simple, *nested])


def calls(rng: random.Random) -> tuple[ToolCall, ...]:
    def arguments() -> dict[str, Any]:
        drawn = {key: value(rng) for key in rng.sample(KEYS, rng.randrange(6))}
        if rng.random() < 0.6:
            drawn["command"] = rng.choice([text(rng), *COMMANDS])
        return drawn

    count = rng.choice([0, 1, 1, 1, 2])
    return tuple(ToolCall(name=rng.choice(NAMES), arguments=arguments()) for _ in range(count))


@pytest.mark.parametrize("domain", ["tool_use", *OWN_DOMAINS])
def test_every_action_gets_a_verdict(domain: str) -> None:
    rng, verifier = random.Random(0), verifier_for(domain)
    decided = 0
    for _ in range(60):
        messages = (
            Message(role=Role.USER, content=f"root@box:/x# {text(rng)}"),
            Message(role=Role.ASSISTANT, content=text(rng) or "a", tool_calls=calls(rng)),
        )
        trajectory = Trajectory(id="t", messages=messages, tools_declared=False)
        candidate = Candidate(id="c", trajectory=trajectory, turn=1)
        for _ in range(50):
            action = Action(text=text(rng) if rng.random() < 0.5 else "", tool_calls=calls(rng))
            verdict = verifier.verify(candidate, action)
            assert verdict.status is not VerdictStatus.ERROR, (verdict.details, messages, action)
            decided += verdict.status is VerdictStatus.OK
    assert decided > 1000
