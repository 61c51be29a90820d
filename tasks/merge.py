"""Manifests into the store: the one writer of the DuckDB file; idempotent, so it always runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from pivotrl.manifest import Manifest
from pivotrl.store import Store
from pivotrl.types import PivotRLError
from tasks.housekeeping import ROWS_OF_THEIR_OWN, SHELVES
from tasks.session import current
from tasks.stage import published


@task(name="merge", task_run_name="merge {what}", cache_policy=NO_CACHE, persist_result=False)
def _merge(what: str, manifests: Sequence[Manifest], home: Path) -> int:
    store = Store(home / "pivotrl.duckdb")
    files: dict[str, list[Path]] = {}
    for manifest in manifests:
        for entry in manifest.files:
            if entry.table is not None:
                files.setdefault(entry.table, []).append(home / entry.path)
    return sum(store.merge(table, paths) for table, paths in files.items())


def renew(home: Path, say: Callable[[str], None]) -> None:
    """A store of an older schema is set aside, and one built from what stages have published.

    Shards that the present schema refuses stay out; whatever is run again brings theirs.
    """
    store = Store(home / "pivotrl.duckdb")
    aside = store.set_aside()
    if aside is None:
        return
    shards: list[tuple[float, str, list[Path]]] = []
    for shelf in SHELVES:
        for path in (home / shelf).glob("*/*/manifest.json"):
            manifest = published(path.parent, home)
            tables = dict.fromkeys(e.table for e in manifest.files if e.table) if manifest else ()
            for table in tables:
                assert manifest
                shards.append((path.stat().st_mtime, table, manifest.of_table(home, table)))
    for table in ROWS_OF_THEIR_OWN:
        for path in (home / "shards" / table).glob("*.parquet"):
            shards.append((path.stat().st_mtime, table, [path]))
    refused = 0
    for _, table, paths in sorted(shards):
        try:
            store.merge(table, paths)
        except PivotRLError:
            refused += 1
    say(
        f"The store has a new schema: the old one is kept as {aside.name}; {len(shards) - refused} "
        f"of {len(shards)} tables of earlier stages are in the new one"
    )


def merge(what: str, *manifests: Manifest | None) -> None:
    """Brings what the stages wrote into the store; a dry session merges nothing."""
    session = current()
    whole = [manifest for manifest in manifests if manifest is not None]
    if whole and not session.dry:
        _merge(what, whole, session.home)
