"""What a training stage does in each of its processes: models, engine and pivots to one round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pivotrl.config import Config
from pivotrl.types import JSON, Candidate, Engine, PivotRLError, Sample, Split, Verdict, digest
from pivotrl.verifiers import verifier_for
from tasks.judge import judge_of
from tasks.policy import context_of, make_engine, training_engine
from tasks.sample import read_candidates
from tasks.session import current
from tasks.stage import Work

if TYPE_CHECKING:
    from pivotrl.chat import ChatFormat
    from pivotrl.training import Judge, RoundResult, TrainSettings

PIVOTS = "pivots"
UNANSWERED = ("over_budget", "judge_failed", "judge_refuses", "judge_unreadable")
MAX_UNANSWERED = 0.25
"""Of what is undecided in a draw: more, and a mean of the rest says too much."""
NOT_OF_THE_ROUND = ("validation_pivots", "lora_rank", "lora_alpha")


def grpo_round_of(work: Work, device: str, on_step: Callable[[], None]) -> RoundResult:
    """The round that the stage asks for, on `device`; `on_step` hears of each step."""
    from pivotrl import rollouts
    from pivotrl.chat import ChatFormat
    from pivotrl.training import TrainPivot, alarms, single_turns, train_round

    config: Config = work.extra["config"]
    start: Path = work.extra["start"]
    chat = ChatFormat.load(start)
    model = _loaded(config, start, device)
    engine = _engine_of(config, start, device, model)
    settings = _train_settings(config, work)
    everyone = read_candidates(work)
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
        if what == PIVOTS:
            alarms.raise_left_out(len(without), len(without) + len(fitting), longest, what)
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
        return rollouts.judge(candidate, verifier, chat.parse, one, work.settings["mask"])

    return train_round(
        model=model,
        reference=_reference(config, work, device, model, settings.kl_beta),
        engine=engine,
        pivots=pivots((c for c in everyone if c.id in kept), PIVOTS),
        validation=pivots(held_out, "validation candidates"),
        draw=single_turns(reward, settings, judge_of_round(config, work, chat, known)),
        settings=settings,
        workdir=work.folder / "round",
        on_step=lambda record: on_step() if record.step else None,
    )


def judge_of_round(
    config: Config, work: Work, chat: ChatFormat, known: Mapping[str, Candidate]
) -> Judge | None:
    """Who decides what rules cannot tell, with its own budget for the round.

    Where it answers too little the round ends: of the wrong actions most are asked.
    """
    if config.judge.url is None:
        return None
    from pivotrl.judging import Budget, decided
    from pivotrl.training import ranks

    asked, budget = judge_of(config), Budget(max(1, config.judge.budget // ranks.count()))

    def verdicts(acts: Sequence[tuple[str, Sample]]) -> list[Verdict]:
        actions = [
            (known[name], chat.parse(one.text, one.finish_reason, known[name].tools))
            for name, one in acts
        ]
        answers = partial(
            asked.answers,
            kept_at=work.home / "judge.sqlite",
            budget=budget,
            on_progress=lambda _done: None,
        )
        found = decided(actions, answers, asked.version)
        lost = sum(verdict.category in UNANSWERED for verdict in found)
        if lost > MAX_UNANSWERED * len(found) or any(v.category == "over_budget" for v in found):
            raise PivotRLError(
                f"judge.url = {config.judge.url}: not all that this round asked was answered; "
                f"raise judge.budget = {config.judge.budget:,}, or see that it serves, and run "
                "again: the round goes on from its checkpoint, and what was answered is kept"
            )
        return found

    return verdicts


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


def sft_round_of(work: Work, device: str, on_step: Callable[[], None]) -> RoundResult:
    """As `grpo_round_of`, supervised."""
    from pivotrl import rollouts
    from pivotrl.chat import ChatFormat, TemplateError
    from pivotrl.training import Demonstration, SftSettings, alarms, sft_round

    config: Config = work.extra["config"]
    start: Path = work.extra["start"]
    chat = ChatFormat.load(start)
    model = _loaded(config, start, device)
    everyone = read_candidates(work)
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
    if left_out := len(learners) - len(demonstrations):
        current().say(
            f"  [yellow]{left_out:,} demonstrations are left out[/]: over {longest:,} tokens, "
            "or refused by the chat template"
        )
    alarms.raise_left_out(left_out, len(learners), longest, "demonstrations")
    return sft_round(
        model=model,
        demonstrations=demonstrations,
        settings=settings,
        workdir=work.folder / "round",
        on_step=lambda _record: on_step(),
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


def _engine_of(config: Config, start: Path, device: str, model: Any) -> Engine:
    """On the very model that is trained; beside shards of it, or in vLLM, a copy."""
    from pivotrl.training import ranks

    settings = training_engine(config, start)
    if settings.name != config.engine.name:
        current().say(
            f"  engine.name = {config.engine.name!r} does not sample here: {settings.name!r} does"
        )
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


ROUNDS: dict[str, Callable[[Work, str, Callable[[], None]], RoundResult]] = {
    "train": grpo_round_of,
    "sft": sft_round_of,
    "end_to_end": end_to_end_round_of,
}
"""By the stage that asks for one."""
