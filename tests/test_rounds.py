"""Rounds as a story: which one is followed, how many tasks a profile is, what the store sees."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from rich.console import Console

from flows import rounds
from pivotrl.config import Config, load_config
from pivotrl.environments import live_domain
from pivotrl.environments.demonstrations import write_demonstrations
from pivotrl.manifest import Manifest
from pivotrl.policies import identify
from pivotrl.store import Store
from pivotrl.types import ConfigError
from tasks.extract import extract
from tasks.ingest import ingest
from tasks.merge import merge
from tasks.sample import Pool
from tasks.session import Session, running

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "pivotrl/mini/model"


def config_of(file: Path, *options: str) -> Config:
    own = [f"data.trajectories={file}", f"model.path={MODEL}"]
    return load_config(ROOT / "configs/mini.toml", [*own, *options])


@pytest.fixture
def session(tmp_path: Path, prefect_server: None) -> Iterator[Session]:
    write_demonstrations(live_domain("retail"), tmp_path / "retail.jsonl", 12, 0, "train")
    with running(Session(home=tmp_path, console=Console(file=StringIO()))) as opened:
        yield opened


@pytest.mark.parametrize(
    ("ends", "follows"),
    [
        ({"stop_reason": "no_progress", "best_step": 4}, True),
        ({"stop_reason": "stale", "best_step": 4}, True),
        ({"stop_reason": "no_progress", "best_step": 0}, False),  # its pool is profiled already
        ({"stop_reason": "completed", "best_step": 4}, False),
    ],
)
def test_a_round_is_followed_where_it_ended_early_and_better_than_it_began(
    session: Session, monkeypatch: pytest.MonkeyPatch, ends: dict[str, Any], follows: bool
) -> None:
    session.dry = True
    starts: list[Path] = []

    def one_round(number: int, pool: Pool, *_: Any) -> rounds.Round:
        starts.append(pool.model)
        made = Manifest(kind="train", key=f"{number}", parts={}, counts=ends)
        chosen = Manifest(kind="select", key="s", parts={}, counts={"kept": 1})
        return rounds.Round(profiles=[], selection=chosen, checkpoint=made)

    monkeypatch.setattr(rounds, "one_round", one_round)
    monkeypatch.setattr(rounds, "checkpoint_of", lambda _home, _made: MODEL)
    config = config_of(session.home / "retail.jsonl", "train.rounds=3", "train.patience=2")
    found = rounds.train_in_rounds(pool_of(config, None, None), None)
    assert found is not None and len(found) == len(starts) == (3 if follows else 1)


def test_rounds_without_patience_are_refused(session: Session) -> None:
    file = session.home / "retail.jsonl"
    with pytest.raises(ConfigError, match=r"set train\.patience"):
        config_of(file, "train.rounds=2")
    config_of(file, "train.rounds=2", "train.patience=3")
    config_of(file, "train.rounds=2", "train.validation_pivots=0")  # ends by the spread alone


def pool_of(config: Config, trajectories: Manifest | None, candidates: Manifest | None) -> Pool:
    return Pool(
        config=config,
        model=MODEL,
        policy=identify(MODEL),
        trajectories=trajectories,
        candidates=candidates,
    )


Profile = tuple[str, list[Manifest], list[Manifest]]
"""The flow run's id; manifests of rollouts, and of verdicts."""


def profiled(session: Session, *options: str) -> Profile:
    config = config_of(session.home / "retail.jsonl", "profile.samples=2", *options)

    @flow(name="profile", persist_result=False, validate_parameters=False)
    def story() -> Profile:
        from prefect.runtime import flow_run

        trajectories = ingest(config)
        candidates = extract(config, trajectories)
        made, found = rounds.profile(pool_of(config, trajectories, candidates), None)
        return flow_run.id, [m for m in made if m], [m for m in found if m]

    return story()


def task_runs(flow_run: str) -> list[str]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        asked = {"flow_runs": {"id": {"any_": [flow_run]}}, "limit": 200}
        found = client.request("POST", "/task_runs/filter", json=asked).json()
    return [one["name"] for one in found]


def test_many_shards_are_few_tasks_and_cached_one_by_one(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = "data.shard_turns=6"
    alone, made, judged = profiled(session, small)
    assert sum(name.startswith("sample") for name in task_runs(alone)) == len(made) > 6
    monkeypatch.setattr(rounds, "MOST_TASKS", 4)
    session.records.clear()
    grouped, again, judged_again = profiled(session, small)
    assert (again, judged_again) == (made, judged)
    assert all(record.cached for record in session.records)
    session.records.clear()
    anew, other, _ = profiled(session, small, "run.seed=3")
    assert len(other) == len(made) and not {m.key for m in other} & {m.key for m in made}
    for told in (task_runs(grouped), task_runs(anew)):
        assert not [name for name in told if name.startswith(("sample", "verify"))]
        assert 0 < sum(name.startswith("profile") for name in told) <= 4
    stages = [record.stage for record in session.records]
    assert stages.count("sample") == stages.count("verify") == len(made)


def test_what_is_done_is_in_the_store_while_the_profile_goes_on(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(session.home / "pivotrl.duckdb")
    seen: list[int] = []
    original = rounds.sample

    def sample(*arguments: Any) -> Manifest | None:
        seen.append(store.query("select count(*) from verdicts")[1][0][0])
        return original(*arguments)

    monkeypatch.setattr(rounds, "MERGE_SECONDS", 0.0)
    monkeypatch.setattr(rounds, "sample", sample)
    _, made, judged = profiled(session, "data.shard_turns=20")
    assert len(seen) > 2 and seen[0] == 0
    assert all(before < after for before, after in pairwise(seen))

    def tables() -> list[list[tuple]]:
        merge("all", *made, *judged)
        named = ("policies", "profiles", "rollouts", "verdicts")
        return [store.query(f"from {name} order by all")[1] for name in named]

    on_the_way = tables()
    store.path.unlink()
    assert tables() == on_the_way  # as if merged at once
