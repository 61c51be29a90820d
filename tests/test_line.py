"""The whole line, for real: the command in subprocesses on the shipped base model.

One run is shared; the tests look at what it left, run it again, change things, kill it.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from html import unescape
from pathlib import Path

import duckdb
import pytest
from judge_endpoint import Endpoint, says
from line import ROOT, contents, environment, pivotrl, report, small
from mlflow import MlflowClient
from questions import questions
from textual.containers import VerticalScroll
from textual.widgets import DataTable, Input, Static

from flows.browse import Browser, plain, turns
from pivotrl.ledger import comparison
from pivotrl.marks import mark_wrong
from pivotrl.store import Store
from pivotrl.tracking.client import store_uri
from pivotrl.tracking.runs import metric_name
from pivotrl.training.metrics import MEANINGS
from pivotrl.types import ConfigError, PivotRLError
from tasks import track
from tasks.housekeeping import backup, restore

pytestmark = pytest.mark.slow
SUITES = 10


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A home after one run."""
    folder = tmp_path_factory.mktemp("home")
    before = pivotrl(folder, "sql", "select candidate_id, mean from pivot_stats limit 5")
    assert "candidate_id" in before.stdout  # the store answers before any run
    done = pivotrl(folder, *small(data))
    for noise in ("Traceback", "Warning", "WARNING", "ERROR"):
        assert noise not in done.stdout + done.stderr
    assert "Type next" in done.stdout
    return folder


def rows(home: Path, query: str) -> list[dict]:
    lines = pivotrl(home, "sql", query, "--json").stdout.splitlines()
    return [json.loads(line) for line in lines]


def test_the_report_adds_up(home: Path) -> None:
    made = report(home)
    assert made["outcome"] == "trained"
    assert re.fullmatch(r"mini 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", made["name"])
    kept = home / "reports" / f"{made['name'].replace(' ', '_').replace(':', '')}.json"
    assert json.loads(kept.read_text())["name"] == made["name"]
    counts = made["selection"]
    classes = {k: v for k, v in counts.items() if isinstance(v, int) and k != "candidates"}
    assert sum(classes.values()) == counts["candidates"] == made["extract"]["candidates"]
    assert counts["kept"] > 0
    scores = made["scores"]["trained"]
    assert len(scores) == SUITES
    for row in scores:
        assert 0 <= row["base"] <= 100
        assert row["difference"] == pytest.approx(row["trained"] - row["base"])
        assert row["miniature"]
    assert made["cost"]["profile"]["rollouts"] == 4 * counts["candidates"]
    assert list(made["cost"]) == [
        *("ingest", "extract", "profile", "select", "train", "agree", "evaluate"),
        *("total", "compared"),
    ]
    rows_of = list(made["cost"].values())[:-2]
    for name in ("seconds", "sampled", "completion_tokens", "flops"):
        assert made["cost"]["total"][name] == pytest.approx(sum(r.get(name, 0) for r in rows_of))
    for stage in ("profile", "train", "agree", "evaluate"):
        cost = made["cost"][stage]
        assert 0 < cost["unique_prompt_tokens"] <= cost["prompt_tokens"]
        assert cost["completion_tokens"] > cost["sampled"] > 0 and cost["flops"] > 0
    agreed = made["agreement"]["retail"]
    assert 0 < agreed["n"] <= agreed["sampled"] == made["cost"]["agree"]["sampled"]
    page = (home / "report.html").read_text()
    assert page.count("<article>") > 8 and "wrong_argument" in page
    assert f"{counts['kept']:,} (" in page and "retail T=1" in page
    assert made["gate"]["reasons"][0] in unescape(page)
    assert comparison(made["cost"]) in unescape(page)
    assert f"{made['cost']['profile']['prompt_tokens']:,}" in page
    assert f"{made['cost']['total']['flops']:.1e}" in unescape(page)


def test_prefect_and_mlflow_show_what_the_report_says(home: Path) -> None:
    made = report(home)
    with closing(sqlite3.connect(home / "prefect/prefect.db")) as database:
        shown = dict(database.execute("select key, data from artifact where key is not null"))
    assert shown.keys() >= {
        *("selection", "success-rates", "verdicts", "gate", "model", "scores", "report")
    }
    turns = [int(line.split("|")[2].replace(",", "")) for line in bars_of(shown["success-rates"])]
    assert sum(turns) == made["selection"]["candidates"]
    verdicts = json.loads(json.loads(shown["verdicts"]))
    assert sum(row["verdicts"] for row in verdicts) == 4 * made["selection"]["candidates"]
    client = MlflowClient(store_uri(home))
    run = made["model"]["run_id"]
    (experiment,) = {client.get_run(run).info.experiment_id}
    below = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run}'")
    assert {part.info.run_name for part in below} == {
        f"{made['name']} {stage}" for stage in ("profile", "train", "evaluate")
    }
    (data,) = client.get_run(run).inputs.dataset_inputs
    assert data.dataset.digest == client.get_run(run).data.tags["data"]
    logged = client.get_run(run).data.metrics
    for row in made["scores"]["trained"]:
        of = f"{row['kind']}/{metric_name(row['suite'])}"
        told = [logged[f"{of}/{what}"] for what in ("score", "base", "difference")]
        assert told == [row["trained"], row["base"], row["difference"]]
    changes = [row["difference"] for row in made["scores"]["trained"] if row["kind"] == "benchmark"]
    assert logged["in_domain"] == logged["domain/retail T_1/score"]
    assert logged["gain"] == logged["domain/retail T_1/difference"]
    assert logged["ood_mean"] == pytest.approx(sum(changes) / len(changes))


def bars_of(markdown: str) -> list[str]:
    return [line for line in json.loads(markdown).splitlines() if line.startswith("| ")][1:]


def test_the_store_holds_what_the_report_says(home: Path) -> None:
    made = report(home)
    stats = rows(home, "select * from pivot_stats")
    assert len(stats) == made["selection"]["candidates"]
    assert {row["n"] for row in stats} == {4}
    assert sum(row["selected"] for row in stats) == made["selection"]["kept"]
    for row in stats:
        p = row["mean"]
        assert row["variance"] == pytest.approx(p * (1 - p))
        if row["selected"]:
            assert row["variance"] > 0
            assert row["mean"] < 0.6
            assert row["split"] == "train"
    (acted,) = rows(home, "select count(*) n, count(distinct step) steps from train_rollouts")
    query = "select sum(value) n from train_steps where metric = 'groups_sampled'"
    (sampled,) = rows(home, query)
    assert acted == {"n": 4 * sampled["n"], "steps": 6}
    assert 6 * 4 <= sampled["n"] <= 2 * 6 * 4  # groups without a signal are replaced once
    assert len(rows(home, "select * from evaluations")) == 2 * SUITES
    (run,) = rows(home, "select name, state, seconds from runs")
    assert run["state"] == "trained"
    assert run["seconds"] > 0
    (promotion,) = rows(
        home, "select promotions.* from promotions join train_steps using (training_id) limit 1"
    )
    assert (promotion["model"], promotion["alias"]) == ("pivotrl-mini", "challenger")
    assert promotion["version"] == made["model"]["version"]
    assert not any((home / "work").glob("*.lock"))


def test_rows_leave_the_store_as_csv(home: Path) -> None:
    query = "select text, mean from pivot_stats join rollouts using (candidate_id) limit 3"
    said = pivotrl(home, "sql", query, "--csv").stdout
    read = list(csv.reader(io.StringIO(said)))
    assert read[0] == ["text", "mean"] and len(read) == 4
    assert [[row["text"], str(row["mean"])] for row in rows(home, query)] == read[1:]


def test_the_questions_of_the_documentation_have_answers(home: Path) -> None:
    asked = dict(questions())
    assert len(asked) == 20
    may_be_empty = ("no reward", "rows were bad", "Did any task", "went stale", "training lose")
    for question, sql in asked.items():
        _, found = Store(home / "pivotrl.duckdb").query(sql)
        assert found or any(part in question for part in may_be_empty), question


def test_no_control_character_reaches_the_terminal() -> None:
    assert plain("a\x1b[31m\x07\u202eb\n\tc") == "a\ufffd[31m\ufffd\ufffdb\n\tc"


def test_turns_are_walked_and_a_verdict_is_marked(home: Path) -> None:
    store = Store(home / "pivotrl.duckdb")
    found = turns(store, "selected", 1000)
    assert len(found) > 3 and all(row["selected"] for row in found)
    assert found == sorted(found, key=lambda row: (row["mean"], row["candidate_id"]))
    with pytest.raises(ConfigError, match="SQL"):
        turns(store, "no such column", 1)

    async def used() -> tuple[str, str, str]:
        app = Browser(home, found)
        async with app.run_test(size=(120, 26)) as pilot:
            await pilot.pause()
            first = str(app.query_one("#state", Static).render())
            await pilot.press("down")
            await pilot.pause()
            second = str(app.query_one("#state", Static).render())
            scroll = app.query_one(VerticalScroll)
            assert scroll.scroll_y == scroll.max_scroll_y > 0  # the demonstration is in sight
            table = app.query_one("#actions", DataTable)
            assert table.row_count == 4
            await pilot.press("tab", "down", "w")
            await pilot.pause()
            app.screen.query_one(Input).value = "no, <b>it</b> is right"
            await pilot.press("enter")
            await pilot.pause()
            await pilot.pause()
            marked = [str(table.get_row_at(row)[2]) for row in range(4)]
            await pilot.press("w", "escape", "q")
        return first, second, " ".join(marked)

    first, second, marked = asyncio.run(used())
    assert "demonstration" in first and "demonstration" in second and first != second
    assert marked.split() == ["wrong"]
    (mark,) = rows(
        home, "select m.*, v.reward from marks m join current_verdicts v using (rollout_id)"
    )
    assert (mark["note"], mark["mark"]) == ("no, <b>it</b> is right", "wrong")
    assert mark["candidate_id"] == found[1]["candidate_id"]

    said = pivotrl(home, "verdicts", str(home / "marks.jsonl"))
    assert "no, <b>it</b> is right" in said.stdout  # the verifier still says what was marked wrong
    case = mark_wrong(home, mark["rollout_id"], mark["note"], mark["author"])  # once is enough
    assert case["accepted"] is (mark["reward"] == 0)
    assert len((home / "marks.jsonl").read_text().splitlines()) == 1
    with pytest.raises(PivotRLError, match="no verdict"):
        mark_wrong(home, "nothing", "", "")
    none = pivotrl(home, "browse", "mean > 2", expect=2)
    assert "no profiled turn where mean > 2" in none.stderr


def test_prompts_are_what_the_live_domain_shows(home: Path, data: Path) -> None:
    """Token for token, through files, store and shards: else a policy is profiled on other ids."""
    from pivotrl.chat import ChatFormat
    from pivotrl.environments.retail.language import TOOLS
    from pivotrl.types import canonical, message_from_json

    chat = ChatFormat.load(ROOT / "pivotrl/mini/model")
    told = set()
    for line in (data / "retail.jsonl").read_text().splitlines():
        messages = json.loads(line)["messages"]
        for message in messages:
            for call in message.get("tool_calls", ()):
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        for turn, message in enumerate(messages):
            if message["role"] == "assistant":
                ids = chat.render([message_from_json(m) for m in messages[:turn]], TOOLS)
                told.add(hashlib.sha256(canonical(ids)).hexdigest()[:16])
    asked = {row["prompt_hash"] for row in rows(home, "select distinct prompt_hash from rollouts")}
    assert asked and asked <= told


def test_the_registered_model_loads_and_is_the_checkpoint(home: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pivotrl.tracking.registry import load_path

    path = load_path(home, "pivotrl-mini@challenger")
    model = AutoModelForCausalLM.from_pretrained(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert tokenizer.chat_template
    (checkpoint,) = (home / "checkpoints/train").glob("*/model.safetensors")
    stored = load_file(checkpoint)
    own = model.state_dict()
    assert all(torch.equal(own[name].float(), value.float()) for name, value in stored.items())


def test_nemo_gym_rows_hold_the_pivots_and_read_back(home: Path, tmp_path: Path) -> None:
    from pivotrl.candidates import extract
    from pivotrl.trajectories import read
    from pivotrl.types import Trajectory

    out = tmp_path / "pivots.jsonl"
    pivotrl(home, "export", str(out))
    exported = [json.loads(line) for line in out.read_text().splitlines()]
    means = [row["metadata"]["mean_reward"] for row in exported]
    asked = [row["responses_create_params"] for row in exported]
    assert all(tool["strict"] is False for one in asked for tool in one["tools"])
    # NeMo-Gym's own types want an id beside parts of an assistant's text.
    assert all(isinstance(i.get("content", ""), str) for one in asked for i in one["input"])
    assert means == sorted(means)
    found = [c.id for t in read([out]) if isinstance(t, Trajectory) for c in extract(t)]
    chosen = {row["candidate_id"] for row in rows(home, "select candidate_id from pivots")}
    assert len(found) == len(chosen)
    assert set(found) == chosen


def test_every_metric_of_a_run_is_explained(home: Path) -> None:
    steps = Store(home / "pivotrl.duckdb").query("select distinct metric from train_steps")[1]
    run = MlflowClient(store_uri(home)).get_run(report(home)["model"]["run_id"])
    logged = [name for name in run.data.metrics if not name.startswith("system/")]  # MLflow's own
    assert len(steps) > 20 and len(logged) > len(steps)
    for found, meanings in (
        ([name for (name,) in steps], MEANINGS),
        (logged, MEANINGS | track.MEANINGS),
    ):
        known = [re.compile(re.sub("<[a-z]+>", "[^/]+", name)) for name in meanings]
        assert not [name for name in found if not any(one.fullmatch(name) for one in known)]


@pytest.mark.long
def test_trl_trains_on_the_pivots_with_our_reward(home: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from pivotrl.chat import ChatFormat
    from pivotrl.export import reward_function

    model = ROOT / "pivotrl/mini/model"
    out = tmp_path / "pivots.jsonl"
    pivotrl(home, "export", str(out), "--form", "trl", "--model", str(model))
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        processing_class=AutoTokenizer.from_pretrained(model),
        reward_funcs=[reward_function(ChatFormat.load(model))],
        train_dataset=Dataset.from_list([json.loads(line) for line in out.open()]),
        args=GRPOConfig(
            output_dir=str(tmp_path / "trl"),
            max_steps=2,
            per_device_train_batch_size=8,
            num_generations=8,
            max_completion_length=48,
            logging_steps=1,
            report_to="none",
            use_cpu=True,
            bf16=False,
            save_strategy="no",
        ),
    )
    trainer.train()
    rewards = [row["reward"] for row in trainer.state.log_history if "reward" in row]
    assert len(rewards) == 2
    assert max(rewards) > 0


def test_the_exported_reward_of_a_demonstration_is_one(home: Path, tmp_path: Path) -> None:
    from pivotrl.chat import ChatFormat
    from pivotrl.export import pivots_of, reward_function, trl_rows
    from pivotrl.store import Store

    chat = ChatFormat.load(ROOT / "pivotrl/mini/model")
    pivots = [candidate for candidate, _ in pivots_of(Store(home / "pivotrl.duckdb"))]
    rows_ = trl_rows(pivots, chat, longest=2048)
    assert len(rows_) == len(pivots)
    right = [chat.completion(c.messages, c.tools, c.demonstration) for c in pivots]
    stored = [row["candidate"] for row in rows_]
    assert reward_function(chat)(completion_ids=right, candidate=stored) == [1.0] * len(pivots)
    cut = [ids[:-1] for ids in right]
    assert reward_function(chat)(completion_ids=cut, candidate=stored) == [0.0] * len(pivots)


def test_an_unchanged_second_run_is_all_cached_and_makes_no_second_model(
    home: Path, data: Path
) -> None:
    before = report(home)
    pivotrl(home, *small(data))
    made = report(home)
    assert all(stage["cached"] for stage in made["stages"])
    assert made["model"]["created"] is False
    assert made["model"]["version"] == before["model"]["version"]
    assert made["scores"] == before["scores"]


def would_run(home: Path, data: Path, *overrides: str, folder: Path = ROOT) -> dict[str, str]:
    """Stage -> why, of the stages that a dry run says are not cached."""
    done = pivotrl(home, *small(data), *overrides, "--dry-run", folder=folder)
    lines = [line for line in done.stdout.splitlines() if line.startswith("would run")]
    return {line.split()[2]: line for line in lines}


def test_a_folder_is_the_files_in_it(home: Path, data: Path, tmp_path: Path) -> None:
    shutil.copy(data / "retail.jsonl", tmp_path)
    (tmp_path / "notes.txt").write_text("no trajectories")
    said = pivotrl(home, *small(data), f"data.trajectories={tmp_path}", "--dry-run").stdout
    assert "0 of" in said
    (tmp_path / "retail.jsonl").unlink()
    none = pivotrl(home, *small(data), f"data.trajectories={tmp_path}", "--dry-run", expect=2)
    assert "the folder has no file .json" in none.stderr


def test_another_lambda_selects_again_and_samples_nothing(home: Path, data: Path) -> None:
    found = would_run(home, data, "select.lambda_diff=0.3")
    assert "settings.lambda_diff" in found["select"]
    assert not {"ingest", "extract", "sample", "verify"} & found.keys()


@pytest.mark.long
def test_a_judge_decides_what_rules_cannot_tell(
    data: Path, tmp_path: Path, endpoint: Endpoint, prefect_server: str
) -> None:
    """The whole run: demonstrations ask in other words than the model, which a judge may forgive.

    Whoever shows a turn shows what the judge decided.
    """
    endpoint.reply = lambda asked: says("What" in asked["first"]["text"] + asked["second"]["text"])
    file = tmp_path / "retail.jsonl"
    trajectories = [json.loads(line) for line in (data / "retail.jsonl").open()][:20]
    for trajectory in trajectories:
        for turn, message in enumerate(trajectory["messages"]):
            if message["role"] == "assistant" and (message.get("content") or "").endswith("?"):
                message["content"] = "How may I serve you?"
                trajectory.get("accepted_actions", {}).pop(str(turn), None)
    file.write_text("".join(json.dumps(trajectory) + "\n" for trajectory in trajectories))
    quick = ("train.steps=2", "train.validation_pivots=0", "evaluate.benchmarks=[]")
    quick += ("evaluate.tasks=2",)
    options = (f"data.trajectories={file}", f"judge.url={endpoint.url}", "judge.model=m", *quick)
    home = tmp_path / "home"
    pivotrl(home, *small(data), *options, server=prefect_server)
    judged = rows(
        home,
        "select rollout_id, v.candidate_id, j.reward, v.category, r.text from judgements j join "
        "verdicts v using (rollout_id) join rollouts r using (rollout_id) "
        "where v.status = 'undecided'",
    )
    assert {(row["reward"], row["category"]) for row in judged} == {
        (0.0, "paraphrase"),
        (1.0, "paraphrase"),
    }
    assert all(row["reward"] == ("What" in row["text"]) for row in judged)
    assert len(endpoint.bodies) > 0
    shown = re.findall(
        r'class="said (\w*)"><b>policy[^<]* · paraphrase</b><pre>([^<]*)',
        (home / "report.html").read_text(),
    )
    assert {kind for kind, _ in shown} == {"yes", "no"}
    assert all((kind == "yes") == ("What" in text) for kind, text in shown)
    for table in ("judged_verdicts", "train_rollouts"):
        (without,) = rows(home, f"select count(*) n from {table} where reward is null")
        assert without["n"] == 0, table
    trained = rows(home, "select distinct category from train_rollouts")
    assert {"category": "judged_other"} in trained
    one = next(row for row in judged if row["reward"])
    turn = turns(Store(home / "pivotrl.duckdb"), f"candidate_id = '{one['candidate_id']}'", 1)

    async def walked() -> list[list[str]]:
        app = Browser(home, turn)
        async with app.run_test() as pilot:
            await pilot.pause()
            table = app.query_one("#actions", DataTable)
            return [[str(cell) for cell in table.get_row_at(row)] for row in range(4)]

    actions = asyncio.run(walked())
    assert ["1.00", "paraphrase", "", one["text"]] in actions
    assert sum(float(reward) for reward, *_ in actions) / 4 == turn[0]["mean"]
    assert mark_wrong(home, one["rollout_id"], "not so", "me")["accepted"] is False


def test_editing_a_verifier_judges_again_and_samples_nothing(
    home: Path, data: Path, tmp_path: Path
) -> None:
    for name in ("flows", "tasks", "pivotrl", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    assert would_run(home, data, folder=tmp_path) == {}
    verifier = tmp_path / "pivotrl/verifiers/text.py"
    text = verifier.read_text()
    verifier.write_text("# a comment\n" + text)
    flow = tmp_path / "flows/retrain.py"
    flow.write_text(flow.read_text() + "\n_UNUSED = 1\n")
    assert would_run(home, data, folder=tmp_path) == {}
    verifier.write_text(text + "\n_EDITED = 1\n")
    found = would_run(home, data, folder=tmp_path)
    assert "code" in found["verify"]
    assert "sample" not in found
    assert "extract" not in found


def test_an_alarm_ends_a_round_and_leaves_its_rollouts(
    home: Path, data: Path, tmp_path: Path, prefect_server: str
) -> None:
    own = shutil.copytree(home, tmp_path / "own")

    def refused(*settings: str) -> str:
        done = pivotrl(own, *small(data), *settings, expect=1, server=prefect_server)
        return " ".join(done.stderr.split())

    said = refused("train.max_tokens=1", "train.steps=9", "train.validate_every=9")
    assert "step 5: for 5 steps nearly every completion was cut at the limit" in said
    found = "select max(step), count(*) from train_rollouts where training_id = (select "
    found += "training_id from train_rollouts group by 1 having max(tokens) = 1)"
    ((steps, rollouts),) = Store(own / "pivotrl.duckdb").query(found)[1]
    assert steps == 5 and rollouts >= 5 * 4 * 4
    said = refused("train.max_tokens=1948")
    assert "pivots are over 100 tokens" in said and "raise model.max_length" in said


@pytest.mark.long
def test_a_stale_round_is_followed_by_one_that_profiles_anew(
    home: Path, data: Path, tmp_path: Path
) -> None:
    twice = shutil.copytree(home, tmp_path / "twice")
    sharper = ("train.steps=80", "train.stale_share=0.99", "train.validation_pivots=0")
    quick = ("train.rounds=2", "evaluate.benchmarks=[]", "evaluate.tasks=2")
    pivotrl(twice, *small(data), *sharper, *quick)
    samplings = [s for s in report(twice)["stages"] if s["stage"] == "sample"]
    assert {s["cached"] for s in samplings} == {True, False}  # the first round's profile was known
    found = rows(
        twice,
        "select p.policy from selections s join pivots p using (selection_id) "
        "group by all order by min(s.policy)",
    )
    assert len(found) == 2
    steps = rows(twice, "select round, count(distinct step) n from train_steps group by all")
    assert {row["round"] for row in steps} >= {0, 1}
    with sqlite3.connect(twice / "prefect" / "prefect.db") as database:  # each a node of the graph
        names = database.execute("SELECT name FROM flow_run WHERE parent_task_run_id IS NOT NULL")
        assert sorted(name for (name,) in names) == ["round 1", "round 2"]
    with sqlite3.connect(twice / "mlflow.db") as database:
        below = database.execute(
            "SELECT runs.name FROM runs JOIN tags USING (run_uuid) "
            "WHERE key = 'mlflow.parentRunId' AND value = ?",
            [report(twice)["model"]["run_id"]],
        )
        parts = {name.removeprefix(f"{report(twice)['name']} ") for (name,) in below}
        assert parts == {"profile", "train 1", "train 2", "evaluate"}
    costs = report(twice)["cost"]
    assert costs["profile"]["rollouts"] == 2 * 4 * report(twice)["selection"]["candidates"]


@pytest.mark.long
def test_a_run_may_start_from_the_champion(
    home: Path, data: Path, tmp_path: Path, prefect_server: str
) -> None:
    again = shutil.copytree(home, tmp_path / "again")
    quick = ("train.start=champion", "train.steps=2", "train.validation_pivots=0")
    quick += ("evaluate.benchmarks=[]", "evaluate.tasks=2")
    first = pivotrl(again, *small(data), *quick, "register.alias=champion", server=prefect_server)
    assert "No pivotrl-mini@champion yet" in first.stdout
    pivotrl(again, *small(data), *quick, server=prefect_server)
    policies = rows(again, "select distinct path from policies")
    assert len(policies) == 2  # the pool was profiled under the champion too
    (champion,) = [row["path"] for row in policies if not row["path"].endswith("mini/model")]
    assert (Path(champion) / "config.json").is_file()
    base = rows(again, "select distinct policy_weights from evaluations where model = 'base'")
    assert len(base) == 1  # scores are still compared with the base


@pytest.mark.long
def test_two_runs_on_one_home_at_once_both_end(home: Path, data: Path, tmp_path: Path) -> None:
    both = shutil.copytree(home, tmp_path / "both")
    quick = ("train.steps=1", "train.validation_pivots=0", "evaluate.benchmarks=[]")
    arguments = [*small(data), *quick, "profile.samples=5", "evaluate.tasks=2"]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: pivotrl(both, *arguments, f"run.name={name}"), ("one", "two")))
    assert {row["n"] for row in rows(both, "select n from pivot_stats")} == {5}
    names = {row["name"].split()[0] for row in rows(both, "select name from runs")}
    assert names == {"mini", "one", "two"}


def test_a_restored_home_is_the_same(
    home: Path, data: Path, tmp_path: Path, prefect_server: str
) -> None:
    archive, away = tmp_path / "copy.tar.gz", tmp_path / "away"
    before = report(home)
    assert "MiB" in pivotrl(home, "backup", str(archive)).stdout
    with pytest.raises(PivotRLError, match="is not empty"):
        restore(archive, home)
    with pytest.raises(PivotRLError, match="with PIVOTRL_HOME="):
        restore(archive, tmp_path / "elsewhere")
    with pytest.raises(PivotRLError, match="a whole one of `pivotrl backup`"):
        restore(data / "retail.jsonl", tmp_path / "elsewhere")
    with pytest.raises(PivotRLError, match="no store to keep"):
        backup(tmp_path / "elsewhere", archive)
    made = contents(home, "sample", "train")
    shutil.move(home, away)
    try:
        pivotrl(home, "restore", str(archive))
        assert contents(home, "sample", "train") == made
        again = pivotrl(home, *small(data), server=prefect_server).stdout
        assert f"{len(before['stages'])} stages, {len(before['stages'])} cached" in again
        assert report(home)["model"] == before["model"] | {"created": False}
        (stats,) = rows(home, "select count(*) n from pivot_stats")
        assert stats["n"] == before["selection"]["candidates"]
        evaluated = pivotrl(home, "clean", "--keep-runs", "1", "--older-than", "0").stdout
        assert "nothing to remove" in evaluated
    finally:
        shutil.rmtree(home)
        shutil.move(away, home)


def test_a_store_of_an_older_schema_is_built_anew_and_kept(
    home: Path, data: Path, tmp_path: Path, prefect_server: str
) -> None:
    old = shutil.copytree(home, tmp_path / "old")
    counted = "select count(*) n, sum(mean) total, sum(selected::int) pivots from pivot_stats"
    before, tables = rows(old, counted), "select count(*) n from rollouts"
    held = rows(old, tables)
    with duckdb.connect(str(old / "pivotrl.duckdb")) as opened:
        opened.execute("update store_version set version = 0")
    (old / "pivotrl.renewal").mkdir()
    for killed in ("pivotrl.duckdb", "pivotrl.duckdb.wal"):
        (old / "pivotrl.renewal" / killed).write_bytes(b"what a killed renewal left")
    refused = pivotrl(old, "sql", "select 1", expect=1)
    assert "has the old schema 0" in refused.stderr and "pivotrl run" in refused.stderr
    done = pivotrl(old, *small(data), server=prefect_server).stdout
    assert "the old one is kept as pivotrl.schema-0.duckdb" in flat(done)
    assert (old / "pivotrl.schema-0.duckdb").stat().st_size > 0
    assert not (old / "pivotrl.renewal").exists()
    assert rows(old, counted) == before and rows(old, tables) == held
    assert len(rows(old, "select name from runs")) == len(rows(home, "select name from runs")) + 1


def flat(text: str) -> str:
    return " ".join(text.split())


def test_what_the_store_holds_is_never_markup(tmp_path: Path) -> None:
    done = pivotrl(tmp_path, "sql", "select 'say [/INST] [id]' as text")
    assert "say [/INST] [id]" in done.stdout


def test_columns_of_one_name_are_no_keys_of_an_object(tmp_path: Path) -> None:
    twice = "select * from (values (1, 2)) a(x, y) join (values (1, 3)) b(x, y) using (x)"
    refused = pivotrl(tmp_path, "sql", twice, "--json", expect=1)
    assert "columns of one name: y; use AS" in refused.stderr
    assert pivotrl(tmp_path, "sql", twice, "--csv").stdout.split() == ["x,y,y", "1,2,3"]


def test_help_is_quick_to_read_and_has_examples(tmp_path: Path) -> None:
    for name in ("run", "sql", "ui", "inspect"):
        done = pivotrl(tmp_path, name, "--help")
        assert "Example" in done.stdout


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys, flows.cli; print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    for heavy in ("torch", "transformers", "prefect", "mlflow", "duckdb", "polars", "vllm"):
        assert f"'{heavy}'" not in done.stdout


def test_a_plan_needs_no_weights(tmp_path: Path) -> None:
    config = str(ROOT / "configs/paper/tau2.toml")
    said = pivotrl(tmp_path, "plan", config, "train.nodes=2", "--card", "H200", "--json").stdout
    found = json.loads(said)
    assert (found["parameters"], found["devices"], found["fits"]) == (30_532_122_624, 16, True)
    table = pivotrl(tmp_path, "plan", config).stdout
    assert "It does not fit" in table and "train.lora_rank" in table
    refused = pivotrl(tmp_path, "plan", config, "--card", "B9000", expect=2)
    assert "known are A100, H100, H200" in refused.stderr
