"""BrowseComp by inspect-evals: a search API and a browser in Docker, answers graded by a model.

The grader's template is simple-evals'. inspect-evals fetches the questions and decrypts them, and
leaves them in its logs. They carry a canary: never publish them or train on them; an item keeps
what the agent wrote alone. Source: inspect_evals 0.26 `browse_comp/`. This module must never know
an engine, a configuration or a store.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from pivotrl.environments.harnesses import checks, inspect_logs
from pivotrl.environments.harnesses.base import Harness, HarnessSettings
from pivotrl.environments.harnesses.files import format_of
from pivotrl.scores import EvaluationItem
from pivotrl.types import JSON, FinishReason, PivotRLError

SEARCH_KEY = "TAVILY_API_KEY"
SEARCH_URL = "https://api.tavily.com"

_VERDICT = re.compile(r"correct: (yes|no)")
_SCORES = {"C": 1.0, "I": 0.0}


def _missing(settings: HarnessSettings) -> list[str]:
    found = [
        *checks.modules(settings.python, inspect_logs.PACKAGES),
        *checks.endpoint("agent", settings.agent),
        *checks.endpoint("judge", settings.judge),
        *checks.docker(),
        *checks.network(SEARCH_URL, "the search API is"),
    ]
    if not os.environ.get(SEARCH_KEY):
        found.append(f"{SEARCH_KEY} is not set: export it with a key of the search API")
    return found


def _commands(settings: HarnessSettings) -> list[list[str]]:
    assert settings.judge is not None  # `missing` says so before
    words = ["-T", "with_browsing=true"]
    words += ["-T", f"scorer_model={inspect_logs.model('judge', settings.judge)}"]
    return inspect_logs.commands(settings, "inspect_evals/browse_comp", words)


def _variables(settings: HarnessSettings) -> dict[str, str]:
    return inspect_logs.variables({"agent": settings.agent, "judge": settings.judge})


def _read(folder: Path) -> list[EvaluationItem]:
    rows = inspect_logs.rows(folder)
    path = folder / inspect_logs.ROWS
    with format_of(path, "rows of inspect_evals 0.26's browse_comp"):
        unjudged = [row["id"] for row in rows if not _is_judged(row)]
        items = [_item(row) for row in rows]
    if unjudged:
        raise PivotRLError(
            f"{path}: the judge gave no verdict on {len(unjudged)} of {len(rows)} answers, first "
            f"{unjudged[0]!r}; take a judge that ends with `correct: yes` or `correct: no`"
        )
    return items


def _is_judged(row: Mapping[str, JSON]) -> bool:
    """Whether the judge said so in the words that inspect-evals reads; it takes others for no."""
    return any(
        _VERDICT.search(call["said"]) for call in row["calls"] if inspect_logs.is_of("judge", call)
    )


def _item(row: Mapping[str, JSON]) -> EvaluationItem:
    (score,) = row["scores"].values()
    answer = score["answer"]
    return EvaluationItem(
        item_id=str(row["id"]),
        repeat=row["epoch"] - 1,
        prompt="",
        output=row["completion"],
        extracted=None if answer == "None" else answer,
        score=_SCORES[score["value"]["score"]],
        finish_reason=FinishReason.LENGTH if inspect_logs.cut(row) else FinishReason.STOP,
    )


BROWSECOMP = Harness(
    name="browsecomp",
    secrets=(SEARCH_KEY,),
    domain="browsing",
    missing=_missing,
    commands=_commands,
    variables=_variables,
    read=_read,
)
