"""How MLflow is reached, what it holds of us by name, and what it says when it does not answer."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

from pivotrl.masking import masked
from pivotrl.types import PivotRLError

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")
P = ParamSpec("P")
EXPERIMENT = "pivotrl"
KEY_TAG = "pivotrl.key"
MODEL_TAG = "pivotrl.model_id"
PARENT_TAG = "mlflow.parentRunId"
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow says of a model, a version, an alias that it does not have."""


class Unreachable(PivotRLError):
    """MLflow does not answer, or refuses; what was to be logged can be logged later."""


def answered(ask: Callable[P, T]) -> Callable[P, T]:
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


def store_uri(home: Path) -> str:
    """Of the server or database that `MLFLOW_TRACKING_URI` names, else of the home's own file."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home.resolve() / 'mlflow.db'}"


def client_of(home: Path) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # a new store announces every table it makes
        logging.getLogger(name).setLevel(logging.WARNING)
    home.mkdir(parents=True, exist_ok=True)
    uri = store_uri(home)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def without_store(home: Path) -> bool:
    """Nothing was ever logged: to ask would make the store."""
    return not os.environ.get("MLFLOW_TRACKING_URI") and not (home / "mlflow.db").is_file()


def experiment_of(client: MlflowClient, home: Path) -> str:
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


def local_path(uri: str | None) -> Path:
    assert uri, "a model that this module registered has a location"
    return Path(url2pathname(urlparse(uri).path))
