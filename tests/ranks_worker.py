"""One process of a round on several, as `torchrun` starts it: `ranks_worker.py WORK WHAT [DIE_AT]`.

WHAT is `step` (one update in float64), `round`, or a round that trains adapters, of all layers
(`adapters`) or of a mixture of experts (`experts`); with DIE_AT the first process ends itself
without a word once that step is recorded.
"""

import os
import sys
from pathlib import Path

import torch
from training_models import (
    engine_of,
    random_experts,
    random_model,
    reward_token,
    some_pivots,
    train_settings,
)

from pivotrl.training import ranks, train_round
from pivotrl.training.adapters import with_adapters
from pivotrl.training.improvement import improve
from pivotrl.training.sampling import sample_groups, single_turns

ROUND = {"steps": 6, "validate_every": 3, "checkpoint_every": 2, "ema_decay": 0.5}


def in_shards(load):
    def hollow():
        with torch.device("meta"):
            return load()

    return ranks.sharded(load, hollow, "cpu", "float32")


def step(model, reference):
    """Weights after one plain gradient step on groups of unlike lengths, and its metrics."""
    settings = train_settings(kl_beta=0.1, group_size=8, max_tokens=6, max_grad_norm=1e9)
    draw = single_turns(reward_token, settings)
    groups = sample_groups(engine_of(random_model()), some_pivots(5), draw, settings, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    metrics = improve(model, reference, optimizer, groups, "split", settings, 1)
    return {n: ranks.whole(p.detach()) for n, p in model.named_parameters()}, metrics


def whole_round(work, model, engine, reference, die_at=0):
    def on_step(record):
        if record.step == die_at > 0 and ranks.number() == 0:
            os._exit(9)

    settings = train_settings(**ROUND, kl_beta=0.05 if reference else 0.0)
    return train_round(
        model=model,
        reference=reference,
        engine=engine,
        pivots=some_pivots(7),
        validation=some_pivots(3, seed=1),
        draw=single_turns(reward_token, settings),
        settings=settings,
        workdir=work,
        on_step=on_step,
    )


def adapted():
    return with_adapters(random_model(), 4, 8, seed=0)


def adapted_experts():
    return with_adapters(random_experts(), 4, 8, seed=0)


MODELS = {"round": random_model, "adapters": adapted, "experts": adapted_experts}
SAMPLERS = {"round": random_model, "adapters": random_model, "experts": random_experts}


def main() -> None:
    torch.set_num_threads(1)
    work, what = Path(sys.argv[1]), sys.argv[2]
    die_at = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    ranks.join("cpu")
    if what == "step":
        one = in_shards(lambda: random_model().double())
        found = step(one, in_shards(lambda: random_model(seed=1).double()))
        if ranks.number() == 0:
            torch.save(found, work / "step.pt")
    else:
        model = in_shards(MODELS[what])
        reference = in_shards(random_model) if what == "round" else None
        engine = engine_of(SAMPLERS[what]())
        whole_round(work, model, engine, reference, die_at)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
