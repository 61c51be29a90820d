"""The documentation's questions: their page says what they are, the answers what happened."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from line import ROOT
from questions import questions
from test_store import candidate, shard, verdicts

from pivotrl.store import Store

QUESTIONS = dict(questions())
A, B = "a" * 16, "b" * 16
"""Two policies: a base, and one trained from it that a second round profiled."""


def test_the_page_has_every_question_with_its_sql() -> None:
    page = (ROOT / "docs/questions.md").read_text()
    asked = [f"{question}\n\n```sql\n{sql}\n```\n\n```\n" for question, sql in QUESTIONS.items()]
    shown = page.split("\n## ")[1:]
    assert [part[: len(head)] for part, head in zip(shown, asked, strict=True)] == asked


def selection(number: str, name: str, policy: str, bar: float = 0.6) -> dict[str, Any]:
    parameters = json.dumps({"lambda_diff": bar, "minimum_valid": 0.5})
    return {
        "selection_id": number, "name": name, "policy": policy, "rule": "r",
        "parameters": parameters, "candidates": 1, "pivots": 1,
    }  # fmt: skip


def test_why_a_turn_was_kept_or_not(tmp_path: Path) -> None:
    store = Store(tmp_path / "pivotrl.duckdb")
    rewards: dict[str, list[float | None]] = {
        "held out": [0.0, 1.0],
        "unprofiled": [None, None, None],
        "all rewards equal": [1.0, 1.0],
        "too easy": [1.0, 1.0, 0.0],
        "not selected": [1.0, 0.0],
    }
    candidates = [
        candidate(name, turn=turn, split="validation" if name == "held out" else "train")
        for turn, name in enumerate(rewards)
    ]
    rows = [row for name, found in rewards.items() for row in verdicts(found, name=name)]
    for table, made in (
        ("candidates", candidates), ("verdicts", rows), ("selections", [selection("s", "x", "p")]),
    ):  # fmt: skip
        store.merge(table, [shard(tmp_path, table, table, made)])
    _, found = store.query(QUESTIONS["Why was this turn kept, or not?"])
    assert {row[0]: row[-1] for row in found} == {name: name for name in rewards}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two experiments, `shop` and `shell`, on one base; two runs of `shop`, the last in two rounds.

    Two models were trained and registered, in two trainings, and one control.
    """
    folder = tmp_path_factory.mktemp("two")
    made = Store(folder / "pivotrl.duckdb")

    def merge(table: str, *rows: dict[str, Any]) -> None:
        name = f"{table} {len([*folder.iterdir()])}"
        made.merge(table, [shard(folder, name, table, list(rows))])

    shell = {"domain": "terminal", "tool_names": ["bash"], "trajectory_id": "u", "turn": 4}
    merge(
        "candidates",
        candidate("c1", task="7"),
        candidate("c2", action_type="text", tool_names=[], task="7"),
        candidate("d1", task="7", split="validation", **shell),
        candidate("d2", task="7", **shell),
    )
    judged = [
        row | {"policy": policy, "rollout_id": policy[0] + row["rollout_id"]}
        for policy, name, rewards in (
            (A, "c1", [1.0, 0.0, 0.0, 0.0]), (A, "c2", [1.0, None]), (A, "d1", [0.0, 0.0]),
            (A, "d2", [1.0, 0.0, 0.0, 0.0]), (B, "c1", [1.0, 1.0]), (B, "c2", [0.0, 1.0]),
        )
        for row in verdicts(rewards, name=name)
    ]  # fmt: skip
    merge("verdicts", *judged)
    same = ("rollout_id", "candidate_id", "policy", "sample_index")
    rollout = {
        "prompt_hash": "", "prompt_tokens": 1, "token_ids": [1, 2, 3], "logprobs": [0.0] * 3,
        "seed": 0, "finish_reason": "stop", "status": "ok",
    }  # fmt: skip
    merge(
        "rollouts",
        *(
            {k: row[k] for k in same} | rollout | {"text": f"by {row['policy'][0]}"}
            for row in judged
        ),
    )
    for number, name, policy, kept, bar in (
        ("1", "shop", A, "c1", 0.6), ("2", "shell", A, "d2", 0.2), ("3", "shop", B, "c2", 0.9),
    ):  # fmt: skip
        merge("selections", selection(number, name, policy, bar))
        pivot = {"n": 4, "mean": 0.25, "variance": 0.1875}
        merge("pivots", pivot | {"selection_id": number, "candidate_id": kept, "policy": policy})

    def acts(training: str, number: int, steps: int, selected: str | None, kept: str) -> None:
        group = {
            "training_id": training, "selection_id": selected, "round": number,
            "candidate_id": kept, "advantage": 0.0, "tokens": 3, "finish_reason": "stop",
            "text": "x",
        }  # fmt: skip
        merge(
            "train_rollouts",
            *(
                group
                | {"step": step, "sample_index": sample, "reward": float(sample and step <= 4)}
                | {"category": "wrong_tool" if step <= 4 else "malformed"}
                for step in range(1, steps + 1)
                for sample in (0, 1)
            ),
        )

    acts("old", 0, 300, "1", "c1")
    acts("new 0", 0, 8, "1", "c1")
    acts("new 1", 1, 4, "3", "c2")
    acts("control", 0, 8, None, "task")

    def scored(number: str, weights: str, model: str, score: float, suite: str = "aime25") -> None:
        for temperature in (0.0, 1.0):
            of = f"{number} {temperature}"
            row = {
                "evaluation_id": of, "policy_weights": weights, "model": model, "suite": suite,
                "kind": "benchmark", "decoding": json.dumps({"temperature": temperature}),
                "miniature": False, "n": 1, "score": score, "standard_error": 0.1, "unparsed": 0,
                "truncated": 0,
            }  # fmt: skip
            merge("evaluations", row)
            item = {
                "item_id": f"item {suite}",
                "repeat": 0,
                "prompt": "",
                "output": "",
                "extracted": None,
            }
            merge(
                "evaluation_items",
                item | {"evaluation_id": of, "score": score, "finish_reason": "stop"},
            )

    scored("base", A, "base", 1.0)
    scored("of old", "w1", "trained", 0.0)
    scored("of new", "w2", "trained", 0.5)
    scored("other base", "w9", "base", 1.0)
    for number, weights, alias in (
        ("1", "w1", "challenger"), ("2", "w2", "challenger"), ("2", "w2", "champion"),
    ):  # fmt: skip
        merge(
            "promotions",
            {
                "promotion_id": number + alias, "model": "own", "version": number, "alias": alias,
                "policy_weights": weights, "reason": "passed",
                "promoted_at": datetime(2026, 1, int(number)),
            },
        )  # fmt: skip
    for day, flow, state, stages in (
        (1, "retrain", "trained", {"train": ["old"], "evaluate": ["base 0.0", "of old 0.0"]}),
        (2, "retrain", "trained", {
            "train": ["new 0", "new 1"], "end_to_end": ["control"],
            "evaluate": [f"{of} {t}" for of in ("base", "of new") for t in (0.0, 1.0)],
        }),
        (3, "evaluate", "evaluated", {"evaluate": ["other base 0.0"]}),
    ):  # fmt: skip
        rows = [{"stage": stage, "key": key} for stage, keys in stages.items() for key in keys]
        merge(
            "runs",
            {
                "run_id": str(day), "name": f"run {day}", "flow": flow, "config": "{}",
                "state": state, "started_at": datetime(2026, 1, day), "seconds": 60.0,
                "report": json.dumps({"stages": rows}),
            },
        )  # fmt: skip
    bad = {"remedy": "mend it", "excerpt": "x"}
    merge(
        "quarantine",
        *({"source_file": f, "source_row": 1, "reason": "no JSON"} | bad for f in ("a", "b")),
    )
    return made


a, b = A[:8], B[:8]
ANSWERS: dict[str, list[tuple]] = {
    "Why was this turn kept, or not?": [
        ("c1", a, 2, 4, 0.25, 0.188, "kept by shop"),
        ("c1", b, 2, 2, 1.0, 0.0, "all rewards equal"),
        ("c2", a, 2, 1, 1.0, 0.0, "all rewards equal"),
        ("c2", b, 2, 2, 0.5, 0.25, "kept by shop"),
        ("d1", a, 4, 2, 0.0, 0.0, "held out"),
    ],
    "What did the policy do at one turn, and what did the verifier say?": [
        (0, 0.0, "wrong_tool", "by b"), (1, 1.0, "accepted", "by b"),
    ],
    "How much of the pool teaches something?": [
        (a, "shop", 2, 1, 0, 0.5, 0), (b, "shop", 2, 1, 0, 0.5, 1),
        (a, "terminal", 2, 0, 1, 0.5, 1),
    ],
    "Which tools fail most?": [(a, "bash", 6, 0.167), (a, "find", 4, 0.25), (b, "find", 2, 1.0)],
    "Why are actions rejected?": [
        (a, "ok", "wrong_tool", 8), (a, "ok", "accepted", 3), (a, "error", "wrong_tool", 1),
        (b, "ok", "accepted", 3), (b, "ok", "wrong_tool", 1),
    ],
    "Are later turns harder than early ones?": [
        (a, 2, 2, 0.625, 0), (a, 4, 2, 0.125, 1), (b, 2, 2, 0.75, 1),
    ],
    "Is it harder to talk or to act?": [
        (a, "text", 1, 1.0, 0), (a, "tool_call", 3, 0.167, 1),
        (b, "text", 1, 0.5, 1), (b, "tool_call", 1, 1.0, 0),
    ],
    "Which trajectories teach most?": [
        (b, "t", 1, 2, 0.25), (a, "u", 1, 2, 0.19), (a, "t", 0, 2, 0.19),
    ],
    "Which pivots went stale in the last run?": [(0, "c1", 8, 0.433, 0.0)],
    "How did the signal fall over steps and rounds of the last run?": [
        (0, "1 to 2", 2, 0.0, 0.5, 0.5), (0, "3 to 4", 2, 0.0, 0.5, 0.5),
        (0, "5 to 6", 2, 1.0, 0.0, 0.0), (0, "7 to 8", 2, 1.0, 0.0, 0.0),
        *((1, f"{step} to {step}", 1, 0.0, 0.5, 0.5) for step in range(1, 5)),
    ],
    "Which categories of error did training remove in the last run?": [
        ("wrong_tool", 6, 2), ("malformed", 0, 8),
    ],
    "What did a pivot cost in rollouts and sampled tokens?": [(a, 6.0, 18.0), (b, 4.0, 12.0)],
    "Which samples have no reward, and why?": [(a, "ok", "error", "wrong_tool", 1)],
    "Which rows were bad, and what mends them?": [
        ("a", 1, "no JSON", "mend it"), ("b", 1, "no JSON", "mend it"),
    ],
    "How sure is the profile at the bar?": [(a, 0.2, 3), (b, 0.9, 2)],
    "Did any task get into both splits?": [("terminal", "7", 2)],
    "What does each model score?": [
        ("aime25", temperature, *row)
        for temperature in (1.0, 0.0)
        for row in (
            ("base", a, 1, 100.0, 10.0), ("base", "w9", 1, 100.0, 10.0),
            ("trained", "own 1", 1, 0.0, 10.0), ("trained", "own 2", 1, 50.0, 10.0),
        )
    ],
    "On which items did training lose what the base had, in the last run?": [
        ("aime25", "item aime25", 1.0, 0.5), ("aime25", "item aime25", 1.0, 0.5),
    ],
    "Who was champion or challenger, and why?": [
        (datetime(2026, 1, 1), "own", "1", "challenger", "passed"),
        (datetime(2026, 1, 2), "own", "2", "challenger", "passed"),
        (datetime(2026, 1, 2), "own", "2", "champion", "passed"),
    ],
    "What ran, how long, and how did it end?": [
        ("run 3", "evaluate", "evaluated", 60.0), ("run 2", "retrain", "trained", 60.0),
        ("run 1", "retrain", "trained", 60.0),
    ],
}  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_is_answered_where_there_are_two_of_everything(store: Store, question: str) -> None:
    assert store.query(QUESTIONS[question])[1] == ANSWERS[question]
