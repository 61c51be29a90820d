"""How soon the miniature copies, with its induction circuit wired in and without.

    python bench/wiring.py --seeds 0 1 2

Both starts see the same recall drills, on one core, and name the tokens of held-out ones.
Writes docs/results/wiring.md.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import torch
from demo import interval

from pivotrl.mini.base_model import TOKENIZER_DOCUMENTS, new_model
from pivotrl.mini.corpus import (
    Corpus,
    Document,
    encode,
    make_documents,
    recall_words,
    render,
    single_tokens,
)
from pivotrl.mini.pretraining import PretrainingSettings, hidden_states, pretrain
from pivotrl.mini.recipes import RECIPES, VOCABULARY
from pivotrl.mini.skills.drills import drill
from pivotrl.mini.tokenizer import train_tokenizer
from pivotrl.mini.wiring import wire_induction

ROOT = Path(__file__).parents[1]
RETAIL = RECIPES["retail"]


def recalls(n: int, seed: str, tokenizer: Any) -> Corpus:
    rng, words = random.Random(seed), recall_words(RETAIL)
    rows = [
        Document(name="drill", messages=drill(rng, RETAIL.domain, words, copying=1.0))
        for _ in range(n)
    ]
    return encode([row.name for row in rows], render(rows), tokenizer)


def accuracy(model: Any, corpus: Corpus) -> float:
    """Share, in %, of the assistant's tokens that are the likeliest ones."""
    right = total = 0
    with torch.no_grad():
        for document in corpus.documents:
            ids = torch.from_numpy(document.ids)
            likeliest = model.lm_head(hidden_states(model, ids[None]))[0, :-1].argmax(-1)
            written = torch.from_numpy(document.is_target)[1:]
            right += int((likeliest == ids[1:])[written].sum())
            total += int(written.sum())
    return 100 * right / total


def measure(seed: int, wired: bool, documents: int, tokenizer: Any) -> float:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = new_model(len(tokenizer), tokenizer)
    if wired:
        wire_induction(model)
    shown = recalls(documents, f"shown {seed}", tokenizer)
    pretrain(model, shown, PretrainingSettings(), seed, 1, lambda *_: None)
    return accuracy(model, recalls(100, f"held out {seed}", tokenizer))


def main() -> None:
    parser = argparse.ArgumentParser(description="The induction circuit, wired in and not.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--documents", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "wiring.md")
    options = parser.parse_args()
    texts = render(make_documents(TOKENIZER_DOCUMENTS, 0, RETAIL))
    tokenizer = train_tokenizer(texts, single_tokens(RETAIL.domain), VOCABULARY)
    lines = [
        "# Copying, with the induction circuit wired in and without",
        "",
        f"`python bench/wiring.py --seeds {' '.join(map(str, options.seeds))} --documents "
        f"{' '.join(map(str, options.documents))}`; recall drills, held-out ones named, % of the",
        "assistant's tokens; ± is the standard error over seeds.",
        "",
        "| drills shown | tokens | random start | wired start |",
        "|---|---|---|---|",
    ]
    for documents in options.documents:
        shown = recalls(documents, f"shown {options.seeds[0]}", tokenizer).documents
        cells = [
            interval([measure(seed, wired, documents, tokenizer) for seed in options.seeds])
            for wired in (False, True)
        ]
        tokens = sum(len(document.ids) for document in shown)
        lines.append(f"| {documents} | {tokens} | {cells[0]} | {cells[1]} |")
        print(lines[-1], flush=True)
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
