"""Whole rounds on tiny models: learning, Theorem 3.1, resume after kill -9, alarms, SFT."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_models import (
    REWARDED,
    STOP,
    engine_of,
    no_record,
    one_thread,
    random_experts,
    random_model,
    reward_token,
    some_pivots,
    train_settings,
)
from transformers import AutoModelForCausalLM

from pivotrl.training import (
    Demonstration,
    RoundResult,
    SftSettings,
    StepRecord,
    StopReason,
    TrainSettings,
    grpo,
    read_records,
    sft_round,
    train_round,
)
from pivotrl.training.adapters import with_adapters
from pivotrl.training.checkpoint import WorkFolder
from pivotrl.training.improvement import improve
from pivotrl.training.logprobs import log_probs
from pivotrl.training.metrics import group_metrics, step_metrics
from pivotrl.training.optimizer import adamw
from pivotrl.training.records import Backend, Loss
from pivotrl.training.sampling import sample_groups, single_turns, step_groups
from pivotrl.training.sft import by_trajectory
from pivotrl.training.tree import Layout, Row, in_order
from pivotrl.types import (
    Engine,
    FinishReason,
    PivotRLError,
    RolloutStatus,
    Sample,
    Verdict,
    VerdictStatus,
)

__all__ = ["one_thread"]
TESTS = Path(__file__).parent


def run(
    workdir: Path,
    settings: TrainSettings,
    *,
    validation: int = 0,
    on_step: Any = no_record,
    reward: Any = reward_token,
    model: Any = None,
    reference: Any = None,
) -> tuple[Any, RoundResult]:
    model = model or random_model()
    result = train_round(
        model=model,
        reference=(reference or copy.deepcopy(model)) if settings.kl_beta else None,
        engine=engine_of(model),
        pivots=some_pivots(7),
        validation=some_pivots(validation, seed=1),
        draw=single_turns(reward, settings),
        settings=settings,
        workdir=workdir,
        on_step=on_step,
    )
    return model, result


def lasting(records: Path) -> list[StepRecord]:
    """The records without what is measured by the clock."""
    return [
        replace(
            record,
            metrics={k: v for k, v in record.metrics.items() if not k.startswith("seconds/")},
        )
        for record in read_records(records)
    ]


def test_an_engine_sleeps_while_the_policy_is_updated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the step's last sample to the new weights; engines that cannot are left alone."""
    calls: list[str] = []

    class Sleeper:
        def __init__(self, engine: Engine) -> None:
            self._engine = engine

        def sample(self, *arguments: Any, **options: Any) -> list[list[Sample]]:
            calls.append("sample")
            return self._engine.sample(*arguments, **options)

        def load_weights(self, state: Any) -> None:
            calls.append("load")
            self._engine.load_weights(state)

        def sleep(self) -> None:
            calls.append("sleep")

    def told(*arguments: Any) -> dict[str, float]:
        calls.append("improve")
        return improve(*arguments)

    monkeypatch.setattr(grpo, "improve", told)
    made = engine_of
    monkeypatch.setattr(f"{__name__}.engine_of", lambda model: Sleeper(made(model)))
    run(tmp_path, train_settings(steps=2, replacements=0), validation=2)
    step = ["sample", "sleep", "improve", "load"]
    assert calls == ["load", "sample", *step, *step, "sample"]


def test_a_tiny_model_learns_the_rewarded_token(tmp_path: Path) -> None:
    settings = train_settings(
        steps=30, group_size=16, learning_rate=1e-2, validate_every=10, validation_samples=8
    )
    _, result = run(tmp_path, settings, validation=6)
    scores = dict(result.validation)
    assert set(scores) >= {0, 10}
    assert scores[0] < 0.3
    assert scores[result.best_step] == max(scores.values()) > 0.9
    loaded = AutoModelForCausalLM.from_pretrained(result.checkpoint)
    logits = loaded(input_ids=torch.tensor([some_pivots(1, seed=9)[0].prompt_ids])).logits
    assert int(logits[0, -1].argmax()) == REWARDED


def test_the_moving_average_is_what_is_kept(tmp_path: Path) -> None:
    """Against the recurrence written out over the weights after each step."""
    model = random_model()
    average = {name: p.detach().clone() for name, p in model.named_parameters()}

    def follow(record: StepRecord) -> None:
        for name, parameter in model.named_parameters():
            average[name] = 0.8 * average[name] + 0.2 * parameter.detach()

    settings = train_settings(steps=5, ema_decay=0.8)
    last, result = run(tmp_path / "averaged", settings, model=model, on_step=follow)
    kept = dict(AutoModelForCausalLM.from_pretrained(result.checkpoint).named_parameters())
    for name, expected in average.items():
        torch.testing.assert_close(kept[name], expected)
    plain, _ = run(tmp_path / "plain", train_settings(steps=5))
    for a, b in zip(plain.parameters(), last.parameters(), strict=True):
        assert torch.equal(a, b)  # averaging changes no step


def test_records_carry_trl_names_and_rollouts(tmp_path: Path) -> None:
    heard: list[StepRecord] = []
    settings = train_settings(kl_beta=0.05, updates_per_batch=2, warmup_steps=2, replacements=0)
    _, result = run(tmp_path, settings, validation=2, on_step=heard.append)
    assert result.stop_reason is StopReason.COMPLETED
    assert [r.step for r in heard] == [0, 1, 2, 3, 4]
    assert list(read_records(result.records)) == heard
    first, last = heard[1], heard[-1]
    assert set(first.metrics) >= {
        *("loss", "reward", "reward_std", "frac_reward_zero_std", "kl", "entropy", "grad_norm"),
        *("clip_ratio/low_mean", "clip_ratio/high_mean", "learning_rate", "num_tokens"),
        *(
            "completions/mean_length",
            "completions/clipped_ratio",
            "completions/malformed_ratio",
            "rewards/retail/mean",
        ),
        *("sampling/importance_sampling_ratio/mean", "seconds/sample", "seconds/train"),
        *("zero_signal", "group_reward_std"),
    }
    region = sum(first.metrics[f"clip_ratio/{side}_mean"] for side in ("low", "high"))
    assert first.metrics["clip_ratio/region_mean"] == pytest.approx(region)
    assert first.metrics["learning_rate"] == settings.learning_rate / 2
    assert last.metrics["num_tokens"] > 3 * first.metrics["num_tokens"]
    assert abs(first.metrics["sampling/importance_sampling_ratio/mean"] - 1) < 1e-4
    assert len(first.rollouts) == 3 * 6
    verdicts = sum(v for k, v in first.metrics.items() if k.startswith("verdict/"))
    assert verdicts == 18
    assert {r.sample_index for r in first.rollouts} == set(range(6))


def test_equal_rewards_leave_every_gradient_exactly_zero() -> None:
    """Theorem 3.1, and the same groups forwarded by force give exactly zero too."""
    model = random_model()
    settings = train_settings()

    def always(candidate_id: str, sample: Sample) -> Verdict:
        return Verdict(status=VerdictStatus.OK, reward=1.0, category="accepted")

    groups = sample_groups(
        engine_of(model), some_pivots(3), single_turns(always, settings), settings, 1
    )
    before = copy.deepcopy(model.state_dict())
    optimizer = adamw(model, 0.1)
    metrics = improve(model, None, optimizer, groups, "split", settings, 1)
    assert metrics["loss"] == metrics["grad_norm"] == 0.0
    # A reference equal to the policy forces the forward pass; its own gradient is zero here too.
    forced = replace(settings, kl_beta=1e-9)
    reference = copy.deepcopy(model)
    metrics = improve(model, reference, adamw(model, 0), groups, "split", forced, 1)
    assert metrics["grad_norm"] < 1e-12
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items() if "norm" in k)


@pytest.mark.parametrize("loss", ["dapo", "gspo", "dr_grpo"])
def test_gradient_does_not_depend_on_micro_batches_or_backend(loss: Loss) -> None:
    settings = train_settings(kl_beta=0.1, group_size=8, max_tokens=6, loss=loss)
    reference = random_model(seed=1).double()
    draw = single_turns(reward_token, settings)
    groups = sample_groups(engine_of(random_model()), some_pivots(4), draw, settings, 1)
    changed = []
    cuts: list[tuple[Backend, int]] = [("rows", 1), ("rows", 10**6), ("mask", 40), ("split", 10**6)]
    for backend, limit in [*cuts, ("split", 1), ("split", 40)]:
        model = random_model().double()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        cut = replace(settings, micro_batch_tokens=limit, max_grad_norm=1e9)
        improve(model, reference, optimizer, groups, backend, cut, 1)
        changed.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    start = torch.cat([p.detach().flatten() for p in random_model().double().parameters()])
    size = torch.dist(changed[0], start)
    assert size > 0
    assert all(torch.dist(changed[0], other) <= 1e-6 * size for other in changed[1:])


def test_two_threads_give_the_same_bits_every_time() -> None:
    torch.set_num_threads(2)
    model = random_model(vocabulary=512, hidden=128, layers=1)
    ids = torch.arange(4 * 8 * 40).remainder(500).reshape(4, 8, 40).tolist()
    rows = [
        Row(sample=0, prompt=tuple(range(100 * (1 + i % 2))), completion=tuple(completion))
        for i, group in enumerate(ids)
        for completion in group
    ]
    layout = Layout(in_order(rows))

    def gradient() -> torch.Tensor:
        model.zero_grad()
        found, _ = log_probs(model, layout, "split")
        found.sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    first = gradient()
    assert all(torch.equal(first, gradient()) for _ in range(4))


def test_groups_without_a_signal_give_their_place_to_others() -> None:
    """Whole groups are judged: a group whose first sample differs alone is kept."""
    pivots = some_pivots(6)
    flat = {pivots[0].candidate_id, pivots[1].candidate_id, pivots[4].candidate_id}
    model = random_model()
    settings = train_settings(group_size=4)
    counts: dict[str, int] = {}

    def reward(candidate_id: str, sample: Sample) -> Verdict:
        counts[candidate_id] = counts.get(candidate_id, 0) + 1
        right = candidate_id not in flat and counts[candidate_id] == 1
        return Verdict(status=VerdictStatus.OK, reward=float(right), category="accepted")

    met = [pivots[:3], [pivots[1], pivots[4], pivots[5], pivots[3]], pivots[2:4]]
    groups, drawn = step_groups(engine_of(model), met, single_turns(reward, settings), settings, 1)
    # 0 and 1 are flat; 4, which is flat, and 5 are tried for them, then 3 for what is left.
    assert [pivots.index(group.pivot) for group in groups] == [5, 3, 2]
    assert [pivots.index(group.pivot) for group in drawn] == [0, 1, 2, 4, 5, 3]
    found = step_metrics(groups, drawn)
    assert (found["replaced"], found["groups_sampled"]) == (2, 6)
    assert len({sample.seed for group in drawn for sample in group.samples}) == 24


def test_a_judge_decides_at_once_what_the_reward_leaves_undecided() -> None:
    settings = train_settings(group_size=4)
    pivots = some_pivots(3)
    asked: list[list[tuple[str, Sample]]] = []

    def reward(candidate_id: str, sample: Sample) -> Verdict:
        if sample.token_ids[0] % 2:
            return Verdict(status=VerdictStatus.UNDECIDED, reward=None, category="paraphrase")
        return Verdict(status=VerdictStatus.OK, reward=0.0, category="wrong_fact")

    def judge(acts: Sequence[tuple[str, Sample]]) -> list[Verdict]:
        asked.append(list(acts))
        return [
            Verdict(status=VerdictStatus.OK, reward=float(place), category="accepted")
            for place in range(len(acts))
        ]

    draw = single_turns(reward, settings, judge)
    groups = sample_groups(engine_of(random_model()), pivots, draw, settings, 1)
    (acts,) = asked
    odd = [
        (group.pivot.candidate_id, act.sample, act.verdict.reward)
        for group in groups
        for act in group.acts
        if act.sample.token_ids[0] % 2
    ]
    assert 0 < len(odd) < 12
    assert odd == [(name, sample, float(place)) for place, (name, sample) in enumerate(acts)]
    rewards = [act.verdict.reward for group in groups for act in group.acts]
    assert rewards.count(0.0) == 12 - len(odd) + 1


@pytest.mark.parametrize("steps", [30, 3])
def test_a_round_without_progress_ends_and_says_so_also_at_its_last_step(
    tmp_path: Path, steps: int
) -> None:
    settings = train_settings(
        steps=steps, validate_every=1, patience=3, learning_rate=1e-12, ema_decay=0.0
    )
    _, result = run(tmp_path, settings, validation=3)
    assert result.stop_reason is StopReason.NO_PROGRESS
    assert result.steps == 3
    assert result.best_step == 0


@pytest.mark.parametrize("make", [random_model, random_experts])
def test_adapters_are_trained_resumed_and_saved_whole(
    tmp_path: Path, make: Callable[[], Any]
) -> None:
    settings = train_settings(kl_beta=0.05, checkpoint_every=2, learning_rate=2e-2)
    ids = torch.tensor([[2, 3, 4, 5, 6]])

    class Interrupted(Exception):
        pass

    def interrupt(record: StepRecord) -> None:
        if record.step == 3:
            raise Interrupted

    def adapted() -> Any:
        return with_adapters(make(), rank=4, alpha=8, seed=1)

    def learn(work: Path, model: Any, on_step: Any = no_record) -> RoundResult:
        return run(work, settings, model=model, reference=model, on_step=on_step)[1]

    model = adapted()
    before = model.get_base_model()(ids).logits
    result = learn(tmp_path / "whole", model)
    after = model(input_ids=ids).logits
    assert (after - before).abs().max() > 1e-3
    with model.disable_adapter():
        assert torch.equal(model(input_ids=ids).logits, before)
    saved = AutoModelForCausalLM.from_pretrained(result.checkpoint)
    torch.testing.assert_close(saved(ids).logits, after, atol=1e-5, rtol=1e-5)
    with pytest.raises(Interrupted):
        learn(tmp_path / "cut", adapted(), interrupt)
    resumed = adapted()
    learn(tmp_path / "cut", resumed)
    assert torch.equal(resumed(input_ids=ids).logits, after)


def test_frozen_parts_stay_and_checkpointing_changes_nothing(tmp_path: Path) -> None:
    plain, _ = run(tmp_path / "plain", train_settings(freeze=("mlp.",)))
    start = dict(random_model().named_parameters())
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, start[name]) == ("mlp." in name)
    again, _ = run(tmp_path / "less", train_settings(freeze=("mlp.",), gradient_checkpointing=True))
    pairs = zip(plain.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    with pytest.raises(PivotRLError, match="no parameter's name"):
        run(tmp_path / "none", train_settings(freeze=("router",)))


def test_a_failed_sample_is_retried_then_dropped() -> None:
    model = random_model()
    inner = engine_of(model)
    calls: list[int] = []

    class Failing:
        def sample(self, prompts: Sequence[Sequence[int]], n: int, *rest: Any) -> Any:
            calls.append(len(prompts))
            groups = inner.sample(prompts, n, *rest)
            failed = replace(groups[0][0], status=RolloutStatus.ENGINE_ERROR)
            return [[failed, *groups[0][1:]], *groups[1:]]

        def load_weights(self, state: Any) -> None:
            inner.load_weights(state)

    settings = train_settings()
    draw = single_turns(reward_token, settings)
    groups = sample_groups(Failing(), some_pivots(3), draw, settings, 1)
    assert calls == [3, 1]
    assert groups[0].verdicts[0].reward is None
    assert groups[0].verdicts[0].category == "engine_error"
    assert groups[0].advantages[0] is None
    assert all(a is not None for a in groups[0].advantages[1:])


def test_no_reward_at_all_ends_the_round(tmp_path: Path) -> None:
    def undecided(candidate_id: str, sample: Sample) -> Verdict:
        return Verdict(status=VerdictStatus.UNDECIDED, reward=None, category="judge_missing")

    with pytest.raises(PivotRLError, match="judge_missing"):
        run(tmp_path, train_settings(), reward=undecided)


def test_a_gradient_that_is_not_finite_ends_the_round(tmp_path: Path) -> None:
    model = random_model()

    def spoil(candidate_id: str, sample: Sample) -> Verdict:
        model.model.norm.weight.data.fill_(float("nan"))
        return reward_token(candidate_id, sample)

    with pytest.raises(PivotRLError, match="not finite"):
        run(tmp_path, train_settings(kl_beta=0.1), reward=spoil, model=model)


def test_a_policy_that_was_changed_behind_the_engine_sets_off_the_alarm(tmp_path: Path) -> None:
    """As a prefix cache does that survives an update."""
    model = random_model()
    stale = engine_of(copy.deepcopy(model))
    stale.load_weights = lambda state: None  # type: ignore[method-assign]
    settings = train_settings(steps=20, learning_rate=3e-2, group_size=16)
    with pytest.raises(PivotRLError, match="nats"):
        train_round(
            model=model,
            reference=None,
            engine=stale,
            pivots=some_pivots(7),
            validation=[],
            draw=single_turns(reward_token, settings),
            settings=settings,
            workdir=tmp_path,
            on_step=no_record,
        )


def test_bad_calls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PivotRLError, match="group_size"):
        train_settings(group_size=1)
    with pytest.raises(PivotRLError, match="float32"):
        run(tmp_path, train_settings(), model=random_model().to(torch.bfloat16))
    run(tmp_path, train_settings(steps=1))
    with pytest.raises(PivotRLError, match="other settings"):
        run(tmp_path, train_settings(steps=2))


def test_bfloat16_trains(tmp_path: Path) -> None:
    model, result = run(tmp_path, train_settings(dtype="bfloat16", kl_beta=0.05))
    assert all(p.dtype == torch.float32 for p in model.parameters())
    drift = [
        r.metrics["sampling/sampling_logp_difference/mean"] for r in read_records(result.records)
    ]
    assert max(drift) < 0.05


def test_a_finished_round_answers_again_without_work(tmp_path: Path) -> None:
    heard: list[StepRecord] = []
    model, result = run(tmp_path, train_settings(), validation=2)
    again, repeated = run(tmp_path, train_settings(), validation=2, on_step=heard.append)
    assert repeated == result
    assert heard == []
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


RESUMABLE = {
    "steps": 12,
    "validate_every": 3,
    "checkpoint_every": 2,
    "kl_beta": 0.05,
    "ema_decay": 0.5,
}


def test_killed_anywhere_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    model, whole = run(tmp_path / "whole", train_settings(**RESUMABLE), validation=3)
    work = tmp_path / "killed"
    for wanted in ("checkpoint-000002", "checkpoint-000006"):
        kill_when_there(work, work / wanted)
    assert len(list(work.glob("checkpoint-*"))) >= 1
    with (work / "steps.jsonl").open("ab") as file:
        file.write(b'{"step":99,"metr')
    heard: list[StepRecord] = []
    resumed, result = run(work, train_settings(**RESUMABLE), validation=3, on_step=heard.append)
    assert 0 < len(heard) < 12
    assert replace(result, checkpoint=whole.checkpoint, records=whole.records) == whole
    assert lasting(result.records) == lasting(whole.records)
    for a, b in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    for name in ("model.safetensors", "config.json"):
        assert (whole.checkpoint / name).read_bytes() == (result.checkpoint / name).read_bytes()
    assert sorted(p.name for p in work.iterdir()) == sorted(
        p.name for p in (tmp_path / "whole").iterdir()
    )


def kill_when_there(work: Path, sign: Path) -> None:
    """Runs the round in a process of its own and kills it once `sign` (or a later one) exists."""
    code = (
        f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
        "import time, torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from test_training_round import run, RESUMABLE, train_settings\n"
        f"run(Path({str(work)!r}), train_settings(**RESUMABLE), validation=3,\n"
        "    on_step=lambda record: time.sleep(0.05))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=TESTS.parent)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if any(p.name >= sign.name and p.suffix == "" for p in work.glob("checkpoint-*")):
            break
        time.sleep(0.01)
    assert process.poll() is None, "the round ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_nothing_half_written_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(model), "save_pretrained", full)
    with pytest.raises(PivotRLError, match="No space left"):
        run(tmp_path, train_settings(steps=1), model=model)
    assert not list(tmp_path.glob("policy-*"))
    (tmp_path / "checkpoint-000009.partial").mkdir()
    (tmp_path / "steps.jsonl.partial").write_bytes(b"x")
    WorkFolder(tmp_path, "x", model, torch.optim.AdamW(model.parameters()), {})
    assert not list(tmp_path.glob("*.partial"))


def demonstrations() -> list[Demonstration]:
    turns = []
    for number in range(6):
        history = [2, 10 + number, 3]
        for turn in range(3):
            answer = [REWARDED + turn, 20 + number, STOP]
            turns.append(
                Demonstration(
                    candidate_id=f"{number}-{turn}",
                    trajectory_id=str(number),
                    prompt_ids=tuple(history),
                    completion_ids=tuple(answer),
                )
            )
            history = [*history, *answer, 4, 5]
    return turns


def test_the_turns_of_a_trajectory_are_read_once() -> None:
    together = by_trajectory(demonstrations())
    assert len(together) == 6
    layout = Layout(in_order(together["2"]))
    assert layout.row_tokens > 1.9 * len(layout.ids)
    learned = {row.prompt: row.completion for row in layout.rows}
    assert [*sorted(learned.values())] == [(7, 22, 1), (8, 22, 1), (9, 22, 1)]


def test_sft_learns_the_demonstrations_and_resumes(tmp_path: Path) -> None:
    settings = SftSettings(
        epochs=30,
        trajectories_per_step=2,
        learning_rate=1e-2,
        micro_batch_tokens=60,
        checkpoint_every=7,
    )

    class Interrupted(Exception):
        pass

    def interrupt(record: StepRecord) -> None:
        if record.step == 40:
            raise Interrupted

    def learn(work: Path, on_step: Any = no_record) -> tuple[Any, RoundResult]:
        model = random_model()
        result = sft_round(
            model=model,
            demonstrations=demonstrations(),
            settings=settings,
            workdir=work,
            on_step=on_step,
        )
        return model, result

    model, whole = learn(tmp_path / "whole")
    losses = [record.metrics["loss"] for record in read_records(whole.records)]
    assert len(losses) == 90
    assert losses[-1] < 0.1 < 1 < losses[0]
    with pytest.raises(Interrupted):
        learn(tmp_path / "cut", interrupt)
    resumed, result = learn(tmp_path / "cut")
    assert lasting(result.records) == lasting(whole.records)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True)
    )


def test_training_imports_with_torch_and_transformers_alone() -> None:
    blocked = ["pydantic", "polars", "pandera", "duckdb", "rich", "typer", "prefect", "mlflow"]
    blocked += ["orjson", "peft", "trl", "vllm", "zstandard", "datasets"]
    code = (
        "import sys\n"
        f"blocked = {blocked!r}\n"
        "sys.modules.update(dict.fromkeys(blocked))\n"
        "import pivotrl.training, pivotrl.engines.hf\n"
        "ours = {n.split('.')[1] for n in sys.modules if n.startswith('pivotrl.')}\n"
        "print(sorted(ours - {'training', 'engines', 'prefixes', 'types'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=TESTS.parent, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_gpu_check_runs_from_a_bare_checkout(tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        "sys.modules.update(dict.fromkeys(['orjson', 'peft', 'pydantic', 'polars', 'rich']))\n"
        f"sys.argv = ['', '--tiny', '--repeats', '1', '--out', {str(tmp_path / 'x')!r}]\n"
        "runpy.run_path('bench/gpu_check.py', run_name='__main__')\n"
    )
    subprocess.run([sys.executable, "-I", "-c", code], cwd=TESTS.parent, check=True)
    result = json.loads((tmp_path / "x").read_text())
    assert result["parity"]["differences"]["split float32"]["nats"] <= 1e-4
    assert result["speed"]["tiny"]["token_ratio"] > 2


def test_no_pickle_in_a_work_folder(tmp_path: Path) -> None:
    run(tmp_path, train_settings(steps=2, checkpoint_every=1))
    names = {re.sub(r"\d", "", p.name) for p in tmp_path.rglob("*") if p.is_file()}
    allowed = {"state.safetensors", "progress.json", "steps.jsonl", "model.safetensors"}
    assert names <= allowed | {"config.json", "generation_config.json"}
    shutil.rmtree(tmp_path)


def test_a_weight_that_cispo_cuts_is_no_clipped_token(tmp_path: Path) -> None:
    settings = train_settings(loss="cispo", updates_per_batch=3, learning_rate=0.05, clip_high=0.05)
    _, result = run(tmp_path, settings)
    metrics = [record.metrics for record in read_records(result.records) if record.step]
    assert max(row["cispo_clip_ratio"] for row in metrics) > 0
    assert not [name for row in metrics for name in row if name.startswith("clip_ratio/")]


def test_what_was_cut_is_counted_also_without_a_reward() -> None:
    settings = train_settings()

    def masked(_id: str, one: Sample) -> Verdict:
        if one.finish_reason is FinishReason.LENGTH:
            return Verdict(status=VerdictStatus.MASKED, reward=None, category="truncated")
        return Verdict(status=VerdictStatus.OK, reward=1.0, category="accepted")

    draw = single_turns(masked, settings)
    groups = sample_groups(engine_of(random_model()), some_pivots(3), draw, settings, 1)
    cut = [s.finish_reason is FinishReason.LENGTH for group in groups for s in group.samples]
    assert 0 < sum(cut) < len(cut)
    found = group_metrics(groups)
    assert found["completions/clipped_ratio"] == pytest.approx(sum(cut) / len(cut))
    assert found["completions/max_length"] == settings.max_tokens
    assert found["reward"] == 1.0 and found["dropped"] == sum(cut)
    ended = [
        len(one.token_ids)
        for group in groups
        for one in group.samples
        if one.finish_reason is FinishReason.STOP
    ]
    assert found["completions/mean_terminated_length"] == pytest.approx(sum(ended) / len(ended))
