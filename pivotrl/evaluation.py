"""A policy's scored responses to benchmark rows; of live episodes see `episodes`.

An engine, a chat format and a benchmark come in by duck typing; everything is a pure function of
them and the seed. This module must never know a configuration, a file or where weights come from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pivotrl.benchmarks.base import Benchmark, Row, Score
from pivotrl.episodes import Chat
from pivotrl.scores import EvaluationItem
from pivotrl.types import (
    Engine,
    FinishReason,
    Message,
    PivotRLError,
    RolloutStatus,
    Sample,
    SamplingParams,
    seed_of,
)

Progress = Callable[[int, int], None]
"""Called with the rows and tokens that were sampled since the last call."""


@dataclass(slots=True, kw_only=True)
class _Response:
    """To one row, in so many steps as it has."""

    steps: tuple[Row, ...]
    repeat: int
    outputs: list[str] = field(default_factory=list)
    items: list[EvaluationItem] = field(default_factory=list)

    @property
    def row(self) -> Row:
        """The next step, which is told the outputs before it where there are any."""
        step = self.steps[len(self.outputs)]
        return {**step, "earlier_outputs": list(self.outputs)} if len(self.steps) > 1 else step


def evaluate_benchmark(
    engine: Engine,
    chat: Chat,
    benchmark: Benchmark,
    rows: Sequence[tuple[Row, int]],
    params: SamplingParams,
    seed: int,
    max_prompt_tokens: int | None = None,
    on_progress: Progress | None = None,
) -> list[EvaluationItem]:
    """A scored item for each step of each (row, repeat); reasoning is not shown to the scorer.

    Rows carry an `id` (`load_rows` sees to it). The seed of an item depends on `seed`, benchmark,
    id and repeat alone, so two policies meet the same draws. A prompt over `max_prompt_tokens`
    scores 0, as one that is cut. Raises `PivotRLError` for a row that the benchmark cannot judge
    (before sampling) and when the engine failed on a row.
    """
    steps = {row["id"]: check_row(benchmark, row) for row in {r["id"]: r for r, _ in rows}.values()}
    asked = [_Response(steps=steps[row["id"]], repeat=repeat) for row, repeat in rows]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # code is judged in processes
        while live := [r for r in asked if len(r.outputs) < len(r.steps)]:
            at = [response.row for response in live]
            messages = [benchmark.prompt(row) for row in at]
            prompts = [chat.render(said, ()) for said in messages]
            seeds = [
                seed_of(seed, benchmark.name, row["id"], *([r.repeat] if r.repeat else []))
                for r, row in zip(live, at, strict=True)
            ]
            samples = _sample(engine, prompts, params, seeds, max_prompt_tokens, on_progress)
            texts = [chat.parse(s.text, s.finish_reason).text for s in samples]
            scores = pool.map(benchmark.score, at, texts)
            for response, row, said, sample, text, score in zip(
                live, at, messages, samples, texts, scores, strict=True
            ):
                response.outputs.append(text)
                response.items.append(_item(row, response.repeat, said, sample, score))
    return [item for response in asked for item in response.items]


def _item(
    row: Row, repeat: int, messages: Sequence[Message], sample: Sample, score: Score
) -> EvaluationItem:
    return EvaluationItem(
        item_id=row["id"],
        repeat=repeat,
        prompt="\n\n".join(message.content for message in messages),
        output=sample.text,
        extracted=score.extracted,
        score=score.value,
        finish_reason=sample.finish_reason,
    )


def check_row(benchmark: Benchmark, row: Row) -> tuple[Row, ...]:
    """The row's steps. Raises PivotRLError where it, or what judges it, lacks something."""
    try:
        steps = benchmark.steps(row)
        first = _Response(steps=steps, repeat=0).row
        benchmark.score(first, "")
        benchmark.prompt(first)
    except (KeyError, ValueError, TypeError) as error:
        raise PivotRLError(
            f"{benchmark.name} item {row['id']}: {type(error).__name__} {error}; mend or drop the "
            "row"
        ) from None
    return steps


def _sample(
    engine: Engine,
    prompts: Sequence[list[int]],
    params: SamplingParams,
    seeds: Sequence[int],
    longest: int | None,
    on_progress: Progress | None,
) -> list[Sample]:
    """One sample a prompt; one over `longest` tokens is answered by a cut, empty text."""
    fits = [i for i, prompt in enumerate(prompts) if longest is None or len(prompt) <= longest]
    found: dict[int, Sample] = {}
    if fits:
        groups = engine.sample(
            [prompts[i] for i in fits], 1, params, [seeds[i] for i in fits], on_progress
        )
        found = {i: group[0] for i, group in zip(fits, groups, strict=True)}
    failed = [s.status for s in found.values() if s.status is not RolloutStatus.OK]
    if failed:  # an error is not a score, and a mean over the rest would be another suite
        raise PivotRLError(
            f"evaluation: {len(failed)} of {len(found)} samples failed ({failed[0]}); "
            "run the evaluation again"
        )
    cut = Sample(token_ids=(), logprobs=(), text="", finish_reason=FinishReason.LENGTH, seed=0)
    return [found.get(i, cut) for i in range(len(prompts))]
