"""Evaluation on benchmarks and in the live domain; its statistics, by hand and against SciPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import make_tiny_model

from pivotrl.agreement import reward_agreement
from pivotrl.benchmarks import BENCHMARKS
from pivotrl.chat import ChatFormat
from pivotrl.engines.hf import HFEngine, load_model
from pivotrl.engines.meter import Meter
from pivotrl.environments.retail import DOMAIN
from pivotrl.environments.retail.expert import expert_actions
from pivotrl.environments.retail.world import Retail
from pivotrl.episodes import EpisodeEnd, episode_item, run_episodes
from pivotrl.evaluation import evaluate_benchmark
from pivotrl.mini.skills import generate, reference_answer
from pivotrl.scores import EvaluationItem, holm, paired_difference, summary
from pivotrl.types import (
    Action,
    Candidate,
    EnvironmentState,
    FinishReason,
    Message,
    PivotRLError,
    Role,
    RolloutStatus,
    Sample,
    SamplingParams,
    Trajectory,
    Verdict,
    VerdictStatus,
)

PARAMS = SamplingParams(max_tokens=8, temperature=1.0)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def chat(model_path: Path) -> ChatFormat:
    return ChatFormat.load(model_path)


@pytest.fixture(scope="module")
def random_engine(model_path: Path, chat: ChatFormat) -> HFEngine:
    return HFEngine(
        load_model(model_path),
        stop_ids=chat.stop_ids,
        pad_id=chat.pad_id,
        decode=chat.decode,
        max_batch_rows=16,
        device="cpu",
    )


class TableEngine:
    """Answers each known prompt with its text: a policy whose behaviour a test can decide."""

    def __init__(
        self,
        answers: Mapping[tuple[int, ...], str],
        status: RolloutStatus = RolloutStatus.OK,
    ) -> None:
        self.answers = answers
        self.status = status
        self.batches: list[int] = []
        self.seeds: list[int] = []

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        params: SamplingParams,
        seeds: Sequence[int],
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Sample]]:
        assert n == 1
        assert len(prompts) == len(seeds) > 0
        self.batches.append(len(prompts))
        self.seeds.extend(seeds)
        if on_progress:
            on_progress(len(prompts), len(prompts))
        return [
            [
                Sample(
                    token_ids=(1,),
                    logprobs=(0.0,),
                    text=self.answers[tuple(prompt)],
                    finish_reason=FinishReason.STOP,
                    seed=seed,
                    status=self.status,
                )
            ]
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    def load_weights(self, state: Mapping[str, Any]) -> None:
        raise NotImplementedError


def item(item_id: str, score: float, **more: Any) -> EvaluationItem:
    fields = {"prompt": "", "output": "", "extracted": "x", "finish_reason": FinishReason.STOP}
    return EvaluationItem(item_id=item_id, score=score, **(fields | more))


def once(rows: Sequence[Any]) -> list[tuple[Any, int]]:
    return [(row, 0) for row in rows]


# -- benchmarks -----------------------------------------------------------------------------------


def test_a_meter_counts_what_another_engine_is_asked_for(random_engine: HFEngine) -> None:
    meter = Meter(engine=random_engine)
    prompts, seeds = [[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 8, 9]], [1, 2, 3]
    drawn = meter.sample(prompts, 2, PARAMS, seeds)
    assert drawn == random_engine.sample(prompts, 2, PARAMS, seeds)
    assert meter.counts == {
        "sampled": 6,
        "prompt_tokens": 24,
        "unique_prompt_tokens": 6,  # 5 6 7 8 9, and 9 after 5 6
        "completion_tokens": sum(len(sample.token_ids) for row in drawn for sample in row),
    }


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_perfect_policy_scores_one(name: str, chat: ChatFormat) -> None:
    rows = generate(name, 6, 0, "test")
    table = {
        tuple(chat.render(BENCHMARKS[name].prompt(row), ())): reference_answer(row) for row in rows
    }
    engine = TableEngine(table)
    items = evaluate_benchmark(engine, chat, BENCHMARKS[name], once(rows), PARAMS, 7)
    assert [i.item_id for i in items] == [row["id"] for row in rows]
    assert summary(items).mean == pytest.approx(1.0)
    assert summary(items).unparsed == 0.0
    # An item's seed depends on the item, not on its neighbours.
    alone = TableEngine(table)
    evaluate_benchmark(alone, chat, BENCHMARKS[name], once(rows[3:4]), PARAMS, 7)
    assert alone.seeds == engine.seeds[3:4]


def test_a_random_policy_scores_near_zero(random_engine: HFEngine, chat: ChatFormat) -> None:
    rows = generate("mmlu_pro", 8, 0, "test")
    items = evaluate_benchmark(random_engine, chat, BENCHMARKS["mmlu_pro"], once(rows), PARAMS, 0)
    result = summary(items)
    assert result.n == 8
    assert result.mean == 0.0
    assert result.unparsed == 1.0
    assert result.truncated > 0.5
    again = evaluate_benchmark(random_engine, chat, BENCHMARKS["mmlu_pro"], once(rows), PARAMS, 0)
    assert again == items


def test_reasoning_is_not_scored(chat: ChatFormat) -> None:
    row = generate("aime25", 1, 0, "test")[0]
    prompt = tuple(chat.render(BENCHMARKS["aime25"].prompt(row), ()))
    engine = TableEngine({prompt: f"<think>{reference_answer(row)}</think>no idea"})
    (result,) = evaluate_benchmark(engine, chat, BENCHMARKS["aime25"], once([row]), PARAMS, 0)
    assert (result.score, result.extracted) == (0.0, None)


def test_a_failed_sample_is_no_score(chat: ChatFormat) -> None:
    row = generate("aime25", 1, 0, "test")[0]
    prompt = tuple(chat.render(BENCHMARKS["aime25"].prompt(row), ()))
    engine = TableEngine({prompt: ""}, status=RolloutStatus.ENGINE_ERROR)
    with pytest.raises(PivotRLError, match=r"1 of 1 samples failed \(engine_error\)"):
        evaluate_benchmark(engine, chat, BENCHMARKS["aime25"], once([row]), PARAMS, 0)


def test_unjudgeable_items_stop_before_sampling(chat: ChatFormat) -> None:
    engine = TableEngine({})
    with pytest.raises(PivotRLError, match="no `unit_tests`"):
        evaluate_benchmark(engine, chat, BENCHMARKS["scicode"], once([{"id": "1"}]), PARAMS, 0)
    assert engine.batches == []


# -- live episodes --------------------------------------------------------------------------------


def expert_table(chat: ChatFormat, tasks: list[Any]) -> dict[tuple[int, ...], str]:
    environment, table = Retail(), {}
    for task in tasks:
        state = environment.reset(task)
        while not state.done:
            action = expert_actions(state)[0]
            said = Message(role=Role.ASSISTANT, content=action.text, tool_calls=action.tool_calls)
            prompt = tuple(chat.render(state.messages, environment.tools))
            table[prompt] = chat.decode(chat.completion(state.messages, environment.tools, said))
            state = environment.step(state, action)
    return table


def test_the_expert_succeeds_in_episodes_taken_together(chat: ChatFormat) -> None:
    tasks = DOMAIN.make_tasks("test", 4, 0)
    engine = TableEngine(expert_table(chat, tasks))
    episodes = run_episodes(engine, chat, Retail(), tasks, PARAMS, [0] * len(tasks), 100_000)
    assert [e.task_id for e in episodes] == [task["id"] for task in tasks]
    assert [(e.score, e.end) for e in episodes] == [(1.0, EpisodeEnd.DONE)] * 4
    assert engine.batches[0] == 4
    assert len(engine.batches) == max(len(e.turns) for e in episodes)
    assert sum(engine.batches) == sum(len(e.turns) for e in episodes)
    assert len(set(engine.seeds)) == len(engine.seeds)
    assert summary([episode_item(e) for e in episodes]).mean == 1.0


def test_long_prompts_end_their_episode(chat: ChatFormat) -> None:
    tasks = DOMAIN.make_tasks("test", 3, 0)
    table = expert_table(chat, tasks)
    limit = max(len(prompt) for prompt in table) - 1
    seeds = [0] * len(tasks)
    episodes = run_episodes(TableEngine(table), chat, Retail(), tasks, PARAMS, seeds, limit)
    stopped = [e for e in episodes if e.end is EpisodeEnd.PROMPT_TOO_LONG]
    assert len(stopped) == 1
    assert stopped[0].score == 0.0
    assert summary([episode_item(e) for e in episodes]).truncated == pytest.approx(1 / 3)
    first, *others = next(e for e in episodes if e.end is EpisodeEnd.DONE).turns
    sample = replace(first.sample, finish_reason=FinishReason.LENGTH)
    cut = replace(episodes[0], turns=(replace(first, sample=sample), *others), end=EpisodeEnd.DONE)
    assert episode_item(cut).finish_reason is FinishReason.LENGTH
    none = run_episodes(TableEngine({}), chat, Retail(), tasks, PARAMS, seeds, 1)
    assert [e.turns for e in none] == [()] * 3


def test_a_random_policy_ends_its_episodes(random_engine: HFEngine, chat: ChatFormat) -> None:
    tasks = DOMAIN.make_tasks("test", 3, 0)
    episodes = run_episodes(random_engine, chat, Retail(), tasks, PARAMS, [0] * len(tasks), 32_000)
    assert [e.score for e in episodes] == [0.0] * 3
    assert all(e.turns and all(t.sample.token_ids for t in e.turns) for e in episodes)


def test_an_engine_that_fails_ends_an_episode_without_a_score(chat: ChatFormat) -> None:
    tasks = DOMAIN.make_tasks("test", 2, 0)
    table = expert_table(chat, tasks)
    broken = tuple(chat.render(Retail().reset(tasks[0]).messages, Retail().tools))

    class Failing(TableEngine):
        def sample(self, prompts: Any, *others: Any, **more: Any) -> list[list[Sample]]:
            return [
                [replace(one, status=RolloutStatus.ENGINE_ERROR)] if tuple(p) == broken else [one]
                for p, (one,) in zip(prompts, super().sample(prompts, *others, **more), strict=True)
            ]

    failed, whole = run_episodes(Failing(table), chat, Retail(), tasks, PARAMS, [0, 0], 100_000)
    assert (failed.score, failed.end, whole.score) == (None, EpisodeEnd.ENGINE_ERROR, 1.0)
    with pytest.raises(PivotRLError, match="run the evaluation again"):
        episode_item(failed)


# -- statistics -----------------------------------------------------------------------------------


def test_summary_by_hand() -> None:
    items = [
        item("a", 1.0),
        item("b", 0.0, extracted=None),
        item("c", 1.0, finish_reason=FinishReason.LENGTH),
        item("d", 0.0),
    ]
    result = summary(items)
    assert (result.n, result.mean, result.unparsed, result.truncated) == (4, 0.5, 0.25, 0.25)
    assert result.standard_error == pytest.approx((1 / 3) ** 0.5 / 2)
    assert summary(items[:1]).standard_error is None
    with pytest.raises(PivotRLError, match="no items"):
        summary([])


@given(
    scores=st.lists(
        st.tuples(st.sampled_from([0.0, 0.25, 1.0]), st.sampled_from([0.0, 0.25, 1.0])),
        min_size=2,
        max_size=60,
    )
)
def test_paired_difference_is_the_paired_test_of_scipy(scores: list[tuple[float, float]]) -> None:
    stats = pytest.importorskip("scipy.stats")
    first = [item(str(i), a) for i, (a, _) in enumerate(scores)]
    second = [item(str(i), b) for i, (_, b) in reversed(list(enumerate(scores)))]
    result = paired_difference(first, second)
    differences = [b - a for a, b in scores]
    assert result.difference == pytest.approx(sum(differences) / len(scores))
    assert result.standard_error == pytest.approx(stats.sem(differences))
    if result.standard_error > 0:
        t = stats.ttest_rel([b for _, b in scores], [a for a, _ in scores]).statistic
        assert result.p == pytest.approx(2 * stats.norm.sf(abs(t)))
    else:
        assert result.p == (1.0 if differences[0] == 0 else 0.0)


@given(
    scores=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=2, max_size=30),
    size=st.integers(2, 6),
)
def test_items_that_say_the_same_thing_are_one(scores: list[float], size: int) -> None:
    once = [item(str(i), score) for i, score in enumerate(scores)]
    often = [item(f"{n}-{i}", score) for i, score in enumerate(scores) for n in range(size)]
    nothing = [[replace(one, score=0.0) for one in items] for items in (once, often)]
    alone = paired_difference(nothing[0], once)
    found = paired_difference(nothing[1], often, lambda item_id: item_id.partition("-")[2])
    assert (found.n, found.difference) == (size * alone.n, pytest.approx(alone.difference))
    assert found.standard_error == pytest.approx(alone.standard_error)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    assert paired_difference(nothing[1], often).standard_error <= alone.standard_error


def test_clusters_of_real_items_are_what_was_asked_once() -> None:
    for name, ids in {
        "mmlu_prox": ["de-70", "ja-70"],
        "scicode": ["77.1", "77.12"],
        "wmt24pp": ["en-de_DE-canary-3", "en-ja_JP-canary-3"],
    }.items():
        of = BENCHMARKS[name].cluster
        assert len({of(item_id) for item_id in ids}) == 1
        assert of(ids[0]) != of(ids[0].replace("7", "8").replace("3", "4"))
        assert of("9a56b424f829a12c") == "9a56b424f829a12c", "of a miniature row"


def test_paired_difference_needs_the_same_items() -> None:
    with pytest.raises(PivotRLError, match="different items"):
        paired_difference([item("a", 1), item("b", 1)], [item("a", 1), item("c", 1)])
    with pytest.raises(PivotRLError, match="different items"):
        paired_difference([item("a", 1), item("a", 1)], [item("a", 1)])
    with pytest.raises(PivotRLError, match="two items"):
        paired_difference([item("a", 1)], [item("a", 1)])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_lies_between_raw_and_bonferroni(p_values: list[float]) -> None:
    for raw, adjusted in zip(p_values, holm(p_values), strict=True):
        assert raw <= adjusted <= min(1.0, raw * len(p_values))


def test_reward_agreement_counts_both_errors() -> None:
    messages = (Message(role=Role.USER, content="hi"), Message(role=Role.ASSISTANT, content="ok"))
    candidate = Candidate(id="c", trajectory=Trajectory(id="t", messages=messages), turn=1)
    state = EnvironmentState(task={}, messages=messages[:1], done=False, world={})
    rewards = {"good": 1.0, "sly": 1.0, "odd": 0.0, "bad": 0.0, "huh": None}

    def verify(candidate: Candidate, action: Action) -> Verdict:
        reward = rewards[action.text]
        status = VerdictStatus.UNDECIDED if reward is None else VerdictStatus.OK
        return Verdict(status=status, reward=reward, category="test")

    result = reward_agreement(
        lambda state, action: action.text in ("good", "odd"),
        verify,
        [(state, candidate, Action(text=text)) for text in rewards],
    )
    assert (result.n, result.agreeing, result.without_verdict) == (4, 0.5, 1)
    assert (result.accepted_wrongly, result.rejected_wrongly) == (1, 1)
    assert reward_agreement(lambda s, a: True, verify, []).agreeing is None


def test_a_row_without_its_answer_is_named_before_anything_is_sampled(
    random_engine: HFEngine, chat: ChatFormat
) -> None:
    row = {"id": "q7", "question": "?", "options": ["a", "b"]}
    with pytest.raises(PivotRLError, match=r"mmlu_pro item q7.*answer"):
        evaluate_benchmark(random_engine, chat, BENCHMARKS["mmlu_pro"], once([row]), PARAMS, 0)
