"""The strict verifier, the control of the paper (r = 1[a = a*]): equal to the demonstration itself.

Text is compared as a string, calls as the canonical JSON of their names and arguments, in order.
Accepted actions, schemas and equivalences are ignored on purpose. White space around the text is
not compared: it belongs to the chat template.
"""

from __future__ import annotations

from pivotrl.types import Action, Candidate, ToolCall, Verdict, VerdictStatus, canonical
from pivotrl.verifiers.comparison import MAX_CALLS
from pivotrl.verifiers.outcome import acceptance, rejection, unfinished


class StrictVerifier:
    name = "strict"

    def verify(self, candidate: Candidate, action: Action) -> Verdict:
        """Judge an action (see the module). Never raises."""
        demonstration = candidate.demonstration
        calls = demonstration.tool_calls
        wanted = _exact(calls) if len(calls) <= MAX_CALLS else None
        if wanted is None or not (wanted or demonstration.content.strip()):
            return Verdict(
                status=VerdictStatus.UNDECIDED,
                reward=None,
                category="undecidable",
                details={"reason": "the demonstration is empty, no JSON, or of too many calls"},
            )
        if verdict := unfinished(action):
            return verdict
        if len(action.tool_calls) > len(demonstration.tool_calls):
            category = "surplus_call" if demonstration.tool_calls else "call_instead_of_text"
            return rejection(category, {})
        if len(action.tool_calls) < len(demonstration.tool_calls):
            category = "missing_call" if action.tool_calls else "text_instead_of_call"
            return rejection(category, {})
        given = _exact(action.tool_calls)
        if given is None:
            return rejection("malformed", {"reason": "the arguments are not JSON"})
        if given != wanted:
            return rejection("different_call", {})
        if action.text.strip() != demonstration.content.strip():
            return rejection("different_text" if action.text.strip() else "empty_text", {})
        return acceptance({})


def _exact(calls: tuple[ToolCall, ...]) -> list[bytes] | None:
    try:
        return [canonical([call.name, call.arguments]) for call in calls]
    except (TypeError, ValueError, RecursionError):
        return None
