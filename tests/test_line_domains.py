"""The whole line in each of the other live domains, small: demonstrations in, scores out."""

from __future__ import annotations

from pathlib import Path

import pytest
from line import ROOT, SMALL, pivotrl, report

from pivotrl.environments import live_domain
from pivotrl.environments.demonstrations import write_demonstrations

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.mark.parametrize("name", ["shell", "repo", "web"])
def test_a_live_domain_goes_through_the_line(
    name: str, tmp_path: Path, prefect_server: str
) -> None:
    file = tmp_path / "demonstrations.jsonl"
    write_demonstrations(live_domain(name), file, 12, 0)
    arguments = [
        *("run", str(ROOT / "configs/mini.toml"), f"data.trajectories={file}", *SMALL),
        *(f"evaluate.domains=['{name}']", "evaluate.benchmarks=[]", "evaluate.tasks=4"),
        *("profile.samples=2", "select.rule=all", "train.steps=2"),
    ]
    pivotrl(tmp_path / "home", *arguments, server=prefect_server)
    made = report(tmp_path / "home")
    assert made["outcome"] == "trained"
    assert made["ingest"]["trajectories"] == 12 and not made["ingest"]["bad_rows"]
    suites = [row["suite"] for row in made["scores"]["trained"]]
    assert suites == [f"{name} T=1", f"{name} greedy"]
    agreement = made["agreement"][name]
    assert agreement["n"] > 0 and agreement["agreeing"] >= 0.9
