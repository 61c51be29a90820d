"""Sampling a policy at candidates, and judging what it did: two stages that never mix.

A rollout is immutable; a verdict names the rollout and the verifier version. A changed verifier
judges stored rollouts again and never samples. This module must never know files or a database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from pivotrl.chat import ChatFormat, TemplateError
from pivotrl.types import (
    JSON,
    Action,
    Candidate,
    Engine,
    FinishReason,
    RolloutStatus,
    Sample,
    SamplingParams,
    ToolSpec,
    Verdict,
    VerdictStatus,
    Verifier,
    canonical,
    digest,
    seed_of,
)

Parse = Callable[[str, FinishReason, Sequence[ToolSpec]], Action]
"""A chat format's reading of a completion: `ChatFormat.parse`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompted:
    """A candidate with its prompt as token ids."""

    candidate: Candidate
    prompt_ids: tuple[int, ...]

    @property
    def prompt_hash(self) -> str:
        return hashlib.sha256(canonical(self.prompt_ids)).hexdigest()[:16]


def prompts(
    candidates: Sequence[Candidate], chat: ChatFormat, *, longest: int
) -> tuple[list[Prompted], list[tuple[Candidate, int | TemplateError]]]:
    """Each candidate's prompt; apart from them, those without one.

    These are over `longest` tokens, how many, or the chat template refuses them, and why. A prompt
    is never cut: a cut prompt would be another state.
    """
    fitting: list[Prompted] = []
    without: list[tuple[Candidate, int | TemplateError]] = []
    for candidate in candidates:
        try:
            ids = chat.render(candidate.messages, candidate.tools)
        except TemplateError as error:
            without.append((candidate, error))
            continue
        if len(ids) > longest:
            without.append((candidate, len(ids)))
        else:
            fitting.append(Prompted(candidate=candidate, prompt_ids=tuple(ids)))
    return fitting, without


def sample(
    prompted: Sequence[Prompted],
    engine: Engine,
    *,
    policy: str,
    samples: int,
    params: SamplingParams,
    seed: int,
    first: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, JSON]]:
    """Rows of `rollouts`: completions `first` to `first + samples` at each candidate.

    The seed of a candidate follows from the run's seed and the candidate's id alone, so neither
    order, sharding nor the number of calls changes a sample's random numbers.
    """
    seeds = [seed_of(seed, "profile", item.candidate.id) for item in prompted]
    groups = engine.sample(
        [item.prompt_ids for item in prompted], samples, params, seeds, on_progress, first
    )
    return [
        {
            "rollout_id": digest([item.candidate.id, policy, one.seed, index]),
            "candidate_id": item.candidate.id,
            "policy": policy,
            "sample_index": index,
            "prompt_hash": item.prompt_hash,
            "prompt_tokens": len(item.prompt_ids),
            "token_ids": list(one.token_ids),
            "logprobs": list(one.logprobs),
            "text": one.text,
            "seed": one.seed,
            "finish_reason": str(one.finish_reason),
            "status": str(one.status),
        }
        for item, group in zip(prompted, groups, strict=True)
        for index, one in enumerate(group, first)
    ]


def complete(
    prompted: Sequence[Prompted],
    stored: Mapping[tuple[str, str, int], Mapping[str, JSON]],
    engine: Engine,
    *,
    samples: int,
    first: int,
    **settings: Any,
) -> tuple[list[dict[str, JSON]], list[dict[str, JSON]]]:
    """`sample`, but rows that are `stored` by (candidate id, prompt hash, index) are kept.

    One candidate may have several prompts: its id says nothing of the order of JSON keys. Returns
    all rows by candidate and index, and of them those that are new: each gap of a candidate, alone.
    """
    wanted = range(first, first + samples)
    known: dict[tuple[str, int], Mapping[str, JSON]] = {}
    lacking: dict[tuple[int, int], list[Prompted]] = {}
    for item in prompted:
        name = item.candidate.id, item.prompt_hash
        found = {index: stored[*name, index] for index in wanted if (*name, index) in stored}
        known |= {(item.candidate.id, index): row for index, row in found.items()}
        for gap in _gaps(wanted, found):
            lacking.setdefault(gap, []).append(item)
    new = [
        row
        for (start, length), items in sorted(lacking.items())
        for row in sample(items, engine, samples=length, first=start, **settings)
    ]
    known |= {(row["candidate_id"], row["sample_index"]): row for row in new}
    rows = [dict(known[item.candidate.id, index]) for item in prompted for index in wanted]
    return rows, new


def _gaps(wanted: range, known: Collection[int]) -> list[tuple[int, int]]:
    """Start and length of each run of indices that are not known."""
    gaps: list[tuple[int, int]] = []
    for is_known, run in groupby(wanted, lambda index: index in known):
        if not is_known:
            start, *more = run
            gaps.append((start, 1 + len(more)))
    return gaps


def judge(
    candidate: Candidate, verifier: Verifier, parse: Parse, one: Sample, mask: Collection[str] = ()
) -> Verdict:
    """What the verifier says of one sample; one that the engine failed on has no reward.

    Nor has one that it rejects for a category in `mask`.
    """
    if one.status != RolloutStatus.OK:
        return Verdict(status=VerdictStatus.ERROR, reward=None, category=str(one.status))
    verdict = verifier.verify(candidate, parse(one.text, one.finish_reason, candidate.tools))
    if verdict.reward is not None and verdict.category in mask:
        return replace(verdict, status=VerdictStatus.MASKED, reward=None)
    return verdict


def verdicts(
    rollouts: Sequence[Mapping[str, JSON]],
    candidates: Mapping[str, Candidate],
    verifier_of: Callable[[str], Verifier],
    parse: Parse,
    *,
    version: str,
    estimator: str,
    mask: Collection[str] = (),
    on_progress: Callable[[int], None] | None = None,
) -> list[dict[str, JSON]]:
    """Rows of `verdicts`, one a rollout; equal completions of a candidate are judged once."""
    known: dict[tuple[str, str, str], Verdict] = {}
    rows: list[dict[str, JSON]] = []
    for rollout in rollouts:
        candidate = candidates[rollout["candidate_id"]]
        verifier = verifier_of(candidate.domain)
        asked = (candidate.id, rollout["text"], rollout["finish_reason"] + rollout["status"])
        if asked not in known:
            known[asked] = judge(candidate, verifier, parse, Sample.of(rollout), mask)
        verdict = known[asked]
        rows.append(
            {
                "rollout_id": rollout["rollout_id"],
                "candidate_id": candidate.id,
                "policy": rollout["policy"],
                "sample_index": rollout["sample_index"],
                "estimator": estimator,
                "verifier": verifier.name,
                "verifier_version": version,
                "status": str(verdict.status),
                "reward": verdict.reward,
                "category": verdict.category,
                "details": canonical(dict(verdict.details)).decode(),
            }
        )
        if on_progress is not None:
            on_progress(1)
    return rows
