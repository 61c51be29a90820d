"""The server engine against a real HTTP server: what it takes, refuses and survives."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from policy_endpoint import (
    DRIP,
    HALF,
    HANG,
    HANG_UP,
    STOP,
    VOCABULARY,
    PolicyEndpoint,
    Reply,
    answer,
    completion,
    serving,
)
from tenacity import wait_fixed, wait_none

from pivotrl import http_client
from pivotrl.engines import server as engine_module
from pivotrl.engines.isolation import EngineFailure
from pivotrl.engines.server import GIVE_UP_AFTER, TRIES, ServerEngine
from pivotrl.types import (
    ConfigError,
    FinishReason,
    PivotRLError,
    RolloutStatus,
    SamplingParams,
    seed_of,
)

PROMPTS = [[9, 8, 7], [5, 6], [9, 8, 4]]
SEEDS = [1, 2, 3]
PARAMS = SamplingParams(max_tokens=8, temperature=0.7, top_p=0.9)
KEY = "sk-very-secret"


@pytest.fixture
def server() -> Iterator[PolicyEndpoint]:
    with serving() as state:
        yield state


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "BACK_OFF", wait_none())


def engine_at(url: str, **options: Any) -> ServerEngine:
    return ServerEngine(
        url,
        "policy",
        stop_ids=frozenset({STOP}),
        decode=lambda ids: str(list(ids)),
        vocabulary=VOCABULARY,
        context=32,
        **options,
    )


def replying(*replies: Callable[[dict[str, Any]], Reply]) -> Callable[[dict[str, Any]], Reply]:
    """Each reply once, then honest ones."""
    waiting = list(replies)
    return lambda body: waiting.pop(0)(body) if waiting else (200, answer(body))


def with_status(status: int, **headers: str) -> Callable[[dict[str, Any]], Reply]:
    return lambda body: (status, answer(body), {k.replace("_", "-"): v for k, v in headers.items()})


def test_samples_are_the_servers_token_by_token_in_the_callers_order(server) -> None:
    done: list[tuple[int, int]] = []
    groups = engine_at(server.url + "/").sample(
        PROMPTS, 6, PARAMS, SEEDS, lambda *now: done.append(now)
    )
    for prompt, seed, group in zip(PROMPTS, SEEDS, groups, strict=True):
        for index, sample in enumerate(group):
            assert sample.seed == seed_of(seed, index)
            ids, logprobs = completion(prompt, sample.seed, 8)
            assert (list(sample.token_ids), list(sample.logprobs)) == (ids, logprobs)
            ended = ids[-1] == STOP
            assert sample.text == str(ids[:-1] if ended else ids)
            assert sample.finish_reason == (FinishReason.STOP if ended else FinishReason.LENGTH)
            assert sample.status == RolloutStatus.OK
    samples = [sample for group in groups for sample in group]
    assert {sample.finish_reason for sample in samples} == set(FinishReason)  # both were tried
    assert sum(rows for rows, _ in done) == 18
    assert sum(tokens for _, tokens in done) == sum(len(one.token_ids) for one in samples)
    for body in server.bodies:
        assert (body["model"], body["prompt"] in PROMPTS) == ("policy", True)
        assert (body["max_tokens"], body["temperature"], body["top_p"]) == (8, 0.7, 0.9)
        assert (body["stop_token_ids"], body["skip_special_tokens"]) == ([STOP], False)
        assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (-1, 0, 1)


def test_later_samples_of_a_prompt_go_on_with_its_seeds(server) -> None:
    engine = engine_at(server.url)
    whole = engine.sample(PROMPTS, 5, PARAMS, SEEDS)
    start, rest = (engine.sample(PROMPTS, n, PARAMS, SEEDS, None, at) for n, at in ((2, 0), (3, 2)))
    assert [a + b for a, b in zip(start, rest, strict=True)] == whole


def test_greedy_log_probabilities_are_zero_as_the_distribution_has_one_token(server) -> None:
    greedy = SamplingParams(max_tokens=8, temperature=0)
    ((sample,),) = engine_at(server.url).sample(PROMPTS[:1], 1, greedy, [1])
    assert sample.token_ids and set(sample.logprobs) == {0.0}


def test_ids_may_come_as_token_strings(server) -> None:
    server.reply = lambda body: (200, answer(body, token_ids=None))
    ((sample,),) = engine_at(server.url).sample(PROMPTS[:1], 1, PARAMS, [1])
    assert list(sample.token_ids) == completion(PROMPTS[0], sample.seed, 8)[0]


@pytest.mark.parametrize(
    "other",
    [
        {"token_ids": None, "logprobs": None},
        {"token_ids": None, "logprobs": {"tokens": ["a"], "token_logprobs": [-1.0]}},
        {"logprobs": None},
    ],
    ids=["neither", "no ids", "no log-probabilities"],
)
def test_a_server_without_ids_or_log_probabilities_gives_text_alone(server, other) -> None:
    server.reply = lambda body: (200, answer(body, **other))
    (group,) = engine_at(server.url).sample(PROMPTS[:1], 4, PARAMS, [1])
    for sample in group:
        ids, _ = completion(PROMPTS[0], sample.seed, 8)
        stop = ids[-1] == STOP
        assert (sample.token_ids, sample.logprobs) == ((), ())
        assert sample.status == RolloutStatus.OK
        assert sample.finish_reason == (FinishReason.STOP if stop else FinishReason.LENGTH)
        read = str(ids[:-1] if stop else ids)
        assert sample.text == (f"text of {len(ids)}" if "token_ids" in other else read)


@pytest.mark.parametrize(
    "fault",
    [
        with_status(500),
        with_status(503),
        with_status(429),
        with_status(HALF),
        with_status(HANG_UP),
        with_status(HANG),
        with_status(DRIP),
        lambda body: (200, b"<html>busy</html>"),
    ],
    ids=["500", "503", "429", "half a body", "hangs up", "hangs", "drips", "garbage"],
)
@pytest.mark.usefixtures("impatient")
def test_what_passes_is_asked_again_with_the_same_seed(server, fault) -> None:
    server.reply = replying(fault)
    ((sample,),) = engine_at(server.url, timeout=2).sample(PROMPTS[:1], 1, PARAMS, [1])
    assert sample.status == RolloutStatus.OK
    assert list(sample.token_ids) == completion(PROMPTS[0], seed_of(1, 0), 8)[0]
    assert len(server.bodies) == 2
    assert server.bodies[0] == server.bodies[1]


def test_it_waits_as_long_as_it_is_told_else_longer_each_time(server) -> None:
    told = with_status(429, retry_after="3")
    server.reply = replying(told, with_status(500), with_status(500))
    engine_at(server.url).sample(PROMPTS[:1], 1, PARAMS, [1])
    gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert gaps[0] >= 3.0  # by itself it would wait 0.5 to 1 s
    assert gaps[1] >= 1.0
    assert gaps[2] >= 2.0


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7),
        ("99999999999", http_client.LONGEST_PAUSE),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 9015 07:28:00 GMT", http_client.LONGEST_PAUSE),
        ("-5", None),
        ("nan", None),
        ("", None),
        ("soon", None),
        (None, None),
    ],
)
def test_how_long_a_server_may_ask_to_wait(retry_after, seconds) -> None:
    assert http_client._pause(retry_after) == seconds


def garbled(**other: Any) -> Callable[[dict[str, Any]], Reply]:
    return lambda body: (200, answer(body, **other))


def replaced(old: str, new: str) -> Callable[[dict[str, Any]], Reply]:
    def reply(body: dict[str, Any]) -> Reply:
        text = json.dumps(answer(body))
        assert old in text
        return 200, text.replace(old, new).encode()

    return reply


def logprobs(*numbers: Any) -> dict[str, Any]:
    return {"token_ids": [7, STOP], "logprobs": {"token_logprobs": list(numbers)}}


HOSTILE: dict[str, Callable[[dict[str, Any]], Reply]] = {
    "an error page": lambda body: (200, b"<html>"),
    "nothing": lambda body: (200, b""),
    "a list": lambda body: (200, [1]),
    "null": lambda body: (200, None),
    "an error": lambda body: (200, {"error": {"message": "no"}}),
    "nesting": lambda body: (200, b"[" * 100_000),
    "no choice": lambda body: (200, {"choices": []}),
    "two choices": lambda body: (200, {"choices": answer(body)["choices"] * 2}),
    "a choice that is text": lambda body: (200, {"choices": ["text"]}),
    "too long": lambda body: (200, json.dumps(answer(body)).encode() + b" " * 2**18),
    "another prompt": garbled(prompt_token_ids=[1]),
    "aborted": garbled(finish_reason="abort"),
    "unfinished": garbled(finish_reason=None),
    "a text that is none": garbled(text=5),
    "half a character": replaced('"text of', '"\\ud800'),
    "ids beyond the vocabulary": garbled(token_ids=[VOCABULARY] * 8),
    "ids below it": garbled(token_ids=[-1] * 8),
    "ids too large": garbled(token_ids=[2**70] * 8),
    "ids that are text": garbled(token_ids=["3"] * 8),
    "ids that are not whole": garbled(token_ids=[3.0] * 8),
    "ids that are truths": garbled(token_ids=[True] * 8),
    "ids in an object": garbled(token_ids={"3": 4}),
    "no ids": garbled(token_ids=[], logprobs={"token_logprobs": []}),
    "too many ids": garbled(token_ids=[3] * 9, logprobs=None),
    "ids that are cut off": garbled(token_ids=[3, 4], logprobs=None, finish_reason="length"),
    "ids that stop without an end": garbled(token_ids=[3, 4], logprobs=None, finish_reason="stop"),
    "ids beyond an end": garbled(token_ids=[3, STOP, 3, STOP], logprobs=None),
    "token strings without numbers": garbled(token_ids=None, logprobs={"tokens": ["token_id:x"]}),
    "token strings that are none": garbled(token_ids=None, logprobs={"tokens": [3]}),
    "a text that is cut off": lambda body: (
        200,
        answer(body, token_ids=None, logprobs=None, finish_reason="length")
        | {"usage": {"completion_tokens": 3}},
    ),
    "fewer log-probabilities": garbled(**logprobs(-1.0)),
    "more log-probabilities": garbled(**logprobs(-1.0, -1.0, -1.0)),
    "a log-probability above 0": garbled(**logprobs(-1.0, 0.5)),
    "a log-probability that is NaN": garbled(**logprobs(-1.0, float("nan"))),
    "a log-probability without end": garbled(**logprobs(-1.0, float("-inf"))),
    "a log-probability that is missing": garbled(**logprobs(-1.0, None)),
    "a log-probability that is text": garbled(**logprobs(-1.0, "-1")),
}


@pytest.mark.parametrize("fault", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.usefixtures("impatient")
def test_a_broken_answer_is_no_action_and_touches_no_other(server, fault) -> None:
    server.reply = lambda body: fault(body) if body["prompt"] == [5, 6] else (200, answer(body))
    groups = engine_at(server.url).sample(PROMPTS, 2, PARAMS, SEEDS)
    assert [one.status for one in groups[0] + groups[2]] == [RolloutStatus.OK] * 4
    for index, lost in enumerate(groups[1]):
        assert lost.status == RolloutStatus.ENGINE_ERROR
        assert (lost.token_ids, lost.logprobs, lost.text) == ((), (), "")
        assert lost.seed == seed_of(2, index)
    assert sum(len(body["prompt"]) > 1 for body in server.bodies) == 4 + 2 * TRIES


@pytest.mark.parametrize("status", [HANG, DRIP])
def test_a_time_out_has_its_own_status(server, status, monkeypatch) -> None:
    monkeypatch.setattr(engine_module, "TRIES", 1)
    slow = with_status(status)
    server.reply = lambda body: slow(body) if body["prompt"] == [5, 6] else (200, answer(body))
    groups = engine_at(server.url, timeout=2).sample(PROMPTS, 1, PARAMS, SEEDS)
    assert [one.status for (one,) in groups] == ["ok", "timeout", "ok"]


@pytest.mark.parametrize(
    ("status", "kind", "remedy"),
    [
        (400, PivotRLError, "prompt of 3 tokens"),
        (401, ConfigError, "engine.api_key_env"),
        (403, ConfigError, "engine.api_key_env"),
        (404, ConfigError, "engine.model = 'policy'"),
        (307, PivotRLError, "HTTP 307"),
    ],
)
def test_what_no_retry_helps_ends_the_call_with_a_remedy_and_without_the_key(
    server, status, kind, remedy, monkeypatch, caplog
) -> None:
    monkeypatch.setenv("POLICY_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    server.reply = lambda body: (status, {"error": f"Bearer {KEY} is bad"})
    engine = engine_at(server.url, api_key_env="POLICY_KEY")
    with pytest.raises(kind, match=remedy) as caught:
        engine.sample(PROMPTS[:1], 40, PARAMS, [1])
    assert server.url in str(caught.value)
    assert server.keys == {f"Bearer {KEY}"}
    assert len(server.bodies) <= 32  # each at most once
    told = f"{caught.value!r} {caught.value.__cause__!r} {engine!r} {caplog.text}"
    assert KEY not in told


def test_no_more_requests_at_once_than_allowed_and_that_many(server) -> None:
    server.reply = lambda body: (time.sleep(0.05), (200, answer(body)))[1]
    engine_at(server.url, concurrency=4).sample(PROMPTS, 8, PARAMS, SEEDS)
    assert server.most_at_once == 4


@pytest.mark.usefixtures("impatient")
def test_an_outage_is_waited_for_and_loses_nothing(server, caplog) -> None:
    caplog.set_level(logging.WARNING, logger="pivotrl.engines")
    fault, away = with_status(503), range(20, 400)
    server.reply = lambda body: fault(body) if len(server.bodies) in away else (200, answer(body))
    groups = engine_at(server.url, concurrency=4).sample(PROMPTS, 20, PARAMS, SEEDS)
    assert {one.status for group in groups for one in group} == {RolloutStatus.OK}
    (warning,) = caplog.records
    assert all(part in warning.getMessage() for part in (server.url, "HTTP 503", "300 seconds"))
    assert len({json.dumps(body) for body in server.bodies[100:400]}) == 1  # one alone asks


def test_an_outage_that_lasts_ends_the_call_and_one_request_decides_of_the_next(
    server, caplog, monkeypatch
) -> None:
    monkeypatch.setattr(engine_module, "LONGEST_OUTAGE", 1.0)
    monkeypatch.setattr(engine_module, "TRIES", 1)
    monkeypatch.setattr(http_client, "BACK_OFF", wait_fixed(60))  # it ends with none on its way
    caplog.set_level(logging.WARNING, logger="pivotrl.engines")
    engine = engine_at(server.url, concurrency=1)
    fault = with_status(500)
    server.reply = lambda body: fault(body) if len(server.bodies) > 3 else (200, answer(body))
    (group,) = engine.sample(PROMPTS[:1], 40, PARAMS, [1])
    assert [one.status for one in group] == ["ok"] * 3 + ["engine_error"] * 37
    warning = caplog.records[-1].getMessage()
    assert all(part in warning for part in (server.url, "37 of 40", "HTTP 500"))

    sent = len(server.bodies)
    with pytest.raises(EngineFailure, match="40 of 40") as caught:
        engine.sample(PROMPTS[:1], 40, PARAMS, [1])
    assert server.url in str(caught.value)
    assert len(server.bodies) == sent + 1

    server.reply = lambda body: (200, answer(body))
    (group,) = engine.sample(PROMPTS[:1], 40, PARAMS, [1])
    assert {one.status for one in group} == {RolloutStatus.OK}


@pytest.mark.usefixtures("impatient")
def test_a_prompt_that_always_fails_loses_no_other_however_many_samples_it_has(server) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        if body["prompt"] == [5, 6]:
            return 500, ""
        time.sleep(2.0 if len(body["prompt"]) > 1 else 0)  # meanwhile all of the other's fail
        return 200, answer(body)

    server.reply = reply
    groups = engine_at(server.url).sample([*PROMPTS, *PROMPTS[:1]], 16, PARAMS, [*SEEDS, 4])
    assert [{one.status for one in group} for group in groups] == [
        {RolloutStatus.ENGINE_ERROR if i == 1 else RolloutStatus.OK} for i in range(4)
    ]


@pytest.mark.usefixtures("impatient")
def test_after_prompts_in_a_row_that_fail_nothing_more_is_sent(server) -> None:
    server.reply = lambda body: (200, answer(body)) if len(body["prompt"]) == 1 else (500, "")
    prompts = [[3, i] for i in range(3, 43)]
    engine = engine_at(server.url, concurrency=1)
    with pytest.raises(EngineFailure, match="40 of 40"):
        engine.sample(prompts, 1, PARAMS, range(40))
    assert len(server.bodies) == GIVE_UP_AFTER * (TRIES + 1)


def test_the_remedy_of_a_slow_server_is_time(server, monkeypatch) -> None:
    monkeypatch.setattr(engine_module, "TRIES", 1)
    server.reply = with_status(HANG)
    with pytest.raises(EngineFailure, match=r"raise engine\.timeout or lower engine\.concurrency"):
        engine_at(server.url, timeout=0.2).sample(PROMPTS, 2, PARAMS, SEEDS)


@pytest.mark.usefixtures("impatient")
def test_failures_that_are_not_in_a_row_stop_nothing(server) -> None:
    server.reply = lambda body: (500, "") if body["prompt"] == [5, 6] else (200, answer(body))
    prompts = [[5, 6], [9]] * (GIVE_UP_AFTER + 2)
    engine = engine_at(server.url, concurrency=1)
    groups = [engine.sample([prompt], 1, PARAMS, [1])[0][0].status for prompt in prompts]
    assert groups == ["engine_error", "ok"] * (GIVE_UP_AFTER + 2)


@pytest.mark.usefixtures("impatient")
def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(PivotRLError, match="ConnectError") as caught:
            engine_at(url).sample(PROMPTS, GIVE_UP_AFTER, PARAMS, SEEDS)
    assert url in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://host/v1", "http://", "http://key@host/v1", "http://host/v1?key=k"],
)
def test_an_address_that_is_none_or_holds_a_key_is_refused(url) -> None:
    with pytest.raises(ConfigError, match=r"engine\.url"):
        engine_at(url)


@pytest.mark.parametrize("key", [None, "", f"{KEY}\n", f"{KEY}é"])
def test_a_key_that_cannot_be_sent_is_refused_unsaid(key, monkeypatch) -> None:
    monkeypatch.delenv("POLICY_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("POLICY_KEY", key)
    with pytest.raises(ConfigError, match="POLICY_KEY") as caught:
        engine_at("http://host/v1", api_key_env="POLICY_KEY")
    assert KEY not in repr(caught.value)


def test_what_cannot_be_asked_is_said_before_anything_is_sent(server) -> None:
    engine = engine_at(server.url)
    with pytest.raises(PivotRLError, match="prompt 1 has 30 tokens"):
        engine.sample([[1], [1] * 30], 1, PARAMS, [1, 2])
    with pytest.raises(PivotRLError, match="prompt 0 is empty"):
        engine.sample([[]], 1, PARAMS, [1])
    with pytest.raises(PivotRLError, match="token 50"):
        engine.sample([[VOCABULARY]], 1, PARAMS, [1])
    with pytest.raises(ConfigError, match="sampling settings"):
        engine.sample(PROMPTS, 0, PARAMS, SEEDS)
    with pytest.raises(PivotRLError, match=r'engine\.name = "hf" or "vllm"'):
        engine.load_weights({})
    assert engine.sample([], 2, PARAMS, []) == []
    assert server.bodies == []


def test_an_interrupt_ends_it_at_once(server) -> None:
    server.reply = with_status(HANG)
    code = (
        "import signal\n"
        "from pivotrl.engines.server import ServerEngine\n"
        "from pivotrl.types import SamplingParams\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job may inherit none
        f"e = ServerEngine({server.url!r}, 'policy', stop_ids=frozenset({{2}}), decode=str,"
        " context=99, vocabulary=9)\n"
        "e.sample([[1]], 40, SamplingParams(max_tokens=3), [1])\n"
    )
    root = Path(__file__).parents[1]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stderr=subprocess.PIPE) as child:
        try:
            assert server.asked.wait(300)
            begun = time.monotonic()
            child.send_signal(signal.SIGINT)
            _, told = child.communicate(timeout=60)
            seconds = time.monotonic() - begun
        finally:
            child.kill()
    assert child.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in told
    assert seconds < 30  # a request has 120 s; a second is enough where the machine is idle
