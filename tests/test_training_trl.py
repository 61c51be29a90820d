"""Losses and gradients against TRL's own trainer on the same tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_models import one_thread, random_model, train_settings

from pivotrl.training.advantages import advantages
from pivotrl.training.improvement import Batch, batch_loss
from pivotrl.training.losses import token_weights
from pivotrl.training.records import Loss
from pivotrl.training.tree import Layout, Row, in_order

__all__ = ["one_thread"]
ROOT = Path(__file__).parents[1]
LONGEST, KL = 6, 0.05


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    folder = tmp_path_factory.mktemp("model")  # TRL loads its reference policy from there
    random_model(vocabulary=64).save_pretrained(folder)
    return GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(ROOT / "pivotrl/mini/model"),
        reward_funcs=[lambda completions, **_: [0.0] * len(completions)],
        train_dataset=Dataset.from_list([{"prompt": "a"}]),
        args=GRPOConfig(
            output_dir=str(tmp_path_factory.mktemp("trl")),
            per_device_train_batch_size=8,
            num_generations=8,
            max_completion_length=LONGEST,
            report_to="none",
            use_cpu=True,
            bf16=False,
            beta=KL,
            use_bias_correction_kl=False,  # the plain k3 estimator
            epsilon=0.1,
            epsilon_high=0.15,
        ),
    )


def some_batch(loss: Loss) -> tuple[Batch, dict[str, Any]]:
    """One group of eight completions of unequal length, for us and as TRL holds it."""
    source = torch.Generator().manual_seed(3)
    prompt = tuple(torch.randint(2, 60, (11,), generator=source).tolist())
    lengths = [1, 6, 3, 4, 6, 2, 5, 3]
    rows = in_order(
        Row(
            sample=i,
            prompt=prompt,
            completion=tuple(torch.randint(2, 60, (length,), generator=source).tolist()),
        )
        for i, length in enumerate(lengths)
    )
    lengths = [len(row.completion) for row in rows]
    gains = torch.tensor(advantages([1, 0, 0, 1, 0, 0, 0, 1], "sample", 1e-4))
    weights = torch.tensor(token_weights(loss, lengths, LONGEST))
    by_token = torch.tensor(lengths)
    count = sum(lengths)
    old = -4.2 + 0.5 * torch.randn(count, generator=source)
    reference = -4.2 + 0.5 * torch.randn(count, generator=source)
    batch = Batch(
        layout=Layout(rows),
        lengths=lengths,
        weights=weights.repeat_interleave(by_token),
        advantages=gains.repeat_interleave(by_token),
        sampled=old,
        reference=reference,
        old=old,
    )

    def padded(values: torch.Tensor) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence([*values.split(lengths)], batch_first=True)

    ids = torch.tensor([i for row in rows for i in row.completion])
    theirs = {
        "prompt_ids": torch.tensor([prompt] * 8),
        "prompt_mask": torch.ones(8, 11, dtype=torch.long),
        "completion_ids": padded(ids),
        "completion_mask": padded(torch.ones(count, dtype=torch.long)),
        "advantages": gains,
        "old_per_token_logps": padded(old),
        "ref_per_token_logps": padded(reference),
        "num_items_in_batch": torch.tensor(count),
    }
    return batch, theirs


@pytest.mark.parametrize("loss", ["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "gspo"])
def test_loss_and_gradient_are_those_of_trl(trainer: Any, loss: Loss) -> None:
    batch, inputs = some_batch(loss)
    model = trainer.model.train()
    trainer.loss_type = "grpo" if loss == "gspo" else loss
    trainer.importance_sampling_level = "sequence" if loss == "gspo" else "token"
    # TRL's bound on the weight of CISPO is absolute.
    trainer.epsilon_high = 1.15 if loss == "cispo" else 0.15
    trainer.current_gradient_accumulation_steps = 1
    trainer.args.steps_per_generation = 1
    model.zero_grad()
    theirs = trainer._compute_loss(model, inputs)
    theirs.backward()
    wanted = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert wanted.norm() > 0
    model.zero_grad()
    settings = train_settings(loss=loss, kl_beta=KL, clip_low=0.1, clip_high=0.15)
    ours, _ = batch_loss(model, batch, "split", settings)
    ours.backward()
    found = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), abs=1e-6)
    assert torch.dist(found, wanted) <= 1e-5 * wanted.norm()
