"""What the machine does while a run works, by MLflow's monitors: CPU, memory, disk, network, GPU.

This module must never know a run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

SECONDS = 10.0
"""Between two samples."""
PREFIX = "system/"
"""MLflow shows metrics of this prefix on a page of their own."""

Sample = tuple[int, Mapping[str, float]]
"""Milliseconds since the epoch, and what was measured."""


@contextmanager
def watching(seconds: float = SECONDS) -> Iterator[list[Sample]]:
    """The samples so far, one every `seconds` until the end, from a thread of their own."""
    samples: list[Sample] = []
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(samples, ended, seconds), daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()


def _watch(samples: list[Sample], ended: threading.Event, seconds: float) -> None:
    if ended.wait(seconds):  # a run without work is over before MLflow is imported
        return
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(ImportError, RuntimeError):  # no library for it, or no card
        monitors.append(GPUMonitor())
    while not ended.wait(seconds):
        found: dict[str, float] = {}
        for monitor in monitors:
            with suppress(Exception):  # a disk or a card that does not tell is no reason to fail
                monitor.collect_metrics()
                found |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        moment = int(time.time() * 1000)
        samples.append((moment, {PREFIX + name: float(value) for name, value in found.items()}))


def thinned(samples: list[Sample], most: int = 1_000) -> list[Sample]:
    """At most so many, evenly over time."""
    return samples[:: -(-len(samples) // most)] if samples else []
