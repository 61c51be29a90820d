"""Supervised fine-tuning on the demonstrations of the same trajectories: PivotRL's control arm.

Cross entropy on the demonstrated turns alone, the mean over the step's demonstrated tokens; the
same optimiser, work folder and log-probabilities as GRPO. It must never know a reward.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pivotrl.training import ranks
from pivotrl.training.adapters import prepare
from pivotrl.training.checkpoint import WorkFolder, read_records
from pivotrl.training.flops import shape_of, tree_flops
from pivotrl.training.logprobs import choose, log_probs
from pivotrl.training.optimizer import adamw, update, warm_up
from pivotrl.training.passes import passes
from pivotrl.training.plan import plan
from pivotrl.training.records import (
    Demonstration,
    RoundResult,
    SftSettings,
    StepRecord,
    StopReason,
)
from pivotrl.training.tree import Row
from pivotrl.types import PivotRLError, digest


def by_trajectory(demonstrations: Sequence[Demonstration]) -> dict[str, list[Row]]:
    """What meets in a step together: the turns of a trajectory, which share their history."""
    turns: dict[str, list[Row]] = {}
    for number, demonstration in enumerate(demonstrations):
        row = Row(
            sample=number,
            prompt=demonstration.prompt_ids,
            completion=demonstration.completion_ids,
            is_shared=True,
        )
        turns.setdefault(demonstration.trajectory_id, []).append(row)
    return turns


def sft_round(
    *,
    model: Any,
    demonstrations: Sequence[Demonstration],
    settings: SftSettings,
    workdir: Path,
    on_step: Callable[[StepRecord], None],
) -> RoundResult:
    """Trains `model` (float32 weights) in place; the result's checkpoint is the last policy.

    Goes on from a checkpoint in `workdir`
    as `train_round` does. Raises PivotRLError.
    """
    if not demonstrations:
        raise PivotRLError("sft: there is no demonstration; check the training split")
    prepare(model, settings.freeze, settings.gradient_checkpointing)
    backend = choose(model, [d.prompt_ids for d in demonstrations], settings.dtype)
    trajectories = by_trajectory(demonstrations)
    rows = [*trajectories.values()]
    per_step = min(settings.trajectories_per_step, len(trajectories))
    steps = math.ceil(settings.epochs * len(trajectories) / per_step)
    optimizer = adamw(model, settings.weight_decay)
    shape = shape_of(model)
    content = [asdict(settings), [asdict(d) for d in demonstrations]]
    work = WorkFolder(workdir, digest(content), model, optimizer, average={})
    progress = work.resume()
    records = list(read_records(work.records))
    tokens_seen = records[-1].metrics["num_tokens"] if records else 0.0
    schedule = plan([*trajectories], per_step, steps, settings.seed)

    while progress.stop_reason is None:
        step = progress.step + 1
        started = time.perf_counter()
        met = [row for i in schedule[step - 1] for row in rows[i]]
        learned = sum(len(row.completion) for row in met)
        loss = entropy_sum = 0.0
        read = flops = 0.0
        of = [demonstrations[row.sample].trajectory_id for row in met]
        for layout, counts in passes(met, of, model, backend, settings.micro_batch_tokens):
            found, entropy = log_probs(model, layout, backend, dtype=settings.dtype)
            share = -found.sum() * counts / learned
            share.backward()
            loss += float(share.detach())
            if counts:
                read += len(layout.ids)
                flops += 3 * tree_flops(shape, layout)
                entropy_sum += float(entropy.sum())
        own = (loss, entropy_sum, read, flops)
        loss, entropy_sum, read, flops = map(math.fsum, zip(*ranks.gathered(own), strict=True))
        tokens_seen += read
        decay = (steps - step + 1) / max(1, steps - settings.warmup_steps)
        rate = warm_up(step, settings.learning_rate, settings.warmup_steps) * min(1.0, decay)
        norm = update(
            model,
            optimizer,
            step=step,
            loss=loss,
            learning_rate=rate,
            max_grad_norm=settings.max_grad_norm,
        )
        metrics = {
            "loss": loss,
            "entropy": entropy_sum / learned,
            "grad_norm": norm,
            "learning_rate": rate,
            "num_tokens": tokens_seen,
            "flops": flops,
            "epoch": step * per_step / len(trajectories),
            "seconds/train": time.perf_counter() - started,
        }
        progress = replace(progress, step=step)
        if step == steps:
            progress = replace(progress, best_step=step, stop_reason=StopReason.COMPLETED)
            work.save_policy(step)
        work.append(record := StepRecord(step=step, metrics=metrics))
        on_step(record)
        every = settings.checkpoint_every
        if progress.stop_reason or (every and step % every == 0):
            work.save(progress)
    return work.result(progress)
