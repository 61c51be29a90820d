"""The work folder of a round: checkpoints to resume from, records of steps, policies to keep.

    checkpoint-000020/   state.safetensors (what is trained, moments, average), progress.json
    policy-000010/       a Hugging Face folder, the best policy so far
    steps.jsonl          one StepRecord a line

A folder is written under another name, flushed to disk and renamed, so what carries a final name
is whole; killed at any instant, the round goes on from its last checkpoint and repeats the rest
exactly. No pickle. This module must never know an algorithm.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from pivotrl.training import ranks
from pivotrl.training.adapters import save_whole, trainable
from pivotrl.training.records import RoundResult, StepRecord, StopReason, TrainRollout
from pivotrl.types import PivotRLError

RECORDS = "steps.jsonl"
MOMENTS = ("exp_avg", "exp_avg_sq")
PARTIAL = ".partial"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a round is: everything that weights and optimiser do not say."""

    step: int = 0
    best_step: int = 0
    validation: tuple[tuple[int, float], ...] = ()
    stop_reason: StopReason | None = None


class WorkFolder:
    def __init__(
        self,
        path: Path,
        fingerprint: str,
        model: Any,
        optimizer: torch.optim.Optimizer,
        average: Mapping[str, torch.Tensor],
    ) -> None:
        """`fingerprint` names settings and data: a folder never goes on with others.

        What is kept is that of `model`, `optimizer` and the weights' `average`.
        """
        self.path, self.fingerprint = path, fingerprint
        self.model, self.optimizer, self.average = model, optimizer, average
        self.records = path / RECORDS
        self.is_first = ranks.number() == 0
        """Of several processes: one writes what all know."""
        own = f"-{ranks.number():05d}-of-{ranks.count():05d}" if ranks.count() > 1 else ""
        self.state = f"state{own}.safetensors"
        path.mkdir(parents=True, exist_ok=True)
        for unfinished in path.glob(f"*{PARTIAL}") if self.is_first else ():
            _remove(unfinished)
        ranks.wait()

    def resume(self) -> Progress:
        """The last checkpoint's progress, with its weights and averages; else the start's.

        Later records are cut off. Raises PivotRLError if the folder belongs to another round.
        """
        folders = sorted(self.path.glob("checkpoint-*"))
        progress = self._load(folders[-1]) if folders else Progress()
        if self.is_first:
            self._cut_records(progress.step if folders else -1)
        ranks.wait()
        return progress

    def _cut_records(self, last: int) -> None:
        kept = [
            line
            for line in (self.records.read_bytes().splitlines() if self.records.exists() else [])
            if (number := _step_of(line)) is not None and number <= last
        ]
        with _replaced(self.records) as file:
            file.write_bytes(b"".join(line + b"\n" for line in kept))

    def _load(self, folder: Path) -> Progress:
        row = json.loads((folder / "progress.json").read_bytes())
        if row.pop("fingerprint") != self.fingerprint:
            raise PivotRLError(
                f"{folder}: belongs to a round with other settings or data; remove {self.path} "
                "or choose another work folder"
            )
        if not (folder / self.state).is_file():
            raise PivotRLError(
                f"{folder}: was not written by {ranks.count()} processes; go on with as many as "
                f"it was, or remove {self.path}"
            )
        state = load_file(folder / self.state)
        moments = row.pop("optimizer_steps")
        with torch.no_grad():
            for name, parameter in trainable(self.model):
                ranks.own_part(parameter).copy_(state[name])
                if name in moments:
                    kinds = {kind: torch.empty_like(parameter) for kind in MOMENTS}
                    for kind, moment in kinds.items():
                        ranks.own_part(moment).copy_(state[f"{kind}/{name}"])
                    step = torch.tensor(moments[name], dtype=torch.float32)
                    self.optimizer.state[parameter] = {"step": step} | kinds
            for name, averaged in self.average.items():
                ranks.own_part(averaged).copy_(state[f"average/{name}"])
        reason = row.pop("stop_reason")
        return Progress(
            step=row["step"],
            best_step=row["best_step"],
            validation=tuple((step, score) for step, score in row["validation"]),
            stop_reason=StopReason(reason) if reason else None,
        )

    def save(self, progress: Progress) -> None:
        """Writes a checkpoint, then removes older ones and policies that are no longer best."""
        found = {f"average/{name}": averaged for name, averaged in self.average.items()}
        optimizer_steps: dict[str, float] = {}
        for name, parameter in trainable(self.model):
            found[name] = parameter.detach()
            if state := self.optimizer.state.get(parameter):
                optimizer_steps[name] = float(state["step"])
                found |= {f"{kind}/{name}": state[kind] for kind in MOMENTS}
        tensors = {name: ranks.own_part(value).contiguous() for name, value in found.items()}
        row = asdict(progress) | {
            "fingerprint": self.fingerprint,
            "optimizer_steps": optimizer_steps,
        }
        target = self.path / f"checkpoint-{progress.step:06d}"
        with _replaced(target, self.is_first) as folder:
            if self.is_first:
                folder.mkdir()
            ranks.wait()
            save_file(tensors, folder / self.state)
            if self.is_first:
                (folder / "progress.json").write_text(json.dumps(row))
            _flush([folder / self.state])
            ranks.wait()
        if not self.is_first:
            return
        keep = {target, self.policy(progress.best_step)}
        for old in [*self.path.glob("checkpoint-*"), *self.path.glob("policy-*")]:
            if old not in keep:
                shutil.rmtree(old)

    def policy(self, step: int) -> Path:
        return self.path / f"policy-{step:06d}"

    def save_policy(self, step: int) -> None:
        """The weights as a Hugging Face folder; the tokenizer is the caller's to add."""
        bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()
        try:
            with _replaced(self.policy(step), self.is_first) as folder:
                save_whole(self.model, folder)
        finally:
            if bars:
                transformers_logging.enable_progress_bar()

    def append(self, record: StepRecord) -> None:
        if not self.is_first:
            return
        try:
            with self.records.open("ab") as file:
                file.write(json.dumps(asdict(record)).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise PivotRLError(
                f"{self.records}: cannot be written ({error}); free some space and run again"
            ) from None

    def result(self, progress: Progress) -> RoundResult:
        """What a finished round hands back."""
        assert progress.stop_reason is not None
        return RoundResult(
            checkpoint=self.policy(progress.best_step),
            stop_reason=progress.stop_reason,
            steps=progress.step,
            best_step=progress.best_step,
            validation=progress.validation,
            records=self.records,
        )


def read_records(path: Path) -> Iterator[StepRecord]:
    """The records in `steps.jsonl`, in the order of their steps; one half written is none."""
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            row = json.loads(line)
            yield StepRecord(
                step=row["step"],
                metrics=row["metrics"],
                rollouts=tuple(TrainRollout(**rollout) for rollout in row["rollouts"]),
                warnings=tuple(row["warnings"]),
            )


def _step_of(line: bytes) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except json.JSONDecodeError:
        return None  # the line that was being written when the process was killed


@contextmanager
def _replaced(path: Path, is_first: bool = True) -> Iterator[Path]:
    """A name to write a file or folder under; it takes `path`'s place once it is on the disk.

    Of several processes that write there, the first puts it in place.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        yield partial
        if not is_first:
            return
        _flush([*partial.rglob("*"), partial])
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(partial, path)
        _flush([path.parent])
    except (OSError, SafetensorError) as error:
        _remove(partial)
        raise PivotRLError(
            f"{path}: cannot be written ({error}); free some space and run again"
        ) from None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush(paths: Sequence[Path]) -> None:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
