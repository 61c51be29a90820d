"""A verdict that a person calls wrong: kept in the store, and as a labelled case for the verifiers.

`marks.jsonl` under the home is what `pivotrl verdicts` reads, so that a mended verifier is measured
on what people found. This module must never know a terminal or a page.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import orjson

from pivotrl.candidates import load_candidates
from pivotrl.chat import ChatFormat
from pivotrl.store import Store
from pivotrl.store.shards import write_shard
from pivotrl.types import (
    JSON,
    Action,
    FinishReason,
    Message,
    PivotRLError,
    Role,
    digest,
    message_to_json,
    tool_to_json,
)

WRONG = "wrong"


def mark_wrong(home: Path, rollout_id: str, note: str, author: str) -> dict[str, JSON]:
    """Marks the current verdict on a rollout as wrong; returns the labelled case.

    Raises PivotRLError for a rollout without a reward, or whose policy's folder is gone, since its
    chat format reads the action.
    """
    store = Store(home / "pivotrl.duckdb")
    found = store.rows(
        "select r.text, r.finish_reason, r.candidate_id, v.reward, v.verifier, p.path "
        "from rollouts r join judged_verdicts v using (rollout_id) "
        "join policies p on p.policy = r.policy where r.rollout_id = ?",
        [rollout_id],
    )
    rollout = found[0] if found else {}
    if rollout.get("reward") is None:
        raise PivotRLError(f"rollout {rollout_id!r} has no verdict with a reward to be wrong")
    one = [rollout["candidate_id"]]
    (candidate,) = load_candidates(
        store.rows("select * from candidates where candidate_id = ?", one),
        store.rows(
            "select t.* from trajectories t join candidates using (trajectory_id) "
            "where candidate_id = ?",
            one,
        ),
    )
    chat = ChatFormat.load(Path(rollout["path"]))
    action = chat.parse(rollout["text"], FinishReason(rollout["finish_reason"]), candidate.tools)
    case: dict[str, JSON] = {
        "domain": candidate.domain,
        "tools": [tool_to_json(tool) for tool in candidate.tools],
        "messages": [message_to_json(message) for message in candidate.messages],
        "demonstration": message_to_json(candidate.demonstration),
        "accepted_actions": [message_to_json(m) for m in candidate.accepted_actions],
        "action": _message(action, rollout["text"]),
        "accepted": rollout["reward"] <= 0,
        "why": note,
        "rollout_id": rollout_id,
    } | ({"files": dict(candidate.files)} if candidate.files else {})
    mark = {
        "candidate_id": rollout["candidate_id"],
        "rollout_id": rollout_id,
        "author": author,
        "mark": WRONG,
        "note": note,
    }
    _append(home / "marks.jsonl", orjson.dumps(case) + b"\n")
    mark_id = digest(mark)
    path = home / "shards" / "marks" / f"{mark_id}.parquet"
    if not path.exists():
        now = datetime.now(UTC).replace(tzinfo=None)
        write_shard(path, "marks", [mark | {"mark_id": mark_id, "made_at": now}])
    store.merge("marks", [path])
    return case


def _append(path: Path, line: bytes) -> None:
    """The line at the end of the file, if it is not in it; one that a kill cut stays by itself."""
    try:
        with path.open("a+b") as cases:
            cases.seek(0)
            text = cases.read()
            if line not in text:
                cases.write(line if text[-1:] in (b"", b"\n") else b"\n" + line)
    except OSError as error:
        raise PivotRLError(f"{path}: cannot be written: {error.strerror}; mark again") from None


def _message(action: Action, text: str) -> dict[str, JSON]:
    """What the verifier saw; malformed markup stays the text that it is."""
    if action.malformed:
        return {"role": "assistant", "content": text}
    return message_to_json(
        Message(role=Role.ASSISTANT, content=action.text, tool_calls=action.tool_calls)
    )
