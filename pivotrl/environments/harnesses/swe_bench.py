"""SWE-bench Verified: mini-swe-agent writes patches in Docker, SWE-bench's own tests judge them.

An instance is solved or it is not; a patch that is empty or does not apply solves nothing. What the
machinery failed on (an endpoint that is gone, an image that does not start) is no score. Sources:
minisweagent 2.4 `run/benchmarks/swebench.py`; swebench 5.0 `harness/reporting.py`, schema 2. This
module must never know an engine, a configuration or a store.
"""

from __future__ import annotations

import re
from pathlib import Path

from pivotrl.environments.harnesses import checks
from pivotrl.environments.harnesses.base import Harness, HarnessSettings
from pivotrl.environments.harnesses.files import format_of, read_bytes, read_json
from pivotrl.scores import EvaluationItem
from pivotrl.types import FinishReason, PivotRLError

DATASET = "SWE-bench/SWE-bench_Verified"
RUN_ID = "pivotrl"
PACKAGES = {"minisweagent": "mini-swe-agent", "swebench": "swebench"}
"""Modules, and what to install for them."""

_AGENT = Path("agent")
_REPORT = Path("report")
_PATCHES = _AGENT / "preds.json"
_CUT = frozenset({"LimitsExceeded", "TimeExceeded", "ContextWindowExceededError"})
_ENDS = frozenset({"Submitted", "RepeatedFormatError"}) | _CUT
"""How mini-swe-agent ends where the model is to blame; else it names an exception."""
_PATCHS_FAULTS = (b">>>>> Patch Apply Failed", b"Test timed out after")
"""In SWE-bench's log of an instance that it has no verdict on."""


def _missing(settings: HarnessSettings) -> list[str]:
    return [
        *checks.modules(settings.python, PACKAGES),
        *checks.endpoint("agent", settings.agent),
        *checks.docker(),
        *checks.network_of(
            settings.python, "huggingface_hub.constants", "ENDPOINT", f"{DATASET} is"
        ),
        *checks.single(settings.repeats),
    ]


def _commands(settings: HarnessSettings) -> list[list[str]]:
    python = str(settings.python)
    wanted = "|".join(re.escape(name) for name in settings.tasks[: settings.limit])
    write = [
        *(python, "-m", "minisweagent.run.utilities.mini_extra", "swebench"),
        *("--subset", DATASET, "--split", "test", "--output", str(_AGENT)),
        *("--model", f"openai/{settings.agent.model}", "--workers", str(settings.concurrency)),
        *(["--filter", f"^({wanted})$"] if wanted else []),
        *(["--slice", f"0:{settings.limit}"] if settings.limit and not wanted else []),
        *settings.options,
    ]
    judge = [
        *(python, "-m", "swebench.harness.run_evaluation"),
        *("--dataset_name", DATASET, "--split", "test", "--run_id", RUN_ID),
        *("--predictions_path", str(_PATCHES), "--report_dir", str(_REPORT)),
        *("--max_workers", str(settings.concurrency)),
    ]
    return [write, judge]


def _variables(settings: HarnessSettings) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": settings.agent.url,
        "OPENAI_API_BASE": settings.agent.url,  # the older name, which LiteLLM looks for as well
        "OPENAI_API_KEY": settings.agent.key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it looks for prices in the network
        "MSWEA_COST_TRACKING": "ignore_errors",  # no price is known of our own model
        "MSWEA_GLOBAL_CONFIG_DIR": str(settings.folder.resolve() / "config"),
    }


def _read(folder: Path) -> list[EvaluationItem]:
    path = folder / _PATCHES
    patches = read_json(path)
    with format_of(path, "patches of mini-swe-agent 2.4"):
        texts = {name: row["model_patch"] or "" for name, row in patches.items()}
        (model,) = {row["model_name_or_path"].replace("/", "__") for row in patches.values()}
    path = folder / _REPORT / f"{model}.{RUN_ID}.json"
    report = read_json(path)
    with format_of(path, "a report of swebench 5.0"):
        solved, judged = set(report["resolved_ids"]), set(report["completed_ids"])
        judged |= set(report["empty_patch_ids"])
        judged -= set(report["error_ids"])
    ends = {name: _end(folder, name) for name in texts}
    logs = folder / "logs" / "run_evaluation" / RUN_ID / model
    lost = [
        name
        for name in sorted(texts)
        if ends[name] not in _ENDS or not (name in judged or _at_fault(logs / name))
    ]
    if lost:
        raise PivotRLError(
            f"{folder}: {len(lost)} of {len(texts)} instances failed without the model's doing, "
            f"first {lost[0]} (its agent ended with {ends[lost[0]]!r}); see {_AGENT} and logs "
            "there, mend the cause and run again"
        )
    return [
        EvaluationItem(
            item_id=name,
            prompt="",
            output=texts[name],
            extracted=texts[name] or None,
            score=float(name in solved),
            finish_reason=FinishReason.LENGTH if ends[name] in _CUT else FinishReason.STOP,
        )
        for name in sorted(texts)
    ]


def _end(folder: Path, name: str) -> str:
    """How the agent ended; it leaves no file where its container did not start."""
    path = folder / _AGENT / name / f"{name}.traj.json"
    if not path.is_file():
        return "no container"
    run = read_json(path)
    with format_of(path, "a run of mini-swe-agent 2.4"):
        return str(run["info"]["exit_status"])


def _at_fault(logs: Path) -> bool:
    """Whether SWE-bench has no verdict because of the patch."""
    log = logs / "run_instance.log"
    return log.is_file() and any(fault in read_bytes(log) for fault in _PATCHS_FAULTS)


SWE_BENCH = Harness(
    name="swe_bench",
    domain="software",
    missing=_missing,
    commands=_commands,
    variables=_variables,
    read=_read,
)
