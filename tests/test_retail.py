"""The live retail domain: what its policy asks for, and what its user and tools take."""

from __future__ import annotations

import json
from functools import partial

import pytest
from live_domains import after

from pivotrl.environments.retail import DOMAIN
from pivotrl.environments.retail.expert import expert_actions
from pivotrl.environments.retail.tasks import KINDS, resolve
from pivotrl.environments.turns import call_action as call
from pivotrl.types import JSON, Action

ENVIRONMENT = DOMAIN.environment
TASKS = DOMAIN.make_tasks("train", 1000, 1, horizon=1)
act = partial(after, DOMAIN)


def first_task(kind: str, rule: int | None = None, **wanted: JSON) -> JSON:
    """The first train task with one request of this kind, rule and request fields."""
    for task in TASKS:
        request = task["requests"][0]
        fits = all(request.get(k, task.get(k)) == v for k, v in wanted.items())
        if fits and (request["kind"], resolve(task, request).rule) == (kind, rule):
            return task
    raise AssertionError(f"no {kind} task with rule {rule} and {wanted}")


@pytest.mark.parametrize("horizon", [None, 1, 6])
def test_requests_are_of_every_kind(horizon: int | None) -> None:
    tasks = DOMAIN.make_tasks("test", 40, 0, horizon)
    assert {request["kind"] for task in tasks for request in task["requests"]} == set(KINDS)


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
