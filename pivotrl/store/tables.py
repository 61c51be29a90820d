"""The tables: one Pandera model each, checked where rows enter, and the columns that name a row.

The same names and types stand in `schema.sql`, with their meaning; a test holds the two together.
This module must never know a file or a database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import pandera.polars as pandera
import polars as pl
import pyarrow as pa
from pandera.errors import SchemaError, SchemaErrors

from pivotrl.store.keys import known
from pivotrl.types import JSON, FinishReason, PivotRLError, RolloutStatus, Split, VerdictStatus

SPLITS = [str(value) for value in Split]
FINISH_REASONS = [str(value) for value in FinishReason]
ROLLOUT_STATUSES = [str(value) for value in RolloutStatus]
VERDICT_STATUSES = [str(value) for value in VerdictStatus]


class Rows(pandera.DataFrameModel):
    class Config:
        strict = True


class Trajectories(Rows):
    trajectory_id: str
    domain: str
    task: str = pandera.Field(nullable=True)
    reward: float = pandera.Field(nullable=True)
    turns: int = pandera.Field(ge=0)
    messages: str
    tools: str
    tools_declared: bool
    accepted_actions: str
    files: str
    not_actions: str
    source_file: str
    source_row: int = pandera.Field(ge=0)


class Candidates(Rows):
    candidate_id: str
    trajectory_id: str
    turn: int = pandera.Field(ge=0)
    domain: str
    task: str = pandera.Field(nullable=True)
    split: str = pandera.Field(isin=SPLITS)
    split_group: str
    action_type: str = pandera.Field(isin=["text", "tool_call"])
    tool_names: pl.List = pandera.Field(dtype_kwargs={"inner": pl.String})
    demonstration: str
    accepted_actions: str
    files: str = pandera.Field(nullable=True)


class Occurrences(Rows):
    candidate_id: str
    trajectory_id: str
    turn: int = pandera.Field(ge=0)
    split_group: str


class Quarantine(Rows):
    source_file: str
    source_row: int = pandera.Field(ge=0)
    reason: str
    remedy: str
    excerpt: str


class Policies(Rows):
    policy: str
    weights: str
    tokenizer: str
    template: str
    sampling: str
    engine: str
    path: str


class Rollouts(Rows):
    rollout_id: str
    candidate_id: str
    policy: str
    sample_index: int = pandera.Field(ge=0)
    prompt_hash: str
    prompt_tokens: int = pandera.Field(ge=0)
    token_ids: pl.List = pandera.Field(dtype_kwargs={"inner": pl.Int64})
    logprobs: pl.List = pandera.Field(dtype_kwargs={"inner": pl.Float32})
    text: str
    seed: int
    finish_reason: str = pandera.Field(isin=FINISH_REASONS)
    status: str = pandera.Field(isin=ROLLOUT_STATUSES)


class Judged(Rows):
    """What verdicts and judgements share: a reward stands exactly where the status is ok."""

    status: str = pandera.Field(isin=VERDICT_STATUSES)
    reward: float = pandera.Field(nullable=True, ge=0, le=1)

    @pandera.dataframe_check(error="a reward stands exactly where the status is ok")
    def reward_where_ok(cls, data: pandera.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(pl.col("reward").is_not_null() == (pl.col("status") == "ok"))


class Verdicts(Judged):
    rollout_id: str
    candidate_id: str
    policy: str
    sample_index: int = pandera.Field(ge=0)
    estimator: str = pandera.Field(isin=["fixed", "stopped"])
    verifier: str
    verifier_version: str
    category: str
    details: str


class Judgements(Judged):
    judgement_id: str
    rollout_id: str
    candidate_id: str
    judge: str
    judge_version: str
    category: str
    details: str


class Marks(Rows):
    mark_id: str
    candidate_id: str
    rollout_id: str = pandera.Field(nullable=True)
    author: str
    mark: str
    note: str
    made_at: pl.Datetime


class Selections(Rows):
    selection_id: str
    name: str
    policy: str
    rule: str
    parameters: str
    candidates: int = pandera.Field(ge=0)
    pivots: int = pandera.Field(ge=0)


class Pivots(Rows):
    selection_id: str
    candidate_id: str
    policy: str
    n: int = pandera.Field(ge=0)
    mean: float
    variance: float


class TrainSteps(Rows):
    training_id: str
    round: int = pandera.Field(ge=0)
    step: int = pandera.Field(ge=0)
    metric: str
    value: float = pandera.Field(nullable=True)


class TrainRollouts(Rows):
    training_id: str
    selection_id: str = pandera.Field(nullable=True)
    round: int = pandera.Field(ge=0)
    step: int = pandera.Field(ge=0)
    candidate_id: str
    sample_index: int = pandera.Field(ge=0)
    reward: float = pandera.Field(nullable=True)
    category: str
    advantage: float = pandera.Field(nullable=True)
    tokens: int = pandera.Field(ge=0)
    finish_reason: str = pandera.Field(isin=FINISH_REASONS)
    text: str


class Evaluations(Rows):
    evaluation_id: str
    policy_weights: str
    model: str
    suite: str
    kind: str = pandera.Field(isin=["domain", "benchmark"])
    decoding: str
    miniature: bool
    n: int = pandera.Field(ge=0)
    score: float = pandera.Field(nullable=True)
    standard_error: float = pandera.Field(nullable=True)
    unparsed: int = pandera.Field(ge=0)
    truncated: int = pandera.Field(ge=0)


class EvaluationItems(Rows):
    evaluation_id: str
    item_id: str
    repeat: int = pandera.Field(ge=0)
    prompt: str
    output: str
    extracted: str = pandera.Field(nullable=True)
    score: float = pandera.Field(nullable=True)
    finish_reason: str = pandera.Field(isin=FINISH_REASONS)


class Promotions(Rows):
    promotion_id: str
    model: str
    version: str
    alias: str
    policy_weights: str
    training_id: str = pandera.Field(nullable=True)
    evaluation_id: str = pandera.Field(nullable=True)
    reason: str
    promoted_at: pl.Datetime


class Runs(Rows):
    run_id: str
    name: str
    flow: str
    config: str
    state: str
    started_at: pl.Datetime
    ended_at: pl.Datetime = pandera.Field(nullable=True)
    seconds: float = pandera.Field(nullable=True)
    report: str = pandera.Field(nullable=True)


MODELS: dict[str, type[Rows]] = {
    "trajectories": Trajectories,
    "candidates": Candidates,
    "occurrences": Occurrences,
    "quarantine": Quarantine,
    "policies": Policies,
    "rollouts": Rollouts,
    "verdicts": Verdicts,
    "judgements": Judgements,
    "marks": Marks,
    "selections": Selections,
    "pivots": Pivots,
    "train_steps": TrainSteps,
    "train_rollouts": TrainRollouts,
    "evaluations": Evaluations,
    "evaluation_items": EvaluationItems,
    "promotions": Promotions,
    "runs": Runs,
}


def polars_schema(table: str) -> dict[str, pl.DataType]:
    """Column -> polars type, in the order of the model."""
    return {name: c.dtype.type for name, c in MODELS[known(table)].to_schema().columns.items()}


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
    """Raises PivotRLError, naming the column and an example, if the frame breaks the model."""
    try:
        MODELS[known(table)].validate(frame)
    except (SchemaError, SchemaErrors) as error:
        raise PivotRLError(f"table {table}: {' '.join(str(error).split())[:400]}") from None
