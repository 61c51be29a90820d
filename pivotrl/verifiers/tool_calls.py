"""Are the tool calls of an action those of a reference? Several calls in any order, none too many.

Calls are matched one to one; a call of the reference that is not made and a call that is made
beside it both reject. Text beside a call is not compared: no tool sees it. This module must never
run a tool, and never know what one does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pivotrl.types import JSON, ToolCall, ToolSpec
from pivotrl.verifiers.arguments import Defect, Scope, compare_values, matching
from pivotrl.verifiers.comparison import MATCH, NO_CONTEXT, Comparison, Context, excerpt

EXTRA_CALLS_COMPARED = 16


def compare_calls(
    reference: Sequence[ToolCall],
    given: Sequence[ToolCall],
    tools: Mapping[str, ToolSpec] | None,
    context: Context = NO_CONTEXT,
) -> Comparison:
    """Compare calls with a reference's; `tools` is None where no tool is declared anywhere."""
    unknown = _unknown(given, tools)
    if unknown is not None:
        return _rejected("unknown_tool", 0.05, tool=excerpt(unknown.name))
    if len(given) > len(reference) + EXTRA_CALLS_COMPARED:
        return _rejected("surplus_call", 0.05, expected=len(reference), given=len(given))
    owner = matching(
        len(reference),
        len(given),
        lambda r, g: not compare_call(reference[r], given[g], tools, context),
    )
    if len(owner) == len(reference) == len(given):
        return MATCH
    made = set(owner.values())
    wanted = [call for i, call in enumerate(reference) if i not in made]
    got = [call for i, call in enumerate(given) if i not in owner]
    share = len(owner) / max(len(reference), len(given))
    for call in wanted:
        twins = [other for other in got if other.name == call.name]
        found = [compare_call(call, other, tools, context) for other in twins]
        if found:
            least = min(found, key=len)
            right = 1 - len(least) / (len(least) + max(_size(call), 1))
            return _rejected(
                least[0].category,
                0.2 + 0.6 * share + 0.19 * right,
                tool=call.name,
                argument=least[0].path,
                expected=least[0].expected,
                given=least[0].given,
            )
    category = "wrong_tool" if wanted and got else "missing_call" if wanted else "surplus_call"
    return _rejected(
        category,
        0.1 + 0.6 * share,
        expected=[excerpt(call.name) for call in wanted[:5]],
        given=[excerpt(call.name) for call in got[:5]],
    )


def compare_call(
    reference: ToolCall,
    given: ToolCall,
    tools: Mapping[str, ToolSpec] | None,
    context: Context = NO_CONTEXT,
) -> list[Defect]:
    """Every difference between two calls. Undecidable if the reference cannot be judged."""
    if reference.name != given.name:
        return [Defect(category="wrong_tool", path="", expected=reference.name)]
    spec = tools.get(reference.name) if tools else None
    schema: Mapping[str, JSON] = spec.parameters if spec else {}
    scope = Scope(root=schema, declared=spec.x_pivotrl if spec else {}, context=context)
    wanted = {} if reference.arguments is None else reference.arguments
    got = {} if given.arguments is None else given.arguments
    if not isinstance(got, dict):
        return [Defect(category="malformed", path="", given=excerpt(got))]
    return compare_values(schema, wanted, got, scope)


def _unknown(calls: Sequence[ToolCall], tools: Mapping[str, ToolSpec] | None) -> ToolCall | None:
    if tools is None:
        return None
    return next((c for c in calls if not isinstance(c.name, str) or c.name not in tools), None)


def _size(call: ToolCall) -> int:
    return len(call.arguments) if isinstance(call.arguments, dict) else 0


def _rejected(category: str, closeness: float, **details: JSON) -> Comparison:
    return Comparison(category=category, closeness=closeness, details=details)
