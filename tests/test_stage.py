"""Stages: cached by content, recomputed when damaged, published whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from pivotrl.config import load_config
from pivotrl.manifest import Manifest
from pivotrl.policies import PolicyFiles
from pivotrl.types import JSON, PivotRLError
from tasks.extract import extract
from tasks.ingest import ingest
from tasks.sample import Look, Pool, sample
from tasks.select import select
from tasks.session import Session, running
from tasks.stage import Produced, Stage, Work, read_table
from tasks.task_runs import DEVICE_TAG, device_tags
from tasks.train import train
from tasks.verify import verify

ROOT = Path(__file__).parents[1]
runs: list[str] = []


def body(work: Work) -> Produced:
    runs.append(work.extra.get("label", "stage"))
    (work.out / "value.txt").write_text(str(work.settings["value"]))
    return Produced(files=[("value.txt", None, 1, None)], counts={"value": work.settings["value"]})


def failing(work: Work) -> Produced:
    (work.out / "half.txt").write_text("half")
    raise OSError(errno.ENOSPC, "No space left on device")


STAGE = Stage(name="double", body=body, modules=("pivotrl.types",))


@pytest.fixture
def session(tmp_path: Path, prefect_server: None) -> Iterator[Session]:
    runs.clear()
    with running(Session(home=tmp_path, console=Console(file=StringIO()))) as opened:
        yield opened


def run(value: int, source: Manifest | None = None) -> Manifest:
    made = STAGE(settings={"value": value}, inputs={"source": source} if source else {})
    assert made is not None
    return made


def test_the_same_settings_run_once_and_others_again(session: Session) -> None:
    first, second, third = run(1), run(1), run(2)
    assert len(runs) == 2
    assert first == second != third
    assert [record.cached for record in session.records] == [False, True, False]
    assert session.records[2].why == "changed: settings.value"


def test_an_input_with_other_content_runs_again(session: Session) -> None:
    run(1, run(2))
    run(1, run(3))
    assert len(runs) == 4
    assert session.records[-1].why == "changed: inputs.source"


def test_a_damaged_or_missing_file_is_made_anew(session: Session) -> None:
    made = run(1)
    file = session.home / made.files[0].path
    file.write_text("damaged")
    run(1)
    assert file.read_text() == "1"
    file.unlink()
    run(1)
    assert file.read_text() == "1"
    assert len(runs) == 3
    assert "gone or damaged" in session.records[-1].why


def test_a_failed_stage_publishes_nothing_and_is_not_retried_for_ever(session: Session) -> None:
    stage = Stage(name="fails", body=failing, modules=("pivotrl.types",), retries=2)
    with pytest.raises(PivotRLError, match="disk is full"):
        stage(settings={})
    assert not (session.home / "shards" / "fails").exists()


def test_a_long_stage_shows_its_progress_on_its_page(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(work: Work) -> Produced:
        with session.progress("quarters", 4, "quarters") as advance:
            advance(1)
            advance(1)
        with session.progress("halves", 2, "halves") as advance:
            advance(1)
            monkeypatch.setattr("prefect.artifacts.update_progress_artifact", broken)
            advance(1)  # a server that went away is no reason to fail
        with session.progress("no total", None, "steps") as advance:
            advance(1)
        return Produced(counts={"halves": 2})

    def broken(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr("tasks.session.PAGE_SECONDS", 0.0)
    made = Stage(name="slow", body=slow, modules=("pivotrl.types",))(settings={})
    assert made and made.counts == {"halves": 2}
    from prefect.client.orchestration import get_client

    progress = {"artifacts": {"type": {"any_": ["progress"]}}}  # other files of tests share it
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/artifacts/filter", json=progress).json()
    shown = {one["description"]: one for one in found}
    assert (shown["quarters"]["data"], shown["halves"]["data"]) == (100, 50)
    assert shown["halves"]["task_run_id"] and "no total" not in shown


@pytest.mark.parametrize("computes_with", [("torch",), ("jsonschema",), ()])
def test_a_lasting_server_may_limit_what_computes(
    session: Session, computes_with: tuple[str, ...]
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    stage = Stage(
        name="computes", body=body, modules=("pivotrl.types",), computes_with=computes_with
    )
    label = f"computes with {computes_with}"
    stage(settings={"value": 1, "for": computes_with}, label=label)
    with get_client(sync_client=True) as client:
        named = {"task_runs": {"name": {"any_": [label]}}}
        (found,) = client.request("POST", "/task_runs/filter", json=named).json()
    assert (DEVICE_TAG in found["tags"]) == (computes_with == ("torch",))
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert not device_tags()


def test_a_dry_session_runs_nothing_and_says_what_would_run(session: Session) -> None:
    made = run(1)
    session.dry = True
    session.records.clear()
    assert STAGE(settings={"value": 1}) == made
    missing = STAGE(settings={"value": 5})
    assert missing is None
    assert STAGE(settings={"value": 6}, inputs={"source": missing}) is None
    assert [r.why for r in session.records] == [
        "",
        "changed: settings.value",
        "a stage before it runs",
    ]
    assert len(runs) == 1


def test_shards_fold_as_one_file_would(session: Session) -> None:
    """Six tasks share their first decision; whichever shard they lie in, the smallest stays."""
    talk = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Bye."},
    ]
    rows = [
        {"messages": [*talk, {"role": "assistant", "content": f"{n}"}], "task_id": f"{n}"}
        for n in range(6)
    ]

    def found(rows: list[dict[str, JSON]], shard_turns: int) -> list[dict[str, JSON]]:
        file = session.home / "rows.jsonl"
        file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        options = [f"data.trajectories={file}", f"data.shard_turns={shard_turns}"]
        config = load_config(ROOT / "configs/own.toml", options)
        manifest = extract(config, ingest(config))
        assert manifest is not None
        unique = read_table(session.home, manifest, "candidates")
        places = read_table(session.home, manifest, "occurrences")
        counts = manifest.counts
        assert (counts["candidates"], counts["duplicates"], len(places)) == (7, 5, 12)
        assert counts["validation"] == sum(row["split"] == "validation" for row in unique)
        assert sum(f.rows for f in manifest.files if f.table == "candidates") == len(unique)
        first = next(row["candidate_id"] for row in places if row["turn"] == 1)
        (kept,) = [row for row in unique if row["candidate_id"] == first]
        assert kept["split_group"] == min(row["split_group"] for row in places)
        return sorted(unique, key=lambda row: row["candidate_id"])

    whole = found(rows, 100)
    assert found(rows, 2) == found(rows[::-1], 2) == found(rows[3:] + rows[:3], 4) == whole


@pytest.mark.parametrize(
    "edited",
    [
        {"accepted_actions": {"1": [{"role": "assistant", "content": "Sure."}]}},
        {"domain": "airline"},
        {"files": {"1": {"a.txt": "A."}}},
    ],
)
def test_what_only_a_verdict_depends_on_is_judged_again_and_not_sampled_again(
    session: Session, edited: dict[str, JSON]
) -> None:
    policy = PolicyFiles(weights="w", tokenizer="t", template="c")
    talk = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    file = session.home / "rows.jsonl"

    def keys(row: dict[str, JSON]) -> dict[str, str]:
        file.write_bytes(orjson.dumps(row))
        config = load_config(ROOT / "configs/mini.toml", [f"data.trajectories={file}"])
        session.dry = False
        trajectories = ingest(config)
        candidates = extract(config, trajectories)
        assert trajectories is not None and candidates is not None
        made = Manifest(kind="any", key="m", parts={})
        session.dry = True
        session.records.clear()
        where = session.home
        shard = next(entry for entry in candidates.files if entry.table == "candidates")
        pool = Pool(
            config=config,
            model=where,
            policy=policy,
            trajectories=trajectories,
            candidates=candidates,
        )
        of_shard = replace(pool, candidates=candidates.only(shard))
        sample(of_shard, Look(first=0, upto=16), "sample")
        verify(of_shard, made, "verify")
        select(config, candidates, [made], "p")
        train(pool, 0, policy, made)
        return {record.stage: record.key for record in session.records}

    before = keys({"messages": talk, "domain": "retail"})
    after = keys({"messages": talk, "domain": "retail"} | edited)
    same = {stage for stage in before if before[stage] == after[stage]}
    assert len(before) == 4 and same == {"sample"}
