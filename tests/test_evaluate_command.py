"""`pivotrl evaluate`, for real: side by side, resumed, cached; what is missing is said."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from line import ROOT, pivotrl, pivotrl_until, report
from policy_endpoint import serving
from tiny_model import make_tiny_model

pytestmark = pytest.mark.slow
BASE = str(ROOT / "pivotrl/mini/model")
QUICK = [
    *("--set", "evaluate.items=6", "--set", "evaluate.max_tokens=16"),
    *("--set", "evaluate.tasks=2"),
]


def evaluated(home: Path, *arguments: str, **more: Any) -> str:
    return pivotrl(home, "evaluate", *arguments, **more).stdout


def rows(home: Path, query: str) -> list[dict]:
    return [json.loads(line) for line in pivotrl(home, "sql", query, "--json").stdout.splitlines()]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another model: random."""
    return str(make_tiny_model(tmp_path_factory.mktemp("models") / "random"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, prefect_server: str, other: str) -> Path:
    """A home after two models were scored side by side."""
    folder = tmp_path_factory.mktemp("evaluated")
    given = ("--data", "miniature", "--benchmarks", "mmlu_pro,wmt24pp", "--domains", "retail")
    shown = evaluated(folder, BASE, other, *given, *QUICK, server=prefect_server)
    assert "model and random" in shown and "Traceback" not in shown
    return folder


def test_scores_are_in_the_report_the_store_and_mlflow(home: Path) -> None:
    from pivotrl.tracking.client import store_uri

    made = report(home)
    assert made["outcome"] == "evaluated" and set(made["models"]) == {"model", "random"}
    suites = ["retail T=1", "retail greedy", "mmlu_pro", "wmt24pp"]
    assert [list(of_model) for of_model in made["models"].values()] == [suites] * 2
    for row in made["compared"]["random"]:
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
        first, second = (made["models"][m][row["suite"]]["score"] for m in ("model", "random"))
        assert row["difference"] == pytest.approx(100 * (second - first))
    found = rows(
        home,
        "select model, suite, count(*) n, avg(i.score) score from evaluations "
        "join evaluation_items i using (evaluation_id) where kind = 'benchmark' group by all",
    )
    assert {row["n"] for row in found} == {6}
    for row in found:
        told = made["models"][row["model"]][row["suite"]]["score"]
        assert row["score"] == pytest.approx(told)
    from mlflow import MlflowClient

    client = MlflowClient(store_uri(home))
    first, second = (
        client.get_run(made["mlflow_runs"][model]["run_id"]).data.metrics
        for model in ("model", "random")
    )
    told = 100 * made["models"]["model"]["wmt24pp"]["score"]
    assert first["benchmark/wmt24pp/score"] == pytest.approx(told)
    assert first["in_domain"] == first["domain/retail T_1/score"]
    assert "gain" not in first  # there is nobody to have gained on
    row = next(row for row in made["compared"]["random"] if row["suite"] == "wmt24pp")
    for what, column in (("score", "trained"), ("base", "base"), ("difference", "difference")):
        assert second[f"benchmark/wmt24pp/{what}"] == pytest.approx(row[column])
    assert second["gain"] == second["domain/retail T_1/difference"]
    benchmarks = [second[f"benchmark/{name}/difference"] for name in ("mmlu_pro", "wmt24pp")]
    assert second["ood_mean"] == pytest.approx(sum(benchmarks) / 2)


def test_an_unchanged_model_and_benchmark_are_never_run_twice(
    home: Path, prefect_server: str, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    shutil.copytree(home, again)
    more = ("--data", "miniature", "--benchmarks", "mmlu_pro,aime25")
    shown = evaluated(again, BASE, *more, *QUICK, server=prefect_server)
    assert "2 stages, 1 cached" in shown


@pytest.mark.long
def test_a_killed_evaluation_goes_on_at_its_last_part(tmp_path: Path, prefect_server: str) -> None:
    one_by_one = [BASE, "--data", "miniature", "--benchmarks", "ifbench"]
    one_by_one += ["--set", "model.batch_rows=2", "--set", "evaluate.items=40"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"

    def parts() -> list[Path]:
        return sorted(killed.glob("work/*/parts/*.json"))

    code, shown = pivotrl_until(
        killed, ["evaluate", *one_by_one], lambda: len(parts()) >= 3, signal.SIGKILL
    )
    assert code == -signal.SIGKILL, shown
    marked = parts()[0]
    items, took = json.loads(marked.read_bytes())
    items[0]["output"] = "kept from before"  # shows that the part is read, not made again
    marked.write_text(json.dumps([items, took]))
    for home in (killed, whole):
        evaluated(home, *one_by_one, server=prefect_server)
    ask = "select item_id, output, score from evaluation_items order by item_id, repeat"
    found, wanted = rows(killed, ask), rows(whole, ask)
    assert len(found) == 40
    changed = [(a, b) for a, b in zip(found, wanted, strict=True) if a != b]
    assert [a["output"] for a, _ in changed] == ["kept from before"]


def test_an_endpoint_answers_where_it_is_named(
    tmp_path: Path, other: str, prefect_server: str
) -> None:
    with serving() as policy:
        shown = evaluated(
            tmp_path / "home",
            f"{policy.url}#served",
            *("--tokenizer", other, "--data", "miniature", "--benchmarks", "mmlu_pro", *QUICK),
            server=prefect_server,
        )
        assert len(policy.bodies) >= 6 and "served" in shown
        assert {body["model"] for body in policy.bodies} == {"served"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such model folder"),
        ([BASE, "--benchmarks", "mmlu"], "no benchmark 'mmlu'"),
        ([BASE, "--domains", "webb", "--benchmarks", "none"], "no live domain 'webb'"),
        ([BASE, "--benchmarks", "none"], "nothing to score"),
        ([BASE, "--benchmarks", "aime25"], "MathArena/aime_2025 cannot be loaded from the hub"),
        ([BASE, "--benchmarks", "aime25", "--data", "nodata"], "aime25.jsonl: no rows of aime25"),
        (["http://127.0.0.1:9/v1", "--data", "miniature"], "--tokenizer DIR"),
        ([BASE, BASE, "--data", "miniature"], "two models are called 'model'"),
        ([BASE, "--set", "evaluate.itms=1"], "did you mean 'items'"),
        ([BASE, "--data", "miniature", "--set", "evaluate.max_tokens=2048"], "no prompt would fit"),
        (
            [BASE, "--benchmarks", "none", "--domains", "retail", "--set", "evaluate.horizon=99"],
            "99",
        ),
    ],
)
def test_what_is_missing_is_said_before_anything_starts(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = pivotrl(tmp_path / "home", "evaluate", *arguments, expect=2)
    assert message in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "home/shards").exists()


def test_every_row_is_looked_at_before_anything_starts(tmp_path: Path) -> None:
    data = tmp_path / "rows"
    data.mkdir()
    good = {"options": ["a", "b"], "question": "?", "answer": "A"}
    lines = [json.dumps({"id": str(i)} | good) for i in range(200)]
    lines.append(json.dumps({"id": "late", "options": ["a"], "question": "?"}))
    (data / "mmlu_pro.jsonl").write_text("\n".join(lines))
    given = (BASE, "--benchmarks", "mmlu_pro", "--data", str(data))
    done = pivotrl(tmp_path / "home", "evaluate", *given, expect=1)
    assert "mmlu_pro item late: KeyError 'answer'" in " ".join(done.stderr.split()), done.stderr
