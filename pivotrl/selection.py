"""Profiles to pivots: which candidates a policy can still learn from, as SQL over Parquet shards.

A pivot has σ̂² > 0 and μ̂ < λ (paper, section 3), unless a configuration writes another condition.
Every candidate is counted in exactly one category. This module must never know how rewards are
made or what is done with pivots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from pivotrl.profiling import judged_sql, profile_sql
from pivotrl.store.connection import one_line
from pivotrl.store.shards import write_shard
from pivotrl.types import JSON, ConfigError, PivotRLError, Split

RULE = "variance > 0 AND mean < lambda_diff"

RULE_COLUMNS = (
    "n, samples, mean, variance, interval_low, interval_high, zero_signal, lambda_diff, domain, "
    "task, turn, action_type, tool_names"
)
"""What a condition may speak of."""

CATEGORIES = (
    "held_out",
    "unprofiled",
    "all_wrong",
    "all_right",
    "all_equal",
    "too_easy",
    "rejected",
    "kept",
)
"""held_out: of the other split. unprofiled: too few valid rewards. all_wrong, all_right: every
reward 0 or 1. all_equal: every reward the same, between 0 and 1. too_easy: a mean of λ or more.
rejected: by the configured condition alone. kept: a pivot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionResult:
    rule: str
    """The condition, as SQL."""
    pivots: list[dict[str, JSON]]
    """Rows `{candidate_id, policy, n, mean, variance}`, by candidate id."""
    domains: list[dict[str, JSON]]
    """A row a domain: `domain`, `candidates`, and how many are in each of CATEGORIES."""


def select(
    verdict_files: Sequence[Path],
    candidate_files: Sequence[Path],
    judgement_files: Sequence[Path] = (),
    *,
    lambda_diff: float,
    minimum_samples: int,
    rule: str | None = None,
    split: Split = Split.TRAIN,
) -> SelectionResult:
    """The pivots among the candidates of `split`.

    `lambda_diff` in (0, 1] is compared as the double it is: 3 right of 5 is not below 0.6.
    `minimum_samples`: a candidate with fewer valid rewards is unprofiled. `rule` is an SQL
    condition over RULE_COLUMNS; it runs without access to files. Raises ConfigError for settings
    that cannot be used, PivotRLError for shards that cannot.
    """
    if not 0 < lambda_diff <= 1:
        raise ConfigError(f"select.lambda_diff = {lambda_diff}: must be above 0 and at most 1")
    condition = rule if rule is not None else RULE
    database = duckdb.connect(":memory:")
    try:
        _load(database, verdict_files, candidate_files, judgement_files)
        _check_policy(database)
        database.execute("CREATE TABLE settings (lambda_diff DOUBLE, n INT, split VARCHAR)")
        database.execute(
            "INSERT INTO settings VALUES (?, ?, ?)", [lambda_diff, minimum_samples, str(split)]
        )
        _categorise(database, condition)
        pivots = _rows(
            database,
            "SELECT candidate_id, policy, n, mean, variance FROM categorised"
            " WHERE category = 'kept' ORDER BY candidate_id",
        )
        counts = ", ".join(f"count(*) FILTER (category = '{c}') AS {c}" for c in CATEGORIES)
        domains = _rows(
            database,
            f"SELECT domain, count(*) AS candidates, {counts} FROM categorised"
            " GROUP BY domain ORDER BY domain",
        )
    finally:
        database.close()
    return SelectionResult(rule=condition, pivots=pivots, domains=domains)


def check_rule(rule: str | None) -> None:
    """Raises ConfigError, before anything is sampled, for a condition that SQL refuses."""
    with TemporaryDirectory() as folder:
        files = [Path(folder) / f"{table}.parquet" for table in ("verdicts", "candidates")]
        for file in files:
            write_shard(file, file.stem, [])
        select(files[:1], files[1:], lambda_diff=1.0, rule=rule, minimum_samples=1)


def _load(
    database: duckdb.DuckDBPyConnection,
    verdicts: Sequence[Path],
    candidates: Sequence[Path],
    judgements: Sequence[Path],
) -> None:
    """Each rollout and each candidate once; from then on the database reaches no file."""
    database.execute("CREATE TABLE judgements (rollout_id VARCHAR, status VARCHAR, reward DOUBLE)")
    sources = {
        "verdicts": (
            verdicts,
            "rollout_id, candidate_id, policy, verifier, verifier_version, status, reward",
            "rollout_id, verifier, verifier_version",
        ),
        "candidates": (
            candidates,
            "candidate_id, domain, task, turn, split, action_type, tool_names",
            "candidate_id",
        ),
        "judgements": (judgements, "rollout_id, status, reward", "rollout_id"),
    }
    for table, (files, columns, key) in sources.items():
        if not files and table == "judgements":
            continue
        if not files:
            raise PivotRLError(f"nothing to select from: no shard of {table}")
        try:
            database.execute(
                f"CREATE OR REPLACE TABLE {table} AS SELECT DISTINCT ON ({key}) {columns}"
                " FROM read_parquet(?)",
                [[str(file) for file in files]],
            )
        except duckdb.Error as error:
            what = one_line(error)
            raise PivotRLError(f"shards of {table} cannot be read: {what}; run again") from None
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")


def _check_policy(database: duckdb.DuckDBPyConnection) -> None:
    """Raises PivotRLError unless one policy and, at each candidate, one verifier version speak."""
    policies, mixed = database.execute(
        "SELECT (SELECT count(DISTINCT policy) FROM verdicts), (SELECT min(candidate_id) FROM ("
        "SELECT candidate_id FROM verdicts GROUP BY candidate_id"
        " HAVING count(DISTINCT (verifier, verifier_version)) > 1))"
    ).fetchall()[0]
    if policies > 1:
        raise PivotRLError(
            f"the verdicts are of {policies} policies and difficulty does not transfer; "
            "select from the profile of one"
        )
    if mixed is not None:
        raise PivotRLError(f"candidate {mixed} has verdicts of several verifier versions; use one")


def _categorise(database: duckdb.DuckDBPyConnection, condition: str) -> None:
    """Table `categorised`: each candidate with its profile and category."""
    database.execute(
        f"CREATE TABLE profiled AS SELECT c.*, p.* EXCLUDE (candidate_id, n, samples),"
        " coalesce(p.n, 0) AS n, coalesce(p.samples, 0) AS samples, s.lambda_diff,"
        " CASE WHEN c.split <> s.split THEN 'held_out'"
        " WHEN coalesce(p.n, 0) < s.n THEN 'unprofiled' END AS left_out"
        f" FROM candidates c LEFT JOIN ({profile_sql(judged_sql('verdicts', 'judgements'))}) p"
        " USING (candidate_id), settings s"
    )
    statement = f"""
        CREATE TABLE categorised AS SELECT *, CASE
            WHEN left_out IS NOT NULL THEN left_out
            WHEN (
{condition}
            ) THEN 'kept'
            WHEN variance = 0 AND mean <= 0 THEN 'all_wrong'
            WHEN variance = 0 AND mean >= 1 THEN 'all_right'
            WHEN variance = 0 THEN 'all_equal'
            WHEN mean >= lambda_diff THEN 'too_easy'
            ELSE 'rejected'
        END AS category
        FROM profiled"""
    try:
        if len(database.extract_statements(statement)) != 1:
            raise ConfigError(f"select.rule = {condition!r}: write one condition, no statement")
        database.execute(statement)
    except duckdb.Error as error:
        what = one_line(error)
        raise ConfigError(
            f"select.rule = {condition!r}: {what}; a condition over {RULE_COLUMNS}"
        ) from None


def _rows(database: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, JSON]]:
    result = database.execute(sql)
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
