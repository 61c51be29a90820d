"""Shared by all tests: one Prefect server a session, and where the third-party samples lie."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from judge_endpoint import Endpoint, serving
from line import ROOT

settings.register_profile("steady", deadline=None)  # a busy machine is no failure
settings.load_profile("steady")

# Before anything imports `flows`: tests never write into the checkout's own home.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}  # as `flows` sets it
os.environ["PIVOTRL_HOME"] = tempfile.mkdtemp(prefix="pivotrl-tests-")


def pytest_collection_finish() -> None:
    """A bound on time is of the work, not of a collection of all that the tests have imported."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # or extensions take what ends with the process for leaks


@pytest.fixture
def uncollected() -> Iterator[None]:
    """What other tests left is not collected within a test whose time is bounded."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """The address of a real Prefect server, which flows in this process use."""
    import flows

    (flows.home() / "prefect").mkdir(parents=True, exist_ok=True)
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        from prefect.settings import get_current_settings

        yield str(get_current_settings().api.url)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature's data, small."""
    folder = tmp_path_factory.mktemp("mini")
    subprocess.run(
        [
            *(sys.executable, "-m", "pivotrl.mini.write", "--out", str(folder)),
            *("--demonstrations", "60", "--items", "20"),
        ],
        check=True,
        cwd=ROOT,
        capture_output=True,
    )
    return folder


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as state:
        yield state


@pytest.fixture
def shared() -> Path:
    """The third-party samples beside the project; a test that needs them is skipped without."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("third-party samples (../shared/data) are not on this machine")
    return folder
