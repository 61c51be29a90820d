"""Pivots to a checkpoint: one round of GRPO; and the controls, SFT and end-to-end RL."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pivotrl.config import Config
from pivotrl.manifest import Manifest
from pivotrl.policies import PolicyFiles
from pivotrl.store import Store
from pivotrl.store.shards import write_shard
from pivotrl.types import JSON, PivotRLError
from pivotrl.verifiers import added_versions
from tasks.policy import ENGINES, TORCH, forget_policy, of_model, training_engine
from tasks.ranks import launched
from tasks.round import ROUNDS
from tasks.sample import Pool
from tasks.session import current
from tasks.stage import File, Produced, Stage, Work

if TYPE_CHECKING:
    from pivotrl.training import RoundResult, StepRecord

TOKENIZER_GLOBS = (
    "tokenizer*",
    "chat_template*",
    "special_tokens*",
    "vocab*",
    "merges*",
    "tekken*",
)


def train(
    pool: Pool, round_number: int, reference: PolicyFiles, selection: Manifest | None
) -> Manifest | None:
    """One round from the policy of the pool; KL is to the policy in `config.model.path`."""
    config = pool.config
    engine = training_engine(config, pool.model).name
    judging = ("pivotrl.judging",) if config.judge.url else ()
    modules = ("pivotrl.training", "pivotrl.rollouts", "pivotrl.verifiers", *judging)
    return _stage("train", (*modules, f"pivotrl.engines.{engine}"))(
        settings=of_model(config)
        | {
            "train": _of_round(config),
            "devices": config.train.devices,
            "verify": config.verifier,
            "judge": config.judge.model if config.judge.url else None,
            "mask": list(config.verify.mask),
            "policy": asdict(pool.policy),
            "reference": asdict(reference) if config.train.kl_beta else None,
            "round": round_number,
            "engine": engine,
            "added": added_versions(),
        },
        inputs={"selection": selection, "candidates": pool.candidates},
        extra={"config": config, "start": pool.model, "trajectories": pool.trajectories},
        label=f"train round {round_number}",
    )


def train_sft(pool: Pool, learning_rate: float, epochs: int) -> Manifest | None:
    """The control: completion-only cross entropy on every demonstrated turn of the train split."""
    config = pool.config
    modules = ("pivotrl.training.sft", "pivotrl.rollouts")
    return _stage("sft", modules, computes_with=TORCH)(
        settings=of_model(config)
        | {
            "learning_rate": learning_rate,
            "epochs": epochs,
            "batch_size": config.sft.batch_size,
            "adapters": [config.train.lora_rank, config.train.lora_alpha],
            "devices": config.train.devices,
            "gradient_checkpointing": config.train.gradient_checkpointing,
            "freeze": config.train.freeze,
            "micro_batch_tokens": config.train.micro_batch_tokens,
            "policy": asdict(pool.policy),
        },
        inputs={"candidates": pool.candidates},
        extra={"config": config, "start": pool.model, "trajectories": pool.trajectories},
        label=f"sft {learning_rate:g} x {epochs}",
    )


def train_end_to_end(pool: Pool) -> Manifest | None:
    """The control: GRPO on whole episodes in the live domain, judged by their end alone."""
    config = pool.config
    own = config.end_to_end
    settings = _of_round(config) | {
        "steps": own.steps,
        "pivots_per_step": own.tasks_per_step,
        "group_size": own.group_size,
        "learning_rate": own.learning_rate,
        "max_pivots_per_trajectory": 1,
        "validation_samples": 1,
    }
    engine = training_engine(config, pool.model).name
    modules = ("pivotrl.training", "pivotrl.end_to_end", f"pivotrl.environments.{own.domain}")
    return _stage("end_to_end", (*modules, f"pivotrl.engines.{engine}"))(
        settings=of_model(config)
        | {
            "train": settings,
            "tasks": own.model_dump(mode="json", include={"domain", "horizon", "tasks"}),
            "validation_tasks": own.validation_tasks,
            "devices": config.train.devices,
            "policy": asdict(pool.policy),
            "reference": asdict(pool.policy),
            "engine": engine,
        },
        inputs={},
        extra={"config": config, "start": pool.model, "trajectories": pool.trajectories},
        label=f"end to end in {own.domain}",
    )


def _of_round(config: Config) -> dict[str, JSON]:
    """What a round depends on; processes, and where they are, change no number."""
    others = {"rounds", "start", "processes", "nodes", "master"}
    found: dict[str, JSON] = config.train.model_dump(mode="json", exclude=others)
    return found


def _stage(name: str, modules: tuple[str, ...], computes_with: tuple[str, ...] = ENGINES) -> Stage:
    return Stage(
        name=name,
        body=partial(_body, name),
        modules=("pivotrl.engines.hf", *modules),
        computes_with=computes_with,
        by_bytes=("candidates",),
        shelf="checkpoints",
    )


def checkpoint_of(home: Path, manifest: Manifest) -> Path:
    """The Hugging Face folder that a training stage published."""
    return next((home / f.path).parent for f in manifest.files if f.path.endswith("config.json"))


def _body(stage: str, work: Work) -> Produced:
    config: Config = work.extra["config"]
    steps = work.settings.get("train", {}).get("steps")
    number = work.settings.get("round", 0)
    label = f"{stage} {steps} steps" if steps else stage
    with current().progress(label, steps, "steps") as advance:
        forget_policy()  # training needs its memory
        try:
            if config.train.devices > 1:
                result = launched(stage, work, lambda: advance(1))
            else:
                result = ROUNDS[stage](work, config.model.device, lambda: advance(1))
        except PivotRLError:
            try:
                _kept(work, number)  # an alarm tells to look at them
            except PivotRLError as second:
                current().say(f"  [yellow]Not in the store[/]: what the round recorded ({second})")
            raise
    return _published(work, result, number)


def _published(work: Work, result: RoundResult, round_number: int) -> Produced:
    from pivotrl.training import read_records

    files: list[File] = []
    tokenizer = [
        file for glob in TOKENIZER_GLOBS for file in sorted(work.extra["start"].glob(glob))
    ]
    for file in [*sorted(result.checkpoint.iterdir()), *tokenizer]:
        if file.is_file() and file.name not in {name for name, *_ in files}:
            shutil.copyfile(file, work.out / file.name)
            files.append((file.name, None, 0, None))
    records = list(read_records(result.records))
    tables = _tables(work, records, round_number)
    files += [work.write(table, rows) for table, rows in tables.items()]
    trained = [r for r in records if r.step]
    return Produced(
        files=files,
        counts={
            "steps": result.steps,
            "best_step": result.best_step,
            "rollouts": len(tables["train_rollouts"]),
            "sampled": int(sum(r.metrics["turns"] for r in trained if "turns" in r.metrics)),
            "flops": sum(r.metrics.get("flops", 0.0) for r in trained),
            **_tokens(records),
            "stop_reason": str(result.stop_reason),
            "validation": [[step, score] for step, score in result.validation],
            "curve": _curve(trained, result.validation),
            "signal": [
                [r.step, r.metrics["reward_std"], r.metrics["frac_reward_zero_std"]]
                for r in trained
                if "reward_std" in r.metrics
            ],
            "warnings": sorted({w for r in trained for w in r.warnings}),
        },
    )


def _tokens(records: Sequence[StepRecord]) -> dict[str, int]:
    """What sampling took, validation with it."""
    return {
        name: int(sum(r.metrics.get(p + name, 0) for r in records for p in ("", "validation/")))
        for name in ("prompt_tokens", "unique_prompt_tokens", "completion_tokens")
    }


def _curve(
    records: Sequence[StepRecord], validation: Sequence[tuple[int, float]]
) -> list[list[float]]:
    """[step, turns sampled until then, seconds until then, validation reward]."""
    turns = dict(_accumulated(records, "turns"))
    sampled, trained = (dict(_accumulated(records, f"seconds/{k}")) for k in ("sample", "train"))
    return [
        [step, turns.get(step, 0), sampled.get(step, 0) + trained.get(step, 0), score]
        for step, score in validation
    ]


def _accumulated(records: Sequence[StepRecord], metric: str) -> list[tuple[int, float]]:
    totals = accumulate(record.metrics.get(metric, 0.0) for record in records)
    return [(record.step, total) for record, total in zip(records, totals, strict=True)]


def _tables(
    work: Work, records: Sequence[StepRecord], number: int
) -> dict[str, list[dict[str, Any]]]:
    """Table -> its rows of a round."""
    selection = work.inputs.get("selection")
    of = {"training_id": work.folder.name, "round": number}
    return {
        "train_steps": [
            of | {"step": record.step, "metric": metric, "value": float(value)}
            for record in records
            for metric, value in record.metrics.items()
        ],
        "train_rollouts": [
            of
            | {"selection_id": selection.key if selection else None, "step": record.step}
            | asdict(rollout)
            for record in records
            for rollout in record.rollouts
        ],
    }


def _kept(work: Work, number: int) -> None:
    """Brings what a round that failed has recorded into the store; going on replaces it."""
    from pivotrl.training import read_records
    from pivotrl.training.checkpoint import RECORDS

    file = work.folder / "round" / RECORDS
    if not file.is_file():
        return
    for table, rows in _tables(work, [*read_records(file)], number).items():
        path = work.folder / f"{table}.parquet"
        write_shard(path, table, rows)
        Store(work.home / "pivotrl.duckdb").merge(table, [path])


def metrics_by_step(rows: Iterable[Mapping[str, Any]]) -> list[tuple[int, dict[str, float]]]:
    """Rows of `train_steps` as MLflow wants them."""
    steps: dict[int, dict[str, float]] = {}
    for row in rows:
        if row["value"] is not None:
            steps.setdefault(row["step"], {})[row["metric"]] = row["value"]
    return sorted(steps.items())
