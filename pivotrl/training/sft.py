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

from pivotrl.training.checkpoint import WorkFolder, read_records
from pivotrl.training.logprobs import log_probs
from pivotrl.training.optimizer import adamw, update, warm_up
from pivotrl.training.packing import NO_TARGET, Branch, Pack, micro_batches
from pivotrl.training.plan import plan
from pivotrl.training.records import (
    Demonstration,
    RoundResult,
    SftSettings,
    StepRecord,
    StopReason,
)
from pivotrl.types import PivotRLError, digest


def fold(demonstrations: Sequence[Demonstration]) -> list[Pack]:
    """Rows to train on: neighbours whose prompt continues the turn before share one row.

    The turns of a trajectory, given in order, thus cost one pass, exactly, where the chat
    template keeps the history token for token; where it does not, each is a row of its own.
    """
    rows: list[tuple[list[int], list[int]]] = []
    for demonstration in demonstrations:
        prompt = list(demonstration.prompt_ids)
        if not rows or prompt[: len(rows[-1][0])] != rows[-1][0]:
            rows.append(([], []))
        ids, targets = rows[-1]
        targets += [NO_TARGET] * (len(prompt) - len(ids)) + list(demonstration.completion_ids)
        ids += prompt[len(ids) :] + list(demonstration.completion_ids)
    return [
        Pack(
            prefix=(),
            branches=(Branch(inputs=tuple(ids[:-1]), targets=tuple(targets[1:])),),
            samples=(index,),
        )
        for index, (ids, targets) in enumerate(rows)
    ]


def sft_round(
    *,
    model: Any,
    demonstrations: Sequence[Demonstration],
    settings: SftSettings,
    workdir: Path,
    on_step: Callable[[StepRecord], None],
) -> RoundResult:
    """Trains `model` (float32 weights) in place; the result's checkpoint is the last policy.

    `demonstrations` in the order of their trajectories. Goes on from a checkpoint in `workdir`
    as `train_round` does. Raises PivotRLError.
    """
    if not demonstrations:
        raise PivotRLError("sft: there is no demonstration; check the training split")
    model.eval()
    rows = fold(demonstrations)
    per_step = min(settings.rows_per_step, len(rows))
    steps = math.ceil(settings.epochs * len(rows) / per_step)
    optimizer = adamw(model, settings.weight_decay)
    content = [asdict(settings), [asdict(d) for d in demonstrations]]
    work = WorkFolder(workdir, digest(content))
    progress = work.resume(model, optimizer, average={})
    records = list(read_records(work.records))
    tokens_seen = records[-1].metrics["num_tokens"] if records else 0.0
    schedule = plan(len(rows), per_step, steps, settings.seed)

    while progress.stop_reason is None:
        step = progress.step + 1
        started = time.perf_counter()
        met = [rows[i] for i in schedule[step - 1]]
        learned = sum(t != NO_TARGET for row in met for t in row.branches[0].targets)
        loss = entropy_sum = 0.0
        for batch in micro_batches(met, settings.micro_batch_tokens):
            found, entropy = log_probs(model, batch, dtype=settings.dtype)
            share = -found.sum() / learned
            share.backward()
            loss += float(share.detach())
            entropy_sum += float(entropy.sum())
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
        tokens_seen += sum(row.tokens for row in met)
        metrics = {
            "loss": loss,
            "entropy": entropy_sum / learned,
            "grad_norm": norm,
            "learning_rate": rate,
            "num_tokens": tokens_seen,
            "epoch": step * per_step / len(rows),
            "seconds/train": time.perf_counter() - started,
        }
        progress = replace(progress, step=step)
        if step == steps:
            progress = replace(progress, best_step=step, stop_reason=StopReason.COMPLETED)
            work.save_policy(model, step)
        work.append(record := StepRecord(step=step, metrics=metrics))
        on_step(record)
        every = settings.checkpoint_every
        if progress.stop_reason or (every and step % every == 0):
            work.save(model, optimizer, progress, average={})
    return work.result(progress)
