"""`make base-model`: makes the miniature's base model from nothing, with what it is made of.

`python -m pivotrl.mini.base_model --out DIR` writes corpus -> tokenizer -> pretrained weights as a
Hugging Face folder with `hashes.json`. This module must never know how the model is used later.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from pathlib import Path
from typing import Any

import orjson

from pivotrl.mini.recipes import RECIPES, VOCABULARY
from pivotrl.types import JSON, ConfigError

TOKENIZER_DOCUMENTS = 4000
ARCHITECTURE: dict[str, JSON] = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 384,
    "tie_word_embeddings": True,
    "rope_theta": 1_000_000.0,
}
WEIGHTS_FILE = "model.safetensors"


def build(
    out: Path,
    *,
    seed: int,
    workers: int,
    recipe: str = "retail",
    documents: int | None = None,
) -> dict[str, JSON]:
    """Train and write the model folder `out`, which must not exist; returns `hashes.json`.

    `recipe` is a key of `RECIPES`; it says how many documents, unless they are given.
    """
    if out.exists():
        raise ConfigError(f"{out} exists; give --out a new folder")
    import torch
    from transformers.utils import logging as transformers_logging

    from pivotrl.mini.corpus import encode, make_documents, render, single_tokens, text_hash
    from pivotrl.mini.pretraining import PretrainingSettings, pretrain
    from pivotrl.mini.tokenizer import train_tokenizer
    from pivotrl.mini.wiring import wire_induction

    torch.manual_seed(seed)
    torch.set_num_threads(workers)  # the wiring's last bits depend on it
    began = time.monotonic()
    made_of = RECIPES[recipe]
    documents = documents or made_of.documents
    rows = make_documents(documents, seed, made_of)
    texts = render(rows)
    data_sha256 = text_hash(texts)
    tokenizer = train_tokenizer(
        texts[-TOKENIZER_DOCUMENTS:], single_tokens(made_of.domain), VOCABULARY
    )
    corpus = encode([row.name for row in rows], texts, tokenizer)
    tokens = sum(len(document.ids) for document in corpus.documents)
    print(f"corpus: {documents} documents, {tokens} tokens, sha256 {data_sha256}", flush=True)
    model = new_model(len(tokenizer), tokenizer)
    wire_induction(model)
    print(f"model: {sum(p.numel() for p in model.parameters())} parameters, {workers} workers")
    with TrainingProgress(tokens) as progress:
        pretrain(model, corpus, PretrainingSettings(), seed, workers, progress.on_step)
    transformers_logging.disable_progress_bar()
    unfinished = out.with_name(out.name + ".unfinished")
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    made = {
        "command": "python -m pivotrl.mini.base_model "
        f"--out DIR --recipe {recipe} --documents {documents} --seed {seed} --workers {workers}",
        "recipe": recipe,
        "seed": seed,
        "workers": workers,
        "documents": documents,
        "tokens": tokens,
        "seconds": round(time.monotonic() - began),
        "torch": torch.__version__,
        "data_sha256": data_sha256,
        "files": {file.name: sha256(file) for file in sorted(unfinished.iterdir())},
    }
    (unfinished / "hashes.json").write_bytes(orjson.dumps(made, option=orjson.OPT_INDENT_2) + b"\n")
    unfinished.rename(out)
    return made


def new_model(vocabulary: int, tokenizer: Any) -> Any:
    """A Qwen3 model with random weights in fp32; seed torch before."""
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    from pivotrl.mini.tokenizer import CONTEXT

    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocabulary,
            max_position_embeddings=CONTEXT,
            bos_token_id=None,
            **ids,
            **ARCHITECTURE,
        )
    )
    model.generation_config = GenerationConfig(**ids)
    return model


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


class TrainingProgress:
    """A bar with tokens, rate and time left; a line now and then where output is no terminal."""

    def __init__(self, tokens: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._total, self._done, self._start = tokens, 0, time.monotonic()
        self._printed = self._start
        self._console = Console()
        self._bar = Progress(
            TextColumn("pretraining"),
            BarColumn(),
            TextColumn("{task.percentage:.0f}% {task.fields[state]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=tokens, state="")

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_step(self, step: int, tokens: int, loss: float) -> None:
        self._done += tokens
        now = time.monotonic()
        rate = self._done / max(now - self._start, 1e-9)
        state = f"step {step + 1}, loss {loss:.3f}, {rate:.0f} tokens/s"
        self._bar.update(self._task, completed=self._done, state=state)
        if not self._console.is_terminal and now - self._printed > 20:
            self._printed = now
            left = (self._total - self._done) / rate
            print(f"{self._done / self._total:.0%} {state}, {left:.0f} s left", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pretrain the miniature's base model.")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--recipe", choices=list(RECIPES), default="retail")
    parser.add_argument("--documents", type=int, help="the recipe's number of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    options = parser.parse_args()
    # Read when torch is loaded: memory in huge pages (20 % faster).
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    made = build(
        options.out,
        seed=options.seed,
        workers=options.workers,
        recipe=options.recipe,
        documents=options.documents,
    )
    print(f"{options.out}: weights sha256 {made['files'][WEIGHTS_FILE]}, {made['seconds']} s")


if __name__ == "__main__":
    main()
