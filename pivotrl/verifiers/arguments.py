"""Are the calls of an action those of a reference, through the tools' schemas and equivalences?

Calls are matched one to one, in any order; a call of the reference that is not made and one that is
made beside it both reject. Text beside a call is not compared: no tool sees it.
Types are coerced where the schema says so, defaults filled, key order ignored; a property may
carry `x-pivotrl` {"compare", "tolerance", "casefold"}, and what a tool or an object declares holds
for everything inside it. Depth and time are bounded by the reference, so a hostile action costs
nothing. This module must never know which tool it judges, and never call one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from pivotrl.types import JSON, ToolCall, ToolSpec
from pivotrl.verifiers import comparison, english
from pivotrl.verifiers.comparison import (
    MATCH,
    NO_CONTEXT,
    Comparison,
    Context,
    Undecidable,
    matching,
)
from pivotrl.verifiers.values import conforms, is_set, paired, same_scalar, spaced, told_default

COMPARE = frozenset({"exact", "text", "number", "date", "set", "ignore"})
MAX_DEPTH = 64
EXTRA_CALLS_COMPARED = 16
MAX_PAIRS = 64
_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    category: str
    path: str
    expected: str = ""
    given: str = ""
    is_unsure: bool = False
    """Texts that nothing tells apart: a judge may know better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where in the arguments the comparison is."""

    root: Mapping[str, JSON]
    """The whole schema, for `$ref`."""
    declared: Mapping[str, JSON] = field(default_factory=dict)
    """The `x-pivotrl` in force here, inherited from the objects around."""
    context: Context = NO_CONTEXT
    """For `compare: text`."""
    path: str = ""
    depth: int = 0
    alone: bool = False
    """The only array of the object that it is in."""
    changes: bool = False
    """The tool changes what is there: an empty value may erase."""
    told: str = ""
    """What the tool says of itself."""


def compare_values(schema: JSON, reference: JSON, given: JSON, scope: Scope) -> list[Defect]:
    """Every difference between two values; empty when they are the same. Undecidable if broken."""
    schema = _resolved(schema, scope)
    declared = scope.declared
    if own := schema.get("x-pivotrl"):
        if not isinstance(own, dict):
            raise Undecidable(f"x-pivotrl at {scope.path or 'the arguments'} must be an object")
        declared = {**declared, **own}
    compare = declared.get("compare")
    if compare is not None and compare not in COMPARE:
        raise Undecidable(f"x-pivotrl at {scope.path or 'the arguments'}: no compare {compare!r}")
    if compare == "ignore":
        return [] if conforms(schema, given) else [_wrong(scope, reference, given)]
    if branches := _branches(schema):
        inner = _inside(scope, "", declared)
        found: list[Defect] = []
        for branch in _fitting(branches, reference, scope):
            defects = compare_values(branch, reference, given, inner)
            if not defects:
                return []
            found = found if found and len(found) <= len(defects) else defects
        return found
    if isinstance(reference, dict) and isinstance(given, dict):
        return _compare_objects(schema, reference, given, scope, declared)
    if isinstance(reference, list) and isinstance(given, list):
        return _compare_arrays(schema, reference, given, scope, declared)
    same = same_scalar(schema, reference, given, declared, scope.context, scope.path)
    return [] if same else [replace(_wrong(scope, reference, given), is_unsure=same is None)]


def _compare_objects(
    schema: Mapping[str, JSON],
    reference: dict[str, JSON],
    given: dict[str, JSON],
    scope: Scope,
    declared: Mapping[str, JSON],
) -> list[Defect]:
    properties = schema.get("properties") or {}
    required = schema.get("required") or ()
    others = schema.get("additionalProperties")
    others = others if isinstance(others, dict) else {}
    if not isinstance(properties, dict) or not isinstance(required, (list, tuple)):
        raise Undecidable(f"the schema at {scope.path or 'the arguments'} is not a JSON Schema")
    defects = []
    scope = replace(scope, alone=sum(isinstance(v, list) for v in reference.values()) == 1)
    together = _in_pairs(properties, reference, given, scope)
    for key in dict.fromkeys((*reference, *properties)):
        if key in together:
            continue
        below = properties.get(key, others)
        inner = _inside(scope, f"{scope.path}.{key}" if scope.path else key, declared)
        if key in required and key in reference and key not in given:
            defects.append(_wrong(inner, reference[key], "", "missing_argument"))
            continue
        wanted, got = _filled(reference, key, below), _filled(given, key, below)
        # Nothing given is nothing said, unless it may erase.
        if wanted is _ABSENT and key in properties and not scope.changes and got in ("", [], {}):
            continue
        if wanted is _ABSENT and got is _ABSENT:
            continue
        # An object of defaults alone says no more than none.
        if wanted is _ABSENT and isinstance(got, dict) and isinstance(below, dict) and got:
            wanted = {} if below.get("properties") else wanted
        elif got is _ABSENT and isinstance(wanted, dict) and isinstance(below, dict):
            got = {} if below.get("properties") and key not in given else got
        if got is _ABSENT:
            if _ignored(below, declared):
                continue
            category = "wrong_argument" if key in given else "missing_argument"
            defects.append(_wrong(inner, wanted, given.get(key, ""), category))
        elif wanted is _ABSENT:
            if not (_ignored(below, declared) and conforms(below, got)):
                defects.append(_wrong(inner, "", got, "unexpected_argument"))
        else:
            told = (v for k, v in reference.items() if k != key)
            beside = [v if isinstance(v, str) else comparison.excerpt(v) for v in told]
            context = replace(scope.context, beside=beside)
            defects += compare_values(below, wanted, got, replace(inner, context=context))
    unknown = next((k for k in given if k not in reference and k not in properties), None)
    if unknown is not None:
        name = comparison.excerpt(unknown)
        inner = _inside(scope, f"{scope.path}.{name}" if scope.path else name, declared)
        defects.append(_wrong(inner, "", given[unknown], "unexpected_argument"))
    return defects


def _in_pairs(
    properties: Mapping[str, JSON],
    reference: dict[str, JSON],
    given: dict[str, JSON],
    scope: Scope,
) -> Sequence[str]:
    """Arrays whose items belong together by their places, where both calls have the same groups."""
    arrays = {k: v for k, v in reference.items() if isinstance(v, list) and len(v) > 1}
    schemas = {k: s for k in arrays if isinstance(s := properties.get(k), dict)}
    keys = paired(schemas, scope.told) if len(schemas) > 1 else []
    wanted = [arrays[key] for key in keys]
    got = [other for key in keys if isinstance(other := given.get(key), list)]
    sizes = {*map(len, wanted), *map(len, got)}
    if len(got) < 2 or len(got) < len(keys) or len(sizes) > 1 or min(sizes) > MAX_PAIRS:
        return ()

    def same(row: int, column: int) -> bool:
        for key, ours, theirs in zip(keys, wanted, got, strict=True):
            inner = _inside(scope, f"{scope.path}.{key}" if scope.path else key, scope.declared)
            if compare_values(schemas[key].get("items"), ours[row], theirs[column], inner):
                return False
        return True

    return keys if len(matching(min(sizes), min(sizes), same)) == min(sizes) else ()


def _compare_arrays(
    schema: Mapping[str, JSON],
    reference: list[JSON],
    given: list[JSON],
    scope: Scope,
    declared: Mapping[str, JSON],
) -> list[Defect]:
    if len(reference) != len(given):
        return [_wrong(scope, reference, given)]
    items = schema.get("items")
    items = items if isinstance(items, dict) else {}
    compare = declared.get("compare")
    tool = scope.context.tool
    if compare == "set" or (compare is None and is_set(schema, scope.path, scope.alone, tool)):
        declared = {k: v for k, v in declared.items() if k != "compare"}
        inner = _inside(scope, f"{scope.path}[]", declared)
        if len(reference) > 1:
            whole = matching(
                len(reference),
                len(given),
                lambda r, c: not compare_values(items, reference[r], given[c], inner),
            )
            return [] if len(whole) == len(reference) else [_wrong(scope, reference, given)]
    defects = []
    for index, (wanted, got) in enumerate(zip(reference, given, strict=True)):
        inner = _inside(scope, f"{scope.path}[{index}]", declared)
        defects += compare_values(items, wanted, got, inner)
    return defects


def _resolved(schema: JSON, scope: Scope) -> Mapping[str, JSON]:
    """The schema with `$ref` followed and `allOf` merged."""
    if scope.depth > MAX_DEPTH:
        raise Undecidable(f"nested deeper than {MAX_DEPTH} levels at {scope.path[:80]}")
    for _ in range(MAX_DEPTH):
        if schema is True or schema is None:
            return {}
        if not isinstance(schema, dict):
            raise Undecidable(f"the schema at {scope.path or 'the arguments'} is not an object")
        if "$ref" not in schema:
            break
        target: JSON = scope.root
        for step in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
            if step and not (isinstance(target, dict) and step in target):
                raise Undecidable(f"the schema has no {schema['$ref']!r}")
            target = target[step] if step else target
        if not isinstance(target, dict):
            raise Undecidable(f"{schema['$ref']!r} is not a schema")
        schema = {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
    else:
        raise Undecidable("a $ref leads back to itself")
    if not schema.get("allOf"):
        return schema
    merged = {k: v for k, v in schema.items() if k != "allOf"}
    for each in schema["allOf"]:
        part = _resolved(each, _inside(scope, "", scope.declared))
        properties = {**part.get("properties", {}), **merged.get("properties", {})}
        merged = {**part, **merged} | ({"properties": properties} if properties else {})
    return merged


def _branches(schema: Mapping[str, JSON]) -> list[JSON]:
    for word in ("anyOf", "oneOf"):
        if schema.get(word):
            rest = {k: v for k, v in schema.items() if k != word}
            return [{**rest, **b} if isinstance(b, dict) else b for b in schema[word]]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": kind} for kind in schema["type"]]
    return []


def _fitting(branches: list[JSON], reference: JSON, scope: Scope) -> list[JSON]:
    """The branches that the reference's own type fits, or all if none does."""
    return [b for b in branches if conforms(_resolved(b, scope), reference)] or branches


def _ignored(schema: JSON, declared: Mapping[str, JSON]) -> bool:
    own = schema.get("x-pivotrl") if isinstance(schema, dict) else None
    own = own if isinstance(own, dict) else {}
    return own.get("compare", declared.get("compare")) == "ignore"


def _filled(values: dict[str, JSON], key: str, schema: JSON) -> JSON:
    """The value of an argument; null and left out both mean the default, or absent."""
    value = values.get(key)
    if value is None and isinstance(schema, dict):
        value = schema.get("default", told_default(schema))
    return _ABSENT if value is None else value


def _inside(scope: Scope, path: str, declared: Mapping[str, JSON]) -> Scope:
    return replace(scope, declared=declared, path=path or scope.path, depth=scope.depth + 1)


def _wrong(scope: Scope, reference: JSON, given: JSON, category: str = "wrong_argument") -> Defect:
    return Defect(
        category=category,
        path=scope.path,
        expected=comparison.excerpt(reference),
        given=comparison.excerpt(given),
    )


def compare_calls(
    reference: Sequence[ToolCall],
    given: Sequence[ToolCall],
    tools: Mapping[str, ToolSpec] | None,
    context: Context = NO_CONTEXT,
) -> Comparison:
    """Compare calls with a reference's; `tools` is None where no tool is declared anywhere."""
    unknown = _unknown(given, tools)
    if unknown is not None:
        return comparison.rejected("unknown_tool", 0.05, tool=comparison.excerpt(unknown.name))
    if len(given) > len(reference) + EXTRA_CALLS_COMPARED:
        return comparison.rejected("surplus_call", 0.05, expected=len(reference), given=len(given))

    @cache
    def defects(row: int, column: int) -> list[Defect]:
        return compare_call(reference[row], given[column], tools, context)

    def unsure() -> bool:
        size = len(reference)
        return (
            len(matching(size, size, lambda r, g: all(d.is_unsure for d in defects(r, g)))) == size
        )

    owner = matching(len(reference), len(given), lambda r, g: not defects(r, g))
    if len(owner) == len(reference) == len(given):
        return MATCH
    made = set(owner.values())
    wanted = [i for i in range(len(reference)) if i not in made]
    got = [i for i in range(len(given)) if i not in owner]
    share = len(owner) / max(len(reference), len(given))
    for row in wanted:
        call = reference[row]
        found = [defects(row, column) for column in got if given[column].name == call.name]
        if found:
            least = min(found, key=len)
            right = 1 - len(least) / (len(least) + max(_size(call), 1))
            difference = comparison.rejected(
                least[0].category,
                0.2 + 0.6 * share + 0.19 * right,
                tool=call.name,
                argument=least[0].path,
                expected=least[0].expected,
                given=least[0].given,
            )
            return replace(difference, is_unsure=len(reference) == len(given) and unsure())
    category = "wrong_tool" if wanted and got else "missing_call" if wanted else "surplus_call"
    return comparison.rejected(
        category,
        0.1 + 0.6 * share,
        expected=[comparison.excerpt(reference[i].name) for i in wanted[:5]],
        given=[comparison.excerpt(given[i].name) for i in got[:5]],
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
    declared = spec.x_pivotrl if spec else {}
    changes = english.CHANGES.search(spaced(reference.name)) is not None
    makes = english.MAKES.search(spaced(reference.name)) is not None
    told = spec.description if spec else ""
    context = replace(
        context, makes=makes, tool=f"{spaced(reference.name)}: {told} {comparison.excerpt(schema)}"
    )
    scope = Scope(root=schema, declared=declared, context=context, changes=changes, told=told)
    wanted = {} if reference.arguments is None else reference.arguments
    got = {} if given.arguments is None else given.arguments
    if not isinstance(got, dict):
        return [Defect(category="malformed", path="", given=comparison.excerpt(got))]
    return compare_values(schema, wanted, got, scope)


def _unknown(calls: Sequence[ToolCall], tools: Mapping[str, ToolSpec] | None) -> ToolCall | None:
    if tools is None:
        return None
    return next((c for c in calls if not isinstance(c.name, str) or c.name not in tools), None)


def _size(call: ToolCall) -> int:
    return len(call.arguments) if isinstance(call.arguments, dict) else 0
