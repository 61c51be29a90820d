"""Trainer and sampler on one GPU: parity, a round that learns, speed and memory against rows.

    make gpu-check                                     # writes docs/results/gpu_check.json
    python bench/gpu_check.py --tiny --out check.json  # the same code in seconds, on any machine

Needs torch and transformers alone, from a bare checkout. Weights are random. Speed is a forward
and a backward pass over one prompt and its completions, in bfloat16 autocast over float32 weights,
medians of alternating runs; both sides checkpoint where the model is large. MFU counts three
forward passes' operations (pivotrl/training/flops.py) against the card's dense bfloat16 peak.
The in-process engine samples the turns of one trajectory beside transformers' `generate`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import torch
import transformers
from transformers import Qwen3Config, Qwen3ForCausalLM

from pivotrl.engines.hf import HFEngine
from pivotrl.training import TrainPivot, TrainSettings, read_records, single_turns, train_round
from pivotrl.training.flops import peak_of, row_flops, shape_of, tree_flops
from pivotrl.training.logprobs import choose, log_probs
from pivotrl.training.records import Backend, Dtype
from pivotrl.training.tree import Layout, Row, bins
from pivotrl.types import Sample, SamplingParams, Verdict, VerdictStatus

HEADS = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}
MODELS: dict[str, dict[str, Any]] = {
    "0.6B": HEADS
    | {
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
    },
    "4B": HEADS
    | {
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
    },
}
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
}
SHAPE, TINY_SHAPE = (8192, 256, 8), (256, 32, 4)
"""Tokens of the prompt, of a completion; completions."""
CHECKPOINTED = 2_000_000_000
"""Parameters from which both sides compute activations twice."""


def make_model(config: dict[str, Any], device: str) -> Any:
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen3ForCausalLM(
            Qwen3Config(**config, tie_word_embeddings=True, max_position_embeddings=16_384)
        )
    return model.float().eval()


def group(shape: tuple[int, int, int], vocabulary: int, prompts: int = 1) -> list[Row]:
    """Completions of one prompt, or of several that continue each other."""
    source = random.Random(0)
    history = tuple(source.randrange(vocabulary) for _ in range(shape[0]))
    return [
        Row(
            sample=0,
            prompt=history[: shape[0] * (number + 1) // prompts],
            completion=tuple(source.randrange(vocabulary) for _ in range(shape[1])),
        )
        for number in range(prompts)
        for _ in range(shape[2])
    ]


def values_and_gradient(
    model: Any, layout: Layout, backend: Backend, dtype: Dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    found, _ = log_probs(model, layout, backend, dtype=dtype)
    (found * torch.linspace(-1, 1, len(found), device=found.device)).sum().backward()
    return found.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])


def parity(device: str) -> dict[str, Any]:
    """Largest difference in nats, and of gradients relative to their norm, to rows in float32."""
    model = make_model(TINY, device)
    layout = next(bins(group((256, 24, 6), TINY["vocab_size"], prompts=4), 10**6))
    values, gradient = values_and_gradient(model, layout, "rows", "float32")
    out: dict[str, dict[str, float | str]] = {}
    backends: tuple[Backend, ...] = ("rows", "mask", "split")
    precisions: tuple[Dtype, ...] = ("float32", "bfloat16")
    for dtype in precisions:
        for backend in backends:
            try:
                found, slope = values_and_gradient(model, layout, backend, dtype)
            except RuntimeError as error:
                out[f"{backend} {dtype}"] = {"error": str(error)[:300]}
                continue
            out[f"{backend} {dtype}"] = {
                "nats": float((found - values).abs().max()),
                "gradient": float(torch.dist(slope, gradient) / gradient.norm()),
            }
    return {"differences": out, "chosen": choose(model, [row.prompt for row in layout.rows])}


def make_engine(model: Any, device: str) -> HFEngine:
    return HFEngine(model, stop_ids=frozenset(), pad_id=0, decode=str, device=device)


def learning(device: str) -> dict[str, Any]:
    """The same round of GRPO on the CPU and on `device`: a low token id earns a reward."""

    def reward(candidate_id: str, sample: Sample) -> Verdict:
        is_low = sum(token < TINY["vocab_size"] // 4 for token in sample.token_ids) >= 3
        return Verdict(status=VerdictStatus.OK, reward=float(is_low), category=f"low {is_low}")

    pivots = [
        TrainPivot(
            candidate_id=f"{row.sample} {number}",
            trajectory_id="t",
            prompt_ids=row.prompt,
            domain="d",
        )
        for number, row in enumerate(group((256, 1, 1), TINY["vocab_size"], prompts=4))
    ]
    settings = TrainSettings(
        steps=30,
        pivots_per_step=4,
        group_size=16,
        learning_rate=1e-3,
        max_tokens=6,
        micro_batch_tokens=10**4,
        validation_samples=16,
        stale_share=0.0,
    )
    out = {}
    for where in dict.fromkeys(("cpu", device)):
        model = make_model(TINY, where)
        with tempfile.TemporaryDirectory() as folder:
            result = train_round(
                model=model,
                reference=None,
                engine=make_engine(model, where),
                pivots=pivots,
                validation=pivots,
                draw=single_turns(reward, settings),
                settings=settings,
                workdir=Path(folder),
                on_step=lambda record: None,
            )
            _, first, *_ = (record.metrics for record in read_records(result.records))
        out[where] = {
            "validation": result.validation,
            "first_step": {key: first[key] for key in ("reward", "loss", "grad_norm")},
        }
    return out


def sampling(
    config: dict[str, Any], shape: tuple[int, int, int], device: str, repeats: int
) -> dict[str, Any]:
    """Samples a second of the turns of one trajectory, one `generate` a turn beside the engine."""
    model = make_model(config, device)
    if device != "cpu":
        model = model.bfloat16()
    engine = make_engine(model, device)
    turns = [row.prompt for row in group((shape[0], 1, 1), config["vocab_size"], prompts=4)]
    params = SamplingParams(max_tokens=shape[1])

    def ours() -> None:
        engine.sample(turns, shape[2], params, range(len(turns)))

    def generate() -> None:
        for turn in turns:
            ids = torch.tensor([turn], device=device)
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                top_k=0,
                num_return_sequences=shape[2],
                min_new_tokens=shape[1],
                max_new_tokens=shape[1],
                pad_token_id=0,
                eos_token_id=None,
            )

    seconds, memory = alternated({"engine": ours, "generate": generate}, device, repeats)
    return {
        "shape": shape,
        "turns": len(turns),
        "ratio": seconds["generate"] / seconds["engine"],
        "tokens_per_second": {n: len(turns) * shape[1] * shape[2] / s for n, s in seconds.items()},
        "megabytes": memory,
    }


def alternated(
    works: dict[str, Callable[[], None]], device: str, repeats: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds and most megabytes of each, after a run that does not count."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(repeats + 1):
        for name, work in works.items():
            found[name].append(timed(work, device))
    seconds = {name: statistics.median(s for s, _ in runs[1:]) for name, runs in found.items()}
    return seconds, {name: max(m for _, m in runs[1:]) for name, runs in found.items()}


def timed(work: Callable[[], None], device: str) -> tuple[float, float]:
    """Seconds, and peak megabytes above what was held before."""
    on_gpu = device != "cpu"
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
    started = time.perf_counter()
    work()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    return seconds, (torch.cuda.max_memory_allocated() - held) / 2**20 if on_gpu else 0.0


def speed(
    config: dict[str, Any],
    shape: tuple[int, int, int],
    device: str,
    repeats: int,
    peak: float | None,
) -> dict[str, Any]:
    model = make_model(config, device)
    count = sum(p.numel() for p in model.parameters())
    if count > CHECKPOINTED:
        model.gradient_checkpointing_enable()
        model.train()
    for parameter in model.parameters():  # gradients are held before, as between micro-batches
        parameter.grad = torch.zeros_like(parameter)
    rows = group(shape, config["vocab_size"])
    (tree,) = bins(rows, 10**9)
    apart = [*bins(rows, 1, is_tree=False)]
    backend = choose(model, [row.prompt[:512] for row in rows])

    def whole() -> None:
        log_probs(model, tree, backend, dtype="bfloat16")[0].sum().backward()

    def by_rows() -> None:
        for row in apart:
            log_probs(model, row, "rows", dtype="bfloat16")[0].sum().backward()

    seconds, memory = alternated({"tree": whole, "rows": by_rows}, device, repeats)
    counted = shape_of(model)
    operations = {"tree": tree_flops(counted, tree), "rows": row_flops(counted, tree)}
    return {
        "parameters": count,
        "shape": shape,
        "backend": backend,
        "checkpointed": count > CHECKPOINTED,
        "token_ratio": tree.row_tokens / len(tree.ids),
        "bound": operations["rows"] / operations["tree"],
        "ratio": seconds["rows"] / seconds["tree"],
        "seconds": seconds,
        "megabytes": memory,
        "mfu": peak and {name: 3 * operations[name] / seconds[name] / peak for name in seconds},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results/gpu_check.json"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="small models; works without a GPU")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.tiny:
        sys.exit("no GPU here: run it on a machine with one, or with --tiny")
    card = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    peak = peak_of(torch.device(device))
    models = {"tiny": TINY} if options.tiny else MODELS
    shape = TINY_SHAPE if options.tiny else SHAPE
    result: dict[str, Any] = {
        "command": " ".join(["python bench/gpu_check.py", *sys.argv[1:]]),
        "device": card,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "parity": parity(device),
        "learning": learning(device),
        "sampling": {},
        "speed": {},
    }
    for name, config in models.items():
        result["speed"][name] = speed(config, shape, device, options.repeats, peak)
        print(name, json.dumps(result["speed"][name]), flush=True)
        shorter = (shape[0], shape[1] // 4, shape[2])
        result["sampling"][name] = sampling(config, shorter, device, 1)
        print(name, json.dumps(result["sampling"][name]), flush=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")  # what is done is kept


if __name__ == "__main__":
    main()
