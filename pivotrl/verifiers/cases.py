"""Single judgements from rows of JSON: `pivotrl verify`, and labelled cases for `pivotrl verdicts`.

A row has `domain, tools, messages, demonstration, action`, perhaps `accepted_actions` and `files`
(path -> text); `demonstration`, `action` and accepted actions are assistant messages in OpenAI chat
form. The action is a model's and may be anything; the rest is the data's and must be readable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pivotrl.trajectories.build import build
from pivotrl.trajectories.columns import from_row
from pivotrl.trajectories.draft import Draft
from pivotrl.trajectories.messages import read_message
from pivotrl.trajectories.rows import Row, RowError
from pivotrl.trajectories.tool_specs import NO_TOOLS
from pivotrl.types import JSON, Action, Candidate, ConfigError, ToolCall, Verdict, VerdictStatus
from pivotrl.verifiers import verifier_for


def judge_row(row: Row, *, execute: bool = False, ask: bool = False) -> Verdict:
    """The verdict of the row's domain; an unreadable row has an error as its verdict."""
    try:
        if isinstance(row.value, RowError):
            raise row.value
        candidate, action = read_case(row.value)
        verifier = verifier_for(candidate.domain, execute=execute, ask=ask)
        return verifier.verify(candidate, action)
    except (RowError, ConfigError) as error:
        return Verdict(
            status=VerdictStatus.ERROR,
            reward=None,
            category="unreadable row",
            details={"why": str(error)},
        )


def read_case(row: JSON) -> tuple[Candidate, Action]:
    """Raises RowError where the candidate cannot be read."""
    if not isinstance(row, Mapping) or not isinstance(row.get("messages"), list):
        raise RowError("unreadable row", "give domain, tools, messages, demonstration, action")
    turn = len(row["messages"])
    accepted, files = row.get("accepted_actions"), row.get("files")
    stored = build(
        Draft(
            messages=[*row["messages"], row.get("demonstration")],
            tools=row.get("tools"),
            domain=row.get("domain"),
            accepted_actions={str(turn): accepted} if accepted else None,
            files={str(turn): files} if files else None,
        ),
        given_tools=NO_TOOLS,
        given_domain=None,
        source_file="",
        source_row=0,
    )
    return Candidate(id="", trajectory=from_row(stored), turn=turn), read_action(row.get("action"))


def read_action(message: JSON) -> Action:
    """The action that an assistant message is, read as a demonstration is; else malformed."""
    try:
        read = read_message(
            0, {"role": "assistant"} | message if isinstance(message, dict) else None
        )
        if read["role"] != "assistant":
            raise RowError("unreadable message", "only an assistant acts")
    except RowError as error:
        return Action(malformed=(error.remedy,))
    called = [call["function"] for call in read.get("tool_calls", ())]
    return Action(
        text=read["content"],
        reasoning=read.get("reasoning_content"),
        tool_calls=tuple(ToolCall(name=c["name"], arguments=c["arguments"]) for c in called),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A labelled case and what the verifier says of it."""

    source: str
    row: int
    domain: str
    accepted: bool
    why: str
    verdict: Verdict

    @property
    def says(self) -> bool:
        return self.verdict.status is VerdictStatus.OK and (self.verdict.reward or 0) >= 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Of one domain. Precision: accepted rightly of all accepted; recall: of all right ones."""

    n: int
    precision: float | None
    recall: float | None
    asked: int
    """Undecided, for a judge."""
    recall_judged: float | None
    """Recall, if the judge accepts those of them that are right."""


def judge_cases(
    rows: Iterable[tuple[str, Row]], *, execute: bool = False, ask: bool = False
) -> Iterator[Case]:
    """`rows` are (source, row) with `accepted` and `why`. Raises ConfigError for one without."""
    for source, row in rows:
        value = row.value
        if not isinstance(value, Mapping) or not isinstance(value.get("accepted"), bool):
            why = value.remedy if isinstance(value, RowError) else "`accepted` is no true or false"
            raise ConfigError(f"{source}, row {row.number}: {why}")
        yield Case(
            source=source,
            row=row.number,
            domain=str(value.get("domain")),
            accepted=value["accepted"],
            why=str(value.get("why", "")),
            verdict=judge_row(row, execute=execute, ask=ask),
        )


def rates(cases: Iterable[Case]) -> Rates:
    found = list(cases)
    both = sum(case.accepted and case.says for case in found)
    says, right = sum(case.says for case in found), sum(case.accepted for case in found)
    asked = [case.accepted for case in found if case.verdict.status is VerdictStatus.UNDECIDED]
    judged = both + sum(asked)
    return Rates(
        n=len(found),
        precision=both / says if says else None,
        recall=both / right if right else None,
        asked=len(asked),
        recall_judged=judged / right if right else None,
    )
