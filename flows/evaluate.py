"""Models scored side by side: a folder, a registered model or an endpoint each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from prefect import flow

from pivotrl.config import Config, make_config
from pivotrl.manifest import Manifest
from pivotrl.policies import identify
from pivotrl.scores import compare
from pivotrl.suites import Suite, suites
from pivotrl.tracking.client import Unreachable
from pivotrl.tracking.registry import load_path
from pivotrl.types import JSON, ConfigError
from tasks.evaluate import Asked, evaluate
from tasks.merge import merge
from tasks.report import score_table, scored, scores_table, show_scores, write_report
from tasks.session import current
from tasks.track import track_scores


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
                "an endpoint is written http://host:port/v1#SERVED-NAME, and comes with "
                "--tokenizer DIR, the folder with its config.json, tokenizer and template"
            )
        tree = config.model_dump(mode="json", by_alias=True)
        tree["engine"] |= {"name": "server", "url": url, "model": served}
        engine, folder, label = make_config(tree, [], "endpoint").engine, tokenizer, served
        policy = identify(folder, served=name)
    elif folder.is_dir():
        label, policy = folder.resolve().name, identify(folder)
    elif "@" in name or name.startswith("models:/"):
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
        path=folder,
        policy=policy,
        served=True,
    )


@flow(name="evaluate", persist_result=False, validate_parameters=False)
def evaluate_models(config: Config, name: str, models: Sequence[Asked]) -> dict[str, JSON]:
    """Every model on every suite; each further one is compared with the first, pair by pair."""
    session = current()
    found = {model.label: score(model, suites(config)) for model in models}
    items = {label: scored(session.home, evaluations) for label, evaluations in found.items()}
    session.console.print(scores_table(items))
    first, *others = models
    compared = {other.label: compare(items[first.label], items[other.label]) for other in others}
    runs = {}
    try:
        for model in models:
            of = (model.label, model.policy, found[model.label], compared.get(model.label, []))
            runs[model.label] = track_scores(model.config, name, *of)
    except Unreachable as error:
        session.say(f"[yellow]Not in MLflow[/]: {error}. The same command logs it later")
    for label, rows in compared.items():
        session.console.print(score_table(rows, label, base=first.label))
    report = write_report(
        config,
        session,
        name,
        {
            "outcome": "evaluated",
            "models": {
                label: {suite.label: manifest.counts for suite, manifest in evaluations}
                for label, evaluations in found.items()
            },
            "compared": {label: [asdict(row) for row in rows] for label, rows in compared.items()},
            "mlflow_runs": runs,
        },
    )
    for rows in compared.values():
        show_scores(rows, report)
    return report


def score(model: Asked, on: Sequence[Suite]) -> list[tuple[Suite, Manifest]]:
    """Each suite's evaluation of one policy, merged into the store."""
    found = [(suite, evaluate(model, suite)) for suite in on]
    merge(f"evaluation of {model.label}", *(manifest for _, manifest in found))
    return [(suite, manifest) for suite, manifest in found if manifest is not None]
