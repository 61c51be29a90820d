"""The miniature's tokenizer: byte-level BPE with ChatML markup, trained on the corpus's text.

Identifiers are single tokens (two are copied wrongly), digits and newlines stand alone, and a
quoted JSON word with its punctuation can become one token, so that episodes stay short. This
module must never know a model or what the texts are about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TEMPLATE = Path(__file__).with_name("chat_template.jinja")
CONTEXT = 2048
"""Tokens that the model's positions reach."""
CONTROLS = END_OF_TEXT, TURN_START, TURN_END = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKUP = (
    *("<tool_call>", "</tool_call>"),
    *("<tool_response>", "</tool_response>"),
    *("<think>", "</think>"),
)
"""Added tokens that are text all the same: decoding keeps them."""
PIECES = (
    r' ?[{\[]*"[A-Za-z_]+"[:,}\]]*'  # a JSON key or word
    r"| ?\p{L}+"
    r"|\p{N}"
    r"|\n"
    r"| ?[^\s\p{L}\p{N}]+"
    r"| +"
)
"""Where text is cut before BPE (Oniguruma); no token crosses such a cut."""


def train_tokenizer(
    texts: Iterable[str], single_tokens: Sequence[str], vocabulary: int
) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `vocabulary` tokens; a pure function of its arguments.

    `single_tokens` become one token each wherever they stand in a text.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    extra = len(MARKUP) + len(single_tokens)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in CONTROLS])
    tokenizer.add_tokens(
        [AddedToken(t, normalized=False, special=False) for t in (*MARKUP, *single_tokens)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - extra,
        special_tokens=list(CONTROLS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_without(texts, single_tokens), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        chat_template=TEMPLATE.read_text(),
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def _without(texts: Iterable[str], words: Sequence[str]) -> Iterable[str]:
    """The texts in pieces, without the added tokens, which BPE never sees."""
    longest_first = sorted((*CONTROLS, *MARKUP, *words), key=len, reverse=True)
    added = re.compile("|".join(map(re.escape, longest_first)))
    for text in texts:
        yield from (piece for piece in added.split(text) if piece)
