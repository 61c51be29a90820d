"""Undecided verdicts to judgements: a language model is asked where the rules cannot tell."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pivotrl.config import Config
from pivotrl.manifest import Manifest
from pivotrl.types import ConfigError, Verdict, VerdictStatus, digest
from tasks.policy import load_chat
from tasks.sample import Pool, read_candidates
from tasks.session import current
from tasks.stage import Produced, Stage, Work

if TYPE_CHECKING:
    from pivotrl.judging import Budget, Judge


def judge_budget(config: Config) -> Budget | None:
    """What the shards of a run's profiles share; None if no judge is configured.

    Raises ConfigError, before anything is sampled, where one is and cannot be asked.
    """
    judge = config.judge
    if judge.url is None:
        return None
    if judge.model is None:
        raise ConfigError(f"judge.model is missing: name the model that {judge.url} serves")
    if judge.api_key_env is not None and not os.environ.get(judge.api_key_env):
        raise ConfigError(
            f"judge.api_key_env = {judge.api_key_env!r}: no such environment variable; "
            "export it with the key, or leave this out where no key is needed"
        )
    from pivotrl.judging import Budget

    return Budget(judge.budget)


def judge_of(config: Config) -> Judge:
    """The configured judge; `judge_budget` sees to it that there is one."""
    from pivotrl.judging import Judge

    settings = config.judge
    assert settings.url and settings.model
    key = os.environ.get(settings.api_key_env) if settings.api_key_env else "none"
    if not key:
        raise ConfigError(f"judge.api_key_env = {settings.api_key_env!r}: not set on this machine")
    return Judge(
        url=settings.url,
        model=settings.model,
        # The client would take OPENAI_API_KEY for None, and send it to whatever this url is.
        api_key=key,
        concurrency=settings.concurrency,
    )


def judge(
    pool: Pool,
    rollouts: Manifest | None,
    verdicts: Manifest | None,
    label: str,
    budget: Budget,
) -> Manifest | None:
    return _stage(
        settings={"model": pool.config.judge.model},
        inputs={"rollouts": rollouts, "verdicts": verdicts, "candidates": pool.candidates},
        extra={
            "pool": pool,
            "trajectories": pool.trajectories,
            "label": label,
            "budget": budget,
        },
        label=label,
    )


def _body(work: Work) -> Produced:
    from pivotrl import judging

    pool: Pool = work.extra["pool"]
    asked = judge_of(pool.config)
    verdicts = work.rows("verdicts", "verdicts")
    sampled = work.rows("rollouts", "rollouts")
    candidates = read_candidates(work)
    told: list[judging.Answer | Verdict] = []

    def answers(
        questions: Mapping[str, Callable[[], str]],
    ) -> Mapping[str, judging.Answer | Verdict]:
        found = asked.answers(
            questions,
            kept_at=work.home / "judge.sqlite",
            budget=work.extra["budget"],
            on_progress=advance,
        )
        told.extend(found.values())
        return found

    undecided = sum(row["status"] == VerdictStatus.UNDECIDED for row in verdicts)
    with current().progress(work.extra["label"], 2 * undecided, "questions") as advance:
        rows = judging.judgements(
            verdicts,
            {row["rollout_id"]: row for row in sampled},
            {c.id: c for c in candidates},
            load_chat(pool.model, pool.policy.weights).parse,
            answers,
            judge=asked.model,
            version=asked.version,
        )
    tokens = [answer.tokens for answer in told if isinstance(answer, judging.Answer)]
    rewards = digest([[row["rollout_id"], row["reward"]] for row in rows])
    return Produced(
        # Selection depends on rewards: another reason, or another failure, trains nothing anew.
        files=[work.write("judgements", rows, rewards)],
        counts={
            "judgements": len(rows),
            "accepted": sum(row["reward"] == 1.0 for row in rows),
            "without_reward": sum(row["reward"] is None for row in rows),
            "left_open": sum(
                row["status"] == VerdictStatus.ERROR or row["category"] == "over_budget"
                for row in rows
            ),
            "prompt_tokens": sum(prompt for prompt, _ in tokens),
            "completion_tokens": sum(completion for _, completion in tokens),
        },
    )


_stage = Stage(
    name="judge",
    body=_body,
    modules=("pivotrl.judging", "pivotrl.chat", "pivotrl.store.shards"),
)
