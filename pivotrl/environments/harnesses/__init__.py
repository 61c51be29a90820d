"""Live benchmarks that others keep, run by their own harnesses on any endpoint.

This package must never know an engine, a configuration or a store.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pivotrl.environments.harnesses.base import Endpoint, Harness, HarnessSettings, run
from pivotrl.environments.harnesses.browsecomp import BROWSECOMP
from pivotrl.environments.harnesses.swe_bench import SWE_BENCH
from pivotrl.environments.harnesses.tau2_bench import TAU2_BENCH
from pivotrl.environments.harnesses.terminal_bench import TERMINAL_BENCH

HARNESSES: Mapping[str, Harness] = MappingProxyType(
    {harness.name: harness for harness in (*TAU2_BENCH, SWE_BENCH, TERMINAL_BENCH, BROWSECOMP)}
)

__all__ = ["HARNESSES", "Endpoint", "Harness", "HarnessSettings", "run"]
