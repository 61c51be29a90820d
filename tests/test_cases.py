"""`pivotrl verify` and `pivotrl verdicts`: single judgements from rows of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from flows.cli import app
from pivotrl.trajectories.rows import Row, read_rows
from pivotrl.types import VerdictStatus
from pivotrl.verifiers.cases import judge_cases, judge_row, rates

FIND = {
    "type": "function",
    "function": {
        "name": "find",
        "parameters": {
            "type": "object",
            "properties": {"id": {"type": "string"}, "full": {"type": "boolean", "default": False}},
            "required": ["id"],
        },
    },
}


def call(arguments: Any, name: str = "find") -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
        ],
    }


def row(action: Any, **changes: Any) -> dict[str, Any]:
    return {
        "domain": "tool_use",
        "tools": [FIND],
        "messages": [{"role": "user", "content": "Where is order 7?"}],
        "demonstration": call('{"id": "7"}'),
        "action": action,
    } | changes


def verdict(value: Any) -> Any:
    return judge_row(Row(number=1, value=value))


@pytest.mark.parametrize(
    ("action", "reward", "category"),
    [
        (call('{"full": false, "id": "7"}'), 1.0, "accepted"),
        (call({"id": "7"}), 1.0, "accepted"),
        (call('{"id": "8"}'), 0.0, "wrong_argument"),
        (call('{"id": "7"'), 0.0, "malformed"),
        ({"role": "assistant", "content": "It is on its way."}, 0.0, "text_instead_of_call"),
        (None, 0.0, "malformed"),
        (call([1]), 0.0, "malformed"),
    ],
)
def test_an_action_in_chat_form_is_judged(action: Any, reward: float, category: str) -> None:
    found = verdict(row(action))
    assert (found.status, found.reward, found.category) == (VerdictStatus.OK, reward, category)


@pytest.mark.parametrize(
    "said",
    [
        {"content": None, "function_call": {"name": "find", "arguments": '{"id": "7"}'}},
        {"content": "<think>\nIt is 7.\n</think>\n\nOrder 7 is on its way."},
        {"content": None, "refusal": "I cannot help with weapons."},
        {"content": ["Order 7 is on its way."]},
    ],
)
def test_an_action_is_read_as_its_demonstration_is(said: dict[str, Any]) -> None:
    message = {"role": "assistant"} | said
    assert verdict(row(message, demonstration=message)).reward == 1.0
    assert verdict(row({"role": "user"} | said, demonstration=message)).category == "malformed"


@pytest.mark.parametrize(
    "value",
    [7, {}, row(call("{}"), domain="no such domain"), row(call("{}"), demonstration="text")],
)
def test_a_row_that_cannot_be_read_is_an_error_and_no_reward(value: Any) -> None:
    found = verdict(value)
    assert (found.status, found.reward) == (VerdictStatus.ERROR, None)
    assert found.details["why"]


def test_accepted_actions_of_the_row_count() -> None:
    other = call('{"id": "8"}')
    assert verdict(row(other, accepted_actions=[other])).reward == 1.0


CASES = sorted((Path(__file__).parent / "verdicts").glob("*.jsonl"))
STRANGERS = Path(__file__).parent / "strangers"
"""Cases written blind, from the task's description alone; README.md has the rates of the first
trial. What was mended since is of kinds, not of single cases."""


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_labelled_cases(path: Path) -> None:
    """The targets of the project: 0.99 and 0.97 for tool calls, 0.97 and 0.93 elsewhere."""
    cases = list(judge_cases((str(path), row) for row in read_rows(path)))
    misses = [f"row {case.row}: {case.why}" for case in cases if case.says != case.accepted]
    found, strict = rates(cases), path.stem == "tool_use"
    assert found.precision is not None and found.precision >= (0.99 if strict else 0.97), misses
    assert found.recall is not None and found.recall >= (0.97 if strict else 0.93), misses


@pytest.mark.parametrize(
    ("kind", "domain", "precision", "recall"),
    [
        ("ordinary", "tool_use", 1.0, 0.93),
        ("ordinary", "terminal", 0.98, 0.9),
        ("ordinary", "software", 1.0, 0.91),
        ("ordinary", "browsing", 1.0, 0.96),
        ("hard", "tool_use", 0.96, 0.62),
        ("hard", "terminal", 1.0, 0.66),
        ("hard", "software", 1.0, 0.7),
        ("hard", "browsing", 0.9, 0.66),
        ("varied", "tool_use", 1.0, 0.71),
        ("varied", "terminal", 1.0, 0.71),
        ("varied", "software", 1.0, 0.33),
        ("fresh", "tool_use", 0.98, 0.88),
        ("fresh", "terminal", 1.0, 0.86),
        ("fresh", "software", 1.0, 0.88),
        ("fresh", "browsing", 1.0, 0.75),
        ("second", "tool_use", 1.0, 0.41),
        ("second", "terminal", 0.96, 0.43),
        ("second", "software", 1.0, 0.38),
        ("second", "browsing", 0.95, 0.4),
    ],
)
def test_strangers_cases_are_judged_no_worse(
    kind: str, domain: str, precision: float, recall: float
) -> None:
    """What was reached, in recall below the targets: a change may only raise it.

    Ordinary are actions as models sample them, hard the hardest that their writer could think of,
    varied what a sloppy verifier would refuse, or take, each in a way of its own, fresh and second
    what two models say at the same turn, written after the last mending by others' cases, second
    with no two of one kind.
    """
    path = STRANGERS / kind / f"{domain}.jsonl"
    cases = list(judge_cases((str(path), row) for row in read_rows(path)))
    found = rates(cases)
    assert found.precision is not None and found.precision >= precision
    assert found.recall is not None and found.recall >= recall
    if domain == "tool_use":
        rows = [row.value for row in read_rows(path)]
        called = [
            case
            for case, row in zip(cases, rows, strict=True)
            if row["demonstration"].get("tool_calls")
        ]
        assert rates(called).precision == 1.0


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_demonstration_of_a_case_is_accepted_as_an_action(path: Path) -> None:
    for row in read_rows(path):
        assert isinstance(row.value, dict)
        own = row.value | {"action": row.value["demonstration"]}
        assert verdict(own).reward == 1.0, row.number


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    JSON_VALUES,
    st.sampled_from(["action", "content", "tool_calls", "call", "arguments", "argument"]),
    st.sampled_from(["tool_use", "terminal", "software", "browsing"]),
    st.sampled_from(["find", "bash", "str_replace_editor", "search", "open_url"]),
)
def test_no_action_whatever_raises(value: Any, where: str, domain: str, name: str) -> None:
    action: Any = call('{"id": "7"}', name)
    if where == "action":
        action = value
    elif where == "call":
        action["tool_calls"][0]["function"] = value
    elif where == "argument":
        keys = ("command", "path", "query", "url", "id")
        action["tool_calls"][0]["function"]["arguments"] = dict.fromkeys(keys, value)
    elif where == "arguments":
        action["tool_calls"][0]["function"]["arguments"] = value
    else:
        action[where] = value
    known = {"command": "ls", "path": "a.py", "query": "a", "url": "https://a.org"}
    demonstration = call(known, name)
    judged = verdict(row(action, domain=domain, demonstration=demonstration, tools=[]))
    assert judged.status is not VerdictStatus.ERROR, judged


def test_an_exception_of_ours_is_an_error_and_no_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("a defect")

    for module, name in (("browsing", "_difference"), ("software", "_difference")):
        monkeypatch.setattr(f"pivotrl.verifiers.{module}.{name}", broken)
    monkeypatch.setattr("pivotrl.verifiers.terminal.normal_form", broken)
    acts = {
        "browsing": call({"query": "a"}, "search"),
        "software": call({"path": "a.py"}, "view"),
        "terminal": call({"command": "ls"}, "bash"),
    }
    others = {"terminal": call({"command": "pwd"}, "bash")}
    for domain, act in acts.items():
        given = others.get(domain, act)
        found = verdict(row(given, domain=domain, demonstration=act, tools=[]))
        assert (found.status, found.reward) == (VerdictStatus.ERROR, None), domain


def test_the_command_prints_every_row_with_its_verdict(tmp_path: Path) -> None:
    path = tmp_path / "actions.jsonl"
    path.write_text(
        json.dumps(row(call('{"id": "7"}'), note="kept")) + "\nno json\n" + json.dumps(row(None))
    )
    done = CliRunner().invoke(app, ["verify", "--jsonl", str(path)])
    assert done.exit_code == 0
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert first["note"] == "kept"
    assert first["verdict"]["reward"] == 1.0
    assert second["verdict"]["status"] == "error"
    assert third["verdict"]["category"] == "malformed"


def test_verdicts_prints_rates_and_misses(tmp_path: Path) -> None:
    cases = [
        row(call('{"id": "7"}'), accepted=True, why="the same"),
        row(call('{"id": "8"}'), accepted=False, why="another order"),
        row(call('{"id": "8"}'), accepted=True, why="labelled wrongly"),
    ]
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(map(json.dumps, cases)))
    done = CliRunner().invoke(app, ["verdicts", str(path), "--json"])
    found = json.loads(done.stdout)
    assert found["domains"]["tool_use"] == {
        "n": 3,
        "precision": 1.0,
        "recall": 0.5,
        "asked": 0,
        "recall_judged": 0.5,
    }
    assert [miss["row"] for miss in found["misses"]] == [3]
    assert "labelled wrongly" in CliRunner().invoke(app, ["verdicts", str(path)]).stdout
