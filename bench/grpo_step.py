"""One GRPO step of ours against TRL's `GRPOTrainer`: same model, prompts, completions and threads.

    python bench/grpo_step.py            # a table, and docs/results/grpo_step.json
    python bench/grpo_step.py --json     # the JSON on standard output

An optimisation step is log-probabilities, loss, backward pass and AdamW; a whole step samples the
completions too. Both trainers alternate in one process; ratios are of medians. Peak memory is what
a process of its own takes above what it held with model and optimiser loaded. TRL is given what is
best for its speed: no gradient checkpointing, no reference model, no recomputed old log-probs, and
the fastest of several batch sizes, tried first (its default, 8, unless another is a tenth faster);
`memory_ratio` is against its default batch, `memory_ratio_fastest` against the fastest. The bound
is counted floating-point operations, rows without padding over tree (pivotrl/training/flops.py).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

warnings.filterwarnings("ignore")

ROOT = Path(__file__).parents[1]
VOCABULARY = 1024
MODEL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 7,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}
SHAPES = ((512, 64, 8, 1), (1024, 64, 8, 1), (2048, 64, 16, 1), (2048, 64, 8, 4))
"""Tokens of the (longest) prompt, of a completion; completions a prompt; pivots."""
BATCHES = (8, 4, 1)
"""Rows of TRL's micro-batches that are tried; the first is its default."""
CLEARLY = 0.9
TURN = 128
"""Tokens between the pivots of one trajectory."""
Shape = tuple[int, int, int, int]


def make_model() -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    return Qwen3ForCausalLM(Qwen3Config(**MODEL, eos_token_id=1, pad_token_id=0)).eval()


def prompts_of(shape: Shape) -> list[tuple[int, ...]]:
    source = random.Random(0)
    history = tuple(source.randrange(2, VOCABULARY) for _ in range(shape[0]))
    return [history[: shape[0] - TURN * back] for back in reversed(range(shape[3]))]


def completions_of(shape: Shape) -> list[list[tuple[int, ...]]]:
    source = random.Random(1)
    return [
        [tuple(source.randrange(2, VOCABULARY) for _ in range(shape[1])) for _ in range(shape[2])]
        for _ in range(shape[3])
    ]


class Ours:
    """Our trainer's own functions, as `train_round` calls them."""

    def __init__(self, shape: Shape) -> None:
        from pivotrl.engines.hf import HFEngine
        from pivotrl.training.logprobs import choose
        from pivotrl.training.optimizer import adamw
        from pivotrl.training.records import Act, Group, TrainPivot, TrainSettings
        from pivotrl.training.sampling import single_turns
        from pivotrl.types import (
            FinishReason,
            RolloutStatus,
            Sample,
            Turn,
            Verdict,
            VerdictStatus,
        )

        self.model = make_model()
        self.optimizer = adamw(self.model, 0.0)
        self.settings = TrainSettings(
            steps=1,
            pivots_per_step=shape[3],
            group_size=shape[2],
            learning_rate=1e-6,
            max_tokens=shape[1],
            micro_batch_tokens=8192,
        )
        self.pivots = [
            TrainPivot(candidate_id=str(i), trajectory_id="0", prompt_ids=prompt, domain="bench")
            for i, prompt in enumerate(prompts_of(shape))
        ]
        self.backend = choose(self.model, [pivot.prompt_ids for pivot in self.pivots])
        self.engine = HFEngine(self.model, stop_ids=frozenset(), pad_id=0, decode=str)

        def verdict(number: int) -> Verdict:
            right = number % 2 == 0
            return Verdict(status=VerdictStatus.OK, reward=float(right), category="accepted")

        def act(pivot: TrainPivot, judged: Verdict, ids: tuple[int, ...]) -> Act:
            sample = Sample(
                text="",
                token_ids=ids,
                logprobs=(-6.9,) * len(ids),
                finish_reason=FinishReason.LENGTH,
                seed=0,
                status=RolloutStatus.OK,
            )
            turn = Turn(prompt_ids=pivot.prompt_ids, sample=sample)
            return Act(sample=sample, verdict=judged, turns=(turn,))

        self.draw = single_turns(lambda _id, one: verdict(sum(one.token_ids)), self.settings)
        self.groups = [
            Group(
                pivot=pivot,
                acts=tuple(act(pivot, verdict(number), ids) for number, ids in enumerate(own)),
                advantages=tuple((-1.0) ** i for i in range(len(own))),
            )
            for pivot, own in zip(self.pivots, completions_of(shape), strict=True)
        ]

    def optimise(self) -> None:
        from pivotrl.training.improvement import improve

        improve(self.model, None, self.optimizer, self.groups, self.backend, self.settings, 1)

    def whole(self) -> None:
        from pivotrl.training.improvement import improve
        from pivotrl.training.sampling import sample_groups

        groups = sample_groups(self.engine, self.pivots, self.draw, self.settings, 1)
        improve(self.model, None, self.optimizer, groups, self.backend, self.settings, 1)
        self.engine.load_weights(self.model.state_dict())


class Theirs:
    """TRL's trainer: its own loss on given completions, and its own training loop."""

    def __init__(self, shape: Shape, batch: int, folder: Path) -> None:
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        self.shape, self.batch = shape, batch
        rows = shape[2] * shape[3]
        prompts = [" ".join(f"w{i}" for i in ids) for ids in prompts_of(shape)]
        self.trainer = GRPOTrainer(
            model=make_model(),
            processing_class=word_tokenizer(),
            reward_funcs=[lambda completions, **_: [i % 2 for i in range(len(completions))]],
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts] * 200),
            args=GRPOConfig(
                output_dir=str(folder),
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=rows // batch,
                num_generations=shape[2],
                max_completion_length=shape[1],
                generation_kwargs={"min_new_tokens": shape[1]},
                gradient_checkpointing=False,
                learning_rate=1e-6,
                beta=0.0,
                loss_type="dapo",
                shuffle_dataset=False,
                report_to="none",
                use_cpu=True,
                bf16=False,
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
            ),
        )
        self.trainer.create_optimizer()
        self.inputs = self._inputs()

    def _inputs(self) -> list[dict[str, Any]]:
        """Micro-batches of what `_prepare_inputs` would hand over; prompts are padded left."""
        longest, parts = self.shape[0], []
        for prompt, own in zip(prompts_of(self.shape), completions_of(self.shape), strict=True):
            for number, completion in enumerate(own):
                space = longest - len(prompt)
                parts.append(
                    {
                        "prompt_ids": torch.tensor([[0] * space + list(prompt)]),
                        "prompt_mask": torch.tensor([[0] * space + [1] * len(prompt)]),
                        "completion_ids": torch.tensor([completion]),
                        "completion_mask": torch.ones(1, len(completion), dtype=torch.long),
                        "advantages": torch.tensor([(-1.0) ** number]),
                    }
                )
        count = torch.tensor(self.shape[1] * len(parts))
        return [
            {key: torch.cat([part[key] for part in parts[i : i + self.batch]]) for key in parts[0]}
            | {"num_items_in_batch": count}
            for i in range(0, len(parts), self.batch)
        ]

    def optimise(self) -> None:
        trainer = self.trainer
        model, optimizer = trainer.model.train(), trainer.optimizer
        trainer.current_gradient_accumulation_steps = len(self.inputs)
        for inputs in self.inputs:
            trainer._compute_loss(model, inputs).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    def train(self, steps: int, between: Callable[[], None]) -> list[float]:
        """Seconds of its whole steps; `between` is called after each."""
        from transformers import TrainerCallback

        seconds: list[float] = []

        class Clock(TrainerCallback):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                self.started = time.perf_counter()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                seconds.append(time.perf_counter() - self.started)
                between()

        self.trainer.add_callback(Clock())
        self.trainer.args.max_steps = steps
        self.trainer.train()
        return seconds


def word_tokenizer() -> Any:
    """One token a word, so that prompts have the length that they should have."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"[PAD]": 0, "[EOS]": 1} | {f"w{i}": i for i in range(2, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="[EOS]", padding_side="left"
    )


def seconds_of(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def fastest_batch(shape: Shape, folder: Path) -> int:
    rows = shape[2] * shape[3]
    found = {}
    for batch in BATCHES:
        if batch <= rows:
            found[batch] = seconds_of(Theirs(shape, batch, folder).optimise)
    best = min(found, key=lambda batch: found[batch])
    default = next(iter(found))
    return best if found[best] < CLEARLY * found[default] else default


def peak_megabytes(work: Callable[[], None]) -> float:
    """What `work` takes above what the process held before it."""
    page = os.sysconf("SC_PAGE_SIZE")

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    start = highest = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.002):
            highest = max(highest, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return (highest - start) / 2**20


def memory_of(who: str, shape: Shape, batch: int) -> float:
    """Of an optimisation step, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Ours(shape) if who == "ours" else Theirs(shape, batch, Path(folder))
        optimizer = trainer.optimizer if isinstance(trainer, Ours) else trainer.trainer.optimizer
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
        return peak_megabytes(trainer.optimise)


def in_a_process(who: str, shape: Shape, batch: int, threads: int) -> float:
    arguments = [who, *map(str, shape), str(batch), str(threads)]
    command = [sys.executable, __file__, "--memory", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def measure(shape: Shape, repeats: int, threads: int, say: Callable[[str], None]) -> dict[str, Any]:
    from pivotrl.training.flops import row_flops, shape_of, tree_flops
    from pivotrl.training.tree import Row, bins

    with tempfile.TemporaryDirectory() as folder:
        batch = fastest_batch(shape, Path(folder))
        ours, theirs = Ours(shape), Theirs(shape, batch, Path(folder))
        ours.optimise()
        theirs.optimise()
        steps = [(seconds_of(ours.optimise), seconds_of(theirs.optimise)) for _ in range(repeats)]
        mine, others = (statistics.median(column) for column in zip(*steps, strict=True))
        whole_mine: list[float] = []
        whole_others = Theirs(shape, batch, Path(folder)).train(
            repeats + 1, lambda: whole_mine.append(seconds_of(ours.whole))
        )
    rows = [
        Row(sample=0, prompt=prompt, completion=completion)
        for prompt, own in zip(prompts_of(shape), completions_of(shape), strict=True)
        for completion in own
    ]
    layouts = [*bins(rows, ours.settings.micro_batch_tokens)]
    counted = shape_of(ours.model)
    tree = sum(tree_flops(counted, layout) for layout in layouts)
    bound = sum(row_flops(counted, layout) for layout in layouts) / tree
    whole = statistics.median(whole_others[1:]) / statistics.median(whole_mine[1:])
    memory = [
        in_a_process(who, shape, size, threads)
        for who, size in (("ours", 0), ("theirs", BATCHES[0]), ("theirs", batch))
    ]
    result = {
        "shape": list(shape),
        "step_ratio": round(others / mine, 2),
        "whole_ratio": round(whole, 2),
        "memory_ratio": round(memory[0] / memory[1], 3),
        "memory_ratio_fastest": round(memory[0] / memory[2], 3),
        "bound_share": round(others / mine / bound, 3),
        "token_ratio": round(
            sum(x.row_tokens for x in layouts) / sum(len(x.ids) for x in layouts), 2
        ),
        "bound": round(bound, 2),
        "step_seconds": [round(mine, 3), round(others, 3)],
        "whole_seconds": [
            round(statistics.median(whole_mine[1:]), 3),
            round(statistics.median(whole_others[1:]), 3),
        ],
        "peak_megabytes": [round(megabytes) for megabytes in memory],
        "trl_batch": batch,
        "backend": ours.backend,
        "gigaflops": round(3 * tree / mine / 1e9, 1),
    }
    say(
        f"{shape!s:>20}  step {result['step_ratio']:5.2f}x of {bound:5.2f}  whole "
        f"{whole:5.2f}x  memory {result['memory_ratio']:.3f}  share {result['bound_share']:.2f}"
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="the JSON on standard output")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shape", type=int, nargs=4, action="append", metavar=("P", "R", "G", "N"))
    parser.add_argument("--memory", nargs=7, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        who, *numbers = options.memory
        *shape, batch, threads = map(int, numbers)
        torch.set_num_threads(threads)
        print(memory_of(who, (shape[0], shape[1], shape[2], shape[3]), batch))
        return
    torch.set_num_threads(options.threads)

    def say(line: str) -> None:
        print(line, file=sys.stderr if options.json else sys.stdout, flush=True)

    shapes: Sequence[Shape] = [tuple(s) for s in options.shape] if options.shape else SHAPES
    say(f"model: {MODEL}, {sum(p.numel() for p in make_model().parameters()):,} parameters")
    result = {
        "command": "python bench/grpo_step.py",
        "model": MODEL,
        "shapes": [measure(shape, options.repeats, options.threads, say) for shape in shapes],
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
        "threads": options.threads,
        "dtype": "float32",
    }
    if options.json:
        print(json.dumps(result))
    elif not options.shape:
        text = json.dumps(result, indent=1)
        (ROOT / "docs/results/grpo_step.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
