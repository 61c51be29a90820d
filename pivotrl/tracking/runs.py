"""Logs a finished run: numbers, tables, plots, and the checkpoint as a model."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from pivotrl.system_metrics import Sample
from pivotrl.tracking.client import (
    KEY_TAG,
    MODEL_TAG,
    PARENT_TAG,
    answered,
    client_of,
    experiment_of,
    local_path,
)
from pivotrl.tracking.figures import figures
from pivotrl.types import JSON

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

T = TypeVar("T")

METRICS_PER_BATCH = 1000
PARAMETERS_PER_BATCH = 100

Steps = Sequence[tuple[int, Mapping[str, float]]]
"""(step, its metrics)"""

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
    steps: Steps = ()
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
    steps: Steps = ()
    """Training metrics, under TRL's names."""
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


@answered
def log_run(home: Path, run: TrackedRun) -> Registered:
    """Log the run, its plots and its checkpoint; register the model and move the alias to it.

    A finished run with the same key whose model files are still there is returned with its alias
    untouched; only tags that say something else now are set. What a crash left half-logged under
    the key is deleted first.
    """
    client = client_of(home)
    experiment = experiment_of(client, home)
    # key: a digest, so that it needs no quoting
    for old in client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{run.key}'"):
        found = _registered(client, run, old)
        if found:
            _retag(client, run, old, found)
            return found
        _delete(client, old)
    run_id = client.create_run(
        experiment, run_name=run.name, tags={**run.tags, KEY_TAG: run.key}
    ).info.run_id
    _log_parameters(client, run_id, run.parameters)
    model_id = _log_model(client, experiment, run_id, run) if run.checkpoint else None
    now = int(time.time() * 1000)
    _log_metrics(client, run_id, ((now, step, found) for step, found in run.steps))
    _log_metrics(client, run_id, [(now, 0, run.metrics)], model_id)
    _log_tables(client, run_id, run.tables)
    for file, figure in figures(run).items():
        client.log_figure(run_id, figure, file)
    for path in run.files:
        client.log_artifact(run_id, str(path))
    _log_data(client, run_id, run.data)
    system = ((moment, step, found) for step, (moment, found) in enumerate(run.system))
    _log_metrics(client, run_id, system)
    for part in run.parts:
        tags = {PARENT_TAG: run_id}
        nested = client.create_run(experiment, run_name=f"{run.name} {part.name}", tags=tags)
        steps = ((now, step, found) for step, found in [*part.steps, (0, part.metrics)])
        _log_metrics(client, nested.info.run_id, steps)
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


@answered
def nest(home: Path, parent: str, children: Iterable[str]) -> None:
    """Shows the runs below the parent, by run ids; a run has one parent, the last."""
    client = client_of(home)
    for child in children:
        client.set_tag(child, PARENT_TAG, parent)


def _registered(client: MlflowClient, run: TrackedRun, old: Run) -> Registered | None:
    """What a finished run registered; None if the run, its version or its files are not whole."""
    if old.info.status != "FINISHED":
        return None
    run_id = old.info.run_id
    if run.checkpoint is None:
        return Registered(run_id=run_id, model_id=None, version=None, model_uri=None, created=False)
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        if (local_path(version.source) / "config.json").is_file():
            return Registered(
                run_id=run_id,
                model_id=version.tags[MODEL_TAG],
                version=str(version.version),
                model_uri=f"models:/{version.name}/{version.version}",
                created=False,
            )
    return None


def _retag(client: MlflowClient, run: TrackedRun, old: Run, found: Registered) -> None:
    for name, value in run.tags.items():
        if old.data.tags.get(name) != value:
            if found.version:
                client.set_model_version_tag(run.registered_name, found.version, name, value)
            client.set_tag(found.run_id, name, value)  # last: a kill before it does both again


def _delete(client: MlflowClient, old: Run) -> None:
    run_id, experiment = old.info.run_id, old.info.experiment_id
    for nested in client.search_runs([experiment], f"tags.`{PARENT_TAG}` = '{run_id}'"):
        client.delete_run(nested.info.run_id)
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        client.delete_model_version(version.name, version.version)
    for model in client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        client.delete_logged_model(model.model_id)
        shutil.rmtree(local_path(model.artifact_location), ignore_errors=True)
    client.delete_run(run_id)


def _log_parameters(
    client: MlflowClient, run_id: str, parameters: Mapping[str, str | int | float | bool]
) -> None:
    from mlflow.entities import Param

    rows = [Param(name, str(value)) for name, value in parameters.items()]
    for batch in _batches(rows, PARAMETERS_PER_BATCH):
        client.log_batch(run_id, params=batch)


def _log_metrics(
    client: MlflowClient,
    run_id: str,
    found: Iterable[tuple[int, int, Mapping[str, float]]],
    model_id: str | None = None,
) -> None:
    """`found`: milliseconds, step, metrics; `model_id`: the model that they are shown on too."""
    from mlflow.entities import Metric

    rows = [
        Metric(name, float(value), moment, step, model_id=model_id, run_id=run_id)
        for moment, step, metrics in found
        for name, value in metrics.items()
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


def _batches(rows: list[T], size: int) -> Iterator[list[T]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
