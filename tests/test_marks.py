"""A verdict that a person calls wrong is in the store and, whole, in the corpus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from line import ROOT
from test_store import shard, verdicts

from pivotrl.candidates import rows as candidates_of
from pivotrl.marks import mark_wrong
from pivotrl.store import Store
from pivotrl.trajectories.build import build
from pivotrl.trajectories.draft import Draft
from pivotrl.trajectories.tool_specs import NO_TOOLS
from pivotrl.types import PivotRLError


@pytest.fixture
def judged(tmp_path: Path) -> str:
    """A rollout with a reward in the store of `tmp_path`, at a turn with files."""
    row = build(
        Draft(
            messages=[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}],
            tools=None,
            domain="tool_use",
            files={"1": {"a.txt": "text"}},
        ),
        given_tools=NO_TOOLS,
        given_domain=None,
        source_file="f",
        source_row=1,
    )
    (candidate,) = candidates_of(row)
    (verdict,) = verdicts([0.0], name=candidate["candidate_id"])
    policy = {
        **{"policy": "p", "weights": "", "tokenizer": "", "template": "", "sampling": "{}"},
        **{"engine": "hf", "path": str(ROOT / "pivotrl/mini/model")},
    }
    rollout = {
        **{name: verdict[name] for name in ("rollout_id", "candidate_id", "policy")},
        **{"sample_index": 0, "prompt_hash": "", "prompt_tokens": 1, "token_ids": [1]},
        **{"logprobs": [0.0], "text": "hello you", "seed": 0, "finish_reason": "stop"},
        "status": "ok",
    }
    store = Store(tmp_path / "pivotrl.duckdb")
    for table, made in (
        ("trajectories", row), ("candidates", candidate), ("verdicts", verdict),
        ("policies", policy), ("rollouts", rollout),
    ):  # fmt: skip
        store.merge(table, [shard(tmp_path, table, table, [made])])
    return verdict["rollout_id"]


def test_a_mark_that_found_no_room_is_made_whole_by_the_next(judged: str, tmp_path: Path) -> None:
    corpus = tmp_path / "marks.jsonl"
    corpus.mkdir()  # nobody can append to it
    with pytest.raises(PivotRLError, match=r"marks.jsonl: cannot be written"):
        mark_wrong(tmp_path, judged, "why", "me")
    corpus.rmdir()
    corpus.write_bytes(b'{"cut": ')
    for _ in range(2):
        case = mark_wrong(tmp_path, judged, "why", "me")
    cut, line = corpus.read_text().splitlines()
    assert cut == '{"cut": ' and json.loads(line) == case
    assert case["files"] == {"a.txt": "text"} and case["accepted"]
    assert Store(tmp_path / "pivotrl.duckdb").query("select note from marks")[1] == [("why",)]
