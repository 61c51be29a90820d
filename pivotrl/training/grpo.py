"""GRPO on single turns, the whole algorithm in one place (PivotRL, arXiv 2603.21383, section 3).

    repeat: pick B pivots · sample G actions at each · verify · advantage within the group
            loss = sum over tokens of [-min(w A, clip(w) A) + beta KL(pi || pi_0)] / tokens
            one AdamW step (or a few)

What differs from the paper's formula: the mean is over all completion tokens of the step
(token-level, as in every public recipe), and samples without a reward are dropped. With one
update a batch, pi_old is the current policy itself, computed by the trainer and not by the
sampler; their disagreement is measured, and corrected by truncated importance sampling.
It must never know candidates, verifiers, configurations or stores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from pivotrl.training import alarms, ranks
from pivotrl.training.adapters import policy_state, prepare, trainable
from pivotrl.training.averaging import MovingAverage
from pivotrl.training.checkpoint import Progress, WorkFolder, read_records
from pivotrl.training.flops import peak_of
from pivotrl.training.improvement import improve
from pivotrl.training.logprobs import choose
from pivotrl.training.metrics import group_metrics, step_metrics
from pivotrl.training.optimizer import adamw
from pivotrl.training.plan import plan
from pivotrl.training.records import (
    Draw,
    RoundResult,
    StepRecord,
    StopReason,
    TrainPivot,
    TrainSettings,
)
from pivotrl.training.sampling import (
    rollouts_of,
    step_groups,
    validation_metrics,
)
from pivotrl.types import Engine, PivotRLError, digest


def train_round(
    *,
    model: Any,
    reference: Any | None,
    engine: Engine,
    pivots: Sequence[TrainPivot],
    validation: Sequence[TrainPivot],
    draw: Draw,
    settings: TrainSettings,
    workdir: Path,
    on_step: Callable[[StepRecord], None],
) -> RoundResult:
    """Trains `model` in place and returns where its best policy lies.

    `model`: a Hugging Face causal model with float32 (or float64) weights, in the state that the
    pivots were profiled under; `engine` samples from it (the very same module, or a copy that
    takes its weights). `draw`: what is sampled at a pivot and judged, one turn (`single_turns`)
    or an episode that begins there, whose turns share its advantage. `reference`: the frozen pi_0,
    None exactly if kl_beta is 0; a model with adapters may be its own.
    If `workdir` holds a checkpoint of this round, it goes on from there, bit for bit on a CPU;
    `on_step` then hears of later steps only, `result.records` has all. The model ends with the
    last weights, `result.checkpoint` holds the best policy, averaged by `settings.ema_decay`.
    Of several processes (`ranks`), all call with the same arguments and an engine of their own;
    the first alone writes records and policies.
    Raises PivotRLError.
    """
    _check(model, reference, pivots, settings)
    prepare(model, settings.freeze, settings.gradient_checkpointing)
    backend = choose(model, [pivot.prompt_ids for pivot in pivots], settings.dtype)
    optimizer = adamw(model, settings.weight_decay)
    content = [asdict(settings), [asdict(p) for p in pivots], [asdict(p) for p in validation]]
    average = MovingAverage(model, settings.ema_decay)
    work = WorkFolder(workdir, digest(content), model, optimizer, average.weights)
    progress = work.resume()
    history = [row.metrics for row in read_records(work.records) if row.step > 0]
    _hand_over(model, engine)
    schedules = [
        plan(
            [pivot.trajectory_id for pivot in pivots],
            settings.pivots_per_step,
            settings.steps,
            settings.seed,
            together=settings.max_pivots_per_trajectory,
            attempt=attempt,
        )
        for attempt in range(1 + settings.replacements)
    ]

    def validate(progress: Progress) -> tuple[Progress, dict[str, float]]:
        started = time.perf_counter()
        with average.in_place(model):
            if average.weights:
                _hand_over(model, engine)
            metrics = validation_metrics(engine, validation, draw, settings)
            score = metrics["validation/reward"]
            if not progress.validation or score > max(value for _, value in progress.validation):
                work.save_policy(progress.step)
                progress = replace(progress, best_step=progress.step)
        if average.weights:
            _hand_over(model, engine)
        progress = replace(progress, validation=(*progress.validation, (progress.step, score)))
        return progress, metrics | {"seconds/validate": time.perf_counter() - started}

    if progress.step == 0 and validation:
        progress, metrics = validate(progress)
        work.append(record := StepRecord(step=0, metrics=metrics))
        on_step(record)

    while progress.stop_reason is None:
        step = progress.step + 1
        started = time.perf_counter()
        met = [[pivots[i] for i in schedule[step - 1]] for schedule in schedules]
        try:
            groups, drawn = step_groups(engine, met, draw, settings, step)
        except PivotRLError:
            if progress.step and ranks.count() == 1:
                work.save(progress)  # what was learnt is not lost
            raise
        metrics = group_metrics(drawn[: len(groups)]) | step_metrics(groups, drawn)
        sampled = time.perf_counter()
        if sleep := getattr(engine, "sleep", None):
            sleep()  # on the same card, its memory is the update's until it takes the new weights
        metrics["num_tokens"] += history[-1]["num_tokens"] if history else 0
        metrics |= improve(model, reference, optimizer, groups, backend, settings, step)
        average.update(model)
        _hand_over(model, engine)
        metrics["seconds/sample"] = sampled - started
        metrics["seconds/train"] = time.perf_counter() - sampled
        if "flops" in metrics and (peak := peak_of(model.device)):
            metrics["mfu"] = metrics["flops"] / metrics["seconds/train"] / peak / ranks.count()
        history.append(metrics)

        progress = replace(progress, step=step)
        if step == settings.steps:
            progress = replace(progress, stop_reason=StopReason.COMPLETED)
        elif alarms.is_stale(history, settings.stale_share):
            progress = replace(progress, stop_reason=StopReason.STALE)
        if validation and (progress.stop_reason or _due(step, settings.validate_every)):
            progress, validated = validate(progress)
            metrics |= validated
            stale = progress.stop_reason is StopReason.STALE
            if not stale and _is_stuck(progress, settings.patience):  # also at the last step
                progress = replace(progress, stop_reason=StopReason.NO_PROGRESS)
        record = StepRecord(
            step=step,
            metrics=metrics,
            rollouts=rollouts_of(drawn),
            warnings=alarms.warnings(history),
        )
        work.append(record)
        on_step(record)
        alarms.raise_alarm(history, step)
        if progress.stop_reason and not validation:
            with average.in_place(model):
                work.save_policy(step)
            progress = replace(progress, best_step=step)
        if progress.stop_reason or _due(step, settings.checkpoint_every):
            work.save(progress)
    return work.result(progress)


def _hand_over(model: Any, engine: Engine) -> None:
    # An engine on the very same module knows its adapters; a copy knows none.
    same = getattr(engine, "model", None) is model
    engine.load_weights(model.state_dict() if same else policy_state(model))


def _is_stuck(progress: Progress, patience: int) -> bool:
    """Whether the last `patience` validations came after the best."""
    after = sum(step > progress.best_step for step, _ in progress.validation)
    return 0 < patience <= after


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _check(
    model: Any, reference: Any | None, pivots: Sequence[TrainPivot], settings: TrainSettings
) -> None:
    if not pivots:
        raise PivotRLError("training: there is no pivot; select some with a wider rule")
    if (reference is None) != (settings.kl_beta == 0):
        raise PivotRLError("training: kl_beta and a reference policy come together or not at all")
    if any(p.dtype not in (torch.float32, torch.float64) for _, p in trainable(model)):
        raise PivotRLError(
            "training: what is trained must be float32 (dtype 'bfloat16' computes in autocast); "
            "load the model with dtype float32"
        )
