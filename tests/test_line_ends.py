"""The whole line where it ends early: stopped, refused with one line, without pivots."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from line import ROOT, endings, environment, pivotrl, pivotrl_until, report, small
from test_line import rows

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("end", "expect"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_a_run_cleanly_and_it_says_how_to_go_on(
    data: Path, tmp_path: Path, end: signal.Signals, expect: int
) -> None:
    code, output = pivotrl_until(
        tmp_path, small(data), lambda: any(tmp_path.glob("shards/extract/*")), end
    )
    assert code == expect, output
    assert "Go on with" in output
    assert "Traceback" not in output
    ((state, message),) = endings(tmp_path)
    assert state == "Crashed" and message.startswith("Stopped: ") and "same command" in message


def test_control_c_before_prefect_has_a_task_run_is_control_c_too(
    data: Path, tmp_path: Path
) -> None:
    code = (
        "import flows\n"
        "from prefect import task_engine\n"
        "def interrupted(**_): raise KeyboardInterrupt\n"
        "task_engine._create_task_run_locally = interrupted\n"
        "from flows.cli import main\n"
        "main()"
    )
    (tmp_path / "prefect").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, *small(data)],
        env=environment(tmp_path),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 130, done.stdout + done.stderr
    assert "Go on with" in done.stdout
    assert done.stderr == ""


BAD = {
    "no such file": (["data.trajectories=none.jsonl"], 2, "no such file"),
    "empty file": (["data.trajectories={tmp}/empty.jsonl"], 2, "empty"),
    "wrong format": (["data.trajectories={tmp}/wrong.jsonl"], 1, "known formats"),
    "broken JSON": (["data.trajectories={tmp}/broken.jsonl"], 1, "row 1"),
    "no model": (["model.path={tmp}/nothing"], 2, "no such model folder"),
    "no tokenizer": (["model.path={tmp}/bare"], 2, "tokenizer"),
    "no template": (["model.path={tmp}/mute"], 2, "chat template"),
    "no GPU": (["model.device=cuda"], 2, "cpu"),
    "unknown key": (["train.step=3"], 2, "did you mean 'steps'"),
    "unknown benchmark": (['evaluate.benchmarks=["aime26"]'], 2, "aime26"),
    "unknown environment": (["evaluate.domains=['wetail']"], 2, "wetail"),
    "unknown domain": (["data.trajectories={tmp}/banking.jsonl"], 2, "no verifier for domain"),
    "rule": (["select.rule=meen < 0.5"], 2, "meen"),
    "context": (["profile.max_tokens=4000"], 1, "max_tokens"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line_with_the_remedy(
    name: str, data: Path, tmp_path: Path, prefect_server: str
) -> None:
    overrides, code, words = BAD[name]
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "wrong.jsonl").write_text('{"text": "no messages"}\n')
    foreign = (data / "retail.jsonl").read_text().replace('"domain":"retail"', '"domain":"banking"')
    (tmp_path / "banking.jsonl").write_text(foreign)
    (tmp_path / "broken.jsonl").write_text('{"messages": [\n')
    model = ROOT / "pivotrl/mini/model"
    for folder, left_out in (("bare", "tokenizer"), ("mute", "chat_template")):
        (tmp_path / folder).mkdir()
        for file in model.iterdir():
            if not file.name.startswith(left_out):
                shutil.copy(file, tmp_path / folder)
    filled = [o.replace("{tmp}", str(tmp_path)) for o in overrides]
    done = pivotrl(tmp_path / "home", *small(data), *filled, expect=code, server=prefect_server)
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stdout + done.stderr
    if name == "context":
        why = rows(tmp_path / "home", "select distinct reason from quarantine")
        assert why == [{"reason": "prompt too long"}]  # where the message sends one
    assert not list((tmp_path / "home").glob("checkpoints/*"))


def test_a_home_that_cannot_be_written_is_said(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = pivotrl(tmp_path / "file" / "home", *small(data), expect=1)
    assert "PIVOTRL_HOME" in done.stderr


def test_real_trajectories_and_a_foreign_model(
    shared: Path, tmp_path: Path, prefect_server: str
) -> None:
    from tiny_model import make_tiny_model

    model = make_tiny_model(tmp_path / "model")
    tau = shared / "tau-bench"
    done = pivotrl(
        tmp_path / "home",
        *("run", "configs/own.toml", f"data.trajectories={tau / 'gpt-4o-airline.json'}"),
        *(f"data.tools={tau / 'tools_airline.json'}", "data.min_reward=-inf"),
        *(f"model.path={model}", "model.device=cpu", "model.dtype=float32"),
        *("profile.share=0.002", "profile.samples=2", "profile.max_tokens=8"),
        server=prefect_server,
    )
    assert "No pivots" in done.stdout
    made = report(tmp_path / "home")
    assert made["outcome"] == "no pivots"
    assert made["ingest"]["trajectories"] == 200
    assert made["extract"]["candidates"] + made["extract"]["duplicates"] == 2454
    assert made["extract"]["tool_calls"] == 1164
    profiled = made["cost"]["profile"]["rollouts"]
    assert 0 < 2 * made["selection"]["all_wrong"] <= profiled
