"""Terminal-Bench 2.0 by harbor: Terminus 2 types into a container's terminal, tests judge it.

A trial's score is its verifier's reward. Harbor itself says which failures leave no valid reward
(an endpoint that is gone, a container that does not start); they are no score. A run that its time
or its context cut is judged as it stands. Source: harbor 0.26 `models/trial/result.py`,
`models/trial/error_policy.py`. This module must never know an engine, a configuration or a store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pivotrl.environments.harnesses import checks
from pivotrl.environments.harnesses.base import Harness, HarnessSettings
from pivotrl.environments.harnesses.files import format_of, read_json
from pivotrl.scores import EvaluationItem
from pivotrl.types import JSON, FinishReason, PivotRLError, canonical

DATASET = "terminal-bench@2.0"
AGENT = "terminus-2"
JOB = "pivotrl"
RETRIES = 2
"""Of a trial that the machinery failed on."""

_JOBS = Path("jobs")
_CUT = frozenset(
    {"AgentTimeoutError", "ContextWindowExceededError", "ContextLengthExceededError"}
    | {"OutputTokenExceededError", "OutputLengthExceededError"}
)


def _missing(settings: HarnessSettings) -> list[str]:
    return [
        *checks.modules(settings.python, {"harbor": "harbor"}),
        *checks.endpoint("agent", settings.agent),
        *checks.docker(),
        *checks.network_of(
            settings.python, "harbor.constants", "DEFAULT_REGISTRY_URL", "its tasks are listed"
        ),
    ]


def _commands(settings: HarnessSettings) -> list[list[str]]:
    chosen = settings.tasks[: settings.limit]
    return [
        [
            *(str(settings.python), "-m", "harbor.cli.main", "run"),
            *("--dataset", DATASET, "--agent", AGENT),
            *("--model", f"openai/{settings.agent.model}", "--base-url", settings.agent.url),
            *("--api-key-name", "OPENAI_API_KEY"),
            *("--n-attempts", str(settings.repeats), "--n-concurrent", str(settings.concurrency)),
            *("--max-retries", str(RETRIES)),
            *(word for name in chosen for word in ("--include-task-name", name)),
            *(["--n-tasks", str(settings.limit)] if settings.limit and not chosen else []),
            *("--jobs-dir", str(_JOBS), "--job-name", JOB, "--quiet", "--yes"),
            *settings.options,
        ]
    ]


def _variables(settings: HarnessSettings) -> dict[str, str]:
    return {
        "OPENAI_API_KEY": settings.agent.key,
        "HARBOR_TELEMETRY": "off",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it looks for prices in the network
    }


def _read(folder: Path) -> list[EvaluationItem]:
    job = folder / _JOBS / JOB
    path = job / "result.json"
    told = read_json(path)
    with format_of(path, "a job of harbor 0.26"):
        wanted = int(told["n_total_trials"])
    items, lost, seen = [], [], Counter[str]()
    for path in sorted(job.glob("*/result.json")):
        trial = read_json(path)
        with format_of(path, "a trial of harbor 0.26"):
            name, failed = trial["task_name"], trial["exception_info"]
            ended = failed["exception_type"] if failed else "done"
            if trial["reward_valid"]:
                items.append(_item(trial, name, seen[name], ended, path.parent))
                seen[name] += 1
            else:
                lost.append(f"{trial['trial_name']}: {ended}")
    if lost or len(items) != wanted:
        which = f", first {lost[0]}" if lost else ""
        raise PivotRLError(
            f"{job}: {len(items)} of {wanted} trials have a reward{which}; mend the cause and run "
            "again"
        )
    return items


def _item(
    trial: Mapping[str, JSON], name: str, repeat: int, ended: str, folder: Path
) -> EvaluationItem:
    return EvaluationItem(
        item_id=name,
        repeat=repeat,
        prompt="",
        output=_trajectory(folder / "agent" / "trajectory.json"),
        extracted=ended,
        score=float(trial["verifier_result"]["rewards"]["reward"]),
        finish_reason=FinishReason.LENGTH if ended in _CUT else FinishReason.STOP,
    )


def _trajectory(path: Path) -> str:
    """As harbor keeps it (ATIF); empty where the agent did not come so far."""
    return canonical(read_json(path)).decode() if path.is_file() else ""


TERMINAL_BENCH = Harness(
    name="terminal_bench",
    domain="terminal",
    missing=_missing,
    commands=_commands,
    variables=_variables,
    read=_read,
)
