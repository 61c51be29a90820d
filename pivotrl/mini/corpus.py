"""What the base model is pretrained on: eight skills and episodes of noisy agents.

Every document is rendered with the real chat template. The policy text and the tools, which all
episodes of a domain share, are one common prefix. This module must never know a model or an
optimiser.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pivotrl.environments import ENVIRONMENTS, live_domain
from pivotrl.mini import skills
from pivotrl.mini.recipes import EPISODES, Recipe
from pivotrl.mini.skills.drills import drill
from pivotrl.mini.tokenizer import TEMPLATE, TURN_END, TURN_START
from pivotrl.types import Message, message_to_json, seed_of, tool_to_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

DOCUMENTS_PER_STEP = 16
RECALL_START = 0.04
"""The first documents, to this share, are recall of pairs alone: the model copies early."""
DRILL_START = 0.1
"""Then drills of all kinds, up to this share of the documents."""
LONG_SHARE = 0.06
"""Share of longer episodes, so that long conversations are in range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    name: str
    """A live domain or a skill."""
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """A document as the model sees it."""

    domain: str | None
    """Whose common prefix it continues, which is left out here; None has no prefix."""
    ids: NDArray[np.int64]
    """[tokens]"""
    is_target: NDArray[np.bool_]
    """[tokens] Whether the assistant wrote the token (end of turn included)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    prefixes: Mapping[str, NDArray[np.int64]]
    """[tokens] What every episode of a domain begins with: policy and tools."""
    documents: list[Tokens]


def single_tokens(domain: str) -> tuple[str, ...]:
    """What the tokenizer should hold as one token each."""
    return tuple(dict.fromkeys((*live_domain(domain).single_tokens, *skills.SINGLE_TOKENS)))


def make_documents(n: int, seed: int, recipe: Recipe) -> list[Document]:
    """`n` documents in random order; a pure function of its arguments."""
    rng = random.Random(seed_of("pretraining", seed))
    weights = {recipe.domain: EPISODES, **recipe.skills}
    names = rng.choices(list(weights), list(weights.values()), k=n)
    rows = {
        name: iter(skills.generate(name, names.count(name), seed_of(seed, name), "train"))
        for name in recipe.skills.keys() - {"drill"}
    }
    words = recall_words(recipe)
    documents = []
    for i, name in enumerate(names):
        if i < DRILL_START * n or name == "drill":
            copying = 1.0 if i < RECALL_START * n else recipe.recall
            messages = drill(rng, recipe.domain, words, copying)
            documents.append(Document(name="drill", messages=messages))
        elif name == recipe.domain:
            horizon = rng.randint(*recipe.long) if rng.random() < LONG_SHARE else None
            messages = live_domain(name).noisy_episode(rng, recipe.skill, horizon).messages
            documents.append(Document(name=name, messages=messages))
        else:
            messages = skills.conversation(name, next(rows[name]))
            documents.append(Document(name=name, messages=messages))
    return documents


def recall_words(recipe: Recipe) -> tuple[str, ...]:
    """What recall drills are made of."""
    return (*single_tokens(recipe.domain), *"0123456789ABCDEFGHIJabkmnxyz")


def render(documents: Iterable[Document]) -> list[str]:
    """Each document's text, by the chat template."""
    from transformers.utils.chat_template_utils import render_jinja_template

    template = TEMPLATE.read_text()

    def tools(name: str) -> list[Any] | None:
        declared = live_domain(name).environment.tools if name in ENVIRONMENTS else ()
        return [tool_to_json(tool) for tool in declared] or None

    return [
        render_jinja_template(
            [[message_to_json(message) for message in document.messages]],
            tools=tools(document.name),
            chat_template=template,
        )[0][0]
        for document in documents
    ]


def text_hash(texts: Iterable[str]) -> str:
    """The SHA-256 of rendered documents."""
    hasher = hashlib.sha256()
    for text in texts:
        hasher.update(text.encode() + b"\0")
    return hasher.hexdigest()


def encode(names: Sequence[str], texts: list[str], tokenizer: PreTrainedTokenizerFast) -> Corpus:
    """Rendered documents as token ids; `names` are theirs."""
    prefixes = {}
    for known in sorted(set(ENVIRONMENTS) & set(names)):
        (task,) = live_domain(known).make_tasks("train", 1, 0)
        policy = live_domain(known).environment.reset(task).messages[:1]
        (text,) = render([Document(name=known, messages=policy)])
        prefixes[known] = np.array(tokenizer(text)["input_ids"])
    opening = np.array(tokenizer(f"{TURN_START}assistant\n")["input_ids"])
    (end,) = tokenizer(TURN_END)["input_ids"]
    documents = []
    for name, row in zip(names, tokenizer(texts)["input_ids"], strict=True):
        ids = np.array(row)
        domain: str | None = name if name in prefixes else None
        if domain is not None:
            prefix = prefixes[domain]
            if not np.array_equal(ids[: len(prefix)], prefix):
                raise ValueError(f"an episode of {name} does not begin with policy and tools")
            ids = ids[len(prefix) :]
        documents.append(Tokens(domain=domain, ids=ids, is_target=_written(ids, opening, end)))
    return Corpus(prefixes=prefixes, documents=documents)


def _written(ids: NDArray[np.int64], opening: NDArray[np.int64], end: int) -> NDArray[np.bool_]:
    """Marks the tokens between an assistant's opening and the end of its turn, end included."""
    written = np.zeros(len(ids), dtype=bool)
    windows = np.lib.stride_tricks.sliding_window_view(ids, len(opening))
    ends = np.flatnonzero(ids == end)
    for start in np.flatnonzero((windows == opening).all(1)) + len(opening):
        written[start : ends[np.searchsorted(ends, start)] + 1] = True
    return written
