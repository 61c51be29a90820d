"""The documentation's questions: their page says what they are, the answers what happened."""

from __future__ import annotations

from pathlib import Path

from line import ROOT
from questions import questions
from test_store import candidate, shard, verdicts

from pivotrl.store import Store


def answer(store: Store, question: str) -> list[dict]:
    columns, found = store.query(dict(questions())[question])
    return [dict(zip(columns, row, strict=True)) for row in found]


def test_the_page_has_every_question_with_its_sql() -> None:
    page = (ROOT / "docs/questions.md").read_text()
    asked = [f"{question}\n\n```sql\n{sql}\n```\n\n```\n" for question, sql in questions()]
    shown = page.split("\n## ")[1:]
    assert [part[: len(head)] for part, head in zip(shown, asked, strict=True)] == asked


def test_why_a_turn_was_kept_or_not(tmp_path: Path) -> None:
    store = Store(tmp_path / "pivotrl.duckdb")
    rewards: dict[str, list[float | None]] = {
        "held out": [0.0, 1.0],
        "unprofiled": [None, None, None],
        "all rewards equal": [1.0, 1.0],
        "too easy": [1.0, 1.0, 0.0],
    }
    candidates = [
        candidate(name, turn=turn, split="validation" if name == "held out" else "train")
        for turn, name in enumerate(rewards)
    ]
    store.merge("candidates", [shard(tmp_path, "c", "candidates", candidates)])
    rows = [row for name, found in rewards.items() for row in verdicts(found, name=name)]
    store.merge("verdicts", [shard(tmp_path, "v", "verdicts", rows)])
    found = answer(store, "Why was this turn kept, or not?")
    assert {row["candidate_id"]: row["why"] for row in found} == {name: name for name in rewards}


def test_the_signal_is_told_of_every_round(tmp_path: Path) -> None:
    store = Store(tmp_path / "pivotrl.duckdb")
    rows = [
        {
            "training_id": f"t{number}", "selection_id": "s", "round": number, "step": step,
            "candidate_id": "c", "sample_index": sample, "reward": float(sample and not number),
            "category": "accepted", "advantage": 0.0, "tokens": 3, "finish_reason": "stop",
            "text": "x",
        }
        for number in (0, 1) for step in range(1, 41) for sample in (0, 1)
    ]  # fmt: skip
    store.merge("train_rollouts", [shard(tmp_path, "r", "train_rollouts", rows)])
    found = answer(store, "How did the signal fall over steps and rounds?")
    told = [(row["round"], row["steps"], row["zero_signal_share"]) for row in found]
    parts = ("1 to 10", "11 to 20", "21 to 30", "31 to 40")
    assert told == [(number, steps, float(number)) for number in (0, 1) for steps in parts]


def test_a_score_comes_with_its_temperature(tmp_path: Path) -> None:
    store = Store(tmp_path / "pivotrl.duckdb")
    rows = [
        {
            "evaluation_id": decoding, "policy_weights": "w", "model": "base", "suite": "retail",
            "kind": "domain", "decoding": decoding, "miniature": True, "n": 5, "score": score,
            "standard_error": 0.1, "unparsed": 0.0, "truncated": 0.0,
        }
        for decoding, score in (('{"temperature":0.0}', 0.5), ('{"temperature":1}', 0.25))
    ]  # fmt: skip
    store.merge("evaluations", [shard(tmp_path, "e", "evaluations", rows)])
    found = answer(store, "What does each model score?")
    assert [(row["temperature"], row["score"]) for row in found] == [(1.0, 25.0), (0.0, 50.0)]
