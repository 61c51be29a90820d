"""Candidates: one an assistant turn, ids from content alone, splits that do not leak."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl import candidates
from pivotrl.candidates import extract, load_candidates, split_of
from pivotrl.folding import fold
from pivotrl.trajectories import columns, read, read_tools
from pivotrl.types import (
    JSON,
    Candidate,
    Message,
    PivotRLError,
    Role,
    Split,
    ToolCall,
    ToolSpec,
    Trajectory,
    digest,
    message_to_json,
)

DATA = Path(__file__).parents[2] / "shared" / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real sample data is not here")

SYSTEM = Message(role=Role.SYSTEM, content="Help.")
USER = Message(role=Role.USER, content="Where is order 7?")
CALL = Message(
    role=Role.ASSISTANT, tool_calls=(ToolCall(name="find", arguments={"id": "7"}, id="call00000"),)
)
RESULT = Message(role=Role.TOOL, content="on its way", tool_call_id="call00000", name="find")
TEXT = Message(role=Role.ASSISTANT, content="It is on its way.", reasoning="Good.")
TOOLS = (ToolSpec(name="find"),)


def trajectory_of(*messages: Message, task: str | None = None) -> Trajectory:
    content = digest([message_to_json(message) for message in messages])
    return Trajectory(id=content, messages=messages, tools=TOOLS, task=task, domain="shop")


def rows_of(*trajectories: Trajectory, share: float = 0.1) -> list[dict[str, JSON]]:
    return [
        row
        for t in trajectories
        for row in candidates.rows(columns.to_row(t), validation_share=share)
    ]


def split_group(trajectory: Trajectory) -> str:
    (group,) = {row["split_group"] for row in rows_of(trajectory)}
    return str(group)


PLAIN = trajectory_of(SYSTEM, USER, CALL, RESULT, TEXT)


def test_every_assistant_turn_is_a_candidate() -> None:
    call, text = extract(PLAIN)
    assert (call.turn, call.demonstration, call.messages) == (2, CALL, (SYSTEM, USER))
    assert (text.turn, text.demonstration, text.messages) == (4, TEXT, PLAIN.messages[:4])
    assert call.trajectory is text.trajectory is PLAIN  # held by reference


def test_canned_greetings_and_empty_turns_are_no_actions() -> None:
    greeting = Message(role=Role.ASSISTANT, content="Hi! How can I help?")
    empty = Message(role=Role.ASSISTANT)
    greeted = extract(trajectory_of(SYSTEM, greeting, USER, empty, USER, TEXT))
    assert [c.turn for c in greeted] == [5]
    assert greeted[0].messages[1] == greeting  # but the model saw it
    assert [c.turn for c in extract(trajectory_of(SYSTEM, TEXT))] == [1]  # no user at all
    assert [c.turn for c in extract(trajectory_of(SYSTEM, CALL, RESULT, USER, TEXT))] == [1, 4]


@pytest.mark.parametrize(
    ("domain", "turns"),
    [
        ("shop", [1, 3, 5, 6, 8]),  # a conversation: every turn
        ("software", [1, 6, 8]),  # tool calls, or commands in text, that did not error
        ("terminal", [1, 3, 6, 8]),  # shell actions, as calls or in text
        ("browsing", [1, 3, 5, 6]),  # every step but thinking aloud
    ],
)
def test_each_domain_has_its_rule(domain: str, turns: list[int]) -> None:
    def called(name: str, id: str) -> Message:
        call = ToolCall(name=name, arguments={}, id=id)
        return Message(role=Role.ASSISTANT, tool_calls=(call,))

    messages = (
        USER,
        called("open", "1"),
        Message(role=Role.TOOL, content="Errors are listed below", tool_call_id="1"),
        called("open", "2"),
        Message(role=Role.TOOL, content="Error: no such file", tool_call_id="2"),
        Message(role=Role.ASSISTANT, content="It is there."),
        Message(role=Role.ASSISTANT, content="```bash\nls\n```"),
        USER,
        called("think", "3"),
        Message(role=Role.TOOL, content="", tool_call_id="3"),
    )
    found = extract(replace(trajectory_of(*messages), domain=domain))
    assert [c.turn for c in found] == turns


def test_ids_are_content_never_call_ids_names_or_places() -> None:
    renamed = trajectory_of(
        SYSTEM,
        USER,
        replace(CALL, tool_calls=(replace(CALL.tool_calls[0], id="call_XYZ"),)),
        replace(RESULT, tool_call_id="call_XYZ", name="find"),
        TEXT,
    )
    elsewhere = replace(renamed, source_file="b.jsonl", source_row=9, task="t", reward=0.0)
    ids = [c.id for c in extract(PLAIN)]
    assert [c.id for c in extract(elsewhere)] == ids
    other_call = replace(CALL, tool_calls=(ToolCall(name="find", arguments={"id": "8"}),))
    assert extract(trajectory_of(SYSTEM, USER, other_call))[0].id != ids[0]
    assert extract(replace(PLAIN, tools=()))[0].id != ids[0]
    assert extract(trajectory_of(SYSTEM, CALL))[0].id != ids[0]


MESSAGES = st.lists(
    st.builds(
        Message,
        role=st.sampled_from([Role.SYSTEM, Role.USER, Role.ASSISTANT]),
        content=st.text(alphabet="ab", max_size=2),
    ),
    max_size=8,
)


@given(MESSAGES, MESSAGES)
def test_equal_ids_are_equal_decisions(one: list[Message], two: list[Message]) -> None:
    found: dict[str, tuple[object, ...]] = {}
    for messages in (one, two):
        for candidate in extract(trajectory_of(*messages)):
            decision = (candidate.messages, candidate.demonstration)
            assert found.setdefault(candidate.id, decision) == decision
    assert len(set(found.values())) == len(found)


@given(st.lists(st.sampled_from([USER, CALL, TEXT]), min_size=1, max_size=8))
def test_nothing_of_the_demonstration_or_after_is_in_the_state(kinds: list[Message]) -> None:
    """Each message carries its own mark, in the content, the reasoning and the arguments."""
    messages: list[Message] = [USER]
    for kind in kinds:
        mark = f"<{len(messages)}>"
        if kind is USER:
            messages.append(replace(kind, content=mark))
        elif kind is TEXT:
            messages.append(replace(kind, content=mark, reasoning=mark))
        else:
            call = ToolCall(name="find", arguments={"v": mark}, id=mark)
            result = replace(RESULT, content=f"<{len(messages) + 1}>", tool_call_id=mark)
            messages += [replace(kind, tool_calls=(call,), reasoning=mark), result]
    for candidate in extract(trajectory_of(*messages)):
        state = json.dumps([message_to_json(m) for m in candidate.messages])
        assert not [i for i in range(candidate.turn, len(messages)) if f"<{i}>" in state]
        assert all(f"<{i}>" in state for i in range(1, candidate.turn))


def test_no_task_lies_on_both_sides() -> None:
    sides: dict[str, set[Split]] = {}
    for task in range(300):
        for trial in range(2):
            user = replace(USER, content=f"{task} {trial}")
            trajectory = trajectory_of(SYSTEM, user, TEXT, task=str(task))
            (candidate,) = extract(trajectory, validation_share=0.3)
            sides.setdefault(str(task), set()).add(candidate.split)
    assert all(len(side) == 1 for side in sides.values())
    held_out = sum(side == {Split.VALIDATION} for side in sides.values())
    assert 60 < held_out < 120


def test_the_group_without_a_task_is_the_opening() -> None:
    longer = trajectory_of(SYSTEM, USER, TEXT, USER, TEXT)
    assert split_group(longer) == split_group(PLAIN)
    assert split_group(trajectory_of(SYSTEM, TEXT)) != split_group(PLAIN)
    assert split_group(replace(PLAIN, task="1")) != split_group(replace(PLAIN, task="2"))


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_only_adds_to_validation(number: int, low: float, high: float) -> None:
    low, high = sorted((low, high))
    group = digest(number)
    if split_of(group, low) == Split.VALIDATION:
        assert split_of(group, high) == Split.VALIDATION
    assert split_of(group, 0) == Split.TRAIN
    assert split_of(group, 1) == Split.VALIDATION


@settings(max_examples=30)
@given(st.permutations(range(6)))
def test_folding_keeps_one_and_every_place(order: list[int]) -> None:
    """Six trajectories of six tasks share their first decision; the second differs."""
    trajectories = [
        trajectory_of(SYSTEM, USER, CALL, replace(RESULT, content=str(i % 3)), TEXT, task=str(i))
        for i in range(6)
    ]
    found = rows_of(*(trajectories[i] for i in order), share=0.5)
    unique, occurrences = fold(found)
    assert len(found) == 12
    assert len(unique) == 4
    assert sorted(Counter(o["candidate_id"] for o in occurrences).values()) == [2, 2, 2, 6]
    for row in unique:
        groups = [o["split_group"] for o in occurrences if o["candidate_id"] == row["candidate_id"]]
        assert row["split"] == split_of(min(groups), 0.5)
        assert row["split_group"] == min(groups)


def test_the_same_trajectory_twice_is_one_place() -> None:
    unique, occurrences = fold(rows_of(PLAIN, PLAIN))
    assert len(unique) == len(occurrences) == 2


def test_rows_come_back_joined_to_their_trajectories() -> None:
    found = extract(PLAIN, validation_share=1.0)
    rows = rows_of(PLAIN, share=1.0)
    assert [row["action_type"] for row in rows] == ["tool_call", "text"]
    assert [row["tool_names"] for row in rows] == [["find"], []]
    assert json.loads(rows[1]["demonstration"])["content"] == TEXT.content
    other = trajectory_of(USER, TEXT)
    loaded = load_candidates(rows, [columns.to_row(other), columns.to_row(PLAIN)])
    assert loaded == found
    assert loaded[0].trajectory is loaded[1].trajectory
    with pytest.raises(PivotRLError, match="1 trajectories that are not there"):
        load_candidates(rows, [columns.to_row(other)])


def test_the_cost_is_linear_in_the_turns() -> None:
    def seconds(turns: int) -> float:
        trajectory = trajectory_of(*[USER, replace(TEXT, content="x" * 500)] * turns)
        start = time.process_time()
        assert len(extract(trajectory)) == turns
        return time.process_time() - start

    seconds(10)
    # Hashing every history anew would cost 64 times as much for 8 times the turns.
    assert min(seconds(4000) for _ in range(3)) < 24 * min(seconds(500) for _ in range(3))


@real_data
def test_the_real_files() -> None:
    tools = read_tools(DATA / "tau-bench" / "tools_airline.json")

    def found(path: str) -> list[Candidate]:
        rows = read([DATA / path], tools=tools)
        return [c for t in rows if isinstance(t, Trajectory) for c in extract(t)]

    tau = found("tau-bench/gpt-4o-airline.json")
    assert len(tau) == 2454
    unique, occurrences = fold(rows_of(*{c.trajectory.id: c.trajectory for c in tau}.values()))
    assert len(unique) == 2446
    assert len(occurrences) == 2454
    derived = found("derived/openai_chat.jsonl")  # five of the same trajectories, another format
    assert len(derived) == 65
    assert {c.id for c in derived} <= {c.id for c in tau}
