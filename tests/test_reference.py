"""The reference pages are what the code says, and a run logs no metric that they do not explain."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import pytest
from line import ROOT, report
from mlflow import MlflowClient
from test_line import data, home

from pivotrl.store import Store
from pivotrl.tracking.client import store_uri
from pivotrl.training.metrics import MEANINGS
from tasks import track

__all__ = ["data", "home"]


def test_the_pages_are_written_from_the_code() -> None:
    pages = runpy.run_path(str(ROOT / "infra/reference.py"))["PAGES"]
    stale = [name for name, text in pages.items() if (ROOT / "docs" / name).read_text() != text()]
    assert not stale, "run: python infra/reference.py"


def test_every_test_that_the_security_page_names_exists() -> None:
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", (ROOT / "docs/security.md").read_text())
    assert len(named) > 40
    files = {file: ast.parse((ROOT / file).read_text()) for file, _ in named}
    known = {
        (file, node.name)
        for file, tree in files.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not [f"{file}::{name}" for file, name in named if (file, name) not in known]


@pytest.mark.slow
def test_every_metric_of_a_run_is_explained(home: Path) -> None:
    steps = Store(home / "pivotrl.duckdb").query("select distinct metric from train_steps")[1]
    run = MlflowClient(store_uri(home)).get_run(report(home)["model"]["run_id"])
    logged = [name for name in run.data.metrics if not name.startswith("system/")]  # MLflow's own
    assert len(steps) > 20 and len(logged) > len(steps)
    for found, meanings in (
        ([name for (name,) in steps], MEANINGS),
        (logged, MEANINGS | track.MEANINGS),
    ):
        known = [re.compile(re.sub("<[a-z]+>", "[^/]+", name)) for name in meanings]
        assert not [name for name in found if not any(one.fullmatch(name) for one in known)]
