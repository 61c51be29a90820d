"""What `pivotrl deploy` puts on a real Prefect server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from line import ROOT, pivotrl
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Pending, Running

from bench.screenshots import free_port
from flows.deploy import deploy
from flows.operate import restore
from flows.processes import mark_crashed, reap
from flows.servers import down, up
from pivotrl.config import Config, load_config
from pivotrl.manifest import Manifest, file_hash
from pivotrl.store import Store
from tasks.housekeeping import backup

CONFIG = str(ROOT / "configs/mini.toml")
NAME = "pivotrl-deployed"


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"messages": []}) + "\n")
    model = ROOT / "pivotrl/mini/model"
    return [f"run.name={NAME}", f"data.trajectories={rows}", f"model.path={model}"]


def events() -> set[str]:
    with get_client(sync_client=True) as client:
        found: list[dict[str, Any]] = client.request("POST", "/automations/filter").json()
    return {event for one in found if NAME in one["name"] for event in one["trigger"]["expect"]}


def limit() -> int:
    with get_client(sync_client=True) as client:
        return client.read_concurrency_limit_by_tag("pivotrl-device").concurrency_limit


def test_a_deployment_has_typed_parameters_its_events_and_keeps_its_limit(
    tmp_path: Path, settings: list[str], prefect_server: str
) -> None:
    def put(*more: str, expect: int = 0) -> str:
        done = pivotrl(
            *(tmp_path, "deploy", CONFIG, *settings, *more), server=prefect_server, expect=expect
        )
        return " ".join((done.stdout + done.stderr).split())

    said = put("train.start=champion", "--devices", "3")
    assert events() == {"pivotrl.files", "pivotrl.stale"}
    assert "pivotrl.files and pivotrl.stale" in said and f"`pivotrl notify {NAME}`" in said
    said = put()  # from the base a stale round changes nothing that a run would do
    assert events() == {"pivotrl.files"} and "stale" not in said
    assert limit() == 3, "a later deployment leaves the limit alone"
    assert "did you mean 'steps'" in put("train.step=3", expect=2)

    with get_client(sync_client=True) as client:
        schema = client.read_deployment_by_name(f"scheduled/{NAME}").parameter_openapi_schema
    fields = schema["properties"]
    assert list(fields) == ["config", "settings", "start", "steps", "lambda_diff", "promote"]
    assert schema["required"] == ["config"]
    assert all(field["description"] for field in fields.values())
    kinds = {name: field.get("anyOf", [field])[0] for name, field in fields.items()}
    assert kinds["start"]["enum"] == ["base", "champion"]
    assert kinds["steps"] == {"type": "integer", "minimum": 1}
    assert (kinds["lambda_diff"]["type"], kinds["promote"]["type"]) == ("number", "boolean")

    nobody = pivotrl(tmp_path, "notify", "nobody", server=prefect_server, expect=2)
    assert "no deployment scheduled/nobody; `pivotrl deploy` makes it" in nobody.stderr


@pytest.mark.slow
def test_a_run_that_was_under_way_at_a_backup_holds_nothing_in_the_restored_home(
    tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, archive, port = tmp_path / "home", tmp_path / "copy.tar.gz", free_port()
    (home / "prefect").mkdir(parents=True)
    monkeypatch.setenv("PIVOTRL_HOME", str(home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    config, device = load_config(Path(CONFIG), settings), "tag:pivotrl-device"

    @contextmanager
    def served() -> Iterator[SyncPrefectClient]:
        api = f"{up(home, port, worker=False)[0].url}/api"
        try:
            with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
                yield client
        finally:
            down(home)

    def begun(client: SyncPrefectClient) -> FlowRun:
        run = client.create_flow_run_from_deployment(
            client.read_deployment_by_name(f"scheduled/{NAME}").id
        )
        for state in (Pending(), Running()):
            client.set_flow_run_state(run.id, state)
        return client.read_flow_run(run.id)

    with served() as client:
        put = {"cron": None, "timezone": "UTC", "pool": "pivotrl", "devices": None}
        deploy(Path(CONFIG), config, settings, **put)
        run = begun(client)
        client.increment_concurrency_slots([device], 1, "concurrency")
        assert run.state_name == "Running" and begun(client).state_name != "Running"
        Store(home / "pivotrl.duckdb").query("select 1")
        backup(home, archive)
    home.rename(tmp_path / "away")
    restore(archive)
    with served() as client:
        mark_crashed(home, reap(home))
        assert client.read_flow_run(run.id).state_name == "Crashed"
        assert begun(client).state_name == "Running"
        assert client.read_global_concurrency_limit_by_name(device).active_slots == 0


def test_what_is_typed_on_the_page_is_a_setting(
    monkeypatch: pytest.MonkeyPatch, settings: list[str]
) -> None:
    from flows import scheduled

    loaded: list[Config] = []
    monkeypatch.setattr(scheduled, "check", lambda _: None)
    monkeypatch.setattr(scheduled, "why_run", lambda config: loaded.append(config) or "")
    typed = {"start": "champion", "steps": 7, "lambda_diff": 0.4, "promote": True}
    scheduled.scheduled.fn(CONFIG, [*settings, "train.steps=9"], **typed)
    scheduled.scheduled.fn(CONFIG, [*settings, "train.steps=9"])
    found = [
        (c.train.start, c.train.steps, c.select.lambda_diff, c.promote.automatic) for c in loaded
    ]
    assert found == [("champion", 7, 0.4, True), ("base", 9, 0.6, False)]


def test_news_are_the_files_that_the_nearest_run_did_not_read_and_what_is_profiled(
    monkeypatch: pytest.MonkeyPatch, settings: list[str], tmp_path: Path
) -> None:
    from flows import scheduled
    from pivotrl.policies import identify
    from tasks import sample

    monkeypatch.setenv("PIVOTRL_HOME", str(tmp_path / "home"))
    runs = tmp_path / "runs"
    runs.mkdir()
    for name in ("a", "b", "c", "d", "e"):
        (runs / f"{name}.jsonl").write_text(name)
    config = load_config(Path(CONFIG), [*settings, f"data.trajectories={runs}"])

    def kept(stage: str, parts: dict[str, Any]) -> None:
        folder = tmp_path / "home/shards" / stage / "00ff"
        folder.mkdir(parents=True)
        made = Manifest(kind=stage, key="00ff", parts={"settings": parts}, files=(), counts={})
        (folder / "manifest.json").write_text(made.model_dump_json())

    assert "; 5 new files: a.jsonl, b.jsonl, c.jsonl, ...;" in scheduled.news(config, "ingest: x")
    kept("ingest", {"files": [file_hash(runs / "d.jsonl"), file_hash(runs / "e.jsonl")]})
    said = scheduled.news(config, "ingest: x")
    assert said.startswith("; 3 new files: a.jsonl, b.jsonl, c.jsonl; from the base, not profiled")
    of_policy = sample._of_policy(config, config.model.path, identify(config.model.path))
    kept("sample", of_policy | {"share": True, "first": 0, "upto": 4, "open": None})
    assert "profiled before: only new candidates are" in scheduled.news(config, "ingest: x")
    assert scheduled.news(config, "select: changed: settings.lambda_diff") == ""
