"""What some tests need of the machine; without, they are skipped, and say so."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pivotrl.types import ConfigError

REAL_ROWS = Path(__file__).parents[2] / "shared" / "data" / "benchmarks"
needs_real_rows = pytest.mark.skipif(
    not REAL_ROWS.is_dir(), reason="no real benchmark rows (../shared/data) here"
)

needs_chromium = pytest.mark.skipif(
    not Path("/usr/bin/chromium").exists() and os.environ.get("CI") != "true",
    reason="chromium is not installed (infra/apt.txt)",
)


def why_not(check: Callable[..., None], *arguments: str) -> str | None:
    """What a check of the sandbox says is missing."""
    try:
        check(*arguments)
    except ConfigError as error:
        return str(error)
    return None


def needs_sandbox(reason: str | None) -> pytest.MarkDecorator:
    """In CI, where its packages are there, such a test fails instead."""
    return pytest.mark.skipif(
        reason is not None and os.environ.get("CI") != "true", reason=str(reason)
    )
