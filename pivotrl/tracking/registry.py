"""Registered models: versions, their scores, aliases and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pivotrl.tracking.client import NOT_THERE, answered, client_of, local_path, without_store
from pivotrl.types import PivotRLError


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """Of a registered model."""

    name: str
    number: str
    run_id: str
    tags: Mapping[str, str]


@answered
def find_version(home: Path, name: str, number_or_alias: str) -> Version | None:
    """By number where it is one, else by alias; None if there is none."""
    from mlflow.exceptions import MlflowException

    if without_store(home):
        return None
    client = client_of(home)
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


@answered
def scores_of(home: Path, version: Version) -> dict[str, float]:
    """`metric_name` of a live domain -> what the version scored in its own run, in points."""
    metrics: Mapping[str, float] = client_of(home).get_run(version.run_id).data.metrics
    parts = {name: name.split("/") for name in metrics}
    # `trained` is what a champion's run called it before every run called it `score`
    scores = ("trained", "score")
    return {
        of[1]: metrics[name]
        for name, of in parts.items()
        if len(of) == 3 and of[0] == "domain" and of[2] in scores
    }


@answered
def set_alias(home: Path, version: Version, alias: str) -> None:
    """Moves the alias to the version."""
    client_of(home).set_registered_model_alias(version.name, alias, version.number)


@answered
def load_path(home: Path, name: str) -> Path:
    """The local folder of a model's files, for `AutoModelForCausalLM.from_pretrained`.

    `name` is `<registered name>@<alias>`, `<registered name>/<version>` or the id of a logged
    model, with or without `models:/` before it. Raises `PivotRLError` if there is none.
    """
    from mlflow.exceptions import MlflowException

    if without_store(home):
        raise PivotRLError(f"{home / 'mlflow.db'}: no models yet; train one with `pivotrl run`")
    client = client_of(home)
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
    path = local_path(location)
    if not path.is_dir():
        raise PivotRLError(f"{path}: the files of model {name!r} are gone; run its config again")
    return path
