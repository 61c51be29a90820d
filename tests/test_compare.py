"""The comparison of ways to train: its arithmetic, and a small one for real."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

import pytest
from line import pivotrl, report, small
from mlflow import MlflowClient

from pivotrl.comparison import (
    ARMS,
    Outcome,
    arm_of,
    arm_of_text,
    assembled,
    best_sft,
    equal_accuracy,
    interval,
    outcomes,
    summary,
)
from pivotrl.comparison_page import sections
from pivotrl.page import as_html, as_markdown
from pivotrl.tracking.client import store_uri
from pivotrl.types import ConfigError

CURVE = [[0, 0, 0.0, 0.2], [10, 500, 5.0, 0.35], [20, 1000, 11.0, 0.5]]
ONE = Outcome(
    arm="pivots",
    in_domain=40.0,
    gain=20.0,
    ood={"a": -1.0, "b": 2.0},
    turns=350,
    seconds=4.0,
    profile=(50, 1.0),
    best_step=10,
    curve=[[0, 0, 0.0, 0.2], [10, 200, 3.0, 0.6], [20, 300, 5.0, 0.5]],
    signal=[[1, 0.4, 0.25], [2, 0.3, 0.75]],
    drift={"kl": 0.5, "tau_unaccepted": 0.9, "tau_unrelated": None},
)


def test_intervals_are_students() -> None:
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert (low, high) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-3)  # t = 4.3027
    assert interval([5.0]) == [5.0, None, None]


def test_seeds_are_summed_up_by_arm() -> None:
    found = summary([ONE, replace(ONE, in_domain=44.0, ood={"a": 1.0, "b": 2.0}, turns=450)])
    assert found["pivots"]["in_domain"][0] == 42.0
    assert found["pivots"]["ood"]["a"][0] == 0.0
    assert found["pivots"]["ood_mean"][0] == 1.0
    assert (found["pivots"]["rollout_turns"], found["pivots"]["seconds"]) == (400, 4.0)
    assert summary([replace(ONE, ood={})])["pivots"]["ood_mean"] is None


def test_sft_is_its_best_setting_by_the_mean_of_seeds() -> None:
    low = [replace(ONE, arm="sft 0.1 x 1", in_domain=value) for value in (50.0, 0.0)]
    high = [replace(ONE, arm="sft 0.1 x 2", in_domain=value) for value in (30.0, 30.0)]
    assert best_sft([ONE, *low, *high]) == [ONE, *high]
    assert best_sft([ONE]) == [ONE]


def test_equal_accuracy_is_a_ratio_or_a_bound() -> None:
    other = replace(ONE, arm="end to end", curve=CURVE)
    assert ONE.to_best == (250, 4.0)  # the profile, and the curve to the chosen checkpoint
    assert equal_accuracy(ONE, other) == {
        "reached": True,
        "turn_ratio": 4.0,
        "time_ratio": 2.75,
        "turn_ratio_without_profile": 5.0,
        "time_ratio_without_profile": pytest.approx(11 / 3),
    }
    better = replace(other, in_domain=55.0)  # its test margin of 15 taken off its validation
    assert equal_accuracy(ONE, better)["turn_ratio"] == 500 / 250
    lucky = replace(other, in_domain=39.0)  # whatever its validation says
    assert equal_accuracy(ONE, lucky)["reached"] is False
    assert equal_accuracy(ONE, replace(other, curve=[]))["turn_ratio"] == 0
    assert equal_accuracy(replace(ONE, in_domain=60.0), other)["reached"] is False
    assert equal_accuracy(replace(ONE, in_domain=60.0), other)["turn_ratio"] == 4.0


def test_arms_are_read_from_the_command() -> None:
    assert arm_of_text("beta 0: train.kl_beta=0 'run.name=a b'") == (
        "beta 0",
        ("train.kl_beta=0", "run.name=a b"),
    )
    for text in ("beta 0", "beta 0:", ": train.kl_beta=0", "beta 0: train"):
        with pytest.raises(ConfigError, match="settings, as in"):
            arm_of_text(text)
    for text in ("pivots: train.steps=1", "sft 2: train.steps=1", "end to end: train.steps=1"):
        with pytest.raises(ConfigError, match="name another"):
            arm_of_text(text)


def domain_report(name: str, gain: float) -> dict:
    """As `pivotrl compare` writes it."""
    arms = [ONE, replace(ONE, arm="sft 0.1 x 1", in_domain=40.0 - gain, curve=[], signal=[])]
    arms += [replace(ONE, arm="end to end", curve=CURVE), replace(ONE, arm="no <filter>")]
    return {
        "domain": name,
        "seeds": [0],
        "arms": summary(arms),
        "equal_accuracy": [{"seed": 0} | equal_accuracy(ONE, arms[2])],
        "gradient": {"groups": [[0.0, 0.0], [0.4, 1.0], [0.5, 2.0]]},
        "runs": [{"seed": 0} | asdict(outcome) for outcome in arms],
    }


def test_domains_are_assembled_with_a_headline() -> None:
    found = assembled([domain_report("retail", 5.0), domain_report("web", -2.0)])
    assert found["headline"] == {
        "gain_over_sft": pytest.approx(1.5),
        "ood_pivot": 0.5,
        "ood_sft": 0.5,
        "turn_ratio": 4.0,
        "time_ratio": 2.75,
    }
    assert found["domains"].keys() == {"retail", "web"} and found["seeds"] == [0]
    assert arm_of({"no filter, strict": 1}, "no filter") is None


def test_several_live_domains_are_one_number() -> None:
    row = {"kind": "domain", "difference": 1.0}
    scores = [
        row | {"suite": "retail T=1", "trained": 90.0},
        row | {"suite": "retail greedy", "trained": 99.0},
        row | {"suite": "shell x8 T=1", "trained": 10.0},
    ]
    training = {"sampled": 1, "seconds": 1.0, "best_step": 1, "curve": [], "signal": []}
    report = {"scores": {"trained": scores}, "training": training, "cost": {}, "controls": {}}
    (found,) = outcomes("pivots", report | {"instruments": {}})
    assert (found.in_domain, found.gain) == (50.0, 1.0)


def test_a_claim_holds_where_the_lower_end_does() -> None:
    def of(gains: list[float]) -> str:
        report = domain_report("retail", fmean(gains))
        runs = []
        for seed, gain in enumerate(gains):
            for run in domain_report("retail", gain)["runs"]:
                runs.append(run | {"seed": seed})
        made = report | {"seeds": [*range(len(gains))], "runs": runs}
        return as_markdown("", list(sections([made])))

    assert "| > 0 | 5.0 [3.8, 6.2] | holds |" in of([4.5, 5.0, 5.5])
    assert "| in the mean alone |" in of([-2.0, 12.0])
    assert "| > 0 | 5.0 | in the mean alone |" in of([5.0])


def test_the_page_says_what_does_not_hold_and_loads_nothing() -> None:
    reports = [domain_report("retail", -2.0), domain_report("web", -1.0)]
    found = list(sections(reports))
    text = as_markdown("Ways", found)
    assert "| In-domain gain, PivotRL − SFT | +4.17 | > 0 | -1.5 | DOES NOT HOLD |" in text
    assert "| Turns to equal accuracy, end to end ÷ PivotRL | 4×, not counted | ≥ 4 | 4.0 |" in text
    assert "| retail, seed 0 | 350 | 350 | 4 | 4 | 4.00 | 5.00 | 2.75 | 3.67 |" in text
    page = as_html("Ways", found)
    assert page == as_html("Ways", list(sections(reports)))
    reports[0]["equal_accuracy"][0]["reached"] = False
    bounded = as_markdown("Ways", list(sections(reports)))
    assert "| 5.5×" in bounded and "| ≥ 5.5 | > 2.8 | NOT SHOWN |" in bounded
    assert page.count("<svg") == 3 and "no &lt;filter&gt;" in page
    assert not re.search(r"""(src|href)=["'](?!#)""", page)
    assert "<script" not in page


@pytest.mark.slow
def test_what_cannot_be_compared_is_said_before_anything_starts(data: Path, tmp_path: Path) -> None:
    arguments = ["compare", *small(data)[1:]]
    for more, message in (
        (["--seeds", "0,x"], "--seeds 0,x: write whole numbers"),
        (["evaluate.domains=[]"], "name a live domain in evaluate.domains"),
        (["evaluate.domains=['web']"], "would train in retail and be scored in web"),
        (["evaluate.horizon=4"], "and be scored on those of evaluate.horizon = 4; set both"),
        (["--arm", "no colon"], "write a name, a colon and settings"),
    ):
        done = pivotrl(tmp_path / "home", *arguments, *more, expect=2)
        assert message in " ".join((done.stdout + done.stderr).split())
        assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.long
def test_a_small_comparison_trains_every_arm(
    data: Path, tmp_path: Path, prefect_server: str
) -> None:
    home = tmp_path / "home"
    arguments = [
        *("compare", *small(data)[1:], "--seeds", "0,1"),
        *("train.steps=2", "evaluate.benchmarks=['math500']", "evaluate.tasks=6"),
        *("data.shard_turns=1000", "instruments.candidates=6"),
        *("sft.learning_rates=[1e-4]", "sft.epochs=[1]", "end_to_end.steps=2"),
        *("end_to_end.tasks=4", "end_to_end.tasks_per_step=2", "end_to_end.group_size=2"),
        *("end_to_end.validation_tasks=4",),
    ]
    done = pivotrl(home, *arguments, server=prefect_server)
    made = report(home)
    assert made["arms"].keys() == {*ARMS, "sft 0.0001 x 1", "end to end"}
    for arm in made["arms"].values():
        assert len(arm["in_domain"]) == 3 and arm["in_domain"][1] is not None
        assert arm["ood"].keys() == {"math500"}
    assert [row["seed"] for row in made["equal_accuracy"]] == made["seeds"] == [0, 1]
    assert made["arms"]["end to end"]["rollout_turns"] > 2 * 2 * 2 * 2
    assert "Ways to train, in points" in done.stdout
    assert "<svg" in (home / "compare.html").read_text()
    drift = made["arms"]["pivots"]["drift"]
    assert drift["kl"] is not None and drift["tau_unrelated"] <= 1
    assert 2 <= made["gradient"]["probes"] == len(made["gradient"]["groups"]) <= 6, "as asked"
    assert all(norm == 0 for std, norm in made["gradient"]["groups"] if std == 0)
    client = MlflowClient(store_uri(home))
    runs = client.search_runs([client.get_experiment_by_name("pivotrl").experiment_id])
    parents = {run.info.run_id: run.data.tags.get("mlflow.parentRunId") for run in runs}
    arms = [run for run, parent in parents.items() if parent and parents[parent] is None]
    stages_below = [run for run, parent in parents.items() if parent and parents[parent]]
    assert len(arms) == 2 * len(made["arms"])
    logged = {run.info.run_id: run.data.metrics for run in runs}
    for run in arms:  # every arm's scores under the same names: MLflow compares them
        metrics = logged[run]
        assert metrics["in_domain"] == metrics["domain/retail T_1/score"]
        assert metrics["gain"] == metrics["domain/retail T_1/difference"]
        assert metrics["ood_mean"] == metrics["benchmark/math500/difference"]
        assert {"domain/retail T_1/base", "benchmark/math500/score"} <= metrics.keys()
    assert {parents[run] for run in stages_below} <= set(arms)
    again = pivotrl(home, *arguments, server=prefect_server)
    assert report(home)["arms"] == made["arms"]
    runs = [json.loads(file.read_text()) for file in sorted((home / "reports").glob("*.json"))]
    costs = [run["cost"] for run in runs if run.get("controls")]
    for cost in costs:  # as dear as all that the controls, and measuring them, took
        assert cost["controls"]["sampled"] > 0 and cost["controls"]["flops"] > 0
        assert cost["instruments"]["seconds"] > 0
    assert costs
    stages = json.loads((home / "report.json").read_text())["stages"]
    assert all(stage["cached"] for stage in stages if stage["label"] != "report"), again.stdout
