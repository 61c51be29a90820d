"""The functional verifier of conversational tool use: is an action as right as a known one?

Known to be right are the demonstration and the row's accepted actions, through the tools' schemas
and what they declare equivalent. Nothing else is asked: no environment, no model, no hidden state.
"""

from __future__ import annotations

from dataclasses import dataclass

from pivotrl.types import Action, Candidate, Message, Role, ToolSpec, Verdict
from pivotrl.verifiers import outcome
from pivotrl.verifiers.arguments import compare_call, compare_calls
from pivotrl.verifiers.comparison import (
    ACCEPTED,
    MAX_CALLS,
    Comparison,
    Context,
    Undecidable,
    excerpt,
)
from pivotrl.verifiers.text import compare_texts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    references: tuple[Message, ...]
    tools: dict[str, ToolSpec] | None
    context: Context


class ToolUseVerifier:
    name = "tool_use"

    def __init__(self, *, ask: bool = False) -> None:
        """With `ask` a text, in a call too, that may be a paraphrase is undecided, for a judge."""
        self._ask = ask
        self._prepared = outcome.Prepare(_prepare)

    @outcome.never_raises
    def verify(self, candidate: Candidate, action: Action) -> Verdict:
        """Judge an action: 1 if it is the demonstration or an accepted action, else 0 and why.

        Of several references the details are those of the closest, `reference` its index (0 is
        the demonstration). A reference that cannot be judged leaves every action `undecided`
        (category `undecidable`, reward None): it is a defect of the row, not of the policy.
        Never raises.
        """
        try:
            prepared = self._prepared(candidate)
            return outcome.unfinished(action) or _judge(prepared, action, self._ask)
        except Undecidable as reason:
            return outcome.undecided("undecidable", {"reason": excerpt(str(reason))})


def _prepare(candidate: Candidate) -> _Prepared:
    """All that does not depend on the action. Undecidable if a reference cannot be judged."""
    tools = {t.name: t for t in candidate.tools} if candidate.trajectory.tools_declared else None
    references = (candidate.demonstration, *candidate.accepted_actions)
    for reference in references:
        _require_judgeable(reference, tools)
    return _Prepared(references=references, tools=tools, context=context_of(candidate))


def context_of(candidate: Candidate) -> Context:
    seen = candidate.messages
    made = (excerpt(call.arguments) for m in seen for call in m.tool_calls)
    return Context(
        state=(*(m.content for m in seen if m.content), *made),
        told=tuple(m.content for m in seen if m.role in (Role.USER, Role.ASSISTANT)),
    )


def _judge(prepared: _Prepared, action: Action, ask: bool) -> Verdict:
    closest, of = Comparison(category="", closeness=-1.0), 0
    unsure: Comparison | None = None
    for index, reference in enumerate(prepared.references):
        comparison = _compare(reference, action, prepared)
        if comparison.category == ACCEPTED:
            return outcome.acceptance({"reference": index})
        if comparison.is_unsure and index == 0:  # a judge sees the demonstration alone
            unsure = comparison
        if comparison.closeness > closest.closeness:
            closest, of = comparison, index
    if ask and unsure is not None:
        return outcome.undecided("paraphrase", unsure.details)
    return outcome.rejection(closest.category, {**closest.details, "reference": of})


def _compare(reference: Message, action: Action, prepared: _Prepared) -> Comparison:
    if action.tool_calls and reference.tool_calls:
        return compare_calls(
            reference.tool_calls, action.tool_calls, prepared.tools, prepared.context
        )
    if action.tool_calls:
        return Comparison(
            category="call_instead_of_text", details={"given": excerpt(action.tool_calls[0].name)}
        )
    if not reference.tool_calls:
        return compare_texts(reference.content, action.text, prepared.context)
    category = "text_instead_of_call" if action.text.strip() else "missing_call"
    return Comparison(category=category, details={"expected": reference.tool_calls[0].name})


def _require_judgeable(reference: Message, tools: dict[str, ToolSpec] | None) -> None:
    if reference.role != Role.ASSISTANT:
        raise Undecidable(f"the demonstration is a message of role {reference.role}")
    if not reference.tool_calls and not reference.content.strip():
        raise Undecidable("the demonstration is empty: it has neither text nor a call")
    if len(reference.tool_calls) > MAX_CALLS:
        raise Undecidable(f"the demonstration has {len(reference.tool_calls)} calls at once")
    for call in reference.tool_calls:
        if tools is not None and call.name not in tools:
            raise Undecidable(f"the demonstration calls {call.name!r}, which no tool declares")
        if call.arguments is not None and not isinstance(call.arguments, dict):
            raise Undecidable(f"the demonstration's arguments of {call.name!r} are no object")
        if defects := compare_call(call, call, tools):
            raise Undecidable(
                f"the demonstration's call of {call.name!r} does not equal itself at "
                f"{defects[0].path!r}"
            )
