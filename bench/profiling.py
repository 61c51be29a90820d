"""What profiling costs in both in-process engines, against plain `generate` of transformers.

    python bench/profiling.py            # a table, and docs/results/profiling.md (some minutes)
    python bench/profiling.py --json     # {"engines": {name: {"token_ratio", "speedup"}}}

Trajectories of 8 turns x 512 tokens behind 2,048 system tokens that all share; every turn is a
candidate, K = 16. `token_ratio` is prompt tokens computed over the tokens of the prompts' trie;
vLLM shares whole blocks, and what a sample computes of its own, at most one block, is taken off
(the table has the raw ratio too). `speedup` is samples a second over one `generate` a candidate
with `num_return_sequences`, in the same run, each after a warm-up on other prompts.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import torch

from pivotrl.engines.hf import HFEngine, load_model
from pivotrl.engines.vllm import VLLMEngine
from pivotrl.prefixes import unique_tokens
from pivotrl.types import Engine, SamplingParams

warnings.filterwarnings("ignore")

ROOT = Path(__file__).parents[1]
SYSTEM, TURNS, TURN, K = 2048, 8, 512, 16
MODEL = {
    "vocab_size": 1024,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
Prompts = list[list[int]]


@dataclass(frozen=True, kw_only=True)
class Result:
    seconds: float
    computed: int
    """Prompt tokens that went through the model."""
    own: int = 0
    """Of these, at most one block a sample that vLLM does not share."""


def prompts_of(trajectories: int, seed: int) -> Prompts:
    source = random.Random(seed)

    def draw(count: int) -> list[int]:
        return [source.randrange(2, MODEL["vocab_size"]) for _ in range(count)]  # type: ignore

    system = draw(SYSTEM)
    histories = [system + draw(TURNS * TURN) for _ in range(trajectories)]
    return [h[: SYSTEM + TURN * turn] for h in histories for turn in range(1, TURNS + 1)]


def save_model(folder: Path) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    Qwen3ForCausalLM(Qwen3Config(**MODEL)).save_pretrained(folder)


def seconds_of(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def plain(model: Any, prompts: Prompts, completion: int) -> Result:
    """One `generate` a candidate; each prompt goes through the model K times."""

    def work() -> None:
        for prompt in prompts:
            ids = torch.tensor([prompt])
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                top_k=0,
                num_return_sequences=K,
                min_new_tokens=completion,
                max_new_tokens=completion,
                pad_token_id=0,
            )

    return Result(seconds=seconds_of(work), computed=K * sum(map(len, prompts)))


def sampled(engine: Engine, prompts: Prompts, completion: int) -> float:
    params = SamplingParams(max_tokens=completion)
    return seconds_of(lambda: engine.sample(prompts, K, params, range(len(prompts))))


def with_hf(engine: HFEngine, model: Any, prompts: Prompts, completion: int) -> Result:
    computed = 0

    def count(module: Any, args: Any, kwargs: Any) -> None:
        nonlocal computed
        if "shared_prompt_store" not in kwargs:  # a prefill
            computed += kwargs["input_ids"].numel()

    handle = model.register_forward_pre_hook(count, with_kwargs=True)
    seconds = sampled(engine, prompts, completion)
    handle.remove()
    return Result(seconds=seconds, computed=computed)


def with_vllm(engine: VLLMEngine, prompts: Prompts, completion: int) -> Result:
    core = engine._llm.llm_engine
    step, computed = core.step, []

    def counted() -> Any:
        outputs = step()
        computed.extend(len(o.prompt_token_ids) - o.num_cached_tokens for o in outputs)
        return outputs

    core.step = counted
    seconds = sampled(engine, prompts, completion)
    core.step = step
    block = core.vllm_config.cache_config.block_size
    own = sum(min(block, tokens) for tokens in computed)
    return Result(seconds=seconds, computed=sum(computed), own=own)


def measure(trajectories: int, completion: int) -> tuple[dict[str, Result], int]:
    """Results by name, and the tokens of the prompts' trie."""
    prompts, others = prompts_of(trajectories, 0), prompts_of(1, 1)
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory() as name:
        save_model(folder := Path(name))
        model = load_model(folder)
        plain(model, others[:1], completion)
        results["generate"] = plain(model, prompts, completion)
        hf = HFEngine(model, stop_ids=frozenset(), pad_id=0, decode=str)
        sampled(hf, others[:1], completion)
        results["hf"] = with_hf(hf, model, prompts, completion)
        vllm = VLLMEngine(
            folder, stop_ids=frozenset(), decode=str, dtype="float32", context=SYSTEM * 4
        )
        sampled(vllm, others, completion)
        results["vllm"] = with_vllm(vllm, prompts, completion)
    return results, unique_tokens(prompts)


def report(command: str, results: dict[str, Result], unique: int, options: Any) -> str:
    samples = options.trajectories * TURNS * K
    slow = results["generate"].seconds
    rows = "\n".join(
        f"| {name} | {r.computed:,} | {(r.computed - r.own) / unique:.2f} | "
        f"{r.computed / unique:.2f} | {r.seconds:.1f} | {samples / r.seconds:.1f} | "
        f"{slow / r.seconds:.1f}x |"
        for name, r in results.items()
    )
    shape = ", ".join(f"{key} {value}" for key, value in MODEL.items() if "size" in key)
    vllm = next(iter(packages_distributions()["vllm"]))
    parts = ("torch", "transformers", vllm)
    return f"""# What profiling costs

`{command}`; {options.threads} threads, float32, a random Qwen3 of {MODEL["num_hidden_layers"]}
layers ({shape}); {", ".join(f"{part} {version(part)}" for part in parts)}.

{options.trajectories} trajectories of {TURNS} turns x {TURN} tokens behind {SYSTEM:,} of them all,
K = {K}, {options.completion} tokens a sample: {samples} samples, {unique:,} unique prefix tokens.
`generate` is transformers' own, once a candidate with `num_return_sequences`. vLLM shares whole
blocks: what a sample computes of its own, at most one block, is off `ratio` and in `raw`.

| engine | prompt tokens computed | ratio | raw | seconds | samples/s | speed |
|---|---|---|---|---|---|---|
{rows}
"""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="the JSON on standard output")
    parser.add_argument("--trajectories", type=int, default=2)
    parser.add_argument("--completion", type=int, default=32, help="tokens a sample")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    results, unique = measure(options.trajectories, options.completion)
    command = " ".join(["python bench/profiling.py", *arguments])
    text = report(command, results, unique, options)
    print(text, file=sys.stderr if options.json else sys.stdout)
    if options.json:
        engines = {
            name: {
                "token_ratio": round((result.computed - result.own) / unique, 3),
                "speedup": round(results["generate"].seconds / result.seconds, 2),
            }
            for name, result in results.items()
            if name != "generate"
        }
        print(json.dumps({"engines": engines}))
    else:
        (ROOT / "docs/results/profiling.md").write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
