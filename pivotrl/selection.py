"""Profiles to pivots: which candidates a policy can still learn from, as SQL over Parquet shards.

A pivot has σ̂² > 0 and μ̂ < λ (paper, section 3), unless a configuration writes another rule. Every
candidate is counted in exactly one category. This module must never know how rewards are made or
what is done with pivots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from pivotrl.config import Config
from pivotrl.profiling import judged_sql, profile_sql
from pivotrl.store.connection import one_line
from pivotrl.store.shards import write_shard
from pivotrl.types import JSON, ConfigError, PivotRLError, Split

RULES = {
    "pivots": "variance > 0 AND mean < lambda_diff",
    "mixed": "variance > 0",
    "all": "true",
}
"""Conditions by name: the paper's, every mixed outcome, every profiled candidate."""

RULE_COLUMNS = (
    "candidate_id, trajectory_id, n, samples, mean, variance, interval_low, interval_high, "
    "zero_signal, lambda_diff, domain, task, turn, action_type, tool_names"
)
"""What a rule may speak of: the columns of its `pivot_stats`, a row a profiled candidate."""

ORDERS = {
    "variance": "variance DESC, md5(candidate_id || seed)",
    "random": "md5(candidate_id || seed)",
}

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
rejected: by the configured rule or limit alone. kept: a pivot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """Which candidates are pivots; `seed` breaks ties of the order."""

    lambda_diff: float
    """In (0, 1], compared as the double it is: 3 right of 5 is not below 0.6."""
    rule: str = "pivots"
    """A name of RULES, an SQL condition over RULE_COLUMNS, or a query `SELECT candidate_id …`."""
    minimum_valid: float = 0.5
    """A candidate with a smaller share of valid rewards among its samples is unprofiled."""
    limit: int | None = None
    limit_per_domain: int | None = None
    order: str = "variance"
    """A name of ORDERS: who comes first under a limit."""
    seed: int = 0

    @property
    def sql(self) -> str:
        return RULES.get(self.rule, self.rule)


def criteria_of(config: Config) -> Criteria:
    """As configured; where nothing is limited, order and seed change nothing."""
    asked = config.select
    if asked.limit is None and asked.limit_per_domain is None:
        return Criteria(**asked.model_dump(exclude={"order"}))
    return Criteria(**asked.model_dump(), seed=config.run.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionResult:
    pivots: list[dict[str, JSON]]
    """Rows `{candidate_id, policy, n, mean, variance}`, by candidate id."""
    domains: list[dict[str, JSON]]
    """A row a domain: `domain`, `candidates`, and how many are in each of CATEGORIES."""


def select(
    verdict_files: Sequence[Path],
    candidate_files: Sequence[Path],
    judgement_files: Sequence[Path] = (),
    *,
    criteria: Criteria,
    split: Split = Split.TRAIN,
) -> SelectionResult:
    """The pivots among the candidates of `split`.

    The rule's SQL runs without access to files or settings. Raises ConfigError for a rule that
    cannot be used, PivotRLError for shards that cannot.
    """
    if not 0 < criteria.lambda_diff <= 1:
        raise ConfigError(
            f"select.lambda_diff = {criteria.lambda_diff}: must be above 0 and at most 1"
        )
    with duckdb.connect(":memory:") as database:
        verdicts = judged_sql(VERDICTS, "judgements") if judgement_files else VERDICTS
        _load(database, verdict_files, candidate_files, judgement_files, profile_sql(verdicts))
        _check_policy(database)
        _profile(database, criteria, split)
        _choose(database, criteria)
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
    return SelectionResult(pivots=pivots, domains=domains)


def rewards(
    verdict_files: Sequence[Path], judgement_files: Sequence[Path] = ()
) -> dict[str, list[float]]:
    """The valid rewards of each candidate in the shards, sorted; none for some."""
    with duckdb.connect(":memory:") as database:
        sorted_rewards = (
            "SELECT candidate_id, list(reward ORDER BY reward) FILTER (status = 'ok')"
            f" FROM {judged_sql(VERDICTS, 'judgements')} GROUP BY candidate_id"
        )
        _load(database, verdict_files, [], judgement_files, sorted_rewards)
        found = database.execute("FROM asked_of_verdicts ORDER BY ALL").fetchall()
    return {candidate_id: earned or [] for candidate_id, earned in found}


def check_criteria(criteria: Criteria) -> None:
    """Raises ConfigError, before anything is sampled, for a rule that SQL refuses."""
    with TemporaryDirectory() as folder:
        files = [Path(folder) / f"{table}.parquet" for table in ("verdicts", "candidates")]
        for file in files:
            write_shard(file, file.stem, [])
        select(files[:1], files[1:], criteria=criteria)


def _once(columns: str, key: str) -> str:
    """Rows of $files, each key once; only candidates in several files pay for looking."""
    return f"""(
SELECT {columns} FROM read_parquet($files) ANTI JOIN repeated USING (candidate_id)
UNION ALL
SELECT DISTINCT ON ({key}) {columns}
FROM read_parquet($files) SEMI JOIN repeated USING (candidate_id)
)"""


_REPEATED = """
INSERT INTO repeated SELECT candidate_id FROM read_parquet($files)
GROUP BY candidate_id HAVING min(file_index) < max(file_index)"""
_SPANS = """
SELECT file_name,
    coalesce(min(try_cast(stats_min_value AS BIGINT)) FILTER (is_index), 0) AS low,
    coalesce(max(try_cast(stats_max_value AS BIGINT)) FILTER (is_index), 1::BIGINT << 62) AS high
FROM (SELECT *, path_in_schema = 'sample_index' AS is_index FROM parquet_metadata($files))
WHERE row_group_num_rows > 0 GROUP BY file_name ORDER BY low"""
VERDICTS = _once(
    "rollout_id, candidate_id, policy, verifier, verifier_version, status, reward",
    "rollout_id, verifier, verifier_version",
)
CANDIDATES = _once(
    "candidate_id, trajectory_id, domain, task, turn, split, action_type, tool_names",
    "candidate_id",
)


def _load(
    database: duckdb.DuckDBPyConnection,
    verdicts: Sequence[Path],
    candidates: Sequence[Path],
    judgements: Sequence[Path],
    question: str,
) -> None:
    """Tables `candidates`, each once, and `asked_of_verdicts`, the answer to `question` over
    VERDICTS; from then on the database reaches no file."""
    if not verdicts:
        raise PivotRLError("nothing to select from: no shard of verdicts")
    database.execute("CREATE TABLE judgements (rollout_id VARCHAR, status VARCHAR, reward DOUBLE)")
    database.execute("CREATE TABLE repeated (candidate_id VARCHAR)")
    _read(
        database,
        "judgements",
        judgements,
        "INSERT INTO judgements SELECT DISTINCT ON (rollout_id) rollout_id, status, reward"
        " FROM read_parquet($files)",
    )
    for files in overlapping(database, verdicts):
        _read(database, "verdicts", files, _REPEATED)
    _read(database, "verdicts", verdicts, f"CREATE TABLE asked_of_verdicts AS {question}")
    database.execute("TRUNCATE repeated")
    _read(database, "candidates", candidates, _REPEATED)
    _read(database, "candidates", candidates, f"CREATE TABLE candidates AS FROM {CANDIDATES}")
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")


def overlapping(database: duckdb.DuckDBPyConnection, verdicts: Sequence[Path]) -> list[list[Path]]:
    """Groups of files: a rollout can be twice only within one.

    Sample indices of one look are in no other; the footers tell them, and no row is read.
    """
    groups: list[list[Path]] = []
    end = -1
    for name, low, high in _read(database, "verdicts", verdicts, _SPANS):
        if low > end:
            groups.append([])
        groups[-1] += [file for file in verdicts if str(file) == name]
        end = max(end, high)
    return [group for group in groups if len(group) > 1]


def _read(
    database: duckdb.DuckDBPyConnection, table: str, files: Sequence[Path], statement: str
) -> list[tuple[Any, ...]]:
    """The statement's rows, over those files; none without a file. Raises PivotRLError."""
    if not files:
        return []
    try:
        return database.execute(statement, {"files": [str(file) for file in files]}).fetchall()
    except duckdb.Error as error:
        what = one_line(error)
        raise PivotRLError(f"shards of {table} cannot be read: {what}; run again") from None


def _check_policy(database: duckdb.DuckDBPyConnection) -> None:
    """Raises PivotRLError unless one policy and, at each candidate, one verifier version speak."""
    policies, mixed = database.execute(
        "SELECT (SELECT count(DISTINCT policy) FROM asked_of_verdicts), (SELECT min(candidate_id)"
        " FROM (SELECT candidate_id FROM asked_of_verdicts GROUP BY ALL HAVING count(*) > 1))"
    ).fetchall()[0]
    if policies > 1:
        raise PivotRLError(
            f"the verdicts are of {policies} policies and difficulty does not transfer; "
            "select from the profile of one"
        )
    if mixed is not None:
        raise PivotRLError(f"candidate {mixed} has verdicts of several verifier versions; use one")


def _profile(database: duckdb.DuckDBPyConnection, criteria: Criteria, split: Split) -> None:
    """Tables `profiled`, each candidate with what is known, and `pivot_stats`, the eligible."""
    database.execute("CREATE TABLE settings (lambda_diff DOUBLE, valid DOUBLE, split VARCHAR)")
    database.execute(
        "INSERT INTO settings VALUES (?, ?, ?)",
        [criteria.lambda_diff, criteria.minimum_valid, str(split)],
    )
    database.execute(
        "CREATE TABLE profiled AS SELECT c.*, p.* EXCLUDE (candidate_id, n, samples),"
        " coalesce(p.n, 0) AS n, coalesce(p.samples, 0) AS samples, s.lambda_diff,"
        " CASE WHEN c.split <> s.split THEN 'held_out'"
        " WHEN coalesce(p.n, 0) < greatest(1, s.valid * p.samples) THEN 'unprofiled'"
        " WHEN p.n IS NULL THEN 'unprofiled' END AS left_out"
        " FROM candidates c LEFT JOIN asked_of_verdicts p"
        " USING (candidate_id), settings s"
    )
    database.execute(
        f"CREATE VIEW pivot_stats AS SELECT {RULE_COLUMNS} FROM profiled WHERE left_out IS NULL"
    )


def _choose(database: duckdb.DuckDBPyConnection, criteria: Criteria) -> None:
    """Table `categorised`: each candidate with its category, `kept` where the rule chose it."""
    rule = criteria.sql.strip().removesuffix(";")
    query = (
        rule
        if _is_statement(database, rule)
        else f"SELECT candidate_id FROM pivot_stats WHERE (\n{rule}\n)"
    )
    statement = (
        f"CREATE TABLE asked AS SELECT q.candidate_id::VARCHAR AS candidate_id FROM (\n{query}\n) q"
    )
    try:
        if len(database.extract_statements(statement)) != 1:
            raise ConfigError(f"select.rule = {criteria.rule!r}: write one condition or one query")
        database.execute(statement)
    except duckdb.Error as error:
        what = one_line(error)
        raise ConfigError(
            f"select.rule = {criteria.rule!r}: {what}; a condition over {RULE_COLUMNS}, or a query "
            "SELECT candidate_id FROM pivot_stats"
        ) from None
    order = ORDERS[criteria.order].replace("seed", f"'{criteria.seed}'")
    database.execute(f"""
        CREATE TABLE chosen AS
        SELECT candidate_id,
            row_number() OVER (ORDER BY {order}) AS place,
            row_number() OVER (PARTITION BY domain ORDER BY {order}) AS place_in_domain
        FROM pivot_stats SEMI JOIN asked USING (candidate_id)""")
    if criteria.limit_per_domain is not None:
        database.execute(
            "DELETE FROM chosen WHERE place_in_domain > ?", [criteria.limit_per_domain]
        )
    if criteria.limit is not None:
        database.execute(
            "DELETE FROM chosen WHERE candidate_id NOT IN"
            " (SELECT candidate_id FROM chosen ORDER BY place LIMIT ?)",
            [criteria.limit],
        )
    database.execute("""
        CREATE VIEW categorised AS SELECT *, CASE
            WHEN left_out IS NOT NULL THEN left_out
            WHEN candidate_id IN (SELECT candidate_id FROM chosen) THEN 'kept'
            WHEN variance = 0 AND mean <= 0 THEN 'all_wrong'
            WHEN variance = 0 AND mean >= 1 THEN 'all_right'
            WHEN variance = 0 THEN 'all_equal'
            WHEN mean >= lambda_diff THEN 'too_easy'
            ELSE 'rejected'
        END AS category
        FROM profiled""")


def _is_statement(database: duckdb.DuckDBPyConnection, sql: str) -> bool:
    """A condition is none; comments and parentheses may come before a query's first word."""
    try:
        return bool(database.extract_statements(sql))
    except duckdb.Error:
        return False


def _rows(database: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, JSON]]:
    result = database.execute(sql)
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
