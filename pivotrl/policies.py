"""What a policy is, told from its files: the hashes that a profile, a cache key and a tag carry.

Reads bytes only, so that a run in which everything is cached never loads torch. This module must
never know what a model computes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import orjson

from pivotrl.types import JSON, ConfigError, SamplingParams, digest

MISTRAL_FILE = "tekken.json"
"""Mistral's tokenizer; its version decides the chat format, which mistral-common renders."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", MISTRAL_FILE)
STOP_FILES = (
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
"""They decide where a completion ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFiles:
    """Identity of a model folder in Hugging Face layout; 16 hex digits each."""

    weights: str
    """Safetensors and config.json."""
    tokenizer: str
    """And the files that name special tokens."""
    template: str

    def fingerprint(self, sampling: SamplingParams, engine: str) -> str:
        """The policy that a profile belongs to: weights, tokenizer, template, sampling, engine."""
        return digest([asdict(self), asdict(sampling), engine])


def identify(path: Path, served: str | None = None) -> PolicyFiles:
    """Raises ConfigError, naming the folder and the remedy, where a part is missing.

    `served` is the address and name of a server that has the weights; they are known by it.
    """
    if not path.is_dir():
        raise ConfigError(f"{path}: no such model folder (model.path)")
    weights = sorted(path.glob("*.safetensors"))
    if not (served or weights) or not (path / "config.json").is_file():
        raise ConfigError(
            f"{path}: no config.json with *.safetensors; save the model there with save_pretrained"
        )
    tokenizer = [path / name for name in TOKENIZER_FILES if (path / name).is_file()]
    if not tokenizer:
        raise ConfigError(f"{path}: no tokenizer; save it there with tokenizer.save_pretrained")
    return PolicyFiles(
        weights=digest(served) if served else _hash([path / "config.json", *weights]),
        tokenizer=_hash([*tokenizer, *(path / n for n in STOP_FILES if (path / n).is_file())]),
        template=_template(path),
    )


def _template(path: Path) -> str:
    jinja = path / "chat_template.jinja"
    if jinja.is_file():
        return _hash([jinja])
    settings = path / "tokenizer_config.json"
    config: Mapping[str, JSON] = orjson.loads(settings.read_bytes()) if settings.is_file() else {}
    if not config.get("chat_template"):
        if (path / MISTRAL_FILE).is_file():
            return digest(["mistral-common", version("mistral-common")])
        raise ConfigError(
            f"{path}: the tokenizer has no chat template; add chat_template.jinja to the folder"
        )
    return digest(config["chat_template"])


def _hash(files: list[Path]) -> str:
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            whole.update(hashlib.file_digest(handle, "sha256").digest())
    return whole.hexdigest()[:16]
