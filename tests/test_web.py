"""The live web domain: its library and search, and what counts as an answer."""

from __future__ import annotations

import random
import re
from functools import partial

import pytest
from live_domains import after, mixed_turns

from pivotrl.environments.turns import call_action as call
from pivotrl.environments.web import DOMAIN
from pivotrl.environments.web import pages as library
from pivotrl.environments.web.expert import expert_actions
from pivotrl.environments.web.language import NAMES, TYPES
from pivotrl.environments.web.noisy import noisy_action
from pivotrl.environments.web.tasks import draw_task, queries, route
from pivotrl.types import JSON, Action, EnvironmentState, Role, action_of

ENVIRONMENT = DOMAIN.environment
TASKS = DOMAIN.make_tasks("train", 200, 1)
act = partial(after, DOMAIN)


def expert_until_answer(task: JSON) -> EnvironmentState:
    state = ENVIRONMENT.reset(task)
    while (action := expert_actions(state)[0]).tool_calls:
        state = act(state, action)
    return state


def test_a_task_says_its_turns() -> None:
    turns = set()
    for task in DOMAIN.make_tasks("test", 60, 0):
        _, right = DOMAIN.demonstration(task, random.Random(task["id"]))
        assert len(right) == task["turns"]
        turns.add(len(right))
    assert turns == {4, 5, 6, 7, 8}


def test_questions_differ() -> None:
    rng = random.Random(0)
    assert len({draw_task(rng)["question"] for _ in range(1200)}) > 1150


def test_decisions_of_every_kind_are_mixed_and_routine_turns_are_not() -> None:
    """Searching the name of the question is routine; hops, results and answers are decisions."""
    found: dict[str, list[bool]] = {"start": [], "search": [], "open": [], "answer": []}
    for state, mixed in mixed_turns("web"):
        action = expert_actions(state)[0]
        kind = action.tool_calls[0].name if action.tool_calls else "answer"
        found["start" if len(state.messages) == 2 else kind].append(mixed)
    assert not any(found["start"])
    for kind in ("search", "open", "answer"):
        assert 0.4 <= sum(found[kind]) / len(found[kind]) <= 1.0, kind


@pytest.mark.parametrize("horizon", [None, 24])
def test_a_query_shows_its_page_and_none_that_is_read_later(horizon: int | None) -> None:
    """So no search saves another, and every order of the legs takes the same turns."""
    for task in DOMAIN.make_tasks("test", 60, 2, horizon):
        words, needed = library.index(task["pages"]), {page_id for page_id, _ in route(task)}
        for leg in task["legs"]:
            for at, page_id in enumerate(leg["pages"]):
                for query in queries(task["pages"][page_id]):
                    found = needed.intersection(library.search(words, query))
                    assert found - set(leg["pages"][:at]) == {page_id}


def test_search_ranks_titles_first_and_shows_three_at_most() -> None:
    facts = {"founding year": "AD1850", "railway year": "AD1860"}
    town = {"type": "town", "facts": facts | {"founder": "P7", "mayor": "P8"}, "linked": ["mayor"]}
    person = {
        "type": "person",
        "facts": {"birth year": "AD1851", "move year": "AD1861", "birthplace": "P1", "home": "P2"}
        | {"teacher": "P8", "partner": "P7"},
        "linked": ["birthplace", "home"],
    }
    pages = {
        "P1": town | {"name": "Corva", "tag": "coast"},
        "P2": town | {"name": "Corva", "tag": "hills"},
        "P3": town | {"name": "Norby", "tag": "lake"},
        "P7": person | {"name": "Anka", "tag": "baker"},
        "P8": person | {"name": "Yuri", "tag": "miller"},
    }
    assert library.text(pages, pages["P1"]) == (
        "Corva, coast. Founded AD1850 by Anka, baker. Railway AD1860. Mayor: Yuri P8."
    )
    words = library.index(pages)
    assert library.search(words, "corva HILLS")[:2] == ["P2", "P1"]
    assert library.search(words, "coast, Corva!")[:2] == ["P1", "P2"]
    assert library.search(words, "Anka")[0] == "P7"
    assert len(library.search(words, "Anka")) == 3
    assert library.search(words, "nothing of this") == library.search(words, "") == []


def test_legs_may_be_followed_in_any_order() -> None:
    rng = random.Random(0)
    for task in DOMAIN.make_tasks("test", 40, 4, horizon=14):
        state = ENVIRONMENT.reset(task)
        while not state.done:
            state = act(state, rng.choice(expert_actions(state)))
        assert (ENVIRONMENT.score(state), state.world["turns"]) == (1.0, 14)


def test_only_the_right_answer_that_was_read_solves() -> None:
    for task in TASKS[:60]:
        read_all, answer = expert_until_answer(task), task["answer"]
        for text in (answer, answer.lower(), f"The answer is {answer}.", f"{answer}!"):
            assert ENVIRONMENT.score(act(read_all, Action(text=text))) == 1.0
        other = next(name for name in NAMES if name != answer)
        year = "AD1899"  # beyond all years
        wrong = (f"{answer} or {other}", f"{other}, {answer}", f"{answer} {year}", other, year)
        unsure = (
            f"{answer}?",
            f"not {answer}",
            f"It isn't {answer}",
            "I do not know.",
            answer[:-1],
        )
        for text in (*wrong, *unsure, f"{' ' * 2000}{answer}"):
            assert ENVIRONMENT.score(act(read_all, Action(text=text))) == 0.0, text
        for count in range(2, len(read_all.messages) - 2, 2):
            guess = ENVIRONMENT.reset(task)
            for message in read_all.messages[2 : count + 1]:
                if message.role is Role.ASSISTANT:
                    guess = act(guess, action_of(message))
            assert not DOMAIN.oracle(guess, Action(text=answer))


def test_ids_must_have_been_shown_and_calls_be_well_formed() -> None:
    start = ENVIRONMENT.reset(TASKS[0])
    first = TASKS[0]["legs"][0]["pages"][0]
    name = TASKS[0]["pages"][first]["name"]

    def answer(state: EnvironmentState, action: Action) -> str:
        return act(state, action).messages[-1].content

    assert answer(start, call("open", id=first)) == "error: unknown id"
    searched = act(start, call("search", query=name))
    assert first in searched.messages[-1].content
    assert answer(searched, call("open", id=f" {first} ")).startswith(name)
    assert answer(start, call("search", query="zzz")) == "no results"
    for arguments in ({}, {"query": 5}, {"query": "a" * 101}, {"query": name, "n": 3}, {"q": name}):
        assert answer(start, call("search", **arguments)) == "error: bad arguments"
    assert answer(start, call("browse", query=name)) == "error: unknown tool"
    twice = Action(tool_calls=call("search", query=name).tool_calls * 2)
    answers = act(start, twice).messages[-2:]
    assert [m.content for m in answers] == ["error: make one call a turn"] * 2


def test_noisy_and_expert_go_on_from_any_page() -> None:
    rng = random.Random(0)
    for task in [*TASKS[:60], *DOMAIN.make_tasks("train", 10, 0, 24)]:
        state = ENVIRONMENT.reset(task)
        while not state.done:
            shown = state.world["shown"]
            wander = call("open", id=rng.choice(shown)) if shown else expert_actions(state)[0]
            state = act(state, wander)
            if not state.done:
                assert noisy_action(state, rng)
        expert = act(ENVIRONMENT.reset(task), call("search", query=rng.choice(NAMES)))
        while not expert.done:
            expert = act(expert, expert_actions(expert)[0])
        assert ENVIRONMENT.score(expert) == 1.0


def test_a_tag_is_no_other_word_of_a_page() -> None:
    """A query's words bind: none of them stands in a page for another reason."""
    tags = [tag for page_type in TYPES.values() for tag in page_type.tags]
    words = re.findall(r"\w+", " ".join(t.text for t in TYPES.values()).lower())
    assert len(set(tags)) == len(tags)
    assert not {*tags, *(name.lower() for name in NAMES)} & set(words)
