"""Profiling in looks, with real stages and the shipped model: what is sampled, what never twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import pivotrl.manifest
import tasks.sample
import tasks.stage
from flows.rounds import one_round, profile, too_few
from pivotrl.config import Config, load_config
from pivotrl.engines.isolation import EngineFailure
from pivotrl.environments import live_domain
from pivotrl.environments.demonstrations import write_demonstrations
from pivotrl.ledger import active_parameters, comparison, ledger
from pivotrl.manifest import FileEntry, Manifest
from pivotrl.policies import identify
from pivotrl.prefixes import by_prefix, unique_tokens
from pivotrl.selection import Criteria, select
from pivotrl.store import Store
from pivotrl.types import Engine, RolloutStatus, Sample
from tasks.extract import extract
from tasks.ingest import ingest
from tasks.merge import merge
from tasks.policy import Policy, load_policy
from tasks.sample import Pool, looks
from tasks.session import Session, running
from tasks.stage import read_table

ROOT = Path(__file__).parents[1]
NOWHERE = (f"data.trajectories={ROOT / 'README.md'}",)
Rows = dict[tuple[str, int], dict[str, Any]]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Session]:
    home = tmp_path_factory.mktemp("home")
    write_demonstrations(live_domain("retail"), home / "retail.jsonl", 12, 0, "train")
    with running(Session(home=home, console=Console(file=StringIO()))) as opened:
        yield opened


def configured(session: Session, *options: str) -> Config:
    own = [f"data.trajectories={session.home / 'retail.jsonl'}"]
    own += [f"model.path={ROOT / 'pivotrl/mini/model'}"]
    return load_config(ROOT / "configs/mini.toml", [*own, *options])


def pool_of(config: Config) -> Pool:
    trajectories = ingest(config)
    return Pool(
        config=config,
        model=config.model.path,
        policy=identify(config.model.path),
        trajectories=trajectories,
        candidates=extract(config, trajectories),
    )


def profiled(session: Session, *options: str) -> tuple[Rows, list[Manifest], list[Manifest]]:
    """Rows by candidate and index; the manifests of sampling, and of verdicts."""
    rollouts, verdicts = profile(pool_of(configured(session, *options)), None)
    made = [m for m in rollouts if m is not None]
    found = [row for m in made for row in read_table(session.home, m, "rollouts")]
    rows = {(row["candidate_id"], row["sample_index"]): row for row in found}
    assert len(rows) == len(found)  # nothing twice
    return rows, made, [m for m in verdicts if m is not None]


def pivots(session: Session, verdicts: list[Manifest]) -> set[str]:
    files = [path for m in verdicts for path in m.of_table(session.home, "verdicts")]
    candidates = sorted((session.home / "shards" / "extract").glob("*/candidates*.parquet"))
    return {
        p["candidate_id"]
        for p in select(files, candidates, criteria=Criteria(lambda_diff=0.6)).pivots
    }


def estimators(session: Session, *made: list[Manifest]) -> set[str]:
    """What `pivot_stats` calls the means once these are merged."""
    merge("profile", *(manifest for one in made for manifest in one))
    sql = "SELECT DISTINCT estimator FROM pivot_stats"
    return {name for (name,) in Store(session.home / "pivotrl.duckdb").query(sql)[1]}


def sampled(made: list[Manifest], *before: list[Manifest]) -> int:
    """Rollouts that were sampled in `made` and not in the runs before it."""
    known = {m.key for one in before for m in one}
    return sum(m.counts["sampled"] for m in made if m.key not in known)


def test_looks_take_fewer_rollouts_and_those_are_the_same_ones(session: Session) -> None:
    looked, made, verdicts = profiled(session, "profile.samples=8", "profile.certainty=0.95")
    assert {i for _, i in looked} == set(range(8))
    first = {c for c, i in looked if i == 0}
    ends = [max(i for c, i in looked if c == one) + 1 for one in first]
    assert set(ends) > {8} and set(ends) <= set(range(2, 9, 2))
    assert sampled(made) == len(looked) == sum(ends) < 8 * len(first)

    fixed, again, full = profiled(session, "profile.samples=8")
    assert len(fixed) == 8 * len(first)
    assert sampled(again) == len(fixed) - len(looked)  # the others were there
    assert {key: fixed[key] for key in looked} == looked
    assert estimators(session, made, verdicts) == {"stopped"}
    assert estimators(session, again, full) == {"fixed"}
    versions = [
        {row["verifier_version"] for m in of for row in read_table(session.home, m, "verdicts")}
        for of in (verdicts, full)
    ]
    assert versions[0] == versions[1]  # what judges is the same
    mine, theirs = pivots(session, verdicts), pivots(session, full)
    assert len(mine ^ theirs) <= 0.1 * len(first)

    sure, few, _ = profiled(session, "profile.samples=8", "profile.certainty=1")
    assert len(looked) <= len(sure) < len(fixed) and sampled(few, made, again) == 0
    assert sure.items() <= fixed.items()


def test_certainty_is_about_the_mixed_where_these_are_selected(session: Session) -> None:
    told = session.console.file = StringIO()
    options = ("profile.samples=8", "profile.certainty=1")
    rows, _, verdicts = profiled(session, *options, "select.rule=mixed")
    assert "profile.certainty" not in told.getvalue()
    earned: dict[str, list[float]] = {}
    for manifest in verdicts:
        for row in read_table(session.home, manifest, "verdicts"):
            earned.setdefault(row["candidate_id"], []).append(row["reward"])
    assert len(rows) == sum(map(len, earned.values()))
    # The test is sure as soon as rewards differ, and not before.
    stops = {(len(found), len(set(found))) for found in earned.values()}
    assert {n for n, kinds in stops if kinds == 1} == {8}
    assert min(n for n, kinds in stops if kinds == 2) < 8
    profiled(session, *options, "select.rule=mean < 0.5")
    assert "profile.certainty" in told.getvalue()


def test_masked_actions_keep_their_category_and_have_no_reward(session: Session) -> None:
    """In the profile, where too few rewards leave a turn unprofiled, and in training alike."""
    options = ["profile.samples=8", "profile.max_tokens=12", "train.max_tokens=8"]
    options += ["train.steps=1", "train.pivots_per_step=8", "train.validation_pivots=8"]
    rows, before, plain = profiled(session, *options)
    cut = {row["rollout_id"] for row in rows.values() if row["finish_reason"] == "length"}
    config = configured(session, *options, 'verify.mask=["truncated"]')
    pool = pool_of(config)
    done = one_round(0, pool, pool.policy, None)

    (again, verdicts) = (
        [m for m in done.profiles if name in m.counts] for name in ("sampled", "verdicts")
    )
    assert sampled(again, before) == 0
    found = {
        row["rollout_id"]: row for m in verdicts for row in read_table(session.home, m, "verdicts")
    }
    for manifest in plain:
        for row in read_table(session.home, manifest, "verdicts"):
            masked = found[row["rollout_id"]]
            assert masked["category"] == row["category"]
            if row["rollout_id"] in cut:
                assert (row["category"], row["reward"]) == ("truncated", 0.0)
                assert (masked["status"], masked["reward"]) == ("masked", None)
            else:
                assert (masked["status"], masked["reward"]) == (row["status"], row["reward"])
    few = {c for c, _ in rows if sum(rows[c, i]["rollout_id"] in cut for i in range(8)) > 4}
    stats = "SELECT candidate_id FROM pivot_stats WHERE n < 0.5 * samples"
    assert {c for (c,) in Store(session.home / "pivotrl.duckdb").query(stats)[1]} == few
    assert done.selection is not None and few
    assert done.selection.counts["unprofiled"] == len(few)

    assert done.checkpoint is not None
    acted = read_table(session.home, done.checkpoint, "train_rollouts")
    masked = [row for row in acted if row["finish_reason"] == "length"]
    assert masked and {row["category"] for row in masked} == {"truncated"}
    assert {(row["reward"], row["advantage"]) for row in masked} == {(None, None)}
    assert None not in {row["reward"] for row in acted if row["finish_reason"] == "stop"}


def test_a_longer_profile_samples_what_is_new(session: Session) -> None:
    four, _, _ = profiled(session, "profile.samples=4", "run.seed=5")
    six, made, _ = profiled(session, "profile.samples=6", "run.seed=5")
    assert sampled(made) == len(six) - len(four) == len(four) // 2
    assert four.items() <= six.items()


def test_other_verdicts_open_other_candidates_and_sample_only_what_they_lack(
    session: Session,
) -> None:
    options = ("profile.samples=8", "profile.certainty=0.95", "run.seed=7")
    before, known, _ = profiled(session, *options)
    after, made, _ = profiled(session, *options, "verify.mode=strict")
    assert sampled(made, known) == len(after.keys() - before.keys())
    shared = after.keys() & before.keys()
    assert {key: after[key] for key in shared} == {key: before[key] for key in shared}


def test_new_trajectories_cost_only_their_own_candidates(session: Session) -> None:
    before, _, _ = profiled(session, "profile.samples=2", "run.seed=9")
    file = session.home / "retail.jsonl"
    old = file.read_bytes()
    try:
        write_demonstrations(live_domain("retail"), file, 15, 0, "train")
        assert file.read_bytes().startswith(old)
        after, made, _ = profiled(session, "profile.samples=2", "run.seed=9")
    finally:
        file.write_bytes(old)
    assert before.items() < after.items()
    assert sampled(made) == len(after) - len(before)


def test_another_engine_or_seed_is_sampled_anew(session: Session) -> None:
    one, _, _ = profiled(session, "profile.samples=2", "run.seed=11")
    other, made, _ = profiled(session, "profile.samples=2", "run.seed=12")
    assert sampled(made) == len(other) == len(one)
    _, made, _ = profiled(session, "profile.samples=2", "run.seed=11", "profile.temperature=0.5")
    assert sampled(made) == len(one)


class Failing:
    """An engine that the machinery fails for, at every prompt with an even seed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def sample(self, prompts: Any, n: int, params: Any, seeds: Any, *more: Any) -> Any:
        groups = self._engine.sample(prompts, n, params, seeds, *more)
        lost = partial(Sample.lost, RolloutStatus.ENGINE_ERROR)
        return [
            [lost(one.seed) for one in group] if seed % 2 == 0 else group
            for seed, group in zip(seeds, groups, strict=True)
        ]


def test_what_an_engine_fails_on_has_no_reward_is_listed_and_sampled_by_the_next_run(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: Any, **options: Any) -> Policy:
        found = load_policy(*arguments, **options)
        return replace(found, engine=Failing(found.engine))

    options = ("profile.samples=4", "run.seed=21")
    with monkeypatch.context() as patched:
        patched.setattr(tasks.sample, "load_policy", failing)
        broken, made, judged = profiled(session, *options)
    lost = {key for key, row in broken.items() if row["status"] == "engine_error"}
    assert 0 < len(lost) < len(broken) and {i for _, i in lost} == set(range(4))
    assert all(row["status"] == "ok" for key, row in broken.items() if key not in lost)
    given = {
        (row["rollout_id"], row["reward"], row["status"])
        for manifest in judged
        for row in read_table(session.home, manifest, "verdicts")
    }
    names = {broken[key]["rollout_id"] for key in lost}
    assert {one[1:] for one in given if one[0] in names} == {(None, "error")}

    merge("failed", *made, *judged)
    (policy,) = {row["policy"] for row in broken.values()}
    store = Store(session.home / "pivotrl.duckdb")
    said = too_few(load_config(ROOT / "configs/mini.toml", NOWHERE)).split("`")[1]
    asked = f"{said.split(chr(34))[1]} and policy = '{policy}'"
    unprofiled = {candidate_id for candidate_id, _ in lost}
    assert {(row[0], row[2]) for row in store.query(asked)[1]} == {(c, 0) for c in unprofiled}
    files = [path for m in judged for path in m.of_table(session.home, "verdicts")]
    candidates = sorted((session.home / "shards" / "extract").glob("*/candidates*.parquet"))
    chosen = select(files, candidates, criteria=Criteria(lambda_diff=0.6))
    assert not unprofiled & {pivot["candidate_id"] for pivot in chosen.pivots}
    assert sum(row["all_wrong"] for row in chosen.domains) < len(unprofiled)

    whole, again, _ = profiled(session, *options)
    assert {row["status"] for row in whole.values()} == {"ok"}
    assert sum(m.counts["sampled"] for m in again) == len(whole)  # of both tries, each once
    tokens = sum(len(row["token_ids"]) for row in whole.values())
    assert sum(m.counts["completion_tokens"] for m in again) == tokens
    assert sum(m.seconds for m in again) > sum(m.seconds for m in made)
    kept = broken.keys() - lost
    assert {key: whole[key] for key in kept} == {key: broken[key] for key in kept}


class Refusing:
    """An engine that the machinery always fails for at prompts of an even length."""

    def __init__(self, engine: Engine, *, is_gone: bool = False) -> None:
        self._engine, self.is_gone = engine, is_gone

    def sample(self, prompts: Any, n: int, params: Any, seeds: Any, *more: Any) -> Any:
        if self.is_gone or all(len(prompt) % 2 == 0 for prompt in prompts):
            raise EngineFailure("the engine failed on all samples: no reason")
        groups = self._engine.sample(prompts, n, params, seeds, *more)
        lost = partial(Sample.lost, RolloutStatus.ENGINE_ERROR)
        return [
            [lost(one.seed) for one in group] if len(prompt) % 2 == 0 else group
            for prompt, group in zip(prompts, groups, strict=True)
        ]


def test_candidates_that_an_engine_always_fails_on_end_no_later_run(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("profile.samples=4", "run.seed=23", "profile.certainty=1")

    def run(*, is_gone: bool = False) -> tuple[Rows, list[Manifest], list[Manifest]]:
        def load(*arguments: Any, **options: Any) -> Policy:
            found = load_policy(*arguments, **options)
            return replace(found, engine=Refusing(found.engine, is_gone=is_gone))

        monkeypatch.setattr(tasks.sample, "load_policy", load)
        return profiled(session, *options)

    with pytest.raises(EngineFailure):
        run(is_gone=True)
    before, made, judged = run()
    lost = {key for key, row in before.items() if row["status"] == "engine_error"}
    assert 0 < len(lost) < len(before) and {i for _, i in lost} == set(range(4))
    with pytest.raises(EngineFailure):
        run(is_gone=True)
    after, again, still = run()
    assert after == before
    assert [m.counts for m in again] == [m.counts for m in made]  # what is lost costs nothing
    assert [m.fingerprint for m in still] == [m.fingerprint for m in judged]


def test_a_longest_sequence_says_which_prompts_fit_and_nothing_of_rows(session: Session) -> None:
    options = ("profile.samples=2", "run.seed=25")
    before, known, _ = profiled(session, *options)
    after, made, _ = profiled(session, *options, "model.max_length=2048")
    assert sampled(made, known) == 0 and after == before


def test_only_shards_that_hold_wanted_rows_are_hashed(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    original = pivotrl.manifest.file_hash

    def counting(path: Path) -> str:
        hashed.append(path.name if "/shards/sample/" in str(path) else "")
        return original(path)

    options = ("data.shard_turns=10", "run.seed=31")
    monkeypatch.setattr(pivotrl.manifest, "file_hash", counting)
    _, made, _ = profiled(session, *options, "profile.samples=2")
    assert len(made) > 3 and "rollouts.parquet" not in hashed
    _, again, _ = profiled(session, *options, "profile.samples=4")
    assert hashed.count("rollouts.parquet") == len(again)  # each found its own two samples
    assert sampled(again) == sampled(made)


def test_a_servers_samples_outlive_a_new_torch_here(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(version: str, *options: str) -> str:
        monkeypatch.setattr(tasks.stage, "versions", lambda names: dict.fromkeys(names, version))
        monkeypatch.setattr(session, "dry", True)
        config = load_config(ROOT / "configs/mini.toml", [*NOWHERE, *options])
        made = Manifest(kind="extract", key="k", parts={})
        shard = FileEntry(path="p", sha256="s", content="c")
        policy = identify(ROOT / "pivotrl/mini/model")
        pool = Pool(
            config=config,
            model=config.model.path,
            policy=policy,
            trajectories=made,
            candidates=made.only(shard),
        )
        tasks.sample.sample(pool, looks(config)[0], "sample")
        return session.records[-1].key

    served = ("engine.name=server", "engine.url=http://127.0.0.1:9/v1", "engine.model=policy")
    assert key("1", *served) == key("2", *served)
    assert key("1", *served) == key("1", *served, "engine.url=http://127.0.0.1:10/v1")
    assert key("1", *served) != key("1", *served, "engine.model=another")
    assert key("1") != key("2")


def test_looks_cover_every_sample_once() -> None:
    for samples in (2, 3, 5, 8, 16, 17):
        file = f"data.trajectories={ROOT / 'README.md'}"
        options = [file, f"profile.samples={samples}"]
        config = load_config(ROOT / "configs/mini.toml", options)
        assert [(one.first, one.upto) for one in looks(config)] == [(0, samples)]
        config = load_config(ROOT / "configs/mini.toml", [*options, "profile.certainty=0.9"])
        found = [(one.first, one.upto) for one in looks(config)]
        assert [i for first, upto in found for i in range(first, upto)] == list(range(samples))


def test_the_ledger_adds_up() -> None:
    sampled_ = {
        "seconds": 2.0,
        "candidates": 10,
        "rollouts": 90,
        "sampled": 60,
        "unique_prompt_tokens": 500,
        "completion_tokens": 120,
    }
    trained = {"seconds": 3.0, "rollouts": 40, "sampled": 40, "completion_tokens": 50, "flops": 7.0}
    judged = {"seconds": 1.0, "prompt_tokens": 900, "completion_tokens": 30}
    costs = ledger(
        {"profile": [sampled_, {"seconds": 1.0}], "judge": [judged], "train": [trained]},
        parameters=10,
        samples=16,
        turns_per_trajectory=5.0,
    )
    assert costs["profile"]["flops"] == 2 * 10 * 620
    assert costs["judge"]["flops"] == 0  # of another model
    assert costs["train"]["flops"] == 2 * 10 * 50 + 7
    assert costs["total"]["sampled"] == 100 and costs["total"]["seconds"] == 7.0
    assert costs["total"]["completion_tokens"] == 200
    fixed = 500 + 2 * (160 - 30)  # 30 were found, two tokens an action
    assert costs["compared"] == {
        "fixed_k_rollouts": 160,
        "rollout_share": 90 / 160,
        "fixed_k_tokens": fixed,
        "token_share": 620 / fixed,
        "fixed_k_flops": 2 * 10 * fixed,
        "end_to_end_turns": 200,
        "pivot_turns": 100,
    }


def test_the_ledger_says_where_looks_cost_more_than_a_fixed_k() -> None:
    """Long prompts and short actions: each look computes the prompts again."""
    count = {"seconds": 1.0, "rollouts": 400, "sampled": 400, "completion_tokens": 400}
    look = count | {"candidates": 0, "unique_prompt_tokens": 50_000}
    costs = ledger(
        {"profile": [look | {"candidates": 100}, look, look]},
        parameters=1,
        samples=16,
        turns_per_trajectory=5.0,
    )
    found = costs["compared"]
    assert found["rollout_share"] == 0.75 and found["fixed_k_tokens"] == 50_000 + 1_600
    assert found["token_share"] == 151_200 / 51_600 and found["fixed_k_flops"] == 2 * 51_600
    assert "75% of the 1,600 rollouts and 293% of the 51,600 tokens" in comparison(costs)
    assert "end-to-end" not in comparison(costs)  # nothing was trained


def test_a_profile_with_fixed_k_is_compared_with_itself(session: Session) -> None:
    _, made, _ = profiled(session, "profile.samples=2", "run.seed=13")
    counts = [m.counts | {"seconds": m.seconds} for m in made]
    costs = ledger({"profile": counts}, parameters=1, samples=2, turns_per_trajectory=5.0)
    assert costs["compared"]["rollout_share"] == costs["compared"]["token_share"] == 1.0


def test_parameters_are_those_that_the_model_has() -> None:
    from pivotrl.engines.hf import load_model

    folder = ROOT / "pivotrl/mini/model"
    assert active_parameters(folder) == sum(p.numel() for p in load_model(folder).parameters())


def test_of_experts_those_count_that_a_token_is_sent_to(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    weights = {
        "model.layers.0.mlp.experts.0.up_proj.weight": np.zeros((8, 10), np.float32),
        "model.layers.0.mlp.experts.1.up_proj.weight": np.zeros((8, 10), np.float32),
        "model.layers.0.mlp.experts.2.up_proj.weight": np.zeros((8, 10), np.float32),
        "model.layers.0.mlp.experts.3.up_proj.weight": np.zeros((8, 10), np.float32),
        "model.layers.0.mlp.shared_experts.up_proj.weight": np.zeros((8, 10), np.float32),
        "model.embed_tokens.weight": np.zeros((5, 10), np.float32),
    }
    save_file(weights, tmp_path / "model.safetensors")
    for name in ("num_experts", "num_local_experts", "n_routed_experts"):
        config = {"text_config": {name: 4, "num_experts_per_tok": 2}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert active_parameters(tmp_path) == 2 * 80 + 80 + 50


def test_the_trie_of_prompts() -> None:
    prompts = [[1, 2, 3], [1, 2, 4, 5], [1, 2, 3, 6], [9], [1, 2, 3]]
    trie = {tuple(p[:n]) for p in prompts for n in range(1, len(p) + 1)}
    assert unique_tokens(prompts) == len(trie)
    assert [prompts[i] for i in by_prefix(prompts)] == sorted(prompts)
