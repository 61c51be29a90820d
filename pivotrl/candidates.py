"""Trajectories to candidates: every assistant turn is one decision `(s, a*)`.

Ids are hashes of what the model saw, the tools and the demonstration, so the same decision found
in two files or formats is one candidate. The side of the split is a hash of the group (the task,
else system prompt and first user message), so that no task lies on both sides. Histories are never
copied: a candidate is a reference to a trajectory and a turn. This module must never know a model
or a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pivotrl.trajectories import columns
from pivotrl.trajectories.build import tie_calls
from pivotrl.types import (
    JSON,
    Candidate,
    Message,
    PivotRLError,
    Role,
    Split,
    Trajectory,
    canonical,
    digest,
    message_to_json,
    tool_to_json,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """A row of the `occurrences` table (`dataclasses.asdict`): where a candidate was found."""

    candidate_id: str
    trajectory_id: str
    turn: int
    split_group: str


def extract(trajectory: Trajectory, *, validation_share: float = 0.1) -> list[Candidate]:
    """The candidates of a trajectory, in order; cost is linear in its messages.

    No candidates are canned greetings (text before the user has spoken: a greeting of the harness),
    empty turns (neither text nor call: nothing to imitate) and what the source says is context.
    `validation_share` in [0, 1].
    """
    split = split_of(split_group(trajectory), validation_share)
    first_user = _first(trajectory, Role.USER)
    seen = hashlib.sha256()
    seen.update(canonical([tool_to_json(t) for t in trajectory.tools]) + b"\n")
    candidates = []
    for turn, message in enumerate(tie_calls(trajectory.messages)):
        content = canonical(message_to_json(message)) + b"\n"
        decides = turn not in trajectory.not_actions and _is_action(turn, message, first_user)
        if message.role == Role.ASSISTANT and decides:
            decision = seen.copy()
            decision.update(b"demonstration\n" + content)
            candidates.append(
                Candidate(
                    id=decision.hexdigest()[:16], trajectory=trajectory, turn=turn, split=split
                )
            )
        seen.update(content)
    return candidates


def _is_action(turn: int, message: Message, first_user: int | None) -> bool:
    if message.tool_calls:
        return True
    canned = first_user is not None and turn < first_user
    return bool(message.content) and not canned


def _first(trajectory: Trajectory, role: Role) -> int | None:
    return next((i for i, m in enumerate(trajectory.messages) if m.role == role), None)


def split_group(trajectory: Trajectory) -> str:
    """Hash of what must not lie on both sides: the task, else system prompt and first user message.

    A row with none of the three is a group of its own.
    """
    if trajectory.task is not None:
        return digest(["task", trajectory.domain, trajectory.task])
    opening = [
        trajectory.messages[index].content
        for role in (Role.SYSTEM, Role.USER)
        if (index := _first(trajectory, role)) is not None
    ]
    return digest(["opening", *opening] if opening else ["trajectory", trajectory.id])


def split_of(group: str, validation_share: float) -> Split:
    """The side of a group: a pure function of its hash, so new data moves no old group."""
    return Split.VALIDATION if int(group, 16) < validation_share * 16**16 else Split.TRAIN


def fold(candidates: Iterable[Candidate]) -> tuple[list[Candidate], list[Occurrence]]:
    """Each decision once, in order of first appearance, and every place where it was found.

    Of equal candidates the one of the smallest (group, trajectory, turn) stays, with its side,
    whatever the order they came in.
    """
    kept: dict[str, tuple[Occurrence, Candidate]] = {}
    occurrences: dict[Occurrence, None] = {}
    for candidate in candidates:
        place = Occurrence(
            candidate_id=candidate.id,
            trajectory_id=candidate.trajectory.id,
            turn=candidate.turn,
            split_group=split_group(candidate.trajectory),
        )
        occurrences[place] = None
        known = kept.get(candidate.id)
        if known is None or _rank(place) < _rank(known[0]):
            kept[candidate.id] = (place, candidate)
    return [candidate for _, candidate in kept.values()], list(occurrences)


def _rank(place: Occurrence) -> tuple[str, str, int]:
    return place.split_group, place.trajectory_id, place.turn


def to_row(candidate: Candidate) -> dict[str, JSON]:
    """A row of the `candidates` table."""
    calls = candidate.demonstration.tool_calls
    return {
        "candidate_id": candidate.id,
        "trajectory_id": candidate.trajectory.id,
        "turn": candidate.turn,
        "domain": candidate.domain,
        "task": candidate.trajectory.task,
        "split": str(candidate.split),
        "split_group": split_group(candidate.trajectory),
        "action_type": "tool_call" if calls else "text",
        "tool_names": [call.name for call in calls],
        "demonstration": canonical(message_to_json(candidate.demonstration)).decode(),
        "accepted_actions": canonical(
            [message_to_json(action) for action in candidate.accepted_actions]
        ).decode(),
    }


def from_row(row: Mapping[str, JSON], trajectory: Trajectory) -> Candidate:
    """The inverse of `to_row`, given the trajectory that the row refers to."""
    return Candidate(
        id=row["candidate_id"], trajectory=trajectory, turn=row["turn"], split=Split(row["split"])
    )


def load_candidates(
    candidate_rows: Iterable[Mapping[str, JSON]],
    trajectory_rows: Iterable[Mapping[str, JSON]],
) -> list[Candidate]:
    """The candidates of the rows, in order, joined to their trajectories (one object each).

    Raises PivotRLError if a trajectory is missing.
    """
    wanted = list(candidate_rows)
    ids = {row["trajectory_id"] for row in wanted}
    trajectories = {
        row["trajectory_id"]: columns.from_row(row)
        for row in trajectory_rows
        if row["trajectory_id"] in ids
    }
    missing = ids - trajectories.keys()
    if missing:
        raise PivotRLError(
            f"candidate rows refer to {len(missing)} trajectories that are not there, first "
            f"{min(missing)}: run again, the shards of ingest are incomplete"
        )
    return [from_row(row, trajectories[row["trajectory_id"]]) for row in wanted]
