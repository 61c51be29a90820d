"""Several steps at once: when their order does not count, and when others do the same work.

This module must never know a tool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

from pivotrl.verifiers.comparison import matching
from pivotrl.verifiers.edit_commands import edit_by, folded
from pivotrl.verifiers.file_state import State
from pivotrl.verifiers.file_steps import MAX_PARTS, Step, by_form, is_file_step, is_read, same_path


def same_work(
    wanted: Sequence[Step],
    given: Sequence[Step],
    state: State,
    difference: Callable[[Step, Step], str | None],
) -> bool:
    """Whether two groups of steps show and change the same, whatever the order and the parts."""
    if len(wanted) == len(given) and not any(map(difference, wanted, given)):
        return True
    groups = [_apart(steps) for steps in (wanted, given)]
    if not all(0 < len(group) <= MAX_PARTS and all(map(is_file_step, group)) for group in groups):
        return False
    one, other = (_joined(group, state) for group in groups)
    if len(one) != len(other):
        return False
    if not all(commute(*pair) for group in (one, other) for pair in combinations(group, 2)):
        return not any(difference(w, g) for w, g in zip(one, other, strict=True))
    found = matching(len(one), len(other), lambda w, g: not difference(one[w], other[g]))
    return len(found) == len(one)


def without_last_reads(steps: Sequence[Step]) -> Sequence[Step]:
    """Steps up to the last that does more than show what is there."""
    *before, last = steps
    if before and is_read(last) and not all(map(is_read, before)):
        return without_last_reads(before)
    bare = last.form[1] if last.form[:1] == ("literal",) else last.form
    if bare[:1] != ("sequence",) or bare[-1][0] == "or" or not is_read(by_form(bare[-1][1], "")):
        return steps
    form = bare[1][1] if len(bare) == 3 else bare[:-1]
    form = form if bare is last.form else ("literal", form)
    done = by_form(form, last.text)
    return steps if is_read(done) else without_last_reads([*before, done])


def commute(one: Step, other: Step) -> bool:
    """Whether two steps do the same in either order."""
    if is_read(one) and is_read(other):
        return True
    if "command" in (one.kind, other.kind):
        return False
    if not (one.path and other.path):
        return False
    if not same_path(one.path, other.path):
        return "list" not in (one.kind, other.kind)
    if one.edit is None or other.edit is None:
        return False
    texts = [(edit.old or "", edit.new) for edit in (one.edit, other.edit)]
    (first, made), (second, makes) = texts
    lines = [line for text in (first, made) for line in text.split("\n") if line.strip()]
    others = f"{second}\n{makes}"
    return bool(first and second) and not any(line in others for line in lines)


def _apart(steps: Sequence[Step]) -> list[Step]:
    """The parts of steps that have some."""
    return [part for step in steps for part in (_apart(step.parts) if step.parts else [step])]


def _joined(steps: Sequence[Step], state: State) -> list[Step]:
    """Edits of one file as one, where it is known what they make."""
    edits = [edit_by(step, state) or step for step in steps]
    out = [*edits]
    for path in {edit.path for edit in edits if edit.kind == "edit"}:
        own = [i for i, edit in enumerate(edits) if edit.kind == "edit" and edit.path == path]
        others = [e for i, e in enumerate(edits) if i not in own and same_path(e.path, path)]
        if len(own) > 1 and not others and (whole := folded([steps[i] for i in own], path, state)):
            out = [whole if i == own[0] else step for i, step in enumerate(out)]
            out = [step for i, step in enumerate(out) if i not in own[1:]]
            return _joined(out, state)
    return out
