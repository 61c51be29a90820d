"""The live retail domain: solvable, deterministic, robust; its demonstrations judge as it does."""

from __future__ import annotations

import json
import random
import re
import time
from itertools import islice
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.candidates import extract
from pivotrl.environments.demonstrations import write_demonstrations
from pivotrl.environments.domain import split_of
from pivotrl.environments.retail import DOMAIN
from pivotrl.environments.retail.expert import expert_actions
from pivotrl.environments.retail.language import ORDERS, POLICY, SINGLE_TOKENS, TOOLS
from pivotrl.environments.retail.noisy import noisy_action
from pivotrl.environments.retail.tasks import KINDS, resolve
from pivotrl.environments.retail.world import Retail, max_turns
from pivotrl.trajectories import read
from pivotrl.types import (
    JSON,
    Action,
    EnvironmentState,
    Role,
    ToolCall,
    Trajectory,
    action_of,
    canonical,
    message_to_json,
)
from pivotrl.verifiers import verifier_for

ENVIRONMENT = Retail()
TASKS = DOMAIN.make_tasks("train", 1000, 1, horizon=1)


def call(name: str, **arguments: JSON) -> Action:
    return Action(tool_calls=(ToolCall(name=name, arguments=arguments),))


def act(state: EnvironmentState, *actions: Action) -> EnvironmentState:
    for action in actions:
        state = ENVIRONMENT.step(state, action)
    return state


def noisy_success(n: int, skill: float = 0.0) -> float:
    rng = random.Random(5)
    return sum(ENVIRONMENT.score(DOMAIN.noisy_episode(rng, skill)) for _ in range(n)) / n


def first_task(kind: str, rule: int | None = None, **wanted: JSON) -> JSON:
    """The first train task with one request of this kind, rule and request fields."""
    for task in TASKS:
        request = task["requests"][0]
        fits = all(request.get(k, task.get(k)) == v for k, v in wanted.items())
        if fits and (request["kind"], resolve(task, request).rule) == (kind, rule):
            return task
    raise AssertionError(f"no {kind} task with rule {rule} and {wanted}")


@pytest.mark.parametrize(("horizon", "turns"), [(None, (3, 12)), (1, (3, 6)), (6, (12, 30))])
def test_expert_solves_every_task(horizon: int | None, turns: tuple[int, int]) -> None:
    kinds = set()
    for task in DOMAIN.make_tasks("test", 200 if horizon is None else 40, 0, horizon):
        state, right = DOMAIN.demonstration(task, random.Random(task["id"]))
        assert ENVIRONMENT.score(state) == 1.0
        assert turns[0] <= len(right) <= turns[1]
        assert state.messages[-1].role is Role.ASSISTANT
        kinds |= {request["kind"] for request in task["requests"]}
    assert kinds == set(KINDS)


def test_noisy_policy_half_knows_the_domain() -> None:
    assert 0.15 <= noisy_success(600) <= 0.35
    assert noisy_success(100, skill=1.0) == 1.0


def test_noisy_episodes_are_fast() -> None:
    rng = random.Random(0)
    start = time.process_time()
    for _ in range(200):
        DOMAIN.noisy_episode(rng)
    assert time.process_time() - start < 200 / 150  # wanted: 300 a second; slack for busy machines


def test_most_turns_give_no_signal_and_some_do() -> None:
    rng = random.Random(0)
    equal = total = 0
    for task in DOMAIN.make_tasks("train", 30, 3):
        state = ENVIRONMENT.reset(task)
        while not state.done:
            rights = {DOMAIN.oracle(state, noisy_action(state, rng)) for _ in range(16)}
            equal, total = equal + (len(rights) == 1), total + 1
            state = act(state, expert_actions(state)[0])
    assert 0.4 <= equal / total <= 0.8


def test_tasks_are_deterministic_distinct_and_disjoint() -> None:
    splits = {s: DOMAIN.make_tasks(s, 300, 7) for s in ("train", "validation", "test")}
    assert splits["test"] == DOMAIN.make_tasks("test", 300, 7) != DOMAIN.make_tasks("test", 300, 8)
    ids = [task["id"] for tasks in splits.values() for task in tasks]
    assert len(set(ids)) == 900
    assert all(split_of(task) == split for split, tasks in splits.items() for task in tasks)


def test_step_is_pure() -> None:
    task = first_task("cancel", reason_said=False)
    before = canonical(task)
    state = ENVIRONMENT.reset(task)
    while not state.done:
        frozen = canonical([state.world, [message_to_json(m) for m in state.messages]])
        action = expert_actions(state)[0]
        following = act(state, action)
        assert following == act(state, action)
        assert frozen == canonical([state.world, [message_to_json(m) for m in state.messages]])
        state = following
    assert canonical(task) == before
    assert act(state, call("get_user", user_id=task["user"])) == state


def test_look_ups_before_acting_and_reason_before_cancelling() -> None:
    task = first_task("cancel", reason_said=False, order_said=True, user_said=True)
    request = task["requests"][0]
    resolution = resolve(task, request)
    assert resolution.call is not None
    cancel = Action(tool_calls=(resolution.call,))
    tell = Action(text="Order {order} is cancelled, {amount}.".format(**resolution.facts))
    get_order = call("get_order", order_id=request["order"])
    get_user = call("get_user", user_id=task["user"])
    why = Action(text="What is the reason?")
    start = ENVIRONMENT.reset(task)
    assert ENVIRONMENT.score(act(start, why, get_order, get_user, cancel, tell)) == 1.0
    assert ENVIRONMENT.score(act(start, get_user, get_order, why, cancel, tell)) == 1.0
    for actions in (
        [get_user, why, cancel],
        [get_order, why, cancel],
        [get_user, get_order, cancel],
    ):
        assert ENVIRONMENT.score(act(start, *actions, tell)) == 0.0
    looked_up = act(start, get_user, get_order, why)
    assert DOMAIN.oracle(act(looked_up, cancel), Action(text=f"{tell.text} Anything else?"))
    assert not DOMAIN.oracle(act(looked_up, cancel), Action(text=tell.text.replace(".", "?")))
    forgetful = Action(text=f"Order {request['order']} is cancelled.")
    assert ENVIRONMENT.score(act(looked_up, cancel, forgetful)) == 0.0
    assert ENVIRONMENT.score(act(looked_up, tell)) == 0.0


def test_an_id_read_off_an_order_is_no_proof() -> None:
    task = first_task("question", user_said=False, order_said=True)
    state = act(ENVIRONMENT.reset(task), call("get_order", order_id=task["requests"][0]["order"]))
    assert task["user"] in state.messages[-1].content
    assert not DOMAIN.oracle(state, call("get_user", user_id=task["user"]))
    assert DOMAIN.oracle(state, Action(text="May I have your user id?"))


@pytest.mark.parametrize("rule", [2, 3, 4, 5])
def test_forbidden_requests_must_be_refused_with_the_rule(rule: int) -> None:
    kind = {2: "cancel", 3: "return", 4: "exchange", 5: "return"}[rule]
    task = first_task(kind, rule)
    state = ENVIRONMENT.reset(task)
    while not (action := expert_actions(state)[0]).text.count("rule"):
        state = act(state, action)
    order = task["requests"][0]["order"]
    assert DOMAIN.oracle(state, action)
    assert not DOMAIN.oracle(state, Action(text=action.text.replace("cannot", "can")))
    assert not DOMAIN.oracle(state, Action(text=action.text.replace(str(rule), str(rule % 5 + 1))))
    assert not DOMAIN.oracle(state, call("cancel_order", order_id=order, reason="mistake"))
    assert not DOMAIN.oracle(state, call("return_order", order_id=order))


def test_integers_are_coerced_and_only_one_call_a_turn() -> None:
    task = first_task("change_quantity", order_said=True, user_said=True)
    request = task["requests"][0]
    order, quantity = request["order"], request["quantity"]
    look_ups = [call("get_user", user_id=task["user"]), call("get_order", order_id=order)]
    state = act(ENVIRONMENT.reset(task), *look_ups)
    for same in (quantity, str(quantity), float(quantity)):
        assert DOMAIN.oracle(state, call("change_order", order_id=order, quantity=same))
    for wrong in (quantity + 1, True, None, "many", 10**5000):
        assert not DOMAIN.oracle(state, call("change_order", order_id=order, quantity=wrong))
    both = Action(tool_calls=(*look_ups[0].tool_calls, *look_ups[1].tool_calls))
    answers = act(ENVIRONMENT.reset(task), both).messages[-2:]
    assert [json.loads(m.content) for m in answers] == [{"error": "make one call a turn"}] * 2


def test_silence_ends_the_episode_unsolved() -> None:
    state = ENVIRONMENT.reset(DOMAIN.make_tasks("test", 1, 0)[0])
    limit = max_turns(state.task)
    assert not act(state, *[Action()] * (limit - 1)).done
    ended = act(state, *[Action()] * limit)
    assert ended.done
    assert ENVIRONMENT.score(ended) == 0.0
    assert not DOMAIN.oracle(ended, Action())


HOSTILE_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
HOSTILE_CALLS = st.builds(
    ToolCall,
    name=st.sampled_from([t.name for t in TOOLS]) | st.text(max_size=5),
    arguments=HOSTILE_VALUES
    | st.dictionaries(
        st.sampled_from(["order_id", "user_id", "product", "reason", "quantity", "new_item_id"]),
        HOSTILE_VALUES | st.sampled_from(SINGLE_TOKENS),
    ),
)
HOSTILE_ACTIONS = st.builds(
    Action,
    text=st.text() | st.sampled_from(["id?", "why?", "cannot rule 2", "?", "9" * 5000]),
    tool_calls=st.lists(HOSTILE_CALLS, max_size=2).map(tuple),
    malformed=st.sampled_from([(), ("no closing tag",)]),
)


@settings(max_examples=100, deadline=None)
@given(actions=st.lists(HOSTILE_ACTIONS, max_size=6), turns=st.integers(0, 4))
def test_hostile_actions_never_raise(actions: list[Action], turns: int) -> None:
    state = ENVIRONMENT.reset(TASKS[turns])
    for _ in range(turns):
        state = act(state, expert_actions(state)[0]) if not state.done else state
    for action in actions:
        known = len(state.messages)
        state = act(state, action)
        assert ENVIRONMENT.score(state) in (0.0, 1.0)
        assert all(len(m.content) < 1000 for m in state.messages[known:] if m.role is Role.TOOL)
        if not state.done:
            assert expert_actions(state)


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("retail") / "demonstrations.jsonl"
    write_demonstrations(DOMAIN, path, 60, 0)
    return path


def test_demonstrations_are_plain_openai_chat(demonstrations: Path, tmp_path: Path) -> None:
    rows = [orjson.loads(line) for line in demonstrations.read_bytes().splitlines()]
    tasks = {task["id"] for task in DOMAIN.make_tasks("train", 60, 0)}
    assert {row["task"] for row in rows} == tasks
    for row in rows:
        assert (row["domain"], row["reward"]) == ("retail", 1.0)
        assert isinstance(row["messages"], list)
        for index, actions in row["accepted_actions"].items():
            assert row["messages"][int(index)]["role"] == "assistant"
            assert row["messages"][int(index)] not in actions
        for message in row["messages"]:
            for tool_call in message.get("tool_calls", ()):
                assert isinstance(json.loads(tool_call["function"]["arguments"]), dict)
    write_demonstrations(DOMAIN, tmp_path / "again.jsonl", 60, 0)
    assert (tmp_path / "again.jsonl").read_bytes() == demonstrations.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["again.jsonl"]


def test_rewards_from_the_row_agree_with_the_oracle(demonstrations: Path) -> None:
    verifier, rng = verifier_for("retail"), random.Random(0)
    tasks = {task["id"]: task for task in DOMAIN.make_tasks("train", 60, 0)}
    agreed = total = 0
    for trajectory in islice(read([demonstrations]), 20):
        assert isinstance(trajectory, Trajectory)
        state = ENVIRONMENT.reset(tasks[trajectory.task or ""])
        for candidate in extract(trajectory):
            assert [m.content for m in state.messages] == [m.content for m in candidate.messages]
            demonstration = action_of(candidate.demonstration)
            right = [demonstration, *map(action_of, candidate.accepted_actions)]
            assert all(DOMAIN.oracle(state, action) for action in right)
            wrong = [mutated for action in right for mutated in mutations(action)]
            assert not any(DOMAIN.oracle(state, action) for action in wrong)
            for action in [*right, *wrong, *(noisy_action(state, rng) for _ in range(4))]:
                reward = verifier.verify(candidate, action).reward
                agreed, total = agreed + (reward == float(DOMAIN.oracle(state, action))), total + 1
            state = act(state, demonstration)
    assert agreed / total >= 0.98


def mutations(action: Action) -> list[Action]:
    """Actions that are wrong wherever `action` is right."""
    wrong = [
        Action(),
        Action(tool_calls=action.tool_calls * 2),
        call("get_user", user_id="U999"),
        call("no_such_tool"),
        call("cancel_order", order_id="W999", reason="mistake"),
        Action(text="Thanks, goodbye."),
    ]
    for tool_call in action.tool_calls:
        for key, value in tool_call.arguments.items():
            other = value + 1 if isinstance(value, int) else f"{value}9"
            wrong.append(call(tool_call.name, **tool_call.arguments | {key: other}))
    facts = re.findall(r"W\d+|USD\d+|rule \d", action.text)
    for fact in facts:
        other = ORDERS[0] if fact[0] == "W" else "USD99" if fact[0] == "U" else "rule 7"
        wrong.append(Action(text=action.text.replace(fact, f"{other}5")))
        wrong.append(Action(text=action.text.replace(fact, "")))
    return wrong


def test_language_is_small() -> None:
    assert len(POLICY.split()) <= 70
    assert 5 <= len(TOOLS) <= 7
    assert len(SINGLE_TOKENS) == len(set(SINGLE_TOKENS)) <= 300
    assert not any(a in b for a in SINGLE_TOKENS for b in SINGLE_TOKENS if a != b)
