"""Live benchmarks of others: what is missing is said, results are read, nothing outlives a run."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from chat_endpoint import serving
from line import pivotrl
from scripted_tau2 import Message, recordings, replaying

import tasks.harness
from pivotrl.config import make_config
from pivotrl.environments.harnesses import (
    HARNESSES,
    Endpoint,
    Harness,
    HarnessSettings,
    base,
    checks,
    inspect_logs,
    run,
)
from pivotrl.environments.harnesses.serving import served
from pivotrl.scores import EvaluationItem
from pivotrl.types import ConfigError, FinishReason, PivotRLError
from tasks.policy import engine_settings

REAL = Path(__file__).parents[2] / "shared" / "data" / "tau2-bench"
MINI = Path(__file__).parents[1] / "pivotrl" / "mini" / "model"
PYTHON = Path(os.environ.get("PIVOTRL_TAU2_PYTHON", sys.executable))
HERE = Endpoint(url="http://127.0.0.1:9/v1", model="m")

needs_tau2 = pytest.mark.skipif(
    bool(checks.modules(PYTHON, inspect_logs.PACKAGES)),
    reason="no inspect-evals (PIVOTRL_TAU2_PYTHON: the interpreter that has it)",
)
needs_data = pytest.mark.skipif(not REAL.exists(), reason="no recorded runs of tau2-bench")


def settings(folder: Path, **other: Any) -> HarnessSettings:
    return HarnessSettings(**{"folder": folder, "agent": HERE} | other)


def item(item_id: str, score: float = 1.0) -> EvaluationItem:
    return EvaluationItem(
        item_id=item_id,
        prompt="",
        output="",
        extracted=None,
        score=score,
        finish_reason=FinishReason.STOP,
    )


def harness(*codes: str, missing: tuple[str, ...] = ()) -> Harness:
    """One whose commands are Python programs."""
    return Harness(
        name="toy",
        domain="tool_use",
        missing=lambda _: list(missing),
        commands=lambda _: [[sys.executable, "-u", "-c", code] for code in codes],
        variables=lambda given: {"TOY_KEY": given.agent.key},
        read=lambda folder: [item(folder.joinpath("result").read_text())],
    )


def test_commands_run_in_turn_and_their_words_are_passed_on(tmp_path: Path) -> None:
    said: list[str] = []
    toy = harness("print('one'); open('half', 'w').write('a')", "open('result', 'w').write('b')")
    assert run(toy, settings(tmp_path / "run"), said.append) == [item("b")]
    assert said == ["one"]
    assert (tmp_path / "run" / "half").exists()
    assert (tmp_path / "run" / base.LOG).read_text() == "one\n"


def test_a_key_is_never_in_what_is_said_or_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    said: list[str] = []
    leak = "import os; print('key', os.environ['TOY_KEY']); raise SystemExit(3)"
    agent = Endpoint(url=HERE.url, model="m", key_env="MY_KEY")
    with pytest.raises(PivotRLError, match=r"ended with 3: key \*\*\*"):
        run(harness(leak), settings(tmp_path, agent=agent), said.append)
    assert said == ["key ***"]
    assert "s3cret" not in (tmp_path / base.LOG).read_text()


@pytest.mark.parametrize("before", [0, base.LONGEST_LINE - 16, base.LONGEST_LINE - 1])
def test_a_key_is_not_said_in_pieces(
    before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "k" + "0123456789" * 4
    monkeypatch.setenv("SEARCH", key)
    said: list[str] = []
    leak = f"import os; print('x' * {before} + os.environ['SEARCH'] + 'y')"
    leak += "; open('result', 'w').write('b')"
    toy = replace(harness(leak), secrets=("SEARCH",))
    run(toy, settings(tmp_path), said.append)
    assert "".join(said) == "x" * before + "***y"
    assert key[:20] not in (tmp_path / base.LOG).read_text()


def test_all_that_is_missing_is_said_before_anything_starts(tmp_path: Path) -> None:
    toy = harness("open('result', 'w')", missing=("no docker", "no key"))
    with pytest.raises(ConfigError, match="toy cannot run: no docker; no key"):
        run(toy, settings(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_old_results_never_count(tmp_path: Path) -> None:
    (tmp_path / "result").write_text("old")
    with pytest.raises(ConfigError, match="give an empty folder"):
        run(harness("pass"), settings(tmp_path))


def test_a_task_that_the_benchmark_lacks_is_an_error(tmp_path: Path) -> None:
    toy = harness("open('result', 'w').write('b')")
    assert run(toy, settings(tmp_path / "1", tasks=("b", "c"), limit=1)) == [item("b")]
    with pytest.raises(PivotRLError, match="no result of task 'c'"):
        run(toy, settings(tmp_path / "2", tasks=("b", "c")))


FORKS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid)
{then}
"""


@pytest.mark.parametrize(
    ("then", "seconds", "told"),
    [("time.sleep(60)", 2.0, "not done after 2 s"), ("raise SystemExit(1)", 50.0, "ended with 1")],
)
def test_nothing_outlives_a_run(tmp_path: Path, then: str, seconds: float, told: str) -> None:
    said: list[str] = []
    with pytest.raises(PivotRLError, match=told):
        run(harness(FORKS.format(then=then)), settings(tmp_path, seconds=seconds), said.append)
    assert gone(int(said[0]))


def test_an_interrupt_ends_the_harness(tmp_path: Path) -> None:
    children: list[int] = []

    def interrupt(line: str) -> None:
        children.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(harness(FORKS.format(then="time.sleep(60)")), settings(tmp_path), interrupt)
    assert gone(children[0])


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("name", HARNESSES)
def test_keys_travel_in_the_environment_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    model = Endpoint(url="http://127.0.0.1:9/v1", model="org/m", key_env="MY_KEY")
    given = settings(tmp_path, agent=model, user=model, judge=model, options=("--more", "x"))
    commands = HARNESSES[name].commands(given)
    words = [word for command in commands for word in command]
    assert not any("s3cret" in word for word in words)
    assert "s3cret" in HARNESSES[name].variables(given).values()
    assert any(word.endswith("/org/m") for word in words)
    assert commands[0][-2:] == ["--more", "x"]


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("tau2_retail", ["endpoint for the user", "lacks packages"]),
        ("swe_bench", ["docker", "lacks packages"]),
        ("terminal_bench", ["docker", "pip install harbor"]),
        ("browsecomp", ["docker", "TAVILY_API_KEY", "endpoint for the judge"]),
    ],
)
def test_what_is_missing_has_a_remedy(
    name: str, needs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "python"
    empty.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    empty.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("TAVILY_API_KEY", raising=False)
    monkeypatch.setattr(checks, "network", lambda url, purpose: [])
    found = HARNESSES[name].missing(settings(tmp_path / "run", python=empty))
    for need in needs:
        assert any(need in sentence for sentence in found), found


def test_a_docker_that_does_not_answer_is_told_from_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checks.docker() == ["there is no docker command: install Docker"]
    command = tmp_path / "docker"
    for script, expected in (("exit 1", ["no Docker daemon"]), ("echo 28.2", [])):
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)
        assert [sentence[:16] for sentence in checks.docker()] == expected


def test_endpoints_are_checked_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    assert checks.endpoint("agent", HERE) == []
    for wrong, word in (
        (Endpoint(url="localhost:8000", model="m"), "plain address"),
        (Endpoint(url=HERE.url, model=""), "names no model"),
        (Endpoint(url=HERE.url, model="m", key_env="NO_SUCH_KEY"), "NO_SUCH_KEY"),
    ):
        (sentence,) = checks.endpoint("agent", wrong)
        assert word in sentence


def test_a_server_that_is_out_of_reach_is_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        assert checks.network(url, "it is")[0].startswith("no network to 127.0.0.1, where it is")
        listener.listen()
        assert checks.network(url, "it is") == []


# --- τ²-bench -------------------------------------------------------------------------------------


def tau2_row(said: str = "thanks ###STOP###", **other: Any) -> dict[str, Any]:
    """As `inspect_export.py` writes it of inspect_evals' own sample."""
    call = {"id": "c1", "function": "get_user", "arguments": {"id": 1}, "type": "function"}
    trajectory = [
        {"role": "user", "message": {"role": "assistant", "content": "hi"}},
        {
            "role": "assistant",
            "message": {"role": "assistant", "content": "", "tool_calls": [call]},
        },
        {"role": "assistant", "message": {"role": "tool", "content": "Ann", "tool_call_id": "c1"}},
    ]
    return {
        "id": "7",
        "epoch": 1,
        "error": None,
        "messages": [{"role": "assistant", "content": said}],
        "completion": said,
        "scores": {"airline_scorer": {"value": "C", "answer": None}},
        "store": {"StoredAgentState:AirlineAgent:trajectory": trajectory},
        "calls": [{"model": "openai-api/agent/m", "error": None, "stop_reasons": ["stop"]}],
    } | other


def read(name: str, folder: Path, *rows: Any, status: str = "success") -> list[EvaluationItem]:
    lines = [json.dumps(row) for row in (*rows, {"status": status})]
    (folder / inspect_logs.ROWS).write_text("\n".join(lines))
    return HARNESSES[name].read(folder)


def test_tau2_score_and_conversation_are_read(tmp_path: Path) -> None:
    solved, failed = read(
        "tau2_airline",
        tmp_path,
        tau2_row(epoch=2, scores={"airline_scorer": {"value": "I"}}),
        tau2_row(),
    )
    assert (solved.item_id, solved.repeat, solved.score, solved.extracted) == (
        "7",
        0,
        1.0,
        "###STOP###",
    )
    assert (failed.repeat, failed.score) == (1, 0.0)
    told = json.loads(solved.output)
    assert [message["role"] for message in told] == ["user", "assistant", "tool"]
    assert told[1]["tool_calls"][0]["function"] == {"name": "get_user", "arguments": {"id": 1}}


def test_tau2_conversation_that_the_user_did_not_end_is_worth_nothing(tmp_path: Path) -> None:
    agents = {"messages": [{"role": "user", "content": "###STOP###"}]}
    for row in (tau2_row("and then?"), tau2_row(**agents)):
        (found,) = read("tau2_airline", tmp_path, row)
        assert (found.score, found.extracted) == (0.0, None)


def test_tau2_cut_turns_are_marked(tmp_path: Path) -> None:
    agent = {"model": "openai-api/agent/m", "error": None, "stop_reasons": ["stop"]}
    long = "Error code: 400 - This model's maximum context length is 2048 tokens."
    for call, reason in (
        (agent, FinishReason.STOP),
        (agent | {"stop_reasons": ["max_tokens"]}, FinishReason.LENGTH),
        (agent | {"error": long, "stop_reasons": []}, FinishReason.LENGTH),
        (agent | {"model": "openai-api/user/m", "stop_reasons": ["max_tokens"]}, FinishReason.STOP),
    ):
        (found,) = read("tau2_airline", tmp_path, tau2_row(calls=[call]))
        assert found.finish_reason is reason


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (tau2_row(error={"message": "boom"}), "success"),
        (
            tau2_row(calls=[{"model": "openai-api/user/m", "error": "503", "stop_reasons": []}]),
            "success",
        ),
        (tau2_row(), "error"),
        (tau2_row(), "cancelled"),
    ],
)
def test_tau2_failure_of_the_machinery_is_no_score(
    row: dict[str, Any], status: str, tmp_path: Path
) -> None:
    with pytest.raises(PivotRLError, match="run again"):
        read("tau2_airline", tmp_path, row, status=status)


@pytest.mark.parametrize(
    "row",
    [
        {},
        [],
        "x",
        tau2_row(scores={}),
        tau2_row(scores={"airline_scorer": {"value": "?"}}),
        tau2_row(messages=[]),
        tau2_row(store={}),
        tau2_row(calls=[{}]),
    ],
)
def test_tau2_foreign_rows_are_refused_with_their_file(row: Any, tmp_path: Path) -> None:
    with pytest.raises(PivotRLError, match=inspect_logs.ROWS):
        read("tau2_airline", tmp_path, row)


def test_no_results_are_an_error(tmp_path: Path) -> None:
    for name in HARNESSES:
        with pytest.raises(PivotRLError, match="left no such result"):
            HARNESSES[name].read(tmp_path)
    with pytest.raises(PivotRLError):
        read("tau2_airline", tmp_path)


def replay(domain: str, folder: Path, tasks: int | None) -> tuple[dict[str, float], ...]:
    """Rewards by task, as recorded and as our adapter finds them when the runs are replayed."""
    runs = recordings(REAL / f"gpt-4.1_{domain}_1trial.json")
    by_reward = sorted(runs, key=lambda recorded: recorded.reward)
    chosen = runs if tasks is None else by_reward[:1] + by_reward[1 - tasks :]
    with serving(replaying(runs)) as endpoint:
        found = run(
            HARNESSES[f"tau2_{domain}"],
            settings(
                folder,
                agent=Endpoint(url=endpoint.url, model="agent"),
                user=Endpoint(url=endpoint.url, model="user"),
                python=PYTHON,
                tasks=tuple(recorded.task_id for recorded in chosen),
                concurrency=2,
            ),
        )
    return (
        {recorded.task_id: recorded.reward for recorded in chosen},
        {item.item_id: item.score for item in found},
    )


@needs_tau2
@needs_data
@pytest.mark.long
@pytest.mark.parametrize("domain", ["airline", "retail"])
def test_tau2_recorded_runs_get_their_recorded_reward(domain: str, tmp_path: Path) -> None:
    recorded, found = replay(domain, tmp_path, tasks=3)
    assert set(recorded.values()) == {0.0, 1.0}
    assert found == recorded


@needs_tau2
@needs_data
@pytest.mark.long
@pytest.mark.parametrize(("domain", "n"), [("airline", 20), ("retail", 40)])
def test_tau2_every_recorded_run_gets_its_recorded_reward(
    domain: str, n: int, tmp_path: Path
) -> None:
    recorded, found = replay(domain, tmp_path, tasks=None)
    assert len(recorded) == n
    assert found == recorded


@needs_tau2
@pytest.mark.long
def test_tau2_endpoint_that_fails_is_no_score(tmp_path: Path) -> None:
    """inspect-evals passes over a lost call in silence, and would score what the agent did not."""

    def user_alone(body: dict[str, Any]) -> Any:
        if body["model"] == "user":
            return {"content": "hello ###STOP###" if len(body["messages"]) > 3 else "hello"}
        return 400, {"error": {"message": "no such model", "type": "x", "code": 400}}

    with serving(user_alone) as endpoint:
        given = settings(
            tmp_path,
            agent=Endpoint(url=endpoint.url, model="agent"),
            user=Endpoint(url=endpoint.url, model="user"),
            python=PYTHON,
            limit=1,
        )
        with pytest.raises(PivotRLError, match="1 of 1 samples failed"):
            run(HARNESSES["tau2_retail"], given)


@needs_tau2
@pytest.mark.long
def test_tau2_live_run_with_the_small_model_ends_with_a_score(
    tmp_path: Path, prefect_server: str
) -> None:
    """By the command: the model folder is served, the user is scripted, the score is stored."""
    pytest.importorskip("vllm")
    lines = ["Hello, I want to cancel my reservation.", "My user id is mia_li_3668.", "###STOP###"]

    def user(body: dict[str, Any]) -> Message:
        return {"content": lines[sum(m["role"] == "assistant" for m in body["messages"])]}

    with serving(user) as scripted:
        asked = {
            "user_url": scripted.url,
            "user_model": "user",
            "limit": 1,
            "python": str(PYTHON),
            "options": ["--max-tokens", "64"],
            "serve_options": SMALL,
        }
        sets = [x for k, v in asked.items() for x in ("--set", f"harness.{k}={json.dumps(v)}")]
        names = ("--benchmarks", "none", "--domains", "tau2_airline")
        home = tmp_path / "home"
        pivotrl(home, "evaluate", str(MINI), *names, *sets, server=prefect_server)
    ask = "select extracted, output, i.score from evaluation_items i join evaluations using "
    ask += "(evaluation_id) where suite = 'tau2_airline'"
    (row,) = pivotrl(home, "sql", ask, "--json").stdout.splitlines()
    found = json.loads(row)
    assert found["score"] in (0.0, 1.0) and found["extracted"] == "###STOP###"
    said = json.loads(found["output"])
    assert [m["content"] for m in said if m["role"] == "user"] == lines
    assert sum(m["role"] == "assistant" for m in said) >= 2


@pytest.mark.parametrize("served_there", [True, False])
def test_a_trained_model_is_never_scored_by_the_server_of_the_base(
    served_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server has the base's weights; what was trained from it is served from its own folder."""
    tree = {"run": {"name": "x"}, "data": {"trajectories": []}, "model": {"path": str(MINI)}}
    there = ["engine.name=server", f"engine.url={HERE.url}", f"engine.model={HERE.model}"]
    config = make_config(tree, there, "test")
    agents: list[Endpoint] = []
    folders: list[Path] = []
    (tmp_path / "trained").mkdir()
    shutil.copy(MINI / "config.json", tmp_path / "trained")

    def own(model: Path, *_: Any, **__: Any) -> Any:
        folders.append(model)
        return nullcontext(Endpoint(url="own", model="policy"))

    monkeypatch.setattr(tasks.harness, "served", own)
    monkeypatch.setattr(
        tasks.harness, "run", lambda _, given: agents.append(given.agent) or ["item"]
    )
    engine = engine_settings(config, tmp_path / "trained", profiling=False)
    engine = config.engine if served_there else engine
    found = tasks.harness.harness_items(
        config, engine, tmp_path / "trained", "tau2_retail", tmp_path / "run"
    )
    assert found == ["item"]
    assert [agent.url for agent in agents] == [HERE.url if served_there else "own"]
    assert folders == ([] if served_there else [tmp_path / "trained"])


SMALL = (
    *("--enforce-eager", "--kv-cache-memory-bytes", str(2**30)),
    # far beyond what it was trained on: it says nonsense, and the policy's prompt fits
    *("--hf-overrides", '{"max_position_embeddings": 32768}', "--max-model-len", "32768"),
)


@pytest.mark.long
def test_a_served_model_ends_with_its_block(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    with served(MINI, tmp_path, options=("--dtype", "float32", *SMALL)) as agent:
        port = int(agent.url.split(":")[2].split("/")[0])
        socket.create_connection(("127.0.0.1", port), 5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


@pytest.mark.long
def test_a_server_that_does_not_start_points_to_its_log(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    with pytest.raises(PivotRLError, match=r"ended by itself .*serve\.log says why"):
        with served(MINI, tmp_path, options=("--no-such-option",)):
            pass
    assert "--no-such-option" in (tmp_path / "serve.log").read_text()


# --- SWE-bench ------------------------------------------------------------------------------------


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def swe_bench(
    folder: Path, ends: dict[str, str | None], errors: dict[str, str] | None = None
) -> list[EvaluationItem]:
    """Reads a run as mini-swe-agent 2.4 and swebench 5.0 leave it.

    `ends` are agents' exit statuses; `errors` what SWE-bench logs of instances without a verdict.
    An instance whose name begins with "solved" is, one with "empty" has no patch.
    """
    errors = errors or {}
    patches = {name: "" if name.startswith("empty") else f"diff {name}" for name in ends}
    preds = {
        name: {"model_name_or_path": "openai/m", "instance_id": name, "model_patch": patch}
        for name, patch in patches.items()
    }
    write(folder / "agent" / "preds.json", preds)
    for name, end in ends.items():
        if end is not None:
            run = {"info": {"exit_status": end, "submission": patches[name]}, "messages": []}
            write(folder / "agent" / name / f"{name}.traj.json", run)
    logs = folder / "logs" / "run_evaluation" / "pivotrl" / "openai__m"
    for name, said in errors.items():
        write(logs / name / "run_instance.log", said)
    completed = sorted(name for name, patch in patches.items() if patch and name not in errors)
    report = {
        "total_instances": 500,
        "completed_ids": completed,
        "incomplete_ids": ["never-asked-1"],
        "empty_patch_ids": sorted(name for name, patch in patches.items() if not patch),
        "submitted_ids": sorted(patches),
        "resolved_ids": [name for name in completed if name.startswith("solved")],
        "unresolved_ids": [name for name in completed if not name.startswith("solved")],
        "error_ids": sorted(errors),
        "schema_version": 2,
    }
    write(folder / "report" / "openai__m.pivotrl.json", report)
    return HARNESSES["swe_bench"].read(folder)


def test_swe_bench_scores_are_its_own(tmp_path: Path) -> None:
    ends = {
        "solved-1": "Submitted",
        "failed-1": "Submitted",
        "empty-1": "LimitsExceeded",
        "broken-1": "Submitted",
        "slow-1": "Submitted",
    }
    errors = {
        "broken-1": "x\n>>>>> Patch Apply Failed:\nerror: corrupt patch",
        "slow-1": "Test timed out after 1800 seconds.",
    }
    items = {item.item_id: item for item in swe_bench(tmp_path, ends, errors)}
    assert {name: found.score for name, found in items.items()} == {
        name: float(name == "solved-1") for name in ends
    }
    assert items["solved-1"].output == items["solved-1"].extracted == "diff solved-1"
    assert items["empty-1"].extracted is None
    assert items["empty-1"].finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize(
    ("name", "end", "errors"),
    [
        ("empty-1", "APIConnectionError", {}),
        ("empty-1", None, {}),
        ("lost-1", "Submitted", {"lost-1": "Error creating container: no space left on device"}),
    ],
)
def test_swe_bench_failure_of_the_machinery_is_no_score(
    name: str, end: str | None, errors: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(PivotRLError, match=rf"1 of 2 instances failed .* first {name}"):
        swe_bench(tmp_path, {"solved-1": "Submitted", name: end}, errors)


def test_swe_bench_runs_the_instances_that_are_named(tmp_path: Path) -> None:
    given = settings(tmp_path, tasks=("a__a-1", "b__b.b-2"), limit=1, repeats=2)
    agent, judge = HARNESSES["swe_bench"].commands(given)
    assert agent[agent.index("--filter") + 1] == r"^(a__a\-1)$" and "--slice" not in agent
    (agent, _) = HARNESSES["swe_bench"].commands(settings(tmp_path, limit=3))
    assert agent[agent.index("--slice") + 1] == "0:3" and "--filter" not in agent
    given = settings(tmp_path, tasks=("a__a-1", "b__b.b-2"), repeats=2)
    agent, judge = HARNESSES["swe_bench"].commands(given)
    assert agent[agent.index("--filter") + 1] == r"^(a__a\-1|b__b\.b\-2)$"
    assert judge[judge.index("--predictions_path") + 1] == "agent/preds.json"
    assert "it gives one response a task" in " ".join(HARNESSES["swe_bench"].missing(given))


# --- Terminal-Bench -------------------------------------------------------------------------------


def terminal_bench(folder: Path, *trials: dict[str, Any], wanted: int) -> list[EvaluationItem]:
    """Reads a job as harbor 0.26 leaves it."""
    job = folder / "jobs" / "pivotrl"
    write(job / "result.json", {"schema_version": 1, "n_total_trials": wanted, "stats": {}})
    for trial in trials:
        write(job / trial["trial_name"] / "result.json", trial)
    return HARNESSES["terminal_bench"].read(folder)


def trial(
    name: str, reward: float | None, failed: str | None = None, valid: bool = True
) -> dict[str, Any]:
    return {
        "task_name": name.partition("__")[0],
        "trial_name": name,
        "verifier_result": None if reward is None else {"rewards": {"reward": reward}},
        "exception_info": failed and {"exception_type": failed, "exception_message": "m"},
        "reward_valid": valid,
    }


def test_terminal_bench_rewards_are_read_by_task_and_attempt(tmp_path: Path) -> None:
    write(tmp_path / "jobs/pivotrl/a__x/agent/trajectory.json", {"steps": [1]})
    items = terminal_bench(
        tmp_path,
        trial("a__x", 1.0),
        trial("a__y", 0.0, "AgentTimeoutError"),
        trial("b__z", 0.0, "NonZeroAgentExitCodeError"),
        wanted=3,
    )
    assert [(found.item_id, found.repeat, found.score, found.extracted) for found in items] == [
        ("a", 0, 1.0, "done"),
        ("a", 1, 0.0, "AgentTimeoutError"),
        ("b", 0, 0.0, "NonZeroAgentExitCodeError"),
    ]
    reasons = [found.finish_reason for found in items]
    assert reasons == [FinishReason.STOP, FinishReason.LENGTH, FinishReason.STOP]
    assert items[0].output == '{"steps":[1]}'


def test_terminal_bench_failure_of_the_machinery_is_no_score(tmp_path: Path) -> None:
    lost = trial("b__z", 0.0, "APIConnectionError", valid=False)
    with pytest.raises(PivotRLError, match="1 of 2 trials have a reward, first b__z: APIConn"):
        terminal_bench(tmp_path, trial("a__x", 1.0), lost, wanted=2)
    (tmp_path / "jobs/pivotrl/b__z/result.json").unlink()
    with pytest.raises(PivotRLError, match="1 of 2 trials have a reward;"):
        HARNESSES["terminal_bench"].read(tmp_path)


def test_terminal_bench_foreign_trials_are_refused_with_their_file(tmp_path: Path) -> None:
    for foreign in ({}, trial("a__x", None), trial("a__x", 1.0) | {"verifier_result": {}}):
        with pytest.raises(PivotRLError, match=r"a__x/result\.json"):
            terminal_bench(tmp_path, {"trial_name": "a__x"} | foreign, wanted=1)


# --- BrowseComp -----------------------------------------------------------------------------------


def test_browsecomp_grades_are_read_and_no_question_is_kept(tmp_path: Path) -> None:
    graded = {"value": {"score": "C", "confidence": 90}, "answer": "Plastic Man"}
    none = {"value": {"score": "I", "confidence": 100}, "answer": "None"}
    right, wrong = read(
        "browsecomp",
        tmp_path,
        browsecomp_row("a", "Exact Answer: Plastic Man", graded, "correct: yes\n\nconfidence: 90%"),
        browsecomp_row("b", "I give up", none, "reasoning: none.\n\ncorrect: no"),
    )
    assert (right.score, right.extracted, right.output) == (
        1.0,
        "Plastic Man",
        "Exact Answer: Plastic Man",
    )
    assert (wrong.score, wrong.extracted, wrong.prompt) == (0.0, None, "")


def browsecomp_row(name: str, completion: str, grade: Any, verdict: str) -> dict[str, Any]:
    judged = {"model": "openai-api/judge/g", "error": None, "stop_reasons": ["stop"]}
    calls = [*tau2_row()["calls"], judged | {"said": verdict}]
    return tau2_row(id=name, completion=completion, scores={"grader": grade}, calls=calls)


@pytest.mark.parametrize("verdict", ["**correct:** no", "Correct: no", "", "reasoning: the ans"])
def test_browsecomp_judge_without_a_verdict_is_no_score(verdict: str, tmp_path: Path) -> None:
    """inspect-evals takes what it cannot read for a no."""
    grade = {"value": {"score": "I", "confidence": 100}, "answer": "Oslo"}
    with pytest.raises(PivotRLError, match="gave no verdict on 1 of 1 answers, first 'a'"):
        read("browsecomp", tmp_path, browsecomp_row("a", "Exact Answer: Oslo", grade, verdict))


def test_browsecomp_is_judged_by_the_judge(tmp_path: Path) -> None:
    judge = Endpoint(url="http://127.0.0.1:8/v1", model="grader")
    given = settings(tmp_path, judge=judge)
    (command, _) = HARNESSES["browsecomp"].commands(given)
    assert "scorer_model=openai-api/judge/grader" in command
    assert HARNESSES["browsecomp"].variables(given)["JUDGE_BASE_URL"] == judge.url


def test_tau2_task_ids_are_no_patterns(tmp_path: Path) -> None:
    user = Endpoint(url=HERE.url, model="u")
    given = settings(tmp_path, user=user, tasks=("[mms_issue]a|b[PERSONA:None]", "c"), limit=1)
    command = HARNESSES["tau2_telecom"].commands(given)[0]
    assert command[command.index("--sample-id") + 1] == "[[]mms_issue]a|b[[]PERSONA:None]"
    assert "--limit" not in command
