"""Remembers a finished run in MLflow: numbers, tables, plots, and the checkpoint as a model.

Everything lies under `PIVOTRL_HOME`: the SQLite store `mlflow.db` and the files in `artifacts/`;
with `MLFLOW_TRACKING_URI`, MLflow's own variable, the files alone.
A run is logged once: its content key finds it again, and a half-logged one is replaced. A
checkpoint is a `LoggedModel` without a flavour, so that it is read with transformers and never
unpickled. This module must never know how the numbers were made, nor a config, nor Prefect.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

from pivotrl.masking import masked
from pivotrl.system_metrics import Sample
from pivotrl.types import JSON, PivotRLError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Run

T = TypeVar("T")
P = ParamSpec("P")


class Unreachable(PivotRLError):
    """MLflow does not answer, or refuses; what was to be logged can be logged later."""


def _answered(ask: Callable[P, T]) -> Callable[P, T]:
    """`ask`, with Unreachable in place of what MLflow and its database raise."""

    @wraps(ask)
    def asked(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return ask(*arguments, **options)
        except Exception as error:
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            if not isinstance(error, MlflowException | SQLAlchemyError):
                raise
            what = masked(f"{type(error).__name__}: {error}".splitlines()[0])
            uri = os.environ.get("MLFLOW_TRACKING_URI", "of this home")
            raise Unreachable(f"MLflow {masked(uri)} does not answer: {what}") from error

    return asked


EXPERIMENT = "pivotrl"
KEY_TAG = "pivotrl.key"
MODEL_TAG = "pivotrl.model_id"
PARENT_TAG = "mlflow.parentRunId"
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow says of a model, a version, an alias that it does not have."""
METRICS_PER_BATCH = 1000
PARAMETERS_PER_BATCH = 100

PLOTTED = {
    "reward": ("reward", "validation/reward"),
    "signal": ("reward_std", "frac_reward_zero_std"),
    "kl": ("kl",),
}
"""Training curves: file and its metrics."""

_MESSAGE = {"type": "object", "required": ["role"], "properties": {"role": {"type": "string"}}}
CHAT_SCHEMA: Mapping[str, JSON] = {
    "task": "chat",
    "input": {
        "type": "object",
        "required": ["messages"],
        "properties": {
            "messages": {"type": "array", "items": _MESSAGE},
            "tools": {"type": "array", "items": {"type": "object"}},
        },
    },
    "output": _MESSAGE,
}
"""What goes into the model and what comes out, as JSON Schema of OpenAI chat messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one stage did: a run below the pipeline's."""

    name: str
    steps: Sequence[tuple[int, Mapping[str, float]]] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, JSON]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A data set that went in."""

    name: str
    digest: str
    """Of its content."""
    source: str
    """Where it was read from."""
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    name: str
    key: str
    """Content key: the same key is the same run."""
    parameters: Mapping[str, str | int | float | bool]
    """The flattened configuration."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Data hashes, policy fingerprints."""
    steps: Sequence[tuple[int, Mapping[str, float]]] = ()
    """Training metrics by step, under TRL's names."""
    parts: Sequence[Part] = ()
    """What each stage did; each gets a nested run."""
    data: Sequence[Data] = ()
    system: Sequence[Sample] = ()
    """What the machine did meanwhile."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Scores; also shown on the model."""
    tables: Mapping[str, Sequence[Mapping[str, JSON]]] = field(default_factory=dict)
    """Rows by name. A table `scores` with `suite`, `model`, `score`, `standard_error` is plotted,
    and so is the `change`, `change_error` of its rows of `kind` benchmark; where a row has
    `miniature` true, the plot says so."""
    files: Sequence[Path] = ()
    """Kept as they are."""
    checkpoint: Path | None = None
    """Folder with safetensors, config and tokenizer; None registers no model."""
    base_model: str = ""
    registered_name: str = "pivotrl"
    alias: str = "challenger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    run_id: str
    model_id: str | None
    version: str | None
    model_uri: str | None
    """`models:/<registered name>/<version>`."""
    created: bool
    """False when a finished run with this key was already there."""


def parameter(value: JSON) -> str | int | float | bool:
    """What MLflow takes as a parameter."""
    return value if isinstance(value, str | int | float | bool) else str(value)


def metric_name(name: str) -> str:
    """MLflow's metric names take letters, digits and `_-. /`."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)


def store_uri(home: Path) -> str:
    """Of the server or database that `MLFLOW_TRACKING_URI` names, else of the home's own file."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home.resolve() / 'mlflow.db'}"


@_answered
def log_run(home: Path, run: TrackedRun) -> Registered:
    """Log the run, its plots and its checkpoint; register the model and move the alias to it.

    A finished run with the same key whose model files are still there is returned untouched, its
    alias too. What a crash left half-logged under the key is deleted first.
    """
    client = _client(home)
    experiment = _experiment(client, home)
    # key: a digest, so that it needs no quoting
    for old in client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{run.key}'"):
        found = _registered(client, run, old)
        if found:
            return found
        _delete(client, old)
    run_id = client.create_run(
        experiment, run_name=run.name, tags={**run.tags, KEY_TAG: run.key}
    ).info.run_id
    _log_parameters(client, run_id, run.parameters)
    model_id = _log_model(client, experiment, run_id, run) if run.checkpoint else None
    _log_metrics(client, run_id, model_id, run)
    _log_tables(client, run_id, run.tables)
    for file, figure in figures(run).items():
        client.log_figure(run_id, figure, file)
    for path in run.files:
        client.log_artifact(run_id, str(path))
    _log_data(client, run_id, run.data)
    _log_system(client, run_id, run.system)
    for part in run.parts:
        tags = {PARENT_TAG: run_id}
        nested = client.create_run(experiment, run_name=f"{run.name} {part.name}", tags=tags)
        _log_steps(client, nested.info.run_id, part.steps)
        _log_steps(client, nested.info.run_id, [(0, part.metrics)])
        _log_tables(client, nested.info.run_id, part.tables)
        client.set_terminated(nested.info.run_id)
    version = _register(client, run_id, model_id, run) if model_id else None
    client.set_terminated(run_id)
    return Registered(
        run_id=run_id,
        model_id=model_id,
        version=version,
        model_uri=f"models:/{run.registered_name}/{version}" if version else None,
        created=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """Of a registered model."""

    name: str
    number: str
    run_id: str
    tags: Mapping[str, str]


@_answered
def find_version(home: Path, name: str, number_or_alias: str) -> Version | None:
    """By number where it is one, else by alias; None if there is none."""
    from mlflow.exceptions import MlflowException

    if _without_store(home):
        return None
    client = _client(home)
    by_number = number_or_alias.isdecimal()
    find = client.get_model_version if by_number else client.get_model_version_by_alias
    try:
        found = find(name, number_or_alias)
    except MlflowException as error:
        if error.error_code not in NOT_THERE:
            raise
        return None
    return Version(
        name=name, number=str(found.version), run_id=found.run_id or "", tags=dict(found.tags)
    )


@_answered
def scores_of(home: Path, version: Version) -> dict[str, float]:
    """`metric_name` of a suite -> what the version scored in its own run, in points."""
    metrics: Mapping[str, float] = _client(home).get_run(version.run_id).data.metrics
    parts = {name: name.split("/") for name in metrics}
    return {
        of[1]: metrics[name] for name, of in parts.items() if len(of) == 3 and of[2] == "trained"
    }


@_answered
def set_alias(home: Path, version: Version, alias: str) -> None:
    """Moves the alias to the version."""
    _client(home).set_registered_model_alias(version.name, alias, version.number)


@_answered
def nest(home: Path, parent: str, children: Iterable[str]) -> None:
    """Shows the runs below the parent, by run ids; a run has one parent, the last."""
    client = _client(home)
    for child in children:
        client.set_tag(child, PARENT_TAG, parent)


@_answered
def load_path(home: Path, name: str) -> Path:
    """The local folder of a model's files, for `AutoModelForCausalLM.from_pretrained`.

    `name` is `<registered name>@<alias>`, `<registered name>/<version>` or the id of a logged
    model, with or without `models:/` before it. Raises `PivotRLError` if there is none.
    """
    from mlflow.exceptions import MlflowException

    if _without_store(home):
        raise PivotRLError(f"{home / 'mlflow.db'}: no models yet; train one with `pivotrl run`")
    client = _client(home)
    wanted = name.removeprefix("models:/")
    try:
        if "@" in wanted:
            location = client.get_model_version_by_alias(*wanted.rsplit("@", 1)).source
        elif "/" in wanted:
            location = client.get_model_version(*wanted.rsplit("/", 1)).source
        else:
            location = client.get_logged_model(wanted).artifact_location
    except MlflowException as error:
        if error.error_code not in NOT_THERE:
            raise
        raise PivotRLError(
            f"no model {name!r} in {home}; `pivotrl ui` shows what is registered"
        ) from error
    path = _local_path(location)
    if not path.is_dir():
        raise PivotRLError(f"{path}: the files of model {name!r} are gone; run its config again")
    return path


def figures(run: TrackedRun) -> dict[str, Figure]:
    """The plots of a run by file name; a plot without data is left out."""
    plots = {
        f"plots/{name}.png": _steps_figure(run.steps, metrics) for name, metrics in PLOTTED.items()
    }
    scores = run.tables.get("scores", ())
    plots |= {"plots/scores.png": _scores_figure(scores), "plots/ood.png": _change_figure(scores)}
    return {file: figure for file, figure in plots.items() if figure is not None}


def _steps_figure(
    steps: Sequence[tuple[int, Mapping[str, float]]], names: Sequence[str]
) -> Figure | None:
    from matplotlib.figure import Figure

    names = [n for n in names if any(n in metrics for _, metrics in steps)]
    if not names:
        return None
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in names:
        points = [(step, metrics[name]) for step, metrics in steps if name in metrics]
        axes.plot(*zip(*points, strict=True), label=name)
    axes.set(xlabel="step", ylim=(0, None))
    axes.legend()
    return figure


def _change_figure(rows: Sequence[Mapping[str, JSON]]) -> Figure | None:
    """Benchmarks alone: what the training changed outside its domain."""
    from matplotlib.figure import Figure

    changes = [row for row in rows if row.get("kind") == "benchmark" and "change" in row]
    if not changes:
        return None
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.barh(
        [row["suite"] for row in changes],
        [row["change"] for row in changes],
        xerr=[row["change_error"] for row in changes],
        color=["#3a7d44" if row["change"] >= 0 else "#d1495b" for row in changes],
        capsize=2,
    )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set(xlabel="change in points, ± one paired standard error")
    return figure


def _scores_figure(rows: Sequence[Mapping[str, JSON]]) -> Figure | None:
    from matplotlib.figure import Figure

    rows = [row for row in rows if {"suite", "model", "score"} <= row.keys()]
    if not rows:
        return None
    suites = list(dict.fromkeys(row["suite"] for row in rows))
    models = list(dict.fromkeys(row["model"] for row in rows))
    width = 0.8 / len(models)
    figure = Figure(figsize=(max(7, 1.1 * len(suites)), 4), layout="constrained")
    axes = figure.subplots()
    for offset, model in enumerate(models):
        own = [row for row in rows if row["model"] == model]
        axes.bar(
            [suites.index(row["suite"]) + (offset - (len(models) - 1) / 2) * width for row in own],
            [row["score"] for row in own],
            width,
            yerr=[row.get("standard_error") or 0.0 for row in own],
            capsize=2,
            label=model,
        )
    what = "Miniature scores" if any(row.get("miniature") for row in rows) else "Scores"
    axes.set_xticks(range(len(suites)), suites, rotation=30, ha="right")
    axes.set(ylabel="score", title=f"{what}, ± one standard error")
    figure.legend(loc="outside right upper")
    return figure


def _client(home: Path) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # a new store announces every table it makes
        logging.getLogger(name).setLevel(logging.WARNING)
    home.mkdir(parents=True, exist_ok=True)
    uri = store_uri(home)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _without_store(home: Path) -> bool:
    """Nothing was ever logged: to ask would make the store."""
    return not os.environ.get("MLFLOW_TRACKING_URI") and not (home / "mlflow.db").is_file()


def _experiment(client: MlflowClient, home: Path) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    location = (home.resolve() / "artifacts").as_uri()
    if found:
        if os.environ.get("MLFLOW_TRACKING_URI") and found.artifact_location != location:
            raise Unreachable(
                f"{masked(store_uri(home))} keeps the models of {found.artifact_location}, not of "
                f"{home}; one MLflow serves one home"
            )
        return found.experiment_id
    return client.create_experiment(EXPERIMENT, artifact_location=location)


def _registered(client: MlflowClient, run: TrackedRun, old: Run) -> Registered | None:
    """What a finished run registered; None if the run, its version or its files are not whole."""
    if old.info.status != "FINISHED":
        return None
    run_id = old.info.run_id
    if run.checkpoint is None:
        return Registered(run_id=run_id, model_id=None, version=None, model_uri=None, created=False)
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        if (_local_path(version.source) / "config.json").is_file():
            return Registered(
                run_id=run_id,
                model_id=version.tags[MODEL_TAG],
                version=str(version.version),
                model_uri=f"models:/{version.name}/{version.version}",
                created=False,
            )
    return None


def _delete(client: MlflowClient, old: Run) -> None:
    run_id, experiment = old.info.run_id, old.info.experiment_id
    for nested in client.search_runs([experiment], f"tags.`{PARENT_TAG}` = '{run_id}'"):
        client.delete_run(nested.info.run_id)
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        client.delete_model_version(version.name, version.version)
    for model in client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        client.delete_logged_model(model.model_id)
        shutil.rmtree(_local_path(model.artifact_location), ignore_errors=True)
    client.delete_run(run_id)


def _log_parameters(
    client: MlflowClient, run_id: str, parameters: Mapping[str, str | int | float | bool]
) -> None:
    from mlflow.entities import Param

    rows = [Param(name, str(value)) for name, value in parameters.items()]
    for batch in _batches(rows, PARAMETERS_PER_BATCH):
        client.log_batch(run_id, params=batch)


def _log_metrics(client: MlflowClient, run_id: str, model_id: str | None, run: TrackedRun) -> None:
    from mlflow.entities import Metric

    _log_steps(client, run_id, run.steps)
    now = int(time.time() * 1000)
    rows = [
        Metric(name, float(value), now, 0, model_id=model_id, run_id=run_id)
        for name, value in run.metrics.items()
    ]
    for batch in _batches(rows, METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=batch)


def _log_steps(
    client: MlflowClient, run_id: str, steps: Sequence[tuple[int, Mapping[str, float]]]
) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    rows = [
        Metric(name, float(value), now, step)
        for step, metrics in steps
        for name, value in metrics.items()
    ]
    for batch in _batches(rows, METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=batch)


def _log_system(client: MlflowClient, run_id: str, samples: Sequence[Sample]) -> None:
    from mlflow.entities import Metric

    rows = [
        Metric(name, value, moment, step)
        for step, (moment, found) in enumerate(samples)
        for name, value in found.items()
    ]
    for batch in _batches(rows, METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=batch)


def _log_tables(
    client: MlflowClient, run_id: str, tables: Mapping[str, Sequence[Mapping[str, JSON]]]
) -> None:
    for name, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        data = {column: [row.get(column) for row in rows] for column in columns}
        client.log_table(run_id, data, f"tables/{name}.json")


def _log_data(client: MlflowClient, run_id: str, data: Sequence[Data]) -> None:
    from mlflow.entities import Dataset, DatasetInput

    inputs = [
        DatasetInput(
            Dataset(
                name=one.name,
                digest=one.digest,
                source_type="local",
                source=json.dumps({"uri": one.source}),
                profile=json.dumps({"num_rows": one.rows}),
            )
        )
        for one in data
    ]
    client.log_inputs(run_id, inputs)


def _log_model(client: MlflowClient, experiment: str, run_id: str, run: TrackedRun) -> str:
    from mlflow.entities import LoggedModelOutput

    tags = {**run.tags, KEY_TAG: run.key, "pivotrl.base_model": run.base_model}
    model_id: str = client.create_logged_model(
        experiment,
        name=run.registered_name,
        source_run_id=run_id,
        tags=tags,
        params={name: str(value) for name, value in run.parameters.items()},
        model_type="chat",
    ).model_id
    client.log_model_artifacts(model_id, str(run.checkpoint))
    with TemporaryDirectory() as folder:
        schema = Path(folder) / "schema.json"
        schema.write_text(json.dumps({**CHAT_SCHEMA, "tags": tags}, indent=2))
        client.log_model_artifact(model_id, str(schema))
    client.finalize_logged_model(model_id, "READY")
    client.log_outputs(
        run_id, [LoggedModelOutput(model_id, max((s for s, _ in run.steps), default=0))]
    )
    return model_id


def _register(client: MlflowClient, run_id: str, model_id: str, run: TrackedRun) -> str:
    from mlflow.exceptions import MlflowException

    name = run.registered_name
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    # The source is the folder: MLflow resolves `models:/<id>` through its global store, not ours.
    version = str(
        client.create_model_version(
            name,
            client.get_logged_model(model_id).artifact_location,
            run_id=run_id,
            model_id=model_id,  # a server takes a local folder from nobody else
            tags={**run.tags, KEY_TAG: run.key, MODEL_TAG: model_id},
            description=f"{run.name}, trained from {run.base_model}",
        ).version
    )
    links = json.dumps([{"name": name, "version": version}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": links})
    client.set_registered_model_alias(name, run.alias, version)
    return version


def _local_path(uri: str | None) -> Path:
    assert uri, "a model that this module registered has a location"
    return Path(url2pathname(urlparse(uri).path))


def _batches(rows: list[T], size: int) -> Iterator[list[T]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
