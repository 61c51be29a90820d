"""The store: Parquet shards merged into one DuckDB file, so that all of a project answers to SQL.

The shards are the truth and the store can be built anew from them. Merging is idempotent and a
key is never there twice; SQL that a user supplies runs read-only and shut off from the file system.
This package must never know how its rows were made.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock

from pivotrl.profiling import judged_sql, profile_sql
from pivotrl.store import current
from pivotrl.store.connection import connection, one_line
from pivotrl.store.keys import KEYS, SHARED, VERSION, known
from pivotrl.types import ConfigError, PivotRLError

WAIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    aside: Path
    """The old file."""
    shards: int
    """That it held."""
    left_out: int
    """Of them, that the new one lacks."""


class Store:
    """The DuckDB file at `path`; made with its schema where it is missing.

    The file is open only within a call, so that others get their turn.
    """

    def __init__(self, path: Path, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self.path = path
        self.wait_seconds = wait_seconds

    def merge(self, table: str, files: Sequence[Path]) -> int:
        """Brings the shards' rows into the table in one transaction; returns how many are new.

        A row whose key is there already replaces it. A shard that was merged before and still owns
        its rows only becomes the latest again. Raises PivotRLError; then nothing was merged.
        """
        known(table)
        hashes = [(file, _sha256(file)) for file in files]
        rows = 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with connection(self.path, read_only=False, wait_seconds=self.wait_seconds) as opened:
            self._prepare(opened)
            file = self.path
            try:
                opened.begin()
                moment = opened.execute(
                    "SELECT greatest(current_timestamp AT TIME ZONE 'UTC', max(merged_at)"
                    " + INTERVAL 1 MICROSECOND) FROM merged_shards"
                ).fetchall()[0][0]
                for file, sha256 in hashes:
                    if not _owns_its_rows(opened, table, sha256):
                        rows += _load(opened, table, file, sha256)
                    opened.execute(
                        "UPDATE merged_shards SET merged_at = ?, file = ?"
                        " WHERE table_name = ? AND sha256 = ?",
                        [moment, str(file), table, sha256],
                    )
                if files and table in ("verdicts", "judgements"):
                    _renew_profiles(opened, files)
                opened.commit()
            except duckdb.Error as error:
                raise PivotRLError(
                    f"{file}: cannot be merged into {table} of {self.path}: {one_line(error)}"
                ) from None
        return rows

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[list[str], list[tuple]]:
        """Column names and all rows of the last statement, under a read-only, shut-off connection.

        Raises ConfigError for SQL that DuckDB refuses, PivotRLError for a store that is not ours.
        """
        if not self.path.exists():
            self._create()
        with connection(self.path, read_only=True, wait_seconds=self.wait_seconds) as opened:
            if self._version_of(opened) is not None:
                return _fetch(opened, sql, parameters)
        self._create()  # whoever made the file died before its schema
        return self.query(sql, parameters)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """As `query`, each row by its columns' names."""
        columns, found = self.query(sql, parameters)
        return [dict(zip(columns, row, strict=True)) for row in found]

    def copy_to(self, path: Path) -> None:
        """Copies the file, whole, while nobody writes to it."""
        with connection(self.path, read_only=False, wait_seconds=self.wait_seconds) as opened:
            opened.execute("CHECKPOINT")
            shutil.copyfile(self.path, path)

    def renew(self) -> Renewal | None:
        """Builds a file of an older schema anew from its shards; None if it is no such file.

        The old one is kept as `<name>.schema-<version>.duckdb`, and has the rows of shards that are
        gone. Shards that the present schema does not take stay out, counted. Killed on the way it
        begins again.
        """
        if not self.path.exists():
            return None
        with FileLock(self.path.with_suffix(".renewal.lock")):
            with connection(self.path, read_only=False, wait_seconds=self.wait_seconds) as opened:
                version = _version(opened, self.path)
                if version is None or version >= VERSION:
                    return None
                opened.execute("CHECKPOINT")  # no log of the old file meets the new one
                merges = opened.execute(
                    "SELECT table_name, list(sha256 ORDER BY file), list(file ORDER BY file)"
                    " FROM merged_shards GROUP BY table_name, merged_at ORDER BY merged_at"
                ).fetchall()
            folder = self.path.with_suffix(".renewal")
            shutil.rmtree(folder, ignore_errors=True)
            draft = Store(folder / self.path.name, wait_seconds=self.wait_seconds)
            draft._create()
            shards = left_out = 0
            for table, hashes, names in merges:
                files = [
                    file if (file := Path(name)).exists() else self._rows_of(table, sha256, folder)
                    for sha256, name in zip(hashes, names, strict=True)
                ]
                taken = [file for file in files if draft._takes(table, file)]
                if taken:
                    draft.merge(table, taken)  # at one moment: what counts of a profile is its last
                shards += len(files)
                left_out += len(files) - len(taken)
            aside = self.path.with_name(f"{self.path.stem}.schema-{version}.duckdb")
            aside.unlink(missing_ok=True)
            os.link(self.path, aside)
            draft.path.replace(self.path)
            shutil.rmtree(folder)
            return Renewal(aside=aside, shards=shards, left_out=left_out)

    def _rows_of(self, table: str, sha256: str, folder: Path) -> Path:
        """What the file holds of a shard that is gone, as a shard in `folder`."""
        path = folder / f"{sha256}.parquet"
        with connection(self.path, read_only=False, wait_seconds=self.wait_seconds) as opened:
            rows = opened.table(table).filter(f"shard = '{sha256}'")
            rows.project("* EXCLUDE shard").write_parquet(str(path))
        return path

    def _takes(self, table: str, shard: Path) -> bool:
        """Merges the shard, if it is of the present schema."""
        if table not in KEYS:
            return False
        try:
            self.merge(table, [shard])
        except PivotRLError as error:
            if isinstance(error.__context__, duckdb.IOException):
                raise
            return False
        return True

    def _create(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with connection(self.path, read_only=False, wait_seconds=self.wait_seconds) as opened:
            self._prepare(opened)

    def _prepare(self, opened: duckdb.DuckDBPyConnection) -> None:
        """Makes the schema, all or nothing, unless it is there."""
        if self._version_of(opened) is not None:
            return
        folder = resources.files(__package__)
        schema = folder.joinpath("schema.sql").read_text(encoding="utf-8")
        views = folder.joinpath("views.sql").read_text(encoding="utf-8")
        try:
            opened.begin()
            opened.execute(schema)
            for word, sql in {
                "$VERDICTS": current.verdicts_sql("verdicts"),
                "$JUDGEMENTS": current.judgements_sql("judgements", "current_verdicts"),
                "$JUDGED": judged_sql("current_verdicts", "current_judgements"),
                "$PROFILE": _profiles_sql("current_verdicts", "current_judgements"),
            }.items():
                views = views.replace(word, sql)
            opened.execute(views)
            opened.execute("INSERT INTO store_version VALUES (?)", [VERSION])
            opened.commit()
        except duckdb.Error as error:
            what = one_line(error)
            raise PivotRLError(f"{self.path}: the store cannot be made: {what}") from None

    def _version_of(self, opened: duckdb.DuckDBPyConnection) -> int | None:
        """The store's schema version if we can use it, None for an empty file."""
        version = _version(opened, self.path)
        if version is None:
            return None
        if version > VERSION:
            raise PivotRLError(
                f"{self.path}: written by a newer version (schema {version}, this one knows "
                f"{VERSION}); upgrade pivotrl or use another PIVOTRL_HOME"
            )
        if version < VERSION:
            raise PivotRLError(
                f"{self.path}: has the old schema {version} (this one writes {VERSION}); the next "
                "`pivotrl run` sets it aside and builds it anew from the shards"
            )
        return version


def _version(opened: duckdb.DuckDBPyConnection, path: Path) -> int | None:
    """Of the schema, whichever it is; None for an empty file."""
    tables = {row[0] for row in opened.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if not tables:
        return None
    if "store_version" not in tables:
        raise PivotRLError(f"{path}: a DuckDB file, but no store; use another PIVOTRL_HOME")
    found: int = opened.execute("SELECT max(version) FROM store_version").fetchall()[0][0]
    return found


def _owns_its_rows(opened: duckdb.DuckDBPyConnection, table: str, sha256: str) -> bool:
    """True if the shard was merged and no later shard took over one of its rows."""
    merged = opened.execute(
        "SELECT rows FROM merged_shards WHERE table_name = ? AND sha256 = ?", [table, sha256]
    ).fetchall()
    there = opened.execute(f"SELECT count(*) FROM {table} WHERE shard = ?", [sha256]).fetchall()
    return merged == there


def _load(opened: duckdb.DuckDBPyConnection, table: str, file: Path, sha256: str) -> int:
    keys = ", ".join(KEYS[table])
    found = opened.execute(
        "SELECT column_name FROM duckdb_columns() WHERE table_name = ? AND column_name <> 'shard'",
        [table],
    ).fetchall()
    columns = ", ".join(name for (name,) in found)
    shared = SHARED.get(table, KEYS[table][0])
    overlaps = opened.execute(  # a delete that finds nothing costs far more
        f"SELECT 1 FROM {table} WHERE {shared} IN (SELECT {shared} FROM read_parquet(?)) LIMIT 1",
        [str(file)],
    ).fetchall()
    if overlaps:
        same = " AND ".join(f"{table}.{key} = added.{key}" for key in KEYS[table])
        opened.execute(f"DELETE FROM {table} USING read_parquet(?) added WHERE {same}", [str(file)])
    source = "read_parquet(?, file_row_number = true)"
    opened.execute(  # not DISTINCT ON, which would carry whole rows through its hash table
        f"INSERT INTO {table} ({columns}, shard) SELECT {columns}, ? FROM {source} WHERE"
        f" file_row_number IN (SELECT min(file_row_number) FROM {source} GROUP BY {keys})",
        [sha256, str(file), str(file)],
    )
    rows: int = opened.execute(
        f"SELECT count(*) FROM {table} WHERE shard = ?", [sha256]
    ).fetchall()[0][0]
    opened.execute("DELETE FROM merged_shards WHERE table_name = ? AND sha256 = ?", [table, sha256])
    opened.execute(
        "INSERT INTO merged_shards VALUES (?, ?, ?, ?, NULL)", [table, sha256, str(file), rows]
    )
    return rows


def _renew_profiles(opened: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    """The profiles of the candidates that the shards of verdicts or judgements speak of."""
    opened.execute(
        "CREATE OR REPLACE TEMP TABLE touched AS SELECT DISTINCT candidate_id FROM read_parquet(?)",
        [[str(file) for file in files]],
    )
    columns = (
        "rollout_id, candidate_id, policy, estimator, verifier, verifier_version, status, reward,"
        " shard"
    )
    for name, sql in {
        # By row ids: no other column is read where nothing is touched.
        "touched_verdicts": f"SELECT {columns} FROM verdicts WHERE rowid IN"
        " (SELECT rowid FROM verdicts SEMI JOIN touched USING (candidate_id))",
        "touched_judgements": "FROM judgements SEMI JOIN touched USING (candidate_id)",
        "counting_verdicts": current.verdicts_sql("touched_verdicts"),
        "counting_judgements": current.judgements_sql("touched_judgements", "counting_verdicts"),
    }.items():
        opened.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {sql}")
    opened.execute("DELETE FROM profiles WHERE candidate_id IN (FROM touched)")
    profiles = _profiles_sql("counting_verdicts", "counting_judgements")
    opened.execute(f"INSERT INTO profiles BY NAME {profiles}")


def _profiles_sql(verdicts: str, judgements: str) -> str:
    """Profiles of these relations, each with its estimator."""
    return f"""
SELECT p.*, asked.estimator
FROM ({profile_sql(judged_sql(verdicts, judgements))}) p
JOIN (
    SELECT candidate_id, policy, max(estimator) AS estimator FROM {verdicts} GROUP BY ALL
) asked USING (candidate_id, policy)"""


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise PivotRLError(f"{file}: cannot be merged: {error.strerror}; run again") from None


def _fetch(
    opened: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any]
) -> tuple[list[str], list[tuple]]:
    try:
        result = opened.execute(sql, list(parameters)) if sql.strip() else None
        if result is None or not result.description:
            return [], []
        return [column[0] for column in result.description], result.fetchall()
    except duckdb.Error as error:
        raise ConfigError(f"SQL: {one_line(error)}") from None
