"""A policy to scores: the live domain and each benchmark, one cached task a policy and suite."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from pivotrl.config import Config
from pivotrl.manifest import Manifest, file_hash
from pivotrl.policies import PolicyFiles
from pivotrl.store.shards import write_shard
from pivotrl.types import JSON, ConfigError, SamplingParams, canonical, seed_of
from tasks.policy import load_policy
from tasks.session import current
from tasks.stage import Produced, Stage, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What is scored in one task."""

    name: str
    kind: str
    temperature: float = 0.0

    @property
    def label(self) -> str:
        decoding = f"T={self.temperature:g}" if self.temperature else "greedy"
        return self.name if self.kind == "benchmark" else f"{self.name} {decoding}"


def suites(config: Config) -> list[Suite]:
    """The live domain, sampled and greedy, then the benchmarks. Raises ConfigError."""
    evaluate = config.evaluate
    out = []
    if evaluate.environment:
        out += [Suite(name=evaluate.environment, kind="domain", temperature=t) for t in (1.0, 0.0)]
    if evaluate.benchmarks:
        from pivotrl.benchmarks import BENCHMARKS

        for name in evaluate.benchmarks:
            if name not in BENCHMARKS:
                known = ", ".join(BENCHMARKS)
                raise ConfigError(f"evaluate.benchmarks: no benchmark {name!r}; known: {known}")
            if not (items_file(config, name)).is_file():
                raise ConfigError(
                    f"{items_file(config, name)}: no items for {name} "
                    "(evaluate.benchmark_items is the folder with one <benchmark>.jsonl each)"
                )
            out.append(Suite(name=name, kind="benchmark"))
    return out


def items_file(config: Config, name: str) -> Path:
    return (config.evaluate.benchmark_items or Path()) / f"{name}.jsonl"


def evaluate(
    config: Config,
    model: Path,
    policy: PolicyFiles,
    suite: Suite,
    label: str,
    after: Manifest | None,
) -> Manifest | None:
    """`after` is the stage that made the model; it draws the edge and is no part of the key."""
    settings: dict[str, JSON] = {
        "policy": asdict(policy),
        "suite": asdict(suite),
        "seed": config.run.seed,
        "max_tokens": config.evaluate.max_tokens,
        "dtype": config.model.dtype,
    }
    if suite.kind == "domain":
        settings["tasks"] = config.evaluate.tasks
        module = f"pivotrl.environments.{suite.name}"
    else:
        settings["items"] = config.evaluate.items
        settings["file"] = file_hash(items_file(config, suite.name))
        module = "pivotrl.benchmarks"
    stage = Stage(
        name="evaluate",
        body=_body,
        modules=("pivotrl.evaluation", "pivotrl.engines.hf", "pivotrl.chat", module),
        computes_with=("torch", "transformers"),
    )
    return stage(
        settings=settings,
        inputs={"policy": after.model_copy(update={"files": (), "counts": {}})} if after else {},
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
    model = config.model
    loaded = load_policy(
        work.extra["model"], policy.weights, model.dtype, model.device, model.batch_rows
    )
    params = SamplingParams(
        max_tokens=config.evaluate.max_tokens, temperature=suite.temperature, top_p=1.0
    )
    seed = seed_of(config.run.seed, "evaluate", suite.name)
    if suite.kind == "domain":
        domain = live_domain(suite.name)
        tasks = domain.make_tasks("test", config.evaluate.tasks, config.run.seed)
        run = partial(
            evaluation.run_episodes,
            loaded.engine,
            loaded.chat,
            domain.environment,
            tasks,
            params,
            seed,
            loaded.context - params.max_tokens,
        )
        with current().progress(f"{work.extra['label']} {suite.label}", len(tasks), "turns") as bar:
            episodes = run(on_progress=lambda done, _tokens: bar(done))
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
