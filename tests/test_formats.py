"""Every format of trajectories: one run told in each, real files, the traps of each, containers."""

from __future__ import annotations

import copy
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hub
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.candidates import extract, rows
from pivotrl.trajectories import BadRow, format_of, read, read_stored, read_tools
from pivotrl.trajectories.rows import Row, files_of, read_rows
from pivotrl.types import JSON, ConfigError, PivotRLError, Role, Trajectory

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "find",
        "description": "Find an order.",
        "parameters": {"type": "object", "properties": {"id": {"type": "string"}}},
    },
}
FLAT = {"type": "function", **TOOL["function"]}
SYSTEM, ASKED, FOUND = "Help the user.", "Where are orders 7 and 8?", "Both are on their way."
CALLS = [("a", {"id": "7"}), ("b", {"id": "8"})]
RESULTS = ["7: on its way", "8: on its way"]
TOOLS_TEXT = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
    f"{json.dumps(TOOL)}\n</tools>\n\nFor each function call, return a json object."
)


def hermes_calls() -> str:
    return "\n".join(
        f"<tool_call>\n{json.dumps({'name': 'find', 'arguments': a})}\n</tool_call>"
        for _, a in CALLS
    )


def openai_chat() -> JSON:
    calls = [
        {
            "id": id_,
            "type": "function",
            "function": {"name": "find", "arguments": json.dumps(arguments)},
        }
        for id_, arguments in CALLS
    ]
    results = [
        {"role": "tool", "tool_call_id": id_, "content": text}
        for (id_, _), text in zip(CALLS, RESULTS, strict=True)
    ]
    return {
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": [{"type": "text", "text": ASKED}]},
            {"role": "assistant", "content": None, "tool_calls": calls},
            *results,
            {"role": "assistant", "content": FOUND},
        ],
        "tools": [TOOL],
    }


def tau_bench() -> JSON:
    row = openai_chat()
    return {"task_id": 3, "trial": 0, "reward": 1.0, "traj": row["messages"], "tools": row["tools"]}


def items() -> list[JSON]:
    return [
        {"role": "system", "content": SYSTEM},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": ASKED}]},
        *(
            {"type": "function_call", "call_id": i, "name": "find", "arguments": json.dumps(a)}
            for i, a in CALLS
        ),
        *(
            {"type": "function_call_output", "call_id": id_, "output": text}
            for (id_, _), text in zip(CALLS, RESULTS, strict=True)
        ),
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": FOUND, "annotations": []}],
        },
    ]


def responses() -> JSON:
    return {"input": items(), "tools": [FLAT]}


def nemo_gym() -> JSON:
    return {
        "responses_create_params": {"input": items()[:2], "tools": [FLAT]},
        "response": {"output": items()[2:]},
        "reward": 1,
    }


def sharegpt() -> JSON:
    results = [
        {"from": "tool", "value": f"<tool_response>\n{text}\n</tool_response>"} for text in RESULTS
    ]
    return {
        "conversations": [
            {"from": "system", "value": SYSTEM + TOOLS_TEXT},
            {"from": "human", "value": ASKED},
            {"from": "gpt", "value": hermes_calls()},
            *results,
            {"from": "gpt", "value": FOUND},
        ]
    }


def hermes() -> JSON:
    """As Qwen's template renders it: both results in one user turn."""
    results = "\n".join(f"<tool_response>\n{text}\n</tool_response>" for text in RESULTS)
    return {
        "messages": [
            {"role": "system", "content": SYSTEM + TOOLS_TEXT},
            {"role": "user", "content": ASKED},
            {"role": "assistant", "content": hermes_calls()},
            {"role": "user", "content": results},
            {"role": "assistant", "content": FOUND},
        ]
    }


def atif() -> JSON:
    calls = [
        {"tool_call_id": id_, "function_name": "find", "arguments": arguments}
        for id_, arguments in CALLS
    ]
    results = [
        {"source_call_id": id_, "content": text}
        for (id_, _), text in zip(CALLS, RESULTS, strict=True)
    ]
    steps = [
        {"source": "system", "message": SYSTEM},
        {"source": "user", "message": ASKED},
        {
            "source": "agent",
            "message": "",
            "tool_calls": calls,
            "observation": {"results": results},
        },
        {"source": "agent", "message": FOUND},
    ]
    return {
        "schema_version": "ATIF-v1.6",
        "session_id": "s",
        "agent": {"name": "x", "version": "1", "tool_definitions": [TOOL]},
        "steps": [{"step_id": number} | step for number, step in enumerate(steps, start=1)],
    }


def swe_agent() -> JSON:
    row = openai_chat()
    history = [{"agent": "main", **message} for message in row["messages"]]
    for entry in history:
        if "tool_call_id" in entry:
            entry["tool_call_ids"] = [entry.pop("tool_call_id")]
    return {"history": history, "trajectory": [], "info": {}}


def mini_swe_agent() -> JSON:
    messages = [*openai_chat()["messages"], {"role": "exit", "content": "done"}]
    return {"trajectory_format": "mini-swe-agent-1.1", "info": {}, "messages": messages}


def openhands() -> JSON:
    message = openai_chat()["messages"][2]
    answer = {"choices": [{"message": message}]}
    metadata = [
        {"tool_call_id": id_, "function_name": "find", "model_response": answer} for id_, _ in CALLS
    ]
    return {
        "history": [
            {"source": "agent", "action": "system", "args": {"content": SYSTEM}},
            {"source": "user", "action": "message", "args": {"content": ASKED}},
            *({"source": "agent", "action": "run", "tool_call_metadata": m} for m in metadata),
            *(
                {"source": "environment", "observation": "run", "content": t}
                | {"tool_call_metadata": m}
                for m, t in zip(metadata, RESULTS, strict=True)
            ),
            {"source": "agent", "action": "message", "args": {"content": FOUND}},
        ]
    }


def tau2_bench() -> JSON:
    messages = openai_chat()["messages"]
    stored = [
        {"role": "assistant", "content": "Hi! How can I help you today?"},
        {"role": "user", "content": ASKED},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": i, "name": "find", "arguments": a} for i, a in CALLS],
        },
        *(
            {"role": "tool", "id": m["tool_call_id"], "content": m["content"]}
            for m in messages[3:5]
        ),
        {"role": "user", "content": None, "tool_calls": [{"id": "u", "name": "own_tool"}]},
        {"role": "tool", "id": "u", "content": "not for the agent", "requestor": "user"},
        {"role": "assistant", "content": FOUND},
    ]
    return {
        "info": {"environment_info": {"domain_name": "retail", "policy": "Be kind."}},
        "tasks": [],
        "simulations": [{"id": "x", "task_id": "4", "messages": stored}],
    }


def toolbench() -> JSON:
    messages = openai_chat()["messages"]
    run = {"train_messages": [messages[:3], messages], "function": [TOOL["function"]]}
    return {"win": True, "answer_generation": run}


SAME: list[Callable[[], JSON]] = [
    openai_chat,
    tau_bench,
    responses,
    nemo_gym,
    sharegpt,
    hermes,
    atif,
    swe_agent,
    mini_swe_agent,
    toolbench,
]
OTHER: list[Callable[[], JSON]] = [tau2_bench, openhands]
"""Their files hold another system prompt, or none."""


def read_row(tmp_path: Path, row: JSON, **options: Any) -> list[Trajectory | BadRow]:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(row))
    return list(read([path], **options))


@pytest.fixture
def tools(tmp_path: Path) -> Any:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps([TOOL]))
    return read_tools(path)


@pytest.mark.parametrize("form", [*SAME, *OTHER])
def test_each_format_is_recognised_by_content(form: Callable[[], JSON]) -> None:
    assert form.__name__ == format_of(Row(number=1, value=form())).NAME


@pytest.mark.parametrize("form", SAME)
def test_one_run_has_the_same_candidates_in_every_format(
    form: Callable[[], JSON], tmp_path: Path, tools: Any
) -> None:
    (expected,) = read_row(tmp_path, openai_chat())
    (found,) = read_row(tmp_path, form(), tools=tools)
    assert isinstance(expected, Trajectory) and isinstance(found, Trajectory), found
    assert [c.id for c in extract(found)] == [c.id for c in extract(expected)]
    assert len(extract(found)) == 2


@pytest.mark.parametrize("form", OTHER)
def test_the_other_formats_tell_the_same_turns(
    form: Callable[[], JSON], tmp_path: Path, tools: Any
) -> None:
    (expected,) = read_row(tmp_path, openai_chat())
    (found,) = read_row(tmp_path, form(), tools=tools)
    assert isinstance(expected, Trajectory) and isinstance(found, Trajectory), found
    kept = [m for m in found.messages if m.role is not Role.SYSTEM]
    if form is tau2_bench:
        assert kept[0].content.startswith("Hi!")  # the greeting of the harness: no candidate
        assert "Be kind." in found.messages[0].content
        kept = kept[1:]
    assert kept == [m for m in expected.messages if m.role is not Role.SYSTEM]
    assert len(extract(found)) == 2


def changed(value: JSON, place: int, new: JSON) -> tuple[JSON, int]:
    """`value` with its node number `place` (in reading order) replaced by `new`; nodes left."""
    if place == 0:
        return new, -1
    place -= 1
    if isinstance(value, dict):
        for key in value:
            if place < 0:
                break
            value[key], place = changed(value[key], place, new)
    elif isinstance(value, list):
        for index in range(len(value)):
            if place < 0:
                break
            value[index], place = changed(value[index], place, new)
    return value, place


@pytest.mark.parametrize("form", [*SAME, *OTHER])
@settings(max_examples=60, deadline=None)
@given(
    place=st.integers(0, 80),
    new=st.sampled_from([None, True, 7, 1e308, "", "x", [], [None], {}, {"role": "x"}, [[]], [{}]]),
)
def test_a_row_with_any_part_replaced_is_read_or_said_to_be_bad(
    tmp_path_factory: pytest.TempPathFactory, form: Callable[[], JSON], place: int, new: JSON
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "rows.jsonl"
    row, _ = changed(copy.deepcopy(form()), place, new)
    path.write_text(json.dumps(row) + "\n" + json.dumps(openai_chat()) + "\n")
    *first, last = read([path])
    assert isinstance(last, Trajectory)
    assert all(isinstance(result, Trajectory | BadRow) for result in first)


@pytest.mark.parametrize("form", [*SAME, *OTHER])
def test_nothing_of_a_demonstration_is_in_its_state(
    form: Callable[[], JSON], tmp_path: Path, tools: Any
) -> None:
    (found,) = read_row(tmp_path, form(), tools=tools)
    assert isinstance(found, Trajectory)
    calls, told = extract(found)
    assert [c.name for c in calls.demonstration.tool_calls] == ["find", "find"]
    assert told.demonstration.content == FOUND
    for candidate in (calls, told):
        state = repr(candidate.messages)
        assert FOUND not in state
    assert not any(text in repr(calls.messages) for text in RESULTS)
    assert not any(m.tool_calls for m in calls.messages)


# --- traps ---


def test_a_demonstration_shown_in_the_prompt_is_no_action(tmp_path: Path) -> None:
    row = swe_agent()
    shown = [{**entry, "is_demo": True} for entry in row["history"][1:]]
    row["history"][1:1] = shown
    (found,) = read_row(tmp_path, row)
    assert isinstance(found, Trajectory)
    assert len(extract(found)) == 2
    assert len(found.not_actions) == len(shown)


def test_copied_steps_and_steps_without_a_model_call_are_no_actions(tmp_path: Path) -> None:
    row = atif() | {"schema_version": "ATIF-v1.7"}
    row["steps"][2]["is_copied_context"] = True
    row["steps"][3]["llm_call_count"] = 0
    (found,) = read_row(tmp_path, row)
    assert isinstance(found, Trajectory)
    assert extract(found) == []


def test_a_call_listed_before_its_reasoning_is_one_turn(tmp_path: Path) -> None:
    row = nemo_gym()
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Look."}]}
    empty = {"type": "message", "role": "assistant", "content": []}
    output = row["response"]["output"]
    row["response"]["output"] = [empty, output[0], thought, *output[1:]]
    (found,) = read_row(tmp_path, row)
    assert isinstance(found, Trajectory)
    turn = found.messages[2]
    assert turn.reasoning == "Look."
    assert len(turn.tool_calls) == 2


@pytest.mark.parametrize(
    ("expected", "calls"),
    [
        ({"type": "message", "content": FOUND}, 0),
        ({"type": "function_call", "name": "find", "arguments": '{"id": "7"}'}, 1),
        (
            {
                "type": "function_call_batch",
                "calls": [
                    {"type": "function_call", "name": "find", "arguments": '{"id": "7"}'},
                    {"type": "function_call", "name": "find", "arguments": '{"id": "8"}'},
                ],
            },
            2,
        ),
    ],
)
def test_a_pivot_row_has_one_action(expected: JSON, calls: int, tmp_path: Path) -> None:
    row = nemo_gym()
    del row["response"], row["reward"]
    row["responses_create_params"]["input"] = [*items(), {"role": "user", "content": "And now?"}]
    (found,) = read_row(tmp_path, row | {"expected_action": expected})
    assert isinstance(found, Trajectory)
    (candidate,) = extract(found)
    assert len(candidate.demonstration.tool_calls) == calls


def test_calls_in_old_hermes_data_are_python(tmp_path: Path) -> None:
    row = hermes()
    row["messages"][2]["content"] = (
        "<tool_call>\n{'arguments': {'id': '7'}, 'name': 'find'}\n</tool_call>\n"
        "<tool_call>\n{'arguments': {'id': '8'}, 'name': 'find'}\n</tool_call>"
    )
    (found,) = read_row(tmp_path, row)
    assert isinstance(found, Trajectory), found
    assert [c.arguments for c in found.messages[2].tool_calls] == [a for _, a in CALLS]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("__import__('os')", "undecodable arguments"),
        ("{'name': 'find', 'arguments': {'id': {7, 8}}}", "not JSON"),
        ("{'name': 'find', 'arguments': {'id': 2 ** 9}}", "undecodable arguments"),
        (f"{{'name': 'find', 'arguments': {{'id': {10**30}}}, }}", "not JSON"),
    ],
)
def test_a_hermes_call_that_is_no_json_is_a_bad_row(tmp_path: Path, call: str, reason: str) -> None:
    row = hermes()
    row["messages"][2]["content"] = f"<tool_call>\n{call}\n</tool_call>" * 2
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(openai_chat()) + "\n")
    bad, _ = read([path])
    assert isinstance(bad, BadRow)
    assert bad.reason == reason


# --- containers ---


def save_gzip(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data))


def save_zstd(path: Path, data: bytes) -> None:
    half = len(data) // 2  # two frames, as `cat a.zst b.zst` makes
    path.write_bytes(zstandard.compress(data[:half]) + zstandard.compress(data[half:]))


@pytest.mark.parametrize("save", [Path.write_bytes, save_gzip, save_zstd])
@pytest.mark.parametrize("lines", [True, False])
def test_rows_are_the_same_whatever_the_container(
    save: Callable[[Path, bytes], None], lines: bool, tmp_path: Path
) -> None:
    rows = [openai_chat(), {"no": "format"}, tau_bench()]
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, indent=1)
    save(tmp_path / "rows", text.encode())
    first, second, third = read([tmp_path / "rows"])
    assert isinstance(first, Trajectory) and isinstance(third, Trajectory)
    assert isinstance(second, BadRow)
    assert [first.source_row, second.source_row, third.source_row] == [1, 2, 3]


def test_parquet_a_saved_data_set_and_a_folder(tmp_path: Path) -> None:
    import datasets
    import polars as pl

    rows = [
        {"messages": json.loads(json.dumps(hermes()["messages"])), "task": str(i)} for i in range(3)
    ]
    folder = tmp_path / "folder"
    folder.mkdir()
    pl.DataFrame(rows).write_parquet(folder / "rows.parquet")
    (folder / "more.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "README.md").write_text("nothing")
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    found = list(read([folder, tmp_path / "saved"]))
    assert len(found) == 9
    assert {result.id for result in found if isinstance(result, Trajectory)} == {
        one.id for one in read_row(tmp_path, hermes()) if isinstance(one, Trajectory)
    }
    assert [f.name for f in files_of([folder])] == ["more.jsonl", "rows.parquet"]


def test_a_folder_may_hold_files_that_are_no_trajectories(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"description": "of the data set"}')
    (tmp_path / "b.jsonl").write_text("")
    (tmp_path / "c.jsonl").write_text(json.dumps(openai_chat()))
    bad, good = read([tmp_path])
    assert isinstance(bad, BadRow) and bad.source_file.endswith("a.json")
    assert isinstance(good, Trajectory)
    (tmp_path / "c.jsonl").unlink()
    with pytest.raises(PivotRLError, match=r"none of 1 rows is usable .*a\.json row 1: unknown"):
        list(read([tmp_path]))
    with pytest.raises(PivotRLError, match=r"a\.json: none of 1 rows"):
        list(read([tmp_path / "a.json"]))


def test_parquet_with_foreign_columns_or_cut_short_is_said_row_by_row(tmp_path: Path) -> None:
    import polars as pl

    path = tmp_path / "rows.parquet"
    rows = [{"messages": hermes()["messages"], "image": b"\xff\x00"}, {"image": b"\xff"}]
    pl.DataFrame(rows).write_parquet(path)
    good, bad = read([path])
    assert isinstance(good, Trajectory) and isinstance(bad, BadRow)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PivotRLError, match="broken Parquet"):
        list(read([path]))


def test_a_bare_list_of_messages_is_one_row(tmp_path: Path) -> None:
    (found,) = read_row(tmp_path, openai_chat()["messages"])
    assert isinstance(found, Trajectory)
    path = tmp_path / "lists.jsonl"
    path.write_text("\n".join([json.dumps(openai_chat()["messages"])] * 3))
    assert len(list(read([path]))) == 3


# --- real files ---

COUNTS = {
    "derived/atif_v1.7.jsonl": ("atif", 5, 0, 65),
    "derived/openai_chat.jsonl": ("openai_chat", 5, 0, 65),
    "derived/responses_items.jsonl": ("responses", 5, 0, 65),
    "derived/sharegpt_hermes.jsonl": ("sharegpt", 5, 0, 65),
    "derived/nemo_gym_pivot_rows.jsonl": ("nemo_gym", 40, 0, 40),
    "tau-bench/gpt-4o-airline.json": ("tau_bench", 200, 0, 2454),
    "tau2-bench/gpt-4.1_airline_1trial.json": ("tau2_bench", 20, 0, 206),
    "tau2-bench/gpt-4.1_retail_1trial.json": ("tau2_bench", 40, 0, 476),
    "tau2-bench/gpt-4o_telecom_20tasks.json": ("tau2_bench", 20, 0, 217),
    "swe-agent/function_calling_simple.traj": ("swe_agent", 1, 0, 5),
    "swe-agent/marshmallow-1867__default_thought_action.traj": ("swe_agent", 1, 0, 10),
    "swe-agent/marshmallow-1867__function_calling.traj": ("swe_agent", 1, 0, 10),
    "swe-agent/marshmallow-1867__xml.traj": ("swe_agent", 1, 0, 10),
    "swe-agent/pydicom-1458__gpt4_default.traj": ("swe_agent", 1, 0, 8),
    "mini-swe-agent/github_issue.traj.json": ("mini_swe_agent", 1, 0, 10),
    "mini-swe-agent/local.traj.json": ("mini_swe_agent", 1, 0, 2),
    "openhands/resolver_mock_output.jsonl": ("openhands", 2, 0, 26),
    "toolbench/G1_answer_10.json": ("toolbench", 1, 0, 3),
    "nemo-gym/conversational_tool_use_simulation.example_rollouts.jsonl": ("nemo_gym", 5, 0, 34),
    "nemo-gym/single_step_tool_use.parallel_example.jsonl": ("nemo_gym", 5, 0, 5),
    "nemo-gym/swe_pivot.example.jsonl": ("nemo_gym", 5, 0, 5),
    "nemo-gym/tau2.example_rollouts.jsonl": ("nemo_gym", 5, 0, 25),
    "nemo-gym/terminal_multi_harness.example.jsonl": ("nemo_gym", 5, 0, 5),
    "nemo-gym/terminus_judge.example.jsonl": ("nemo_gym", 5, 0, 5),
    "nemo-gym/xlam_fc.example.jsonl": ("nemo_gym", 5, 0, 5),
    "nemo-gym/xlam_fc.example_rollouts.jsonl": ("nemo_gym", 5, 0, 10),
}
"""File: format, trajectories, bad rows, candidates."""


@pytest.mark.parametrize("name", COUNTS)
def test_real_files_are_read_whole(name: str, shared: Path) -> None:
    label, trajectories, bad, candidates = COUNTS[name]
    results = list(read_stored([shared / name]))
    assert {found for found, _ in results} == {label}
    good = [result for _, result in results if not isinstance(result, BadRow)]
    assert (len(good), len(results) - len(good)) == (trajectories, bad)
    assert sum(len(rows(row)) for row in good) == candidates


def test_four_forms_of_the_same_runs_have_the_same_candidates(shared: Path) -> None:
    def ids(name: str) -> set[str]:
        found = read([shared / "derived" / name])
        return {c.id for t in found if isinstance(t, Trajectory) for c in extract(t)}

    expected = ids("openai_chat.jsonl")
    assert len(expected) == 65
    for name in ("responses_items.jsonl", "sharegpt_hermes.jsonl", "atif_v1.7.jsonl"):
        assert ids(name) == expected
    assert ids("nemo_gym_pivot_rows.jsonl") < expected


def test_solved_runs_of_tau2_bench(shared: Path) -> None:
    for name, solved, parallel in (("airline", 10, 17), ("retail", 34, 34)):
        found = list(read([shared / "tau2-bench" / f"gpt-4.1_{name}_1trial.json"]))
        good = [t for t in found if isinstance(t, Trajectory)]
        assert sum(t.reward == 1 for t in good) == solved
        assert {t.domain for t in good} == {name}
        turns = [c.demonstration for t in good for c in extract(t)]
        assert sum(len(turn.tool_calls) > 1 for turn in turns) == parallel


def event(**said: Any) -> JSON:
    return {"source": "agent", **said}


def test_openhands_with_function_calls_is_what_the_model_saw(tmp_path: Path) -> None:
    """Its system event, calls made at once as one turn, and no turn of the harness."""
    calls = [
        {"id": i, "type": "function", "function": {"name": "bash", "arguments": f'{{"a": {n}}}'}}
        for n, i in enumerate("ab")
    ]
    answer = {"id": "r1", "choices": [{"message": {"content": "Two looks.", "tool_calls": calls}}]}
    said = [{"tool_call_id": i, "model_response": answer} for i in "ab"]
    tool = {"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}
    history = [
        event(action="system", args={"content": "You are OpenHands.", "tools": [tool]}),
        {"source": "user", "action": "message", "args": {"content": "Fix it."}},
        event(action="run", args={"command": "ls"}, tool_call_metadata=said[0]),
        event(observation="run", content="a.py", tool_call_metadata=said[0]),
        event(action="run", args={"command": "pwd"}, tool_call_metadata=said[1]),
        event(observation="run", content="/w", tool_call_metadata=said[1]),
        event(action="condensation", args={}),
        event(action="finish", args={"final_thought": "All is well."}),
    ]
    [trajectory] = read_row(tmp_path, {"history": history})
    assert isinstance(trajectory, Trajectory)
    assert [m.role for m in trajectory.messages] == [
        *["system", "user", "assistant", "tool", "tool"],
        "assistant",
    ]
    assert [tool.name for tool in trajectory.tools] == ["bash"]
    assert len(trajectory.messages[2].tool_calls) == 2
    assert trajectory.messages[-1].content == "All is well."


def test_the_id_of_a_row_is_no_task(tmp_path: Path) -> None:
    """Else the turns of one trajectory, and the runs of one task, would lie on both sides."""
    named = [
        [make() | {key: str(n)} for n in range(20)]
        for make, key in ((nemo_gym, "uuid"), (atif, "session_id"), (sharegpt, "id"))
    ]
    for runs in named:
        sides = set()
        for run in runs:
            run.pop("task_id", None)
            [found] = read_row(tmp_path, run)
            assert isinstance(found, Trajectory)
            sides |= {c.split for c in extract(found, validation_share=0.5)}
        assert len(sides) == 1


def test_what_columns_fill_in_is_no_part_of_a_row(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow.parquet import write_table

    def tool(name: str, parameter: str) -> JSON:
        schema = {"type": "object", "properties": {parameter: {"type": "string"}}}
        return {"type": "function", "function": {"name": name, "parameters": schema}}

    def called(name: str, arguments: JSON) -> JSON:
        return {
            "role": "assistant",
            "tool_calls": [{"function": {"name": name, "arguments": arguments}}],
        }

    messages = [
        {"role": "user", "content": "Go."},
        called("find", {"id": "1"}),
        {"role": "tool", "content": "x"},
        called("weather", {"city": "Rome"}),
    ]
    row = {"messages": messages, "tools": [tool("find", "id"), tool("weather", "city")]}
    write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    ids = [
        [c.id for t in read([tmp_path / name]) if isinstance(t, Trajectory) for c in extract(t)]
        for name in ("a.jsonl", "a.parquet")
    ]
    assert ids[0] == ids[1] and len(ids[0]) == 2


def test_reasoning_whose_opening_the_template_wrote(tmp_path: Path) -> None:
    said = {"role": "assistant", "content": "I greet back.\n</think>\n\nHello!"}
    [found] = read_row(tmp_path, {"messages": [{"role": "user", "content": "Hi"}, said]})
    assert isinstance(found, Trajectory)
    last = found.messages[-1]
    assert (last.reasoning, last.content) == ("I greet back.", "Hello!")


def test_agents_that_write_commands_as_text_have_their_domain(tmp_path: Path) -> None:
    block = "Look.\n```mswea_bash_command\nls\n```"
    run = [{"role": "user", "content": "Fix it."}, {"role": "assistant", "content": block}]
    [found] = read_row(tmp_path, run)
    assert isinstance(found, Trajectory)
    assert (found.domain, len(extract(found))) == ("terminal", 1)
    history = [
        {"role": "system", "content": "You fix code.", "agent": "main"},
        {"role": "user", "content": "Fix it.", "agent": "main"},
        {"role": "assistant", "content": "Look.\n```\nopen a.py\n```", "agent": "main"},
        {"role": "user", "content": "1: x", "agent": "main"},
        {
            "role": "assistant",
            "content": "Edit.\n```\nedit 1:1\ny\nend_of_edit\n```",
            "agent": "main",
        },
        {
            "role": "user",
            "content": "Your proposed edit has introduced new syntax error(s).",
            "agent": "main",
        },
    ]
    [found] = read_row(tmp_path, {"history": history})
    assert isinstance(found, Trajectory)
    assert (found.domain, [c.turn for c in extract(found)]) == ("software", [2])


def test_results_that_no_call_has_are_the_users(tmp_path: Path) -> None:
    row = atif()
    step = next(s for s in row["steps"] if s["source"] == "agent" and s.get("tool_calls"))
    step["observation"]["results"].append({"content": "the disk is nearly full"})
    [found] = read_row(tmp_path, row)
    assert isinstance(found, Trajectory)
    assert [m.role for m in found.messages if "nearly full" in m.content] == [Role.USER]


def test_calls_at_once_and_words_beside_a_result_in_text(tmp_path: Path) -> None:
    calls = json.dumps([{"name": "find", "arguments": a} for _, a in CALLS])
    turns = [
        {"from": "human", "value": ASKED},
        {"from": "function_call", "value": calls},
        {
            "from": "human",
            "value": f"<tool_response>\n{RESULTS[0]}\n</tool_response>\nAnd order 9?",
        },
        {"from": "gpt", "value": FOUND},
    ]
    [found] = read_row(tmp_path, {"conversations": turns})
    assert isinstance(found, Trajectory)
    assert [len(m.tool_calls) for m in found.messages] == [0, 2, 0, 0, 0]
    assert found.messages[3].content == "And order 9?"


def test_an_input_may_be_a_text(tmp_path: Path) -> None:
    answer = {"type": "message", "role": "assistant", "content": "Hello!"}
    [found] = read_row(tmp_path, {"input": "Hi", "output": [answer]})
    assert isinstance(found, Trajectory)
    assert [m.content for m in found.messages] == ["Hi", "Hello!"]


def test_a_run_of_tau2_bench_in_a_folder_is_as_in_one_file(tmp_path: Path) -> None:
    whole = tau2_bench()
    [one] = [t for t in read_row(tmp_path, whole) if isinstance(t, Trajectory)]
    run = tmp_path / "run"
    (run / "simulations").mkdir(parents=True)
    [simulation] = whole["simulations"]
    simulation |= {"reward_info": simulation.get("reward_info"), "termination_reason": "user_stop"}
    (run / "simulations" / "a.json").write_text(json.dumps(simulation))
    index = {k: v for k, v in whole.items() if k != "simulations"} | {"simulation_index": []}
    (run / "results.json").write_text(json.dumps(index))
    for path in (run, run / "simulations"):
        assert [t.id for t in read([path]) if isinstance(t, Trajectory)] == [one.id]
    (run / "results.json").unlink()  # then nothing says what the policy was
    [alone] = [t for t in read([run]) if isinstance(t, Trajectory)]
    assert alone.messages == one.messages[1:]


def test_a_pipe_is_said_to_be_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="write it to a file"):
        list(read_rows(tmp_path / "pipe"))


def test_a_broken_first_line_is_no_reason_to_hold_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"broken\n' + (json.dumps(openai_chat()) + "\n") * 3)
    monkeypatch.setattr("pivotrl.trajectories.rows.MAX_DOCUMENT_BYTES", 10)
    found = list(read([path]))
    assert [isinstance(row, BadRow) for row in found] == [True, False, False, False]


def test_a_data_set_on_the_hub(tmp_path: Path) -> None:
    """The libraries that load it read their endpoint once: a process of its own."""
    content = b"".join(json.dumps(row).encode() + b"\n" for row in (openai_chat(), hermes()))
    code = (
        "from pathlib import Path\n"
        "from pivotrl.trajectories import read\n"
        "from pivotrl.trajectories.rows import hub_commit\n"
        "from pivotrl.types import ConfigError\n"
        f"path = Path('hf:{hub.NAME}')\n"
        "print(hub_commit(path))\n"
        "for name in (path, Path(f'{path}:train')):\n"
        "    print([(t.source_file, t.source_row, len(t.messages)) for t in read([name])])\n"
        "for ask in (hub_commit, lambda path: list(read([path]))):\n"
        "    try:\n"
        "        ask(Path('hf:team/gone'))\n"
        "    except ConfigError as error:\n"
        "        print(error)\n"
    )
    with hub.serving(content) as endpoint:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
        )
    commit, first, split, *errors = done.stdout.splitlines()
    assert commit == hub.COMMIT
    assert first == f"[('hf:{hub.NAME}', 1, 6), ('hf:{hub.NAME}', 2, 6)]"
    assert split == first.replace(hub.NAME, f"{hub.NAME}:train")
    assert [error.partition(":")[0] for error in errors] == ["hf", "hf"]
    assert "cannot be found on the hub" in errors[0]
    assert "cannot be loaded from the hub" in errors[1]
