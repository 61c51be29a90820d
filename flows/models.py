"""The models that a command names: a folder, a registered model, or an endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from flows.evaluate import Asked
from pivotrl.config import Config, EngineConfig
from pivotrl.policies import identify
from pivotrl.types import ConfigError


def asked_models(
    config: Config, names: Sequence[str], home: Path, *, tokenizer: Path | None
) -> list[Asked]:
    """Each name with the configuration that runs it. Raises ConfigError, with the remedy."""
    models = [_asked(config, name, home, tokenizer) for name in names]
    labels = [model.label for model in models]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise ConfigError(f"two models are called {twice!r}; rename or link one of the folders")
    return models


def _asked(config: Config, name: str, home: Path, tokenizer: Path | None) -> Asked:
    engine, folder = config.engine, Path(name)
    if name.startswith(("http://", "https://")):
        url, _, served = name.partition("#")
        if not (served and tokenizer and urlsplit(url).hostname):
            raise ConfigError(
                f"{name}: write an endpoint as http://host:port/v1#SERVED-NAME, and add "
                "--tokenizer DIR, the folder with its config.json, tokenizer and template"
            )
        settings = engine.model_dump() | {"name": "server", "url": url, "model": served}
        engine, folder, label = EngineConfig(**settings), tokenizer, served
        policy = identify(folder, served=name)
    elif folder.is_dir():
        label, policy = folder.resolve().name, identify(folder)
    elif "@" in name or name.startswith("models:/"):
        from pivotrl.tracking import load_path

        folder, label = load_path(home, name), name.removeprefix("models:/")
        policy = identify(folder)
    else:
        raise ConfigError(
            f"{name}: no such model folder; give a folder, NAME@ALIAS or models:/NAME/VERSION of a "
            "registered model, or an endpoint"
        )
    model = config.model.model_copy(update={"path": folder})
    return Asked(
        label=label,
        config=config.model_copy(update={"model": model, "engine": engine}),
        policy=policy,
    )
