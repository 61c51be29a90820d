"""IFBench's 58 constraints by name; this package must never know a row, a prompt or a score."""

from __future__ import annotations

from collections.abc import Mapping

from pivotrl.benchmarks.constraints import counts, custom, formats, words
from pivotrl.benchmarks.constraints.check import Check

CHECKS: Mapping[str, Check] = {
    **counts.CHECKS,
    **words.CHECKS,
    **formats.CHECKS,
    **custom.CHECKS,
}

__all__ = ["CHECKS"]
