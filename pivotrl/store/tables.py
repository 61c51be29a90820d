"""What rows are checked against where they enter: a Pandera schema a table.

Columns and types are those of `schema.sql`; here stands what more their values must hold to. This
module must never know a database.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

import pandera.polars as pandera
import polars as pl
import pyarrow as pa
from pandera.errors import SchemaError, SchemaErrors

from pivotrl.store.keys import known
from pivotrl.types import JSON, FinishReason, PivotRLError, RolloutStatus, Split, VerdictStatus

TYPES: Mapping[str, Any] = {
    "BIGINT": pl.Int64,
    "BIGINT[]": pl.List(pl.Int64),
    "BOOLEAN": pl.Boolean,
    "DOUBLE": pl.Float64,
    "FLOAT[]": pl.List(pl.Float32),
    "TIMESTAMP": pl.Datetime,
    "VARCHAR": pl.String,
    "VARCHAR[]": pl.List(pl.String),
}
NULLABLE = {
    "trajectories": ("task", "reward"),
    "candidates": ("task", "files"),
    "verdicts": ("reward",),
    "judgements": ("reward",),
    "marks": ("rollout_id",),
    "train_steps": ("value",),
    "train_rollouts": ("selection_id", "reward", "advantage"),
    "evaluations": ("score", "standard_error"),
    "evaluation_items": ("extracted", "score"),
    "promotions": ("training_id", "evaluation_id"),
    "runs": ("ended_at", "seconds", "report"),
}
"""Columns that may be null; no other is."""
JUDGED = ("verdicts", "judgements")
"""Tables in which a reward stands exactly where the status is ok."""
WORDS: Mapping[str, Sequence[str]] = {
    "split": [*Split],
    "action_type": ["text", "tool_call"],
    "estimator": ["fixed", "stopped"],
    "finish_reason": [*FinishReason],
    "kind": ["domain", "benchmark"],
}
"""Columns of few values, in whichever table."""


@lru_cache
def schema_of(table: str) -> pandera.DataFrameSchema:
    """Of the rows of a shard. Raises PivotRLError if there is no such table."""
    sql = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
    found = re.search(rf"CREATE TABLE {known(table)} \((.*?)\n\);", sql, re.DOTALL)
    assert found, "every table has a key and a schema: a test holds them together"
    columns = re.findall(r"^ +(\w+) +([A-Z]+(?:\[\])?)", found[1], re.MULTILINE)
    check = pandera.Check(reward_where_ok, error="a reward stands exactly where the status is ok")
    return pandera.DataFrameSchema(
        {name: _column(table, name, kind) for name, kind in columns if name != "shard"},
        checks=[check] if table in JUDGED else [],
        strict=True,
        name=table.title().replace("_", ""),
    )


def _column(table: str, name: str, kind: str) -> pandera.Column:
    checks = []
    if kind == "BIGINT" and name != "seed":  # counts and places
        checks.append(pandera.Check.ge(0))
    if table in JUDGED and name == "reward":
        checks += [pandera.Check.ge(0), pandera.Check.le(1)]
    words = WORDS.get(name, ())
    if name == "status":
        words = [*(VerdictStatus if table in JUDGED else RolloutStatus)]
    if words:
        checks.append(pandera.Check.isin([str(word) for word in words]))
    return pandera.Column(TYPES[kind], checks, nullable=name in NULLABLE.get(table, ()))


def reward_where_ok(data: pandera.PolarsData) -> pl.LazyFrame:
    return data.lazyframe.select(pl.col("reward").is_not_null() == (pl.col("status") == "ok"))


def polars_schema(table: str) -> dict[str, pl.DataType]:
    """Column -> polars type, in the order of `schema.sql`."""
    return {name: column.dtype.type for name, column in schema_of(table).columns.items()}


def frame_of(table: str, rows: Sequence[Mapping[str, JSON]]) -> pl.DataFrame:
    """The rows as a checked frame; a column that a row lacks is null. Raises PivotRLError."""
    schema = _arrow_schema(table)
    known_names = frozenset(schema.names)
    for number, row in enumerate(rows):
        if not row.keys() <= known_names:
            surplus = ", ".join(sorted(row.keys() - known_names))
            raise PivotRLError(f"table {table}, row {number}: no column {surplus}; see schema.sql")
    try:
        columns = pa.Table.from_pylist(rows, schema=schema)
    except (pa.ArrowException, TypeError) as error:
        what = " ".join(str(error).split())[:200]
        raise PivotRLError(f"table {table}: a value has the wrong type: {what}") from None
    frame = pl.DataFrame(columns)
    validate(table, frame)
    return frame


@lru_cache
def _arrow_schema(table: str) -> pa.Schema:
    return pl.DataFrame(schema=polars_schema(table)).to_arrow().schema


def validate(table: str, frame: pl.DataFrame) -> None:
    """Raises PivotRLError, naming the column and an example, if the frame breaks the schema."""
    try:
        schema_of(table).validate(frame)
    except (SchemaError, SchemaErrors) as error:
        raise PivotRLError(f"table {table}: {' '.join(str(error).split())[:400]}") from None
