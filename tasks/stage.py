"""The one mechanism behind every stage: key, cache, resume, publication.

key     = the stage's settings + the content of its inputs + the digest of the code it names
          (+ versions of the libraries that compute). Nothing in `flows/` or `tasks/` counts.
hit     = a manifest under that key whose files are all there and have their hashes.
work    = `work/<key>/`, kept when a run dies; the next run finds its checkpoint there.
publish = one rename of the finished folder to `shards/<stage>/<key>/` (`checkpoints/` for models).

Prefect holds the same manifest as the task's persisted result under the same key, so that its
pages show what was cached; the folder decides, since a result outlives its files.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock
from prefect import Task
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger

from pivotrl.manifest import (
    SCHEMA,
    FileEntry,
    Manifest,
    changed_parts,
    code_digest,
    file_hash,
    versions,
)
from pivotrl.store.shards import read_shard, write_shard
from pivotrl.types import JSON, PivotRLError, digest
from tasks.session import StageRecord, current, stopwatch
from tasks.task_runs import device_tags, retried, told

FileIdentity = tuple[Path, int, int]
File = tuple[str, str | None, int, str | None]
"""What a stage leaves: name, table, rows, content digest or None for the file's hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the body of a stage is given."""

    home: Path
    folder: Path
    """`work/<key>/`: scratch that survives a kill."""
    settings: Mapping[str, JSON]
    inputs: Mapping[str, Manifest]
    extra: Mapping[str, Any]
    """What the body needs and the key must not see: paths, the label."""
    parts: Mapping[str, JSON] = field(default_factory=dict)
    """What the key is made of."""
    before: Mapping[str, JSON] = field(default_factory=dict)
    """Counts of an earlier try that left rows open, if there is one."""

    @property
    def out(self) -> Path:
        """The folder that is published."""
        return self.folder / "out"

    def files(self, name: str, table: str) -> list[Path]:
        return self.inputs[name].of_table(self.home, table)

    def rows(self, name: str, table: str) -> list[dict[str, JSON]]:
        return read_table(self.home, self.inputs[name], table)

    def write(
        self, table: str, rows: Sequence[Mapping[str, JSON]], content: str | None = None
    ) -> File:
        """All rows of the table as one shard under `out`."""
        write_shard(self.out / f"{table}.parquet", table, rows)
        return f"{table}.parquet", table, len(rows), content


@dataclass(frozen=True, slots=True, kw_only=True)
class Produced:
    """What the body of a stage leaves: files under `work.out`, and counts."""

    files: Sequence[File] = ()
    counts: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A cached stage. Call it with settings and inputs; it answers with a manifest.

    In a dry session a stage that would run answers None and says why.
    """

    name: str
    body: Callable[[Work], Produced]
    modules: tuple[str, ...]
    """The `pivotrl` modules whose code decides the result."""
    computes_with: tuple[str, ...] = ()
    """Distributions whose versions are part of the key."""
    by_bytes: tuple[str, ...] = ()
    """Inputs of which the body reads more than their declared content."""
    shelf: str = "shards"
    retries: int = 0

    def __call__(
        self,
        *,
        settings: Mapping[str, JSON],
        inputs: Mapping[str, Manifest | None] | None = None,
        extra: Mapping[str, Any] | None = None,
        label: str = "",
    ) -> Manifest | None:
        session = current()
        label = label or self.name
        given = {name: m for name, m in (inputs or {}).items() if m is not None}
        if len(given) < len(inputs or {}):
            behind = StageRecord(stage=self.name, label=label, why="a stage before it runs")
            session.records.append(behind)
            return None
        parts: dict[str, JSON] = {
            "settings": dict(settings),
            "inputs": {
                name: m.byte_fingerprint if name in self.by_bytes else m.fingerprint
                for name, m in given.items()
            },
            "code": code_digest(self.modules),
            "versions": versions(self.computes_with),
            "schema": SCHEMA,
        }
        key = digest([self.name, parts])
        folder = session.home / self.shelf / self.name / key
        manifest = published(folder, session.home)
        why = "" if manifest else self._why(session.home, label, parts)
        cached = manifest is not None
        record = StageRecord(stage=self.name, label=label, key=key, cached=cached, why=why)
        session.records.append(record)
        if session.dry:
            return manifest
        work = Work(
            home=session.home,
            folder=session.home / "work" / key,
            settings=settings,
            inputs=given,
            parts=parts,
            extra=extra or {},
        )

        def execute(key: str, inputs: dict[str, Manifest]) -> Manifest:
            """Prefect draws the edges of its graph from `inputs`."""
            try:
                return self._run(key, work, folder)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise PivotRLError(
                    f"{session.home}: the disk is full; free some, run again"
                ) from None

        run: Callable[..., Manifest] = execute
        if TaskRunContext.get() is None:  # else it is a step of a task (`in_one_task`)
            run = Task(
                fn=execute,
                name=self.name,
                task_run_name=told(label),
                cache_key_fn=lambda _context, parameters: parameters["key"],
                persist_result=True,
                result_serializer="json",
                refresh_cache=not cached,
                tags=device_tags() if not cached and "torch" in self.computes_with else [],
                **retried(self.retries),
            )
        with stopwatch() as elapsed:
            result = run(key=key, inputs=given)
            record.seconds = elapsed()
        self._tell(record, result)
        return result

    def _run(self, key: str, work: Work, folder: Path) -> Manifest:
        work.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = work.folder.with_suffix(".lock")
        with FileLock(lock):
            done = published(folder, work.home)
            if done is not None:
                lock.unlink(missing_ok=True)
                return done
            shutil.rmtree(work.out, ignore_errors=True)
            work.out.mkdir(parents=True)
            earlier = _read(folder / "manifest.json")
            before = earlier if earlier and earlier.counts.get("left_open") else None
            with stopwatch() as elapsed:
                produced = self.body(replace(work, before=before.counts if before else {}))
                seconds = elapsed() + (before.seconds if before else 0.0)
            entries = []
            for name, table, rows, content in produced.files:
                sha256 = file_hash(work.out / name)
                path = (folder / name).relative_to(work.home)
                entries.append(
                    FileEntry(
                        path=str(path),
                        table=table,
                        sha256=sha256,
                        rows=rows,
                        content=content or sha256,
                    )
                )
            manifest = Manifest(
                kind=self.name,
                key=key,
                parts=dict(work.parts),
                files=tuple(entries),
                counts=dict(produced.counts),
                seconds=round(seconds, 3),
            )
            (work.out / "manifest.json").write_text(manifest.model_dump_json(indent=1))
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            work.out.replace(folder)
            shutil.rmtree(work.folder, ignore_errors=True)
            lock.unlink(missing_ok=True)  # who still waits for it finds the stage published
        get_run_logger().info("%s: %s", self.name, manifest.counts)
        # Prefect draws edges by identity: a manifest read back shares no string with another.
        return _read(folder / "manifest.json") or manifest

    def _why(self, home: Path, label: str, parts: Mapping[str, JSON]) -> str:
        """Which parts of the key differ from the nearest earlier manifest of this stage."""
        earlier = manifests_of(home / self.shelf / self.name)
        if not earlier:
            return "never ran"
        nearest = min((changed_parts(m.parts, parts) for m in earlier), key=len)
        if not nearest:
            return "its files are gone or damaged, or it left rows open"
        return "changed: " + ", ".join(nearest)

    def _tell(self, record: StageRecord, manifest: Manifest) -> None:
        mark = "[dim]•[/]" if record.cached else "[green]✓[/]"
        took = "cached" if record.cached else f"{manifest.seconds:,.1f} s"
        rows = ", ".join(
            f"{value:,} {name.replace('_', ' ')}"
            for name, value in manifest.counts.items()
            if isinstance(value, int) and value and not isinstance(value, bool)
        )
        current().say(f"{mark} {record.label:<28} [dim]{took:>9}[/]  {rows}")


def read_table(home: Path, manifest: Manifest, table: str) -> list[dict[str, JSON]]:
    """All rows of a table that a stage made."""
    return [row for path in manifest.of_table(home, table) for row in read_shard(path)]


def manifests_of(folder: Path) -> list[Manifest]:
    """What a stage has published so far, by key; whole or not. Each file is read once a process."""
    found = (_read(path, _known) for path in sorted(folder.glob("*/manifest.json")))
    return [manifest for manifest in found if manifest is not None]


def published(folder: Path, home: Path) -> Manifest | None:
    """The manifest of a published folder, or None if it is missing, unreadable or not whole.

    Not whole is also what says `left_open`: the next run may get what this one could not.
    """
    manifest = _read(folder / "manifest.json")
    if manifest is None or manifest.counts.get("left_open") or not manifest.whole(home):
        return None
    return manifest


def _read(path: Path, parse: Callable[[FileIdentity], Manifest] | None = None) -> Manifest | None:
    try:
        return (parse or _parsed)(identity(path))
    except (OSError, ValueError):
        return None


def identity(path: Path) -> FileIdentity:
    """A file, and what changes when it does: size and time in nanoseconds. Raises OSError."""
    found = path.stat()
    return path, found.st_size, found.st_mtime_ns


def _parsed(file: FileIdentity) -> Manifest:
    return Manifest.model_validate(json.loads(file[0].read_bytes()))


_known = cache(_parsed)
