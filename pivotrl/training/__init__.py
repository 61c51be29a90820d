"""Training: GRPO on single turns and its supervised control arm, on any Hugging Face causal model.

Takes dataclasses and a reward callable; imports with torch, transformers and numpy alone.
It must never know a configuration file, a store, a chat template or a verifier.
"""

from pivotrl.training.checkpoint import read_records
from pivotrl.training.grpo import train_round
from pivotrl.training.records import (
    Act,
    Demonstration,
    Draw,
    Judge,
    Reward,
    RoundResult,
    SftSettings,
    StepRecord,
    StopReason,
    TrainPivot,
    TrainRollout,
    TrainSettings,
)
from pivotrl.training.sampling import single_turns
from pivotrl.training.sft import sft_round

__all__ = [
    "Act",
    "Demonstration",
    "Draw",
    "Judge",
    "Reward",
    "RoundResult",
    "SftSettings",
    "StepRecord",
    "StopReason",
    "TrainPivot",
    "TrainRollout",
    "TrainSettings",
    "read_records",
    "sft_round",
    "single_turns",
    "train_round",
]
