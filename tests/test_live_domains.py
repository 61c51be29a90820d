"""Every live domain: solvable, deterministic, robust; its demonstrations judge as it does."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable
from copy import deepcopy
from functools import cache
from pathlib import Path
from statistics import fmean

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_domains import CASES, Case, after, different, mixed_turns

from pivotrl.candidates import extract
from pivotrl.environments import ENVIRONMENTS, live_domain
from pivotrl.environments.demonstrations import write_demonstrations
from pivotrl.environments.domain import LiveDomain, split_of
from pivotrl.environments.turns import call_action as call
from pivotrl.trajectories import read
from pivotrl.types import (
    Action,
    ConfigError,
    EnvironmentState,
    Message,
    Role,
    ToolCall,
    Trajectory,
    action_of,
    canonical,
    message_to_json,
)
from pivotrl.verifiers import verifier_for

ROWS, LONG_ROWS = 12, 1


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def domain(request: pytest.FixtureRequest) -> LiveDomain:
    return live_domain(request.param)


@pytest.fixture(scope="module")
def case(domain: LiveDomain) -> Case:
    return CASES[domain.name]


def test_tasks_are_deterministic_distinct_and_disjoint(domain: LiveDomain, case: Case) -> None:
    splits = {s: domain.make_tasks(s, 40, 7) for s in ("train", "validation", "test")}
    ids = [task["id"] for tasks in splits.values() for task in tasks]
    assert len(set(ids)) == 120
    assert all(split_of(task) == split for split, tasks in splits.items() for task in tasks)
    again, other = (domain.make_tasks("train", 40, seed) for seed in (7, 8))
    assert splits["train"] == again != other
    rng = random.Random(0)
    drawn = [domain.draw(rng) for _ in range(case.draws)]
    assert len({task["id"] for task in drawn}) == case.draws
    assert {task["kind"] for task in drawn} == set(case.kinds)


@pytest.mark.parametrize(
    ("name", "horizon"), [(name, horizon) for name in CASES for horizon in CASES[name].turns]
)
def test_expert_solves_every_task_in_the_turns_of_the_horizon(
    name: str, horizon: int | None
) -> None:
    domain = live_domain(name)
    fewest, most = CASES[name].turns[horizon]
    for task in domain.make_tasks("test", 40 if horizon else 100, 0, horizon):
        state, right = domain.demonstration(task, random.Random(task["id"]))
        assert domain.environment.score(state) == 1.0
        assert fewest <= len(right) <= most
        assert state.messages[-1].role is not Role.USER  # nothing was left to say


def test_other_horizons_are_refused(domain: LiveDomain, case: Case) -> None:
    for horizon in case.bad_horizons:
        with pytest.raises(ConfigError, match=f"horizon = {horizon}: .*{case.limits}"):
            domain.draw(random.Random(0), horizon)


def noisy_success(domain: LiveDomain, n: int, skill: float, horizon: int | None) -> float:
    rng = random.Random(5)
    episodes = (domain.noisy_episode(rng, skill, horizon) for _ in range(n))
    return fmean(map(domain.environment.score, episodes))


def test_noisy_agent_half_knows_the_domain(domain: LiveDomain, case: Case) -> None:
    for horizon, (least, most) in case.noisy_success.items():
        assert least <= noisy_success(domain, 100 if horizon else 300, 0.0, horizon) <= most
    assert noisy_success(domain, 60, 1.0, None) == 1.0
    assert noisy_success(domain, 10, 1.0, case.long) == 1.0


def test_noisy_episodes_are_fast(domain: LiveDomain) -> None:
    start = time.process_time()
    noisy_success(domain, 100, 0.0, None)
    assert time.process_time() - start < 100 / 150  # wanted: 300 a second; slack for busy machines


def test_some_turns_give_a_signal_and_some_do_not(domain: LiveDomain, case: Case) -> None:
    least, most = case.equal
    assert least <= fmean(not mixed for _, mixed in mixed_turns(domain.name)) <= most


def stepped(domain: LiveDomain, state: EnvironmentState, action: Action) -> EnvironmentState:
    """The next state, after checks that `step` is pure."""
    before, task = deepcopy(state), canonical(state.task)
    following = domain.environment.step(state, action)
    assert following == domain.environment.step(state, action)
    assert state == before
    assert canonical(state.task) == task
    return following


def test_step_is_pure(domain: LiveDomain, case: Case) -> None:
    rng = random.Random(0)
    tasks = [*domain.make_tasks("test", 8, 2), *domain.make_tasks("test", 1, 2, case.long)]
    for task in tasks:
        state = domain.environment.reset(task)
        while not state.done:
            for action in different(domain.noisy(state, rng) for _ in range(4)):
                stepped(domain, state, action)
            last = domain.expert(state)[0]
            state = stepped(domain, state, last)
        assert stepped(domain, state, last) == state


def test_silence_ends_the_episode_unsolved(domain: LiveDomain, case: Case) -> None:
    (task,) = domain.make_tasks("test", 1, 0)
    limit = case.max_turns(task)
    state = after(domain, domain.environment.reset(task), *[Action()] * (limit - 1))
    assert not state.done
    ended = after(domain, state, Action())
    assert ended.done
    assert domain.environment.score(ended) == 0.0
    assert not domain.oracle(ended, Action())


HOSTILE_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@cache
def hostile_actions(name: str) -> st.SearchStrategy[Action]:
    """Nonsense, and calls that are well formed but for what they ask."""
    words = st.sampled_from(CASES[name].hostile)
    tools = {
        tool.name: tool.parameters["properties"] for tool in live_domain(name).environment.tools
    }
    keys = st.sampled_from(sorted({key for properties in tools.values() for key in properties}))
    calls = st.builds(
        ToolCall,
        name=st.sampled_from(list(tools)) | st.text(max_size=5) | st.none(),
        arguments=HOSTILE_VALUES | st.dictionaries(keys, HOSTILE_VALUES | words, max_size=3),
    )
    for tool, properties in tools.items():
        arguments = st.fixed_dictionaries(dict.fromkeys(properties, words))
        calls |= st.builds(ToolCall, name=st.just(tool), arguments=arguments)
    return st.builds(
        Action,
        text=st.text() | words,
        tool_calls=st.lists(calls, max_size=2).map(tuple),
        malformed=st.sampled_from([(), ("no closing tag",)]),
    )


@cache
def starts(name: str) -> list[EnvironmentState]:
    """States of the expert that lack three right turns at least, so hostile ones solve nothing."""
    domain = live_domain(name)
    found = []
    for task in domain.make_tasks("train", 4, 1):
        state = domain.environment.reset(task)
        for actions in domain.demonstration(task)[1][:-2]:
            found.append(state)
            state = after(domain, state, actions[0])
    return found


@settings(max_examples=100)
@given(data=st.data())
def test_hostile_actions_never_raise_and_never_solve(
    domain: LiveDomain, case: Case, data: st.DataObject
) -> None:
    state = data.draw(st.sampled_from(starts(domain.name)))
    for action in data.draw(st.lists(hostile_actions(domain.name), max_size=6)):
        known = len(state.messages)
        state = stepped(domain, state, action)
        assert domain.environment.score(state) == 0.0
        results = [m for m in state.messages[known:] if m.role is Role.TOOL]
        assert all(len(result.content) <= case.result_characters for result in results)
        if not state.done:
            assert domain.expert(state)
            assert domain.noisy(state, random.Random(0))


@pytest.fixture(scope="module")
def demonstrations(
    domain: LiveDomain, case: Case, tmp_path_factory: pytest.TempPathFactory
) -> dict[int | None, Path]:
    """By horizon."""
    folder = tmp_path_factory.mktemp(domain.name)
    files = {None: folder / "rows.jsonl", case.long: folder / "long.jsonl"}
    for horizon, path in files.items():
        write_demonstrations(domain, path, LONG_ROWS if horizon else ROWS, 0, horizon=horizon)
    return files


def test_demonstrations_are_plain_openai_chat(
    domain: LiveDomain, demonstrations: dict[int | None, Path], tmp_path: Path
) -> None:
    for horizon, path in demonstrations.items():
        n = LONG_ROWS if horizon else ROWS
        rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        tasks = domain.make_tasks("train", n, 0, horizon)
        assert [row["task"] for row in rows] == [task["id"] for task in tasks]
        for row in rows:
            assert (row["domain"], row["reward"]) == (domain.environment.domain, 1.0)
            assert isinstance(row["messages"], list)
            for index, actions in row["accepted_actions"].items():
                assert row["messages"][int(index)]["role"] == "assistant"
                assert row["messages"][int(index)] not in actions
            for message in row["messages"]:
                for tool_call in message.get("tool_calls", ()):
                    assert isinstance(json.loads(tool_call["function"]["arguments"]), dict)
        write_demonstrations(domain, tmp_path / path.name, n, 0, horizon=horizon)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in demonstrations.values()}


def trajectories(path: Path) -> list[Trajectory]:
    """All rows; none is quarantined."""
    found = list(read([path]))
    assert all(isinstance(trajectory, Trajectory) for trajectory in found)
    return [trajectory for trajectory in found if isinstance(trajectory, Trajectory)]


def test_demonstrations_are_read_back_whole(
    domain: LiveDomain, demonstrations: dict[int | None, Path]
) -> None:
    for horizon, path in demonstrations.items():
        found = trajectories(path)
        assert len(found) == (LONG_ROWS if horizon else ROWS)
        for trajectory in found:
            assert (trajectory.reward, trajectory.domain) == (1.0, domain.environment.domain)
            assert trajectory.accepted_actions
            turns = [i for i, m in enumerate(trajectory.messages) if m.role is Role.ASSISTANT]
            assert [candidate.turn for candidate in extract(trajectory)] == turns


def test_rewards_from_the_row_agree_with_the_oracle(
    domain: LiveDomain, case: Case, demonstrations: dict[int | None, Path]
) -> None:
    verifier, rng = verifier_for(domain.environment.domain), random.Random(0)
    n_right, agreed = 0, list[bool]()
    for horizon, path in demonstrations.items():
        tasks = domain.make_tasks("train", LONG_ROWS if horizon else ROWS, 0, horizon)
        for task, trajectory in zip(tasks, trajectories(path), strict=True):
            state = domain.environment.reset(task)
            for candidate in extract(trajectory):
                assert shown(state.messages) == shown(candidate.messages)
                right = [*map(action_of, (candidate.demonstration, *candidate.accepted_actions))]
                wrong = [other for action in right for other in mutations(case, action)]
                noisy = [domain.noisy(state, rng) for _ in range(4)]
                actions = {repr(action): action for action in (*right, *wrong, *noisy)}
                truth = {key: domain.oracle(state, action) for key, action in actions.items()}
                reward = {k: verifier.verify(candidate, a).reward for k, a in actions.items()}
                for action in right:
                    assert (truth[repr(action)], reward[repr(action)]) == (True, 1.0), action
                for action in wrong:
                    assert (truth[repr(action)], reward[repr(action)]) == (False, 0.0), action
                agreed += [reward[key] == float(truth[key]) for key in map(repr, noisy)]
                n_right += len(right)
                state = after(domain, state, right[0])
    assert n_right >= case.right_actions
    assert fmean(agreed) >= case.agreement


def shown(messages: Iterable[Message]) -> list[str]:
    return [message.content for message in messages]


def mutations(case: Case, action: Action) -> list[Action]:
    """Actions that are wrong wherever `action` is right."""
    anywhere = [Action(), Action(tool_calls=action.tool_calls * 2), call("no_such_tool")]
    return [*anywhere, *case.mutations(action)]


def test_language_is_small(domain: LiveDomain, case: Case) -> None:
    fewest, most = case.tools
    assert fewest <= len(domain.environment.tools) <= most
    tokens = domain.single_tokens
    assert len(tokens) == len(set(tokens)) <= case.single_tokens
    assert not any(a in b for a in tokens for b in tokens if a != b)
    for task in domain.make_tasks("train", 50, 0):
        policy, *others = domain.demonstration(task)[0].messages
        assert len(policy.content.split()) <= case.policy_words
        rows = map(message_to_json, (policy, *others))
        assert sum(len(json.dumps(row).split()) for row in rows) <= case.episode_words
