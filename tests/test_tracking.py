"""MLflow for real: a SQLite store in a temporary folder and a tiny Qwen3 in safetensors."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from pivotrl.system_metrics import watching
from pivotrl.tracking.client import PARENT_TAG, store_uri
from pivotrl.tracking.figures import figures
from pivotrl.tracking.registry import load_path
from pivotrl.tracking.runs import Data, Part, TrackedRun, log_run
from pivotrl.types import PivotRLError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("checkpoint")
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("a home") / "store"


@pytest.fixture
def run(checkpoint: Path) -> TrackedRun:
    rows = [
        {"suite": suite, "kind": kind, "model": model, "score": 0.5, "standard_error": 0.02}
        | {"miniature": True}
        | ({"change": -0.5, "change_error": 0.4} if model == "trained" else {})
        for suite, kind in (("retail", "domain"), ("MATH-500", "benchmark"))
        for model in ("base", "trained")
    ]
    return TrackedRun(
        name="mini 2026-01-01",
        key="00ff",
        parameters={f"training.option_{i}": i for i in range(120)},
        tags={"data.sha256": "ab" * 32, "policy": "cd" * 8},
        steps=[
            (
                step,
                {"reward": 0.3 + step / 1e4, "reward_std": 0.4, "clip_ratio/low_mean": 0.0}
                | ({"kl": step / 1e3} if step % 2 else {}),
            )
            for step in range(400)
        ],
        metrics={"retail/success": 0.51},
        tables={"scores": rows, "selection": [{"rule": "kept", "candidates": 12}, {"rule": "x"}]},
        parts=[
            Part(
                name="profile",
                metrics={"profile/kept": 12},
                tables={"completions": [{"completion": "look(x)", "reward": 1.0}]},
            ),
            Part(name="train", steps=[(1, {"reward": 0.3}), (2, {"reward": 0.4})]),
        ],
        system=[(1_000, {"system/cpu_utilization_percentage": 50.0})],
        data=[Data(name="retail", digest="ab" * 8, source="runs.jsonl", rows=300)],
        checkpoint=checkpoint,
        base_model="mini",
        registered_name="pivotrl-mini",
        alias="challenger",
    )


@pytest.fixture(scope="module", autouse=True)
def empty_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cwd")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def client(home: Path):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=store_uri(home), registry_uri=store_uri(home))


def test_a_run_is_logged_whole_and_quietly(home, run, empty_folder, capfd, caplog):
    registered = log_run(home, run)

    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert list(empty_folder.iterdir()) == []
    assert registered.created
    assert registered.version == "1"
    logged = client(home).get_run(registered.run_id)
    assert logged.info.status == "FINISHED"
    assert logged.data.params == {name: str(value) for name, value in run.parameters.items()}
    assert run.tags.items() <= logged.data.tags.items()
    assert logged.data.metrics["retail/success"] == 0.51
    history = client(home).get_metric_history(registered.run_id, "reward")
    assert [m.step for m in history] == list(range(400))
    assert history[-1].value == pytest.approx(0.3399)
    table = client(home).download_artifacts(registered.run_id, "tables/selection.json")
    content = json.loads(Path(table).read_text())
    assert content["columns"] == ["rule", "candidates"]
    assert content["data"][0] == ["kept", 12]
    plots = {f.path for f in client(home).list_artifacts(registered.run_id, "plots")}
    assert plots == {f"plots/{n}.png" for n in ("reward", "signal", "kl", "scores", "ood")}
    (data,) = logged.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("retail", "ab" * 8)
    (busy,) = client(home).get_metric_history(
        registered.run_id, "system/cpu_utilization_percentage"
    )
    assert (busy.value, busy.timestamp) == (50.0, 1_000)
    below = client(home).search_runs(["1"], f"tags.`{PARENT_TAG}` = '{registered.run_id}'")
    parts = {part.info.run_name.removeprefix("mini 2026-01-01 "): part for part in below}
    assert parts.keys() == {"profile", "train"}
    assert parts["profile"].data.metrics == {"profile/kept": 12}
    assert parts["train"].data.metrics == {"reward": 0.4}
    path = client(home).download_artifacts(parts["profile"].info.run_id, "tables/completions.json")
    assert json.loads(Path(path).read_text())["data"] == [["look(x)", 1.0]]


def test_the_model_has_schema_tags_scores_and_alias(home, run):
    registered = log_run(home, run)

    model = client(home).get_logged_model(registered.model_id)
    assert model.status == "READY"
    assert model.tags["pivotrl.base_model"] == "mini"
    assert [(m.key, m.value) for m in model.metrics] == [("retail/success", 0.51)]
    version = client(home).get_model_version_by_alias("pivotrl-mini", "challenger")
    assert version.tags["policy"] == run.tags["policy"]
    schema = json.loads((load_path(home, "pivotrl-mini@challenger") / "schema.json").read_text())
    assert schema["input"]["required"] == ["messages"]
    assert schema["tags"]["policy"] == run.tags["policy"]


def test_every_name_of_the_model_loads_with_transformers(home, run, checkpoint):
    registered = log_run(home, run)

    paths = {
        load_path(home, name)
        for name in (
            "pivotrl-mini@challenger",
            "models:/pivotrl-mini@challenger",
            registered.model_uri,
            registered.model_id,
        )
    }
    assert len(paths) == 1
    loaded = AutoModelForCausalLM.from_pretrained(paths.pop())
    saved = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.parameters(), saved.parameters(), strict=True)
    )


def test_the_same_key_logs_nothing_again(home, run):
    first = log_run(home, run)
    again = log_run(home, replace(run, name="another name"))

    assert again == replace(first, created=False)
    assert len(client(home).search_runs(["1"], "tags.`pivotrl.key` = '00ff'")) == 1
    assert len(client(home).search_model_versions("name = 'pivotrl-mini'")) == 1


def test_a_gate_that_decides_otherwise_now_is_believed(home, run):
    run = replace(run, key="33ff", registered_name="pivotrl-gate", steps=(), parts=())
    first = log_run(home, replace(run, tags=run.tags | {"gate": "failed"}))
    log_run(home, replace(run, tags=run.tags | {"gate": "passed"}))

    version = client(home).get_model_version("pivotrl-gate", first.version)
    assert version.tags["gate"] == "passed"
    assert client(home).get_run(first.run_id).data.tags["gate"] == "passed"


def test_a_half_logged_run_is_replaced(home, run):
    run = replace(run, key="22ff", registered_name="pivotrl-half", steps=run.steps[:3])
    first = log_run(home, run)
    client(home).update_run(first.run_id, status="RUNNING")  # what a kill before the end leaves
    second = log_run(home, run)

    assert second.created
    runs = client(home).search_runs(["1"], "tags.`pivotrl.key` = '22ff'")
    assert [r.info.run_id for r in runs] == [second.run_id]
    versions = client(home).search_model_versions("name = 'pivotrl-half'")
    assert [v.run_id for v in versions] == [second.run_id]
    models = client(home).search_logged_models(["1"], "name = 'pivotrl-half'")
    assert [m.model_id for m in models] == [second.model_id]
    assert not (home / "artifacts" / "models" / first.model_id / "artifacts").exists()

    for file in load_path(home, "pivotrl-half@challenger").iterdir():
        file.unlink()
    assert log_run(home, run).created


def test_a_run_without_a_checkpoint_registers_no_model(home, run):
    bare = replace(run, key="11ee", checkpoint=None, steps=(), tables={}, metrics={"x": math.nan})
    registered = log_run(home, bare)

    assert (registered.model_id, registered.version, registered.model_uri) == (None, None, None)
    assert not log_run(home, bare).created


def test_an_unknown_model_is_one_line_with_a_remedy(home, run, tmp_path):
    log_run(home, run)
    with pytest.raises(PivotRLError, match=r"no model 'pivotrl-mini@champion' in .*; .*pivotrl ui"):
        load_path(home, "pivotrl-mini@champion")
    with pytest.raises(PivotRLError, match="no models yet"):
        load_path(tmp_path, "pivotrl-mini@champion")
    assert not (tmp_path / "mlflow.db").exists()


def test_plots_show_what_is_there(run):
    plots = figures(run)
    axes = plots["plots/scores.png"].axes[0]
    assert "Miniature" in axes.get_title()
    assert [t.get_text() for t in axes.get_xticklabels()] == ["retail", "MATH-500"]
    (kl,) = plots["plots/kl.png"].axes[0].lines
    assert [list(values) for values in (kl.get_xdata()[:2], kl.get_ydata()[:2])] == [
        [1, 3],
        [0.001, 0.003],
    ]
    without = [(step, {"reward": 0.5}) for step in range(3)]
    assert "plots/kl.png" not in figures(replace(run, steps=without))
    assert figures(replace(run, steps=(), tables={})) == {}


def test_the_machine_is_watched_until_the_end():
    with watching(0.05) as samples:
        deadline = time.monotonic() + 60
        while len(samples) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
    seen = len(samples)
    time.sleep(0.3)
    assert 3 <= seen <= len(samples) <= seen + 1
    moment, found = samples[-1]
    assert abs(moment / 1000 - time.time()) < 60
    assert 0 <= found["system/cpu_utilization_percentage"] <= 100
    assert found["system/system_memory_usage_megabytes"] > 0
