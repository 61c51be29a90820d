"""Inspect's command line and its results, which two of the harnesses have in common.

Source: inspect_ai 0.3, `_cli/eval.py`. This module must never know a benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from glob import escape
from pathlib import Path

from pivotrl.environments.harnesses.base import Endpoint, HarnessSettings
from pivotrl.environments.harnesses.files import format_of, read_lines
from pivotrl.types import JSON, PivotRLError

FORM = "rows of an inspect_ai 0.3 log"
PACKAGES = {"inspect_ai": "inspect-evals", "inspect_evals": "inspect-evals", "openai": "openai"}
"""Modules, and what to install for them."""
TRIES = 4
"""Of a request, before the call counts as lost."""
REQUEST_SECONDS = 600
ROWS = "samples.jsonl"

_NAME = "openai-api/{role}/{model}"
_CUT = frozenset({"max_tokens", "model_length"})
_LOGS = "logs"
_EXPORT = Path(__file__).with_name("inspect_export.py")


def commands(
    settings: HarnessSettings, task: str, words: Sequence[str], store: str = "nothing"
) -> list[list[str]]:
    """Run `task` with the settings' agent and keep what `rows` reads.

    `words` are the benchmark's own options; of a sample's store is kept what begins with `store`.
    """
    python = str(settings.python)
    chosen = [escape(name) for name in settings.tasks[: settings.limit]]
    run = [
        *(python, "-m", "inspect_ai", "eval", task),
        *("--model", model("agent", settings.agent)),
        *words,
        *(["--sample-id", ",".join(chosen)] if chosen else []),
        *(["--limit", str(settings.limit)] if settings.limit and not chosen else []),
        *("--epochs", str(settings.repeats), "--max-samples", str(settings.concurrency)),
        *("--max-retries", str(TRIES - 1), "--attempt-timeout", str(REQUEST_SECONDS)),
        *("--log-dir", _LOGS, "--log-format", "eval", "--no-log-realtime"),
        *("--display", "plain", "--ctl-server", "false"),
        *settings.options,
    ]
    return [run, [python, str(_EXPORT), _LOGS, ROWS, store]]


def model(role: str, endpoint: Endpoint) -> str:
    """Inspect's name of an endpoint's model; it finds address and key in `variables`."""
    return _NAME.format(role=role, model=endpoint.model)


def variables(endpoints: Mapping[str, Endpoint | None]) -> dict[str, str]:
    """Address and key of each role's endpoint."""
    found = {}
    for role, endpoint in endpoints.items():
        if endpoint is not None:
            found[f"{role.upper()}_BASE_URL"] = endpoint.url
            found[f"{role.upper()}_API_KEY"] = endpoint.key
    return found


def rows(folder: Path) -> list[Mapping[str, JSON]]:
    """The samples that a run left, by id and epoch, none of which failed.

    Raises PivotRLError for another format, and for a run, a sample or a call of a model that
    failed: some solvers pass over a lost call in silence.
    """
    path = folder / ROWS
    found = read_lines(path)
    with format_of(path, FORM):
        status = found.pop()["status"]
        failed = [row["id"] for row in found if row["error"] or _lost(row)]
        found.sort(key=lambda row: (str(row["id"]), row["epoch"]))
    if status != "success" or failed or not found:
        which = f", first {failed[0]!r}" if failed else ""
        raise PivotRLError(
            f"{path}: the run ended with {status!r}, and {len(failed)} of {len(found)} samples "
            f"failed{which}; see that every endpoint answers, and run again"
        )
    return found


def cut(row: Mapping[str, JSON]) -> bool:
    """Whether a length limit cut a turn of the agent, or refused it one."""
    return any(
        _too_long(call) or not _CUT.isdisjoint(call["stop_reasons"])
        for call in row["calls"]
        if is_of("agent", call)
    )


def _lost(row: Mapping[str, JSON]) -> bool:
    """Whether a call failed; that the agent's prompt outgrew its context is its own doing."""
    return any(
        call["error"] is not None and not (is_of("agent", call) and _too_long(call))
        for call in row["calls"]
    )


def is_of(role: str, call: Mapping[str, JSON]) -> bool:
    """Whether the model of this role was called."""
    return bool(call["model"].startswith(_NAME.format(role=role, model="")))


def _too_long(call: Mapping[str, JSON]) -> bool:
    """By the words of vLLM and of OpenAI."""
    return "maximum context length" in (call["error"] or "")
