"""The whole line in each of the other live domains, small: demonstrations in, scores out."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import orjson
import pytest
from line import ROOT, SMALL, pivotrl, report
from needs import needs_sandbox, why_not
from policy_endpoint import Reply, answer, completion, serving
from test_line import rows as store_rows

from pivotrl.chat import ChatFormat
from pivotrl.environments import live_domain
from pivotrl.environments.demonstrations import write_demonstrations
from pivotrl.environments.turns import call_action
from pivotrl.types import JSON, Message, Role
from pivotrl.verifiers.execution import check_sandbox

pytestmark = [pytest.mark.slow, pytest.mark.long]
UNTOLD = {"token_ids": None, "logprobs": None}


@pytest.mark.parametrize("name", ["shell", "repo", "web"])
def test_a_live_domain_goes_through_the_line(
    name: str, tmp_path: Path, prefect_server: str
) -> None:
    file = tmp_path / "demonstrations.jsonl"
    write_demonstrations(live_domain(name), file, 12, 0)
    arguments = [
        *("run", str(ROOT / "configs/mini.toml"), f"data.trajectories={file}", *SMALL),
        *(f"evaluate.domains=['{name}']", "evaluate.benchmarks=[]", "evaluate.tasks=4"),
        *("profile.samples=2", "select.rule=all", "train.steps=2"),
        *(f"end_to_end.enabled={str(name == 'repo').lower()}", f"end_to_end.domain={name}"),
        "end_to_end.steps=2",
        *("end_to_end.tasks=4", "end_to_end.tasks_per_step=2", "end_to_end.group_size=2"),
        *("end_to_end.validation_tasks=2", "end_to_end.learning_rate=1e-4"),
    ]
    pivotrl(tmp_path / "home", *arguments, server=prefect_server)
    made = report(tmp_path / "home")
    assert made["outcome"] == "trained"
    assert made["ingest"]["trajectories"] == 12 and not made["ingest"]["bad_rows"]
    assert made["scores"].keys() == {"trained", *(["end to end"] if name == "repo" else [])}
    for scores in made["scores"].values():
        assert [row["suite"] for row in scores] == [f"{name} T=1", f"{name} greedy"]
    agreement = made["agreement"][name]
    assert agreement["n"] > 0 and agreement["agreeing"] >= 0.9


@needs_sandbox(why_not(check_sandbox))
def test_a_run_executes_commands_on_the_files_of_their_turn(
    tmp_path: Path, prefect_server: str
) -> None:
    """A policy that says it in other words, every other time, once without its token ids."""
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"".join(orjson.dumps(shell_row(n)) + b"\n" for n in range(12)))

    chat = ChatFormat.load(ROOT / "pivotrl/mini/model")

    def reply(body: JSON, with_ids: bool) -> Reply:
        command = "awk 1 notes.txt" if body["seed"] % 2 else "echo no"
        said = Message(
            role=Role.ASSISTANT, tool_calls=call_action("bash", command=command).tool_calls
        )
        ids = chat.completion([Message(role=Role.USER, content="Go.")], [], said)
        logprobs = {"tokens": [f"token_id:{i}" for i in ids], "token_logprobs": [-1.0] * len(ids)}
        told = {"token_ids": ids, "logprobs": logprobs} if with_ids else UNTOLD
        return 200, answer(body, finish_reason="stop", text=chat.decode(ids[:-1]), **told)

    accepted = {}
    with serving() as policy:
        for execute in ("false", "true"):
            policy.reply = partial(reply, with_ids=execute == "true")
            home = tmp_path / execute
            pivotrl(
                home,
                *("run", str(ROOT / "configs/mini.toml"), f"data.trajectories={file}", *SMALL),
                *("engine.name=server", f"engine.url={policy.url}", "engine.model=served"),
                *("evaluate.domains=[]", "evaluate.benchmarks=[]", "train.steps=2"),
                *("profile.samples=8", f"verify.execute={execute}"),
                server=prefect_server,
            )
            if execute == "false":  # counted as the server tells
                asked = [(b["prompt"], b["seed"], b["max_tokens"]) for b in policy.bodies]
                used = sum(len(completion(*one)[0]) for one in asked)
                assert report(home)["cost"]["profile"]["completion_tokens"] == used
            (accepted[execute],) = store_rows(
                home,
                "select count(*) n, count(*) filter (reward = 1) accepted, "
                "count(*) filter (details like '%same outcome%') executed from verdicts",
            )
    assert accepted["false"]["accepted"] == accepted["false"]["executed"] == 0
    assert report(tmp_path / "false")["outcome"] == "no pivots"
    assert 0 < accepted["true"]["executed"] == accepted["true"]["accepted"] < accepted["true"]["n"]
    assert report(tmp_path / "true")["outcome"] == "trained"


def shell_row(number: int) -> JSON:
    call = {"name": "bash", "arguments": orjson.dumps({"command": "cat notes.txt"}).decode()}
    parameters = {"type": "object", "properties": {"command": {"type": "string"}}}
    return {
        "task": f"task {number}",
        "domain": "terminal",
        "reward": 1.0,
        "tools": [{"type": "function", "function": {"name": "bash", "parameters": parameters}}],
        "messages": [
            {"role": "user", "content": f"Show the notes of day {number}."},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "c", "type": "function", "function": call}],
            },
        ],
        "files": {"1": {"notes.txt": f"day {number}\nrain\n"}},
    }
