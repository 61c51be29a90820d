"""How often the functional reward agrees with the live domain's own judgement of an action.

Rewards judge from the row alone; the environment knows the truth. Fresh test tasks, the expert's
turns, sampled actions of the reference policy.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from pivotrl.config import Config
from pivotrl.manifest import Manifest
from pivotrl.policies import PolicyFiles
from pivotrl.types import Candidate, EnvironmentState, RolloutStatus, Trajectory, action_of
from tasks.policy import ENGINES, engine_settings, load_policy, of_model
from tasks.sample import sampling_of
from tasks.session import current
from tasks.stage import Produced, Stage, Work

TASKS = 100
"""At most so many, and no more than are scored."""
SAMPLES = 4


def agree(config: Config, model: Path, policy: PolicyFiles, environment: str) -> Manifest | None:
    engine = engine_settings(config, model, profiling=False).name
    stage = Stage(
        name="agree",
        body=_body,
        modules=(
            "pivotrl.verifiers",
            "pivotrl.rollouts",
            "pivotrl.agreement",
            f"pivotrl.engines.{engine}",
            "pivotrl.environments.demonstrations",
            f"pivotrl.environments.{environment}",
        ),
        computes_with=ENGINES,
    )
    return stage(
        settings=of_model(config)
        | {
            "environment": environment,
            "mode": config.verify.mode,
            "policy": asdict(policy),
            "sampling": asdict(sampling_of(config)),
            "engine": engine,
            "tasks": min(TASKS, config.evaluate.tasks),
            "samples": SAMPLES,
        },
        extra={"config": config, "model": model, "policy": policy},
        label=f"reward against oracle {environment}",
    )


def _body(work: Work) -> Produced:
    from pivotrl import rollouts, trajectories
    from pivotrl.agreement import reward_agreement
    from pivotrl.candidates import extract
    from pivotrl.engines.meter import Meter
    from pivotrl.environments import live_domain
    from pivotrl.environments.demonstrations import write_demonstrations
    from pivotrl.verifiers import verifier_for

    config: Config = work.extra["config"]
    domain = live_domain(work.settings["environment"])
    file = work.folder / "expert.jsonl"
    seed = config.run.seed
    count = work.settings["tasks"]
    write_demonstrations(domain, file, count, seed, "test")
    tasks = {task["id"]: task for task in domain.make_tasks("test", count, seed)}
    states: dict[str, EnvironmentState] = {}
    candidates: list[Candidate] = []
    for row in trajectories.read([file]):
        assert isinstance(row, Trajectory) and row.task is not None
        found = {c.turn: c for c in extract(row)}
        state = domain.environment.reset(tasks[row.task])
        for turn, message in enumerate(row.messages):
            if turn in found:
                states[found[turn].id] = state
                candidates.append(found[turn])
                state = domain.environment.step(state, action_of(message))
    loaded = load_policy(config, work.extra["model"], work.extra["policy"].weights)
    meter = Meter(engine=loaded.engine)
    params = sampling_of(config)
    fitting, _ = rollouts.prompts(
        candidates, loaded.chat, longest=loaded.context - params.max_tokens
    )
    with current().progress("reward against oracle", len(fitting), "turns") as advance:
        rows = rollouts.sample(
            fitting,
            meter,
            policy="agreement",
            samples=SAMPLES,
            params=params,
            seed=seed,
            on_progress=lambda done, _tokens: advance(done / SAMPLES),
        )
    known = {c.id: c for c in candidates}
    result = reward_agreement(
        domain.oracle,
        verifier_for(candidates[0].domain, work.settings["mode"]).verify,
        [
            (
                states[row["candidate_id"]],
                known[row["candidate_id"]],
                loaded.chat.parse(
                    row["text"], row["finish_reason"], known[row["candidate_id"]].tools
                ),
            )
            for row in rows
            if row["status"] == RolloutStatus.OK  # else it is no action
        ],
    )
    return Produced(counts=asdict(result) | meter.counts)
