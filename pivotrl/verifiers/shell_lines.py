"""Several commands as one form: pipelines, and what runs one after the other.

Nothing is executed. This module must never know how a line is parsed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pivotrl.verifiers.shell_commands import (
    COUNT,
    VIEW,
    Command,
    find_words,
    start_of,
    viewed,
    written,
)
from pivotrl.verifiers.shell_flags import spec_of

Form = tuple[Any, ...]
"""(kind, parts...): `command`, `pipe`, `not`, `background`, `raw` (words: nothing more is known),
`compound` (reserved words, words and forms), `literal` (form whose here-document is not expanded),
`directory` (a line that ends by moving there), `nothing`, or a `sequence` of (`and` or `or`, form).
"""
FINDS = ("grep", "find", "rg", "ls", "git", "tree", "ack")
"""Their output may be cut to a page."""
PAGERS = ("head", "tail", "cat", "less", "more")
_PAGE = 10
"""A trailing `head` or `tail` of at least so many lines is a page, not a choice."""


def _narrowed(lines: str, into: Command) -> str | None:
    """The lines of a view that `head` or `tail` leaves; None if it is not known."""
    first, last = lines.split("-")
    count = dict(into.flags).get("n", "10")
    if into.arguments or into.redirects or any(flag != "n" for flag, _ in into.flags):
        return None
    if not (COUNT.fullmatch(first) and COUNT.fullmatch(count)):
        return None
    if into.name == "head":
        end = int(first) + int(count) - 1
        return f"{first}-{min(end, int(last)) if COUNT.fullmatch(last) else end}"
    if into.name == "tail" and COUNT.fullmatch(last):
        return f"{max(int(first), int(last) - int(count) + 1)}-{last}"
    return None


def pipeline(parts: list[Form]) -> Form:
    """Pipelines without a `cat` that only feeds, and without a page at the end."""
    for index in range(len(parts) - 1, 0, -1):
        one, two = parts[index - 1], parts[index]
        names = [p[1].name for p in (one, two) if p[0] == "command"]
        if names == ["sort", "uniq"] and not (one[1].redirects or two[1].flags or two[1].arguments):
            flags = tuple(sorted({*one[1].flags, ("u", "")}))
            both = replace(one[1], flags=flags, redirects=two[1].redirects)
            parts[index - 1 : index + 1] = [("command", both)]
    while len(parts) > 1:
        first, second = parts[0], parts[1]
        if first[0] != "command" or second[0] != "command":
            break
        if first[1].arguments[-1:] == ("-print0",) and second[1].name.startswith("xargs -0  "):
            name = second[1].name.replace("xargs -0  ", "xargs ", 1)
            parts[:2] = [("command", replace(first[1], arguments=first[1].arguments[:-1])),
                         ("command", replace(second[1], name=name))]  # fmt: skip
            continue
        view, into = first[1], second[1]
        removes = into.name == "xargs rm" and not (into.flags or into.arguments or into.redirects)
        if view.name == "find" and removes and (of_find := spec_of("find")):
            words = find_words([*view.arguments, "-exec", "rm", "{}", "+"], of_find)
            parts[:2] = [("command", replace(view, arguments=tuple(words)))]
            continue
        if view.name == VIEW and (lines := _narrowed(view.flags[0][1], into)):
            parts[:2] = [("command", replace(view, flags=(("lines", lines),)))]
            continue
        feeds = view.name == VIEW and view.flags == (("lines", "1-$"),)
        takes = spec_of(into.name)
        if not feeds or any(operator.startswith("<") for operator, _ in into.redirects):
            break
        if not (takes and takes.feeds):
            redirects = tuple(sorted([*into.redirects, ("<", view.arguments[0])]))
            parts[:2] = [("command", replace(into, redirects=redirects))]
            break
        if len(into.arguments) > start_of(takes, into.flags):
            break
        arguments = (*into.arguments, *view.arguments)
        merged = replace(into, arguments=arguments, directory=view.directory)
        parts[:2] = [("command", viewed(merged))]
    while len(parts) > 1 and parts[-1][0] == "command":
        last, before = parts[-1][1], parts[-2]
        page = last.name in ("head", "tail") and set(dict(last.flags)) <= {"n"}
        count = dict(last.flags).get("n", "10") if page else ""
        finds = before[0] == "command" and before[1].name.partition(" ")[0] in FINDS
        long = COUNT.fullmatch(count) and int(count) >= _PAGE
        if (page and finds and long and not last.arguments) or (
            last.name == "cat" and not last.arguments and not last.redirects
        ):
            parts = parts[:-1]
        else:
            break
    if len(parts) > 1 and parts[-1][0] == parts[-2][0] == "command":
        last, before = parts[-1][1], parts[-2][1]
        quiet = last.redirects == ((">", "/dev/null"),)
        known = not last.redirects and (before.name == "echo" or "<<" in dict(before.redirects))
        plain = not dict(before.redirects).keys() & {">", ">>"} and set(last.flags) <= {("a", "")}
        if last.name == "tee" and len(last.arguments) == 1 and (quiet or known) and plain:
            to = (">>" if last.flags else ">", last.arguments[0])
            both = replace(before, redirects=tuple(sorted([*before.redirects, to])))
            parts = [*parts[:-2], ("command", written(both))]
    return parts[0] if len(parts) == 1 else ("pipe", *parts)


def without_noise(parts: list[tuple[str, Form]]) -> list[tuple[str, Form]]:
    """Without `|| true` and a closing `true`."""

    def is_true(form: Form) -> bool:
        return form[0] == "command" and form[1].name in ("true", ":") and not form[1].arguments

    while len(parts) > 1 and is_true(parts[-1][1]):
        parts = parts[:-1]
    return parts


def joined(parts: list[tuple[str, Form]]) -> Form:
    if not parts:
        return ("nothing",)
    # `a && b` and `a; b` differ only where a fails: an agent's lines mean the same by both.
    flat: list[tuple[str, Form]] = []
    for operator, form in (("and" if op == "then" else op, form) for op, form in parts):
        if flat and operator == "and" and (both := _both(flat[-1][1], form)):
            flat[-1] = (flat[-1][0], both)
        else:
            flat.append((operator, form))
    return flat[0][1] if len(flat) == 1 and flat[0][0] == "and" else ("sequence", *flat)


def _both(one: Form, two: Form) -> Form | None:
    """Two calls in a row as the one that does what they do: `mkdir a; mkdir b`; None if none."""
    if one[0] != "command" or two[0] != "command":
        return None
    first, second = one[1], two[1]
    spec = spec_of(first.name)
    alike = replace(first, arguments=()) == replace(second, arguments=())
    values = (*first.arguments, *second.arguments)
    if not (spec and spec.set and alike and first.arguments and second.arguments):
        return None
    if first.redirects or (first.name == "export" and "$" in "".join(values)):
        return None
    return ("command", replace(first, arguments=tuple(sorted(values))))
