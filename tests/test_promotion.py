"""Who becomes champion: the gate's arithmetic, and a registry that is really moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from pivotrl.promotion import Bar, Decision, decide, step_of
from pivotrl.scores import ScoreRow
from pivotrl.store import Store
from pivotrl.tracking.registry import Version, find_version, load_path, scores_of, set_alias
from pivotrl.tracking.runs import TrackedRun, log_run
from pivotrl.types import PivotRLError
from tasks.merge import merge_loose
from tasks.promote import (
    CHAMPION,
    GATE_TAG,
    PASSED,
    promote,
    record,
    record_decision,
    rollback,
    was_champion,
)

BAR = Bar(min_gain=0.0, max_drop=5.0, max_kl=None, max_malformed=0.05)
DOMAIN = ScoreRow(
    suite="retail T=1",
    kind="domain",
    n=400,
    clusters=400,
    base=20.0,
    base_error=2.0,
    trained=30.0,
    trained_error=2.0,
    difference=10.0,
    difference_error=2.0,
    difference_low=6.0,
    difference_high=14.0,
    p=0.001,
    base_unparsed=0.1,
    trained_unparsed=0.0,
    base_truncated=0.1,
    trained_truncated=0.0,
    miniature=True,
)
BENCHMARK = replace(DOMAIN, suite="aime25", kind="benchmark", difference=-1.0, difference_low=-3.0)
BOTH = [DOMAIN, BENCHMARK]
STEP = (7, {"completions/malformed_ratio": 0.01, "kl": 0.1})


def test_a_clear_gain_without_a_clear_loss_passes() -> None:
    found = decide(BAR, [DOMAIN, BENCHMARK], STEP, {"retail T=1": 29.0})
    assert found.passed and all(reason.startswith("passes") for reason in found.reasons)
    assert len(found.reasons) == 4


@pytest.mark.parametrize(
    ("bar", "scores", "step", "champion", "why"),
    [
        (BAR, [replace(DOMAIN, difference_low=0.0), BENCHMARK], STEP, None, "must be above +0"),
        (BAR, [DOMAIN, replace(BENCHMARK, difference_low=-5.1)], STEP, None, "may fall by 5"),
        (BAR, BOTH, STEP, {"retail T=1": 30.5}, "the champion's 30.5"),
        (BAR, BOTH, STEP, {}, "the champion was not scored in it"),
        (BAR, [BENCHMARK], STEP, None, "no live domain was scored"),
        (BAR, [DOMAIN], STEP, None, "no benchmark was scored"),
        (BAR, [DOMAIN, replace(BENCHMARK, clusters=19)], STEP, None, "19 items that"),
        (BAR, [DOMAIN, replace(BENCHMARK, trained_unparsed=1.0)], STEP, None, "no output had"),
        (BAR, BOTH, (7, {"completions/malformed_ratio": 0.2}), None, "20.0% of at most 5.0%"),
        (replace(BAR, max_kl=0.05), BOTH, STEP, None, "0.100, of at most 0.05"),
        (
            replace(BAR, max_kl=0.05),
            BOTH,
            (7, {"completions/malformed_ratio": 0}),
            None,
            "KL in step 7",
        ),
        (BAR, BOTH, (7, {}), None, "malformed actions in step 7: not measured"),
    ],
)
def test_what_fails_is_said_first(bar, scores, step, champion, why) -> None:
    found = decide(bar, scores, step, champion)
    assert not found.passed
    assert found.reasons[0].startswith("FAILS") and why in found.reasons[0]


def test_the_gate_looks_where_the_best_policy_sampled() -> None:
    steps = [
        *((0, {"validation/reward": 0.5}), (1, {"completions/malformed_ratio": 0.3})),
        *((2, {"completions/malformed_ratio": 0.0}), (3, {"completions/malformed_ratio": 0.2})),
    ]
    assert [step_of(steps, best)[0] for best in range(4)] == [1, 2, 3, 3]
    assert step_of(steps[:1], 0) == (0, {})


def registered(home: Path, number: int, gate: str) -> None:
    checkpoint = home / f"model-{number}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.json").write_text(f'{{"number": {number}}}')
    run = TrackedRun(
        name=f"run {number}",
        key=f"key{number}",
        parameters={},
        tags={"policy": f"w{number}", GATE_TAG: gate, f"{GATE_TAG}.reasons": "FAILS: a loss"},
        # the first as an older version named it
        metrics={
            f"domain/retail T_1/{'trained' if number == 1 else 'score'}": 30.0 + number,
            "domain/retail T_1/base": 1.0,
            "in_domain": 2.0,
        },
        checkpoint=checkpoint,
        registered_name="own",
    )
    assert log_run(home, run).version == str(number)


@pytest.mark.slow
def test_champions_come_and_go_with_a_reason(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for number, verdict in ((1, PASSED), (2, PASSED), (3, "failed"), (4, PASSED)):
        registered(home, number, verdict)
    with pytest.raises(PivotRLError, match="no champion to roll back"):
        rollback(home, "own")
    assert promote(home, "own", "1") == "1"
    old = find_version(home, "own", CHAMPION)
    assert old and scores_of(home, old) == {"retail T_1": 31.0}
    with pytest.raises(PivotRLError, match="no champion before version 1"):
        rollback(home, "own")
    assert promote(home, "own", "2") == "2"
    assert promote(home, "own", "2") == "2"  # no second row
    with pytest.raises(PivotRLError, match=r"did not pass the gate; --force.*a loss"):
        promote(home, "own", "3")
    promote(home, "own", "3", force=True)
    assert promote(home, "own", "challenger") == "4"
    with pytest.raises(
        PivotRLError, match=r"before version 4 was champion.*32\.0, the champion's 34"
    ):
        promote(home, "own", "2")
    champion = find_version(home, "own", CHAMPION)
    assert champion and champion.number == "4" and scores_of(home, champion) == {"retail T_1": 34.0}
    assert rollback(home, "own") == ("4", "3")
    assert rollback(home, "own") == ("3", "2")  # not to the one that was rolled back
    assert promote(home, "own", "4") == "4"
    assert rollback(home, "own") == ("4", "2")
    assert [was_champion(home, "own", number) for number in "1234"] == [True] * 4
    assert not was_champion(home, "own", "5") and not was_champion(home, "other", "1")
    by_hand = find_version(home, "own", "4")
    assert by_hand
    set_alias(home, by_hand, CHAMPION)  # as MLflow's page does, without a row
    assert rollback(home, "own") == ("4", "2")
    assert '"number": 2' in (load_path(home, "own@champion") / "config.json").read_text()
    with pytest.raises(PivotRLError, match="no 9 of model"):
        promote(home, "own", "9")
    _, rows = Store(home / "pivotrl.duckdb").query(
        "select version, reason, policy_weights from promotions order by promoted_at"
    )
    assert rows == [
        ("1", "passed the gate", "w1"),
        ("2", "passed the gate", "w2"),
        ("3", "forced", "w3"),
        ("4", "passed the gate", "w4"),
        ("3", "rolled back from version 4", "w3"),
        ("2", "rolled back from version 3", "w2"),
        ("4", "passed the gate", "w4"),
        ("2", "rolled back from version 4", "w2"),
        ("2", "rolled back from version 4", "w2"),
    ]


def test_a_store_that_takes_no_row_moves_no_alias(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = Version(name="own", number="2", run_id="r", tags={GATE_TAG: PASSED})
    monkeypatch.setattr(
        "tasks.promote.find_version", lambda home, model, by: version if by == "2" else None
    )
    moved: list[str] = []
    monkeypatch.setattr("tasks.promote.set_alias", lambda home, found, alias: moved.append(alias))
    store = Store(tmp_path / "pivotrl.duckdb")
    store.query("select 1")
    with duckdb.connect(str(store.path)) as opened:
        opened.execute("update store_version set version = 7")
    with pytest.raises(PivotRLError, match="old schema 7"):
        promote(tmp_path, "own", "2")
    assert not moved
    store.renew()
    with monkeypatch.context() as killed:
        killed.setattr("tasks.promote.record", lambda *_: None)
        promote(tmp_path, "own", "2")
    assert moved == [CHAMPION] and not was_champion(tmp_path, "own", "2")
    monkeypatch.setattr("tasks.promote.find_version", lambda *_: version)
    promote(tmp_path, "own", "2")
    assert moved == [CHAMPION] and was_champion(tmp_path, "own", "2")


def test_a_promotion_that_a_kill_kept_out_of_the_store_is_in_it_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = Version(name="own", number="2", run_id="r", tags={})
    with monkeypatch.context() as killed:
        killed.setattr(Store, "merge", lambda *_: None)
        record(tmp_path, version, CHAMPION, "forced")
    assert not was_champion(tmp_path, "own", "2")
    (tmp_path / "shards" / "marks").mkdir()
    (tmp_path / "shards" / "marks" / "cut.parquet").write_bytes(b"PAR1")
    (said,) = merge_loose(tmp_path)
    assert "cut.parquet" in said and was_champion(tmp_path, "own", "2")


def test_every_other_decision_on_a_version_is_a_row(tmp_path: Path) -> None:
    version = Version(name="own", number="2", run_id="r", tags={})
    passed, failed = (
        Decision(passed=ok, reasons=[f"{word}: retail", "passes: aime25"])
        for ok, word in ((True, "passes"), (False, "FAILS"))
    )
    for night, decision in enumerate((failed, failed, passed, passed, failed)):
        record_decision(tmp_path, version, "challenger", f"night {night}", decision)
    _, rows = Store(tmp_path / "pivotrl.duckdb").query(
        "select reason from promotions order by promoted_at"
    )
    assert [reason for (reason,) in rows] == [
        "trained by run night 0; FAILS: retail; passes: aime25",
        "trained by run night 2; passes: retail; passes: aime25",
        "trained by run night 4; FAILS: retail; passes: aime25",
    ]
