"""A policy to scores: each live domain and benchmark is one cached task a policy.

What is scored is kept part by part, so that a killed evaluation goes on at its last part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from pivotrl.benchmarks import BENCHMARKS
from pivotrl.benchmarks.base import Row
from pivotrl.config import Config
from pivotrl.engines.meter import Meter
from pivotrl.manifest import Manifest, file_hash
from pivotrl.policies import PolicyFiles
from pivotrl.scores import EvaluationItem, summary
from pivotrl.suites import Suite, rows_folder
from pivotrl.types import JSON, FinishReason, SamplingParams, canonical, seed_of
from tasks.harness import harness_items
from tasks.policy import ENGINES, Policy, engine_label, engine_settings, load_policy, of_model
from tasks.session import current
from tasks.stage import Produced, Stage, Work

ScoredPart = tuple[list[EvaluationItem], Mapping[str, int]]
"""The items of a part, and what they took: turns and tokens, where the engine is ours."""
Part = Callable[[Callable[[], Policy], Callable[[float], None]], ScoredPart]
"""Given what loads the policy (where all parts are kept, none is), and what moves the bar."""
Score = Callable[[Sequence[Any], Policy, int, Callable[[float], None]], list[EvaluationItem]]
"""The items of some units, by a policy whose prompts have at most so many tokens."""
Units = tuple[Sequence[Any], Score, str, bool]
"""Units to score and what scores them, their name, whether they are miniature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A model to score."""

    label: str
    config: Config
    """As it is run: its folder, its engine."""
    path: Path
    policy: PolicyFiles
    after: Manifest | None = None
    """The stage that made the model; it draws the edge and is no part of the key."""
    served: bool = False
    """It runs as it is profiled: by the server or on the replicas that the configuration names.
    Else these, which know the base policy alone or only profile, stand aside."""


def evaluate(asked: Asked, suite: Suite) -> Manifest | None:
    config = asked.config
    judges: tuple[str, ...]
    engine = engine_settings(config, asked.path, profiling=asked.served)
    settings = of_model(config) | {
        "policy": asdict(asked.policy),
        "suite": asdict(suite),
        "max_tokens": config.evaluate.max_tokens,
        "engine": engine_label(engine),
        "rows_at_once": config.model.batch_rows,  # parts are as large
    }
    if suite.by_harness:
        settings["harness"] = config.harness.model_dump(mode="json", exclude={"python"})
        settings["judge"] = config.judge.model
        settings["repeats"] = config.evaluate.repeats
        judges = ("pivotrl.environments.harnesses",)
    elif suite.kind == "domain":
        settings["tasks"] = config.evaluate.tasks
        judges = (f"pivotrl.environments.{suite.name}",)
    else:
        settings["items"] = config.evaluate.items
        settings["repeats"] = config.evaluate.repeats
        folder = rows_folder(config, current().home)
        settings["file"] = file_hash(folder / f"{suite.name}.jsonl")
        settings["beside"] = {
            file.name: file_hash(file)
            for pattern in BENCHMARKS[suite.name].beside
            for file in sorted(folder.glob(pattern))
        }
        judges = ("pivotrl.benchmarks", "pivotrl.benchmarks.math_worker")  # run by -m, no import
    stage = Stage(
        name="evaluate",
        body=_body,
        modules=(
            "pivotrl.evaluation",
            "pivotrl.episodes",
            f"pivotrl.engines.{engine.name}",
            "pivotrl.chat",
            *judges,
        ),
        computes_with=(*ENGINES, "math-verify", "sacrebleu"),
    )
    return stage(
        settings=settings,
        inputs={"policy": asked.after.bare} if asked.after else {},
        extra={"asked": asked, "suite": suite},
        label=f"evaluate {asked.label} {suite.label}",
    )


def _body(work: Work) -> Produced:
    asked: Asked = work.extra["asked"]
    suite: Suite = work.extra["suite"]
    config, model = asked.config, asked.path
    params = SamplingParams(
        max_tokens=config.evaluate.max_tokens, temperature=suite.temperature, top_p=suite.top_p
    )
    parts: list[tuple[int, Part]]
    if suite.by_harness:
        engine = engine_settings(config, model, profiling=asked.served)
        folder = work.folder / "harness"
        parts = [(1, lambda *_: (harness_items(config, engine, model, suite.name, folder), {}))]
        unit, miniature = "harness", False
    else:
        make = _episodes if suite.kind == "domain" else _responses
        units, score, unit, miniature = make(config, suite, params, current().home)

        def scored(
            some: Sequence[Any], load: Callable[[], Policy], advance: Callable[[float], None]
        ) -> ScoredPart:
            policy = load()
            meter = Meter(engine=policy.engine)
            longest = policy.context - params.max_tokens
            return score(some, replace(policy, engine=meter), longest, advance), meter.counts

        size = config.model.batch_rows  # parts fill the engine's batch
        some = [units[start : start + size] for start in range(0, len(units), size)]
        parts = [(len(few), partial(scored, few)) for few in some]
    load = partial(load_policy, config, model, asked.policy.weights, profiling=asked.served)
    items: list[EvaluationItem] = []
    took = Counter[str]()
    title = f"{asked.label} {suite.label}"
    with current().progress(title, sum(n for n, _ in parts), unit) as advance:
        for number, (n, part) in enumerate(parts):
            file = work.folder / "parts" / f"{number:05}.json"
            if file.is_file():
                advance(n)
            of_part, took_part = _kept(file, partial(part, load, advance))
            items += of_part
            took.update(took_part)
    found = summary(items, suite.cluster)
    of = {"evaluation_id": work.folder.name}
    evaluation = of | {
        "policy_weights": asked.policy.weights,
        "model": asked.label,
        "suite": suite.name,
        "kind": suite.kind,
        "decoding": canonical(asdict(params)).decode(),
        "miniature": miniature,
        "n": found.n,
        "score": found.mean,
        "standard_error": found.standard_error,
        "unparsed": round(found.unparsed * len(items)),
        "truncated": round(found.truncated * len(items)),
    }
    return Produced(
        files=[
            work.write("evaluation_items", [of | asdict(item) for item in items]),
            work.write("evaluations", [evaluation]),
        ],
        counts={
            "items": found.n,
            "responses": len(items),
            **took,
            "score": found.mean,
            "standard_error": found.standard_error,
            "unparsed": found.unparsed,
            "truncated": found.truncated,
            "miniature": miniature,
        },
    )


def _episodes(config: Config, suite: Suite, params: SamplingParams, home: Path) -> Units:
    from pivotrl.environments import live_domain
    from pivotrl.episodes import episode_item, run_episodes

    domain = live_domain(suite.name)
    seed = seed_of(config.run.seed, "evaluate", suite.name)

    def played(
        tasks: Sequence[JSON], policy: Policy, longest: int, advance: Callable[[float], None]
    ) -> list[EvaluationItem]:
        episodes = run_episodes(
            policy.engine,
            policy.chat,
            domain.environment,
            tasks,
            params,
            [seed] * len(tasks),
            longest,
            on_finished=advance,
        )
        return [episode_item(episode) for episode in episodes]

    tasks = domain.make_tasks("test", config.evaluate.tasks, config.run.seed, suite.horizon)
    return tasks, played, "episodes", True


def _responses(config: Config, suite: Suite, params: SamplingParams, home: Path) -> Units:
    from pivotrl.benchmarks.rows import load_rows
    from pivotrl.evaluation import evaluate_benchmark

    benchmark = BENCHMARKS[suite.name]
    file = rows_folder(config, home) / f"{suite.name}.jsonl"
    rows = load_rows(benchmark, file, config.evaluate.items)
    miniature = all(bool(row.get("miniature")) for row in rows)
    repeats = config.evaluate.repeats
    if repeats is None:
        repeats = 1 if miniature or not suite.temperature else benchmark.repeats
    seed = seed_of(config.run.seed, "evaluate", suite.name)

    def answered(
        some: Sequence[tuple[Row, int]],
        policy: Policy,
        longest: int,
        advance: Callable[[float], None],
    ) -> list[EvaluationItem]:
        return evaluate_benchmark(
            policy.engine,
            policy.chat,
            benchmark,
            some,
            params,
            seed,
            longest,
            on_progress=lambda done, _tokens: advance(done),
        )

    asked = [(row, repeat) for row in rows for repeat in range(repeats)]
    return asked, answered, "responses", miniature


def _kept(file: Path, make: Callable[[], ScoredPart]) -> ScoredPart:
    """A part: read where an earlier, killed run made it, else made and written."""
    if file.is_file():
        rows, took = orjson.loads(file.read_bytes())
        return [
            EvaluationItem(**row | {"finish_reason": FinishReason(row["finish_reason"])})
            for row in rows
        ], took
    scored = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_bytes(orjson.dumps(scored))
    unfinished.replace(file)
    return scored
