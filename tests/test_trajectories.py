"""Reading trajectories: real files, every kind of bad row, and content ids that ignore form."""

from __future__ import annotations

import copy
import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.inspection import summarise
from pivotrl.trajectories import BadRow, from_row, read, read_tools, rows, to_row
from pivotrl.types import ConfigError, PivotRLError, Role, Trajectory, tool_to_json

DATA = Path(__file__).parents[2] / "shared" / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real sample data is not here")

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "find",
        "description": "Find an order.",
        "parameters": {"type": "object", "properties": {"id": {"type": "string"}}},
    },
}


def call(name: str = "find", arguments: Any = '{"id": "7"}', id_: str | None = "a") -> dict:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def chat(**changes: Any) -> dict[str, Any]:
    row = {
        "messages": [
            {"role": "system", "content": "Help."},
            {"role": "user", "content": "Where is order 7?"},
            {"role": "assistant", "content": None, "tool_calls": [call()]},
            {"role": "tool", "tool_call_id": "a", "content": "on its way"},
            {"role": "assistant", "content": "It is on its way.", "reasoning_content": "Good."},
        ],
        "tools": [TOOL],
    }
    return row | changes


def write(path: Path, *rows_: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_), encoding="utf-8")
    return path


def one(tmp_path: Path, row: Any, **options: Any) -> Trajectory:
    (trajectory,) = read([write(tmp_path / "one.jsonl", row)], **options)
    assert isinstance(trajectory, Trajectory), trajectory
    return trajectory


def bad(tmp_path: Path, row: Any, **options: Any) -> BadRow:
    """The bad row that `row` becomes between two good ones, which both go on."""
    path = write(tmp_path / "bad.jsonl", chat(), row, chat())
    first, middle, last = read([path], **options)
    assert isinstance(first, Trajectory)
    assert isinstance(last, Trajectory)
    assert isinstance(middle, BadRow), middle
    assert middle.source_row == 2
    assert middle.source_file == str(path)
    assert middle.remedy
    return middle


def messages_with(index: int, **changes: Any) -> dict[str, Any]:
    row = chat()
    row["messages"][index] = row["messages"][index] | changes
    return row


def test_a_chat_row_is_read_whole(tmp_path: Path) -> None:
    row = chat(task=3, domain="orders", reward=True)
    trajectory = one(tmp_path, row)
    assert [m.role for m in trajectory.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert trajectory.messages[2].tool_calls[0].arguments == {"id": "7"}
    assert trajectory.messages[3].name == "find"
    assert trajectory.messages[3].tool_call_id == trajectory.messages[2].tool_calls[0].id
    assert trajectory.messages[4].content == "It is on its way."
    assert trajectory.messages[4].reasoning == "Good."
    assert (trajectory.task, trajectory.domain, trajectory.reward) == ("3", "orders", 1.0)
    assert trajectory.tools_declared
    assert trajectory.tools[0].name == "find"
    assert trajectory.source_row == 1


@pytest.mark.parametrize(
    ("names", "domain"),
    [
        (["bash"], "terminal"),
        (["execute_bash", "think", "finish"], "terminal"),
        (["bash", "edit", "create", "find_file", "open", "submit"], "software"),
        (["execute_bash", "str_replace_editor", "browser"], "software"),
        (["web_search", "open_url", "final_answer"], "browsing"),
        (["search", "visit"], "browsing"),
        (["search_direct_flight", "book_reservation"], "tool_use"),
        (["edit_order", "bash"], "tool_use"),
        (["think"], "tool_use"),
    ],
)
def test_the_domain_is_told_from_the_tools(tmp_path: Path, names: list[str], domain: str) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    row = {"tools": tools, "messages": [{"role": "assistant", "content": "Done."}]}
    assert one(tmp_path, row).domain == domain
    assert one(tmp_path, row | {"domain": "mine"}).domain == "mine"
    assert one(tmp_path, row, domain="given").domain == "given"


def test_forms_of_the_same_content_have_one_id(tmp_path: Path) -> None:
    plain = one(tmp_path, chat())
    legacy = chat(tools=None, functions=[TOOL["function"]])
    legacy["messages"][2] = {
        "role": "assistant",
        "content": "",
        "function_call": {"name": "find", "arguments": '{ "id" : "7" }'},
    }
    legacy["messages"][3] = {"role": "function", "name": "find", "content": "on its way"}
    forms: list[Any] = [
        messages_with(0, role="developer"),
        messages_with(1, content=[{"type": "text", "text": "Where is "}, "order 7?"]),
        messages_with(2, tool_calls=[call(arguments={"id": "7"})]),
        messages_with(3, tool_call_id=None),
        messages_with(4, reasoning_content=None, reasoning="Good."),
        messages_with(4, reasoning_content=None, content="<think>\nGood.\n</think>\n\n" + "It is on"
                      " its way."),
        chat(tools=json.dumps([TOOL])),
        chat(tools=[{"type": "function", **TOOL["function"]}]),
        legacy,
    ]  # fmt: skip
    legacy["messages"][4] = chat()["messages"][4]
    assert [one(tmp_path, form).id == plain.id for form in forms] == [True] * len(forms)
    assert one(tmp_path, messages_with(4, content="Other.")).id != plain.id
    assert one(tmp_path, chat(tools=None)).id != plain.id


def test_containers_give_the_same_trajectories(tmp_path: Path) -> None:
    row = chat()
    lines = (json.dumps(row) + "\n\n").encode() * 2
    files = {
        "plain.jsonl": lines,
        "marked.jsonl": b"\xef\xbb\xbf" + lines,
        "array.json": json.dumps([row, row]).encode(),
        "spread_array.txt": json.dumps([row, row], indent=2).encode(),
        "no_suffix": gzip.compress(lines),
        "array_gz": gzip.compress(json.dumps([row, row]).encode()),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        found = list(read([tmp_path / name]))
        assert [t.id for t in found if isinstance(t, Trajectory)] == [one(tmp_path, row).id] * 2
    spread = tmp_path / "spread.json"
    spread.write_text(json.dumps(row, indent=2))
    assert [t.id for t in read([spread]) if isinstance(t, Trajectory)] == [one(tmp_path, row).id]


def test_a_broken_first_line_does_not_hide_the_others(tmp_path: Path) -> None:
    for first in ("[1, 2]", "[1, 2", "{", "[]", "7"):
        path = tmp_path / "rows.jsonl"
        path.write_text(first + "\n" + json.dumps(chat()) + "\n")
        broken, good = read([path])
        assert isinstance(broken, BadRow)
        assert isinstance(good, Trajectory)


def test_results_are_tied_even_where_ids_are_reused_or_missing(tmp_path: Path) -> None:
    two = [call(id_="x"), call(arguments='{"id": "8"}', id_="y")]
    row = {
        "messages": [
            {"role": "user", "content": "Both?"},
            {"role": "assistant", "tool_calls": two},
            {"role": "tool", "tool_call_id": "y", "content": "eight"},
            {"role": "tool", "tool_call_id": "x", "content": "seven"},
            {"role": "assistant", "tool_calls": [call(id_="x")]},
            {"role": "tool", "content": "again"},
        ]
    }
    messages = one(tmp_path, row).messages
    ids = [c.id for m in messages for c in m.tool_calls]
    assert len(set(ids)) == 3
    assert [m.tool_call_id for m in messages if m.role == Role.TOOL] == [ids[1], ids[0], ids[2]]


@pytest.mark.parametrize(
    ("row", "reason", "place"),
    [
        (messages_with(2, tool_calls=[call(arguments='{"id": ')]), "undecodable arguments", "2"),
        (messages_with(2, tool_calls=[call(arguments="[1]")]), "undecodable arguments", "find"),
        (messages_with(2, tool_calls=[call(arguments='{"id": NaN}')]), "undecodable", "find"),
        (messages_with(2, tool_calls=[call("lose")]), "undeclared tool", "'lose'"),
        (messages_with(2, tool_calls=[{"id": "a"}]), "unreadable call", "message 2"),
        (messages_with(2, tool_calls="find"), "unreadable call", "message 2"),
        (messages_with(3, tool_call_id="b"), "tool result without its call", "'b'"),
        (messages_with(1, content={"text": "hi"}), "content is not text", "message 1"),
        (messages_with(1, content=[{"type": "image_url"}]), "content is not text", "image_url"),
        (messages_with(1, role="narrator"), "unreadable message", "message 1"),
        (messages_with(1, tool_calls=[call()]), "unreadable message", "message 1"),
        (chat(messages=[{"role": "user", "content": "hi"}]), "no assistant turn", "learn"),
        (chat(messages=[]), "no assistant turn", ""),
        (chat(tools=[{"type": "function"}]), "unreadable tools", "tool 0"),
        (chat(tools=[TOOL, TOOL]), "unreadable tools", "twice"),
        (chat(reward="high"), "unreadable reward", "number"),
        (chat(task={"id": 1}), "unreadable task", "string"),
        (chat(accepted_actions={"1": []}), "unreadable accepted_actions", "'1'"),
        (chat(accepted_actions={"99": []}), "unreadable accepted_actions", "'99'"),
        (
            chat(accepted_actions={"2": [{"role": "assistant", "tool_calls": [call("lose")]}]}),
            "undeclared tool",
            "accepted action of message 2",
        ),
        ({"prompt": "x"}, "unknown format", "prompt"),
        ([1, 2], "unknown format", "openai_chat"),
    ],
)
def test_a_bad_row_says_why(tmp_path: Path, row: Any, reason: str, place: str) -> None:
    found = bad(tmp_path, row)
    assert found.reason.startswith(reason)
    assert place in found.remedy
    assert len(found.excerpt) <= rows.EXCERPT_CHARACTERS + 1


def test_undecodable_lines_are_bad_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_LINE_BYTES", 2000)
    good = json.dumps(chat()).encode()
    lines = [
        good,
        b'{"messages": [',
        b'{"messages": "\xe9"}',
        b'{"m": "' + b"x" * 9000 + b'"}',
        good,
    ]
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(b"\n".join(lines))
    found = list(read([path]))
    assert [type(f) for f in found] == [Trajectory, BadRow, BadRow, BadRow, Trajectory]
    reasons = [(f.source_row, f.reason) for f in found if isinstance(f, BadRow)]
    assert reasons == [(2, "broken JSON"), (3, "not UTF-8"), (4, "line too long")]
    assert isinstance(found[4], Trajectory)
    assert found[4].source_row == 5


def test_a_cut_gzip_keeps_the_rows_before_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "cut.gz"
    data = gzip.compress(("".join(json.dumps(chat(task=i)) + "\n" for i in range(50))).encode(), 0)
    path.write_bytes(data[: len(data) // 2])
    *good, last = read([path])
    assert len(good) > 10
    assert all(isinstance(row, Trajectory) for row in good)
    assert isinstance(last, BadRow)
    assert last.reason == "broken gzip"


def test_declared_nowhere_is_undeclared_not_bad(tmp_path: Path) -> None:
    row = chat(tools=None)
    assert not one(tmp_path, row).tools_declared
    tools = read_tools(write(tmp_path / "tools.json", [TOOL]))
    assert one(tmp_path, row, tools=tools).tools_declared
    other = read_tools(write(tmp_path / "other.json", [{"name": "other"}]))
    assert bad(tmp_path, row, tools=other).reason == "undeclared tool"
    assert one(tmp_path, chat(), tools=other).tools[0].name == "find"  # the row's own tools win


def test_accepted_actions_are_read_like_turns(tmp_path: Path) -> None:
    alternative = {"role": "assistant", "tool_calls": [call(arguments='{"id": "07"}', id_="zz")]}
    trajectory = one(tmp_path, chat(accepted_actions={"2": [alternative]}))
    (action,) = trajectory.accepted_actions[2]
    assert action.tool_calls[0].arguments == {"id": "07"}
    assert action.tool_calls[0].id == trajectory.messages[2].tool_calls[0].id


def test_equivalences_are_kept(tmp_path: Path) -> None:
    tool = {"type": "function", "x-pivotrl": {"a": 1}, "function": TOOL["function"]}
    assert one(tmp_path, chat(tools=[tool])).tools[0].x_pivotrl == {"a": 1}


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", ConfigError, "empty"),
        (b" \n \n", ConfigError, "empty"),
        (b"[]", ConfigError, "empty"),
        (b"[{", PivotRLError, "broken JSON"),
        (b"hello\nworld\n", PivotRLError, "none of 2 rows"),
        (b"\x89PNG\r\n\x1a\n\x00", PivotRLError, "not UTF-8"),
        ('{"messages": []}'.encode("utf-16"), PivotRLError, "UTF-16"),
        (b'{"a": 1}', PivotRLError, "hermes, openai_chat, responses"),
    ],
)
def test_a_file_without_a_usable_row_is_an_error(
    tmp_path: Path, data: bytes, error: type[Exception], says: str
) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(data)
    with pytest.raises(error, match=says) as caught:
        list(read([path]))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_error_before_any_row(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read([write(tmp_path / "good.jsonl", chat()), tmp_path / "missing.jsonl"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="folder"):
        read([tmp_path / "empty"])
    with pytest.raises(ConfigError, match=r"cannot be read"):
        read_tools(tmp_path / "missing.json")


def test_reading_lines_holds_one_row_at_a_time(tmp_path: Path) -> None:
    row = chat()
    row["messages"][1]["content"] = "x" * 100_000
    path = write(tmp_path / "long.jsonl", *[row] * 100)
    tracemalloc.start()
    assert sum(1 for _ in read([path])) == 100
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # the file has ten million bytes


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(JSON_VALUES, st.sampled_from(["row", "messages", "tools", "accepted_actions", "call"]))
def test_no_json_crashes_the_reader(
    tmp_path_factory: pytest.TempPathFactory, value: Any, where: str
) -> None:
    row: Any = chat()
    if where == "row":
        row = value
    elif where == "call":
        row["messages"][2]["tool_calls"][0]["function"] = value
    else:
        row[where] = value
    path = write(tmp_path_factory.mktemp("fuzz") / "rows.jsonl", row, chat())
    found = list(read([path]))
    assert len(found) == 2
    assert isinstance(found[1], Trajectory)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=8), JSON_VALUES, st.text(max_size=8)), max_size=4),
    st.none() | st.floats(0, 1),
)
def test_rows_come_back_from_their_columns(
    tmp_path_factory: pytest.TempPathFactory,
    turns: list[tuple[str, Any, str]],
    reward: float | None,
) -> None:
    row = chat(reward=reward, accepted_actions={"2": [{"role": "assistant", "content": "No."}]})
    for content, argument, reasoning in turns:
        row["messages"] += [
            {"role": "user", "content": content},
            {"role": "assistant", "tool_calls": [call(arguments={"v": argument})]}
            | {"reasoning_content": reasoning},
        ]
    trajectory = one(tmp_path_factory.mktemp("rows"), row)
    assert from_row(to_row(trajectory)) == trajectory
    assert to_row(trajectory)["turns"] == 2 + len(turns)


def test_a_row_keeps_the_order_in_which_templates_render_keys(tmp_path: Path) -> None:
    row = chat()
    row["messages"][2]["tool_calls"][0]["function"]["arguments"] = '{"z": 1, "a": 2}'
    row["tools"][0] = copy.deepcopy(TOOL)
    row["tools"][0]["function"]["parameters"]["properties"] = {"z": {}, "a": {}, "id": {}}
    trajectory = from_row(to_row(one(tmp_path, row)))
    assert [*trajectory.messages[2].tool_calls[0].arguments] == ["z", "a"]
    assert [*trajectory.tools[0].parameters["properties"]] == ["z", "a", "id"]
    assert [*tool_to_json(trajectory.tools[0])["function"]] == ["name", "description", "parameters"]


@real_data
def test_the_real_tau_bench_file_is_read_whole() -> None:
    tools = read_tools(DATA / "tau-bench" / "tools_airline.json")
    path = DATA / "tau-bench" / "gpt-4o-airline.json"
    summary = summarise([path], tools=tools)
    assert (summary.rows, summary.trajectories, summary.solved) == (200, 200, 84)
    assert (summary.turns, summary.text_turns, summary.tool_call_turns) == (2454, 1290, 1164)
    assert sum(summary.tools.values()) == 1164
    assert summary.candidates == {"tool_use, text": 1282, "tool_use, tool call": 1164}
    assert summary.duplicates == 8
    assert set(summary.tools) <= {t.name for t in tools}
    assert summary.formats == {"tau_bench": 200}
    assert not summary.bad_rows
    assert summary.undeclared == 0
    assert summarise([path]).undeclared > 150
