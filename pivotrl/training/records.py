"""What goes into a round of training and what comes out: plain data, importable without torch.

It must never know a model, an engine or a configuration file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pivotrl.types import Engine, PivotRLError, Sample, Turn, Verdict

Reward = Callable[[str, Sample], Verdict]
"""(candidate id, sample) -> verdict; called once a sample, in a fixed order."""
Judge = Callable[[Sequence[tuple[str, Sample]]], Sequence[Verdict]]
"""(candidate id, sample) of all that is undecided in a draw -> their verdicts."""

Advantage = Literal["population", "sample", "leave_one_out", "no_std"]
Dtype = Literal["float32", "bfloat16"]
Backend = Literal["split", "mask", "rows"]
"""How log-probabilities are computed (`logprobs`)."""
Loss = Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "gspo"]
Correction = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
"""What is done about a sampler that disagrees with the trainer; TRL's names."""


class StopReason(StrEnum):
    COMPLETED = "completed"
    NO_PROGRESS = "no_progress"
    """The last `patience` validations were no better than the best before them."""
    STALE = "stale"
    """The reward's spread within groups collapsed: profile anew before training on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """Of any round. Every field enters the fingerprint of a work folder."""

    learning_rate: float
    micro_batch_tokens: int
    """Tokens forwarded at once, shared ones counted once: memory and speed, not the loss."""
    warmup_steps: int = 0
    """Linear; afterwards the learning rate of GRPO is constant, that of SFT falls linearly to 0 at
    the last step."""
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    """Compute activations twice and keep few: a third more work for much less memory."""
    freeze: tuple[str, ...] = ()
    """Parts of names of parameters that are not trained; `mlp.gate.` freezes routers."""
    checkpoint_every: int = 0
    """Steps between checkpoints; 0 writes the last one only."""
    seed: int = 0
    dtype: Dtype = "float32"
    """`bfloat16` computes in autocast; weights and optimiser state stay float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings(_Settings):
    """One round of GRPO on single turns."""

    steps: int
    pivots_per_step: int
    group_size: int
    max_tokens: int
    """Longest completion, in tokens."""
    loss: Loss = "dapo"
    clip_low: float = 0.2
    clip_high: float = 0.2
    """`cispo`: the weight is cut at 1 + clip_high, from above only."""
    kl_beta: float = 0.0
    ema_decay: float = 0.0
    """Of the moving average of the weights that is validated and kept; 0 keeps them as they are."""
    advantage: Advantage = "population"
    advantage_epsilon: float = 1e-4
    temperature: float = 1.0
    importance_correction: Correction = "token_truncate"
    importance_cap: float = 2.0
    """Upper bound of the weight that corrects sampler against trainer, of a token or a sequence;
    what lies above it is cut to it, or masked."""
    max_pivots_per_trajectory: int = 4
    """Pivots of one trajectory that come together in a step: they share their history."""
    replacements: int = 1
    """Times that groups without a signal are replaced by those of other pivots in a step."""
    updates_per_batch: int = 1
    validate_every: int = 0
    """Steps between validations; 0 validates before the first and after the last step only."""
    validation_samples: int = 1
    patience: int = 0
    """Validations without a new best after which the round ends; 0 never ends it."""
    stale_share: float = 1 / 3
    """The round ends when the moving mean of the group's reward std falls under this share of
    its first value; 0 never ends it."""

    def __post_init__(self) -> None:
        smallest: dict[str, float] = {
            "steps": 1,
            "pivots_per_step": 1,
            "group_size": 2,
            "max_tokens": 1,
            "micro_batch_tokens": 1,
            "updates_per_batch": 1,
            "max_pivots_per_trajectory": 1,
            "replacements": 0,
            "patience": 0,
            "validation_samples": 1,
            "warmup_steps": 0,
            "kl_beta": 0,
        }
        for name, bound in smallest.items():
            if getattr(self, name) < bound:
                raise PivotRLError(
                    f"training: {name} is {getattr(self, name)}; it must be at least {bound}"
                )
        if not 0 <= self.ema_decay < 1:
            raise PivotRLError(f"training: ema_decay is {self.ema_decay}; it must be in [0, 1)")
        if self.temperature <= 0:
            raise PivotRLError("training: temperature is 0; exploration needs one above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class SftSettings(_Settings):
    """Supervised fine-tuning on the same demonstrations: the control arm."""

    epochs: int
    trajectories_per_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainPivot:
    """A turn to act at; end to end, the first turn of a task."""

    candidate_id: str
    trajectory_id: str
    prompt_ids: tuple[int, ...]
    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    candidate_id: str
    trajectory_id: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    """The demonstrated turn, end-of-turn token included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What was sampled once at a pivot: an action, or an episode that begins there."""

    sample: Sample
    """Of an episode all its turns' tokens, one after the other."""
    verdict: Verdict
    turns: tuple[Turn, ...]


Seed = Callable[[TrainPivot, int], int]
"""(pivot, attempt) -> seed"""
Draw = Callable[[Engine, Sequence[TrainPivot], int, Seed], list[list[Act]]]
"""(engine, pivots, n, seed) -> n acts a pivot; a failure of the machinery is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The G acts sampled at one pivot, and their advantages."""

    pivot: TrainPivot
    acts: tuple[Act, ...]
    advantages: tuple[float | None, ...]
    """None where there is no reward: such a sample is dropped, never counted as 0."""

    @property
    def samples(self) -> tuple[Sample, ...]:
        return tuple(act.sample for act in self.acts)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return tuple(act.verdict for act in self.acts)

    @property
    def rewards(self) -> list[float | None]:
        return [verdict.reward for verdict in self.verdicts]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRollout:
    candidate_id: str
    sample_index: int
    reward: float | None
    category: str
    advantage: float | None
    tokens: int
    finish_reason: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What one optimiser step did. Step 0 holds the validation before training, nothing else."""

    step: int
    metrics: dict[str, float]
    """By TRL's names where TRL has the metric; `seconds/...` are wall-clock."""
    rollouts: tuple[TrainRollout, ...] = ()
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    checkpoint: Path
    """A Hugging Face folder (config and safetensors, no tokenizer): the best policy by
    validation where there is one, else the last."""
    stop_reason: StopReason
    steps: int
    best_step: int
    """The step that `checkpoint` is of; 0 is the policy that the round started from."""
    validation: tuple[tuple[int, float], ...]
    """(step, mean reward)."""
    records: Path
    """Every `StepRecord` of the round, resumed parts included: `read_records(result.records)`."""
