"""Manifests into the store: the one writer of the DuckDB file; idempotent, so it always runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from pivotrl.manifest import Manifest
from pivotrl.store import Store
from pivotrl.types import PivotRLError
from tasks.session import current

LOOSE = ("runs", "promotions", "marks")
"""Tables whose shards no stage makes again."""


@task(name="merge", task_run_name="merge {what}", cache_policy=NO_CACHE, persist_result=False)
def _merge(what: str, manifests: Sequence[Manifest], home: Path) -> int:
    store = Store(home / "pivotrl.duckdb")
    files: dict[str, list[Path]] = {}
    for manifest in manifests:
        for entry in manifest.files:
            if entry.table is not None:
                files.setdefault(entry.table, []).append(home / entry.path)
    return sum(store.merge(table, paths) for table, paths in files.items())


def merge(what: str, *manifests: Manifest | None) -> None:
    """Brings what the stages wrote into the store; a dry session merges nothing."""
    session = current()
    whole = [manifest for manifest in manifests if manifest is not None]
    if whole and not session.dry:
        _merge(what, whole, session.home)


def merge_loose(home: Path) -> list[str]:
    """Merges what no stage makes again and a kill kept out of the store; what could not be read."""
    store = Store(home / "pivotrl.duckdb")
    asked = "select file from merged_shards where list_contains(?, table_name)"
    merged = {Path(file) for (file,) in store.query(asked, [LOOSE])[1]}
    errors = []
    for table in LOOSE:
        for path in sorted((home / "shards" / table).glob("*.parquet")):
            try:
                if path not in merged:
                    store.merge(table, [path])
            except PivotRLError as error:
                errors.append(str(error))
    return errors
