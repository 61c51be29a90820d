"""Trajectories to candidates: every assistant turn is one decision `(s, a*)`.

Ids are hashes of what the model saw, the tools and the demonstration, so the same decision found
in two files or formats is one candidate. The side of the split is a hash of the group (the task,
else system prompt and first user message), so that no task lies on both sides. Histories are never
copied: a candidate is a reference to a trajectory and a turn. This module must never know a model
or a file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from pivotrl.trajectories import columns
from pivotrl.trajectories.tool_specs import canonical_tools
from pivotrl.types import (
    JSON,
    Candidate,
    PivotRLError,
    Role,
    Split,
    Trajectory,
    canonical,
    digest,
)

_TOOL_ERROR = re.compile(
    r"\W{0,3}((error|exception|traceback|invalid|tool_use_error|unknown (tool|command|function))\b"
    r"|usage:|no replacement was|your (proposed )?edit has introduced"
    r"|((the )?path|file|string|old_str) .{0,200}(does not exist|not found))"
    r"|.{0,200}: command not found",
    re.IGNORECASE,
)
"""How a tool's result begins when the call itself failed."""
_COMMAND_IN_TEXT = ("```", '"commands"', "<command>", "<function=")
"""How agents without a shell tool write a command."""


def extract(trajectory: Trajectory, *, validation_share: float = 0.1) -> list[Candidate]:
    """The candidates of a trajectory, in order; cost is linear in its messages.

    See `rows` for what is none. `validation_share` in [0, 1].
    """
    found = rows(columns.to_row(trajectory), validation_share=validation_share)
    return [from_row(row, trajectory) for row in found]


def rows(trajectory: Mapping[str, JSON], *, validation_share: float = 0.1) -> list[dict[str, JSON]]:
    """Rows of the `candidates` table from a row of `trajectories`.

    No candidates are canned greetings (text before the user has spoken: a greeting of the harness),
    empty turns (neither text nor call: nothing to imitate), what the source says is context, and
    what the domain's rule leaves out (`_fits_domain`).
    """
    messages = orjson.loads(trajectory["messages"])
    actions = orjson.loads(trajectory["accepted_actions"]).items()
    accepted = {int(turn): canonical(others).decode() for turn, others in actions}
    files = {int(turn): digest(held) for turn, held in orjson.loads(trajectory["files"]).items()}
    not_actions = orjson.loads(trajectory["not_actions"])
    group = _split_group(trajectory, messages)
    domain, split = trajectory["domain"], str(split_of(group, validation_share))
    first_user = next((i for i, m in enumerate(messages) if m["role"] == Role.USER), 0)
    seen = _hash_of_tools(trajectory["tools"]).copy()
    found = []
    for turn, message in enumerate(messages):
        content = canonical(message)
        if (
            message["role"] == Role.ASSISTANT
            and turn not in not_actions
            and ("tool_calls" in message or (message["content"] and turn >= first_user))
            and _fits_domain(domain, messages, turn)
        ):
            decision = seen.copy()
            decision.update(b"demonstration\n" + content + b"\n")
            calls = message.get("tool_calls", ())
            found.append(
                {
                    "candidate_id": decision.hexdigest()[:16],
                    "trajectory_id": trajectory["trajectory_id"],
                    "turn": turn,
                    "domain": domain,
                    "task": trajectory["task"],
                    "split": split,
                    "split_group": group,
                    "action_type": "tool_call" if calls else "text",
                    "tool_names": [call["function"]["name"] for call in calls],
                    "demonstration": content.decode(),
                    "accepted_actions": accepted.get(turn, "[]"),
                    "files": files.get(turn),
                }
            )
        seen.update(content + b"\n")
    return found


def _fits_domain(domain: str, messages: Sequence[JSON], turn: int) -> bool:
    """The domain's own rule for what is a candidate; in a conversation every turn is one."""
    message = messages[turn]
    called = "tool_calls" in message
    acts = called or any(mark in message["content"] for mark in _COMMAND_IN_TEXT)
    if domain == "software":  # tool calls that did not error
        results = _results(messages, turn) if called else messages[turn + 1 : turn + 2]
        return acts and not any(_TOOL_ERROR.match(result["content"]) for result in results)
    if domain == "terminal":  # shell actions
        return acts
    if domain == "browsing":  # search, open and evidence, but no thinking aloud
        return not called or any(c["function"]["name"] != "think" for c in message["tool_calls"])
    return True


def _results(messages: Sequence[JSON], turn: int) -> list[JSON]:
    """The tool messages that answer the turn's calls."""
    ids = {call["id"] for call in messages[turn]["tool_calls"]}
    end = turn + 1
    while end < len(messages) and messages[end]["role"] == Role.TOOL:
        end += 1
    return [m for m in messages[turn + 1 : end] if m.get("tool_call_id") in ids]


@lru_cache(maxsize=64)
def _hash_of_tools(tools: str) -> Any:
    """Trajectories of one domain carry the same tools; callers copy."""
    return hashlib.sha256(canonical_tools(tools) + b"\n")


def _split_group(trajectory: Mapping[str, JSON], messages: Sequence[JSON]) -> str:
    """Hash of what must not lie on both sides: the task, else system prompt and first user message.

    A row with none of the three is a group of its own.
    """
    if trajectory["task"] is not None:
        return digest(["task", trajectory["domain"], trajectory["task"]])
    opening = [
        next((m["content"] for m in messages if m["role"] == role), None)
        for role in (Role.SYSTEM, Role.USER)
    ]
    known = [content for content in opening if content is not None]
    return digest(["opening", *known] if known else ["trajectory", trajectory["trajectory_id"]])


def split_of(group: str, validation_share: float) -> Split:
    """The side of a group: a pure function of its hash, so new data moves no old group."""
    return Split.VALIDATION if int(group, 16) < validation_share * 16**16 else Split.TRAIN


def from_row(row: Mapping[str, JSON], trajectory: Trajectory) -> Candidate:
    """The candidate that a row refers to, in its trajectory."""
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
