"""Commands that run one after the other as few that do the same: `mkdir a; mkdir b` is one.

Nothing is executed. This module must never know how a line is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pivotrl.verifiers.comparison import table
from pivotrl.verifiers.shell_commands import VIEW, Command, Form, named, plain, rewritten
from pivotrl.verifiers.shell_flags import spec_of

_TABLE = table("shell_rewrites")
_PLAIN = re.compile(r"(?!/dev/|/proc/)[\w./~][\w./~:@%-]*|\d+-\$")
"""An operand that the shell leaves as it is."""
_SPECIAL = re.compile(r"[$`\\<>]|[A-Z]{3}_|^-")
"""What is no text alone, but run, or what ends an agent's work."""
_VERSIONS = (((("version", ""),), ()), ((("V", ""),), ()), ((), ("--version",)))


def without_noise(parts: list[tuple[str, Form]]) -> list[tuple[str, Form]]:
    """Without `|| true` and a closing `true`, and a screen that is cleared first."""
    if len(parts) > 1 and parts[0][1][0] == "command" and parts[1][0] != "or":
        parts = parts[parts[0][1][1].name == "clear" :]
    while len(parts) > 1 and parts[-1][1][0] == "command":
        last = parts[-1][1][1]
        if last.name not in ("true", ":") or last.arguments:
            break
        parts = parts[:-1]
    return parts


def joined(parts: list[tuple[str, Form]]) -> Form:
    if not parts:
        return ("nothing",)
    # `a && b` and `a; b` differ only where a fails: mostly b then only shows, or fails too.
    flat: list[tuple[str, Form]] = []
    asked, sure = False, True
    for operator, form in parts:
        if operator == "then" and not asked and (sure or _is(form, "follows")):
            operator = "and"
        asked |= form[0] == "not" or (form[0] == "command" and form[1].name == "test")
        sure &= _is(form, "sure")
        if flat and (both := _both(flat[-1][1], operator, form)):
            flat[-1] = (flat[-1][0], both)
        else:
            flat.append((operator, form))
    if len(flat) == 2 and flat[0][1][0] == "not" and flat[1][0] in ("and", "or"):
        flat = [("and", flat[0][1][1]), ("or" if flat[1][0] == "and" else "and", flat[1][1])]
    if len(flat) == 2 and (given := _exported(flat[0][1], *flat[1])):
        flat = [("and", given)]
    return flat[0][1] if len(flat) == 1 and flat[0][0] == "and" else ("sequence", *flat)


def _exported(export: Form, operator: str, form: Form) -> Form | None:
    """`export A=1 && x` as `A=1 x`; None where it is not that."""
    if export[0] != "command" or form[0] != "command" or operator == "or":
        return None
    first, second = export[1], form[1]
    values = "".join(first.arguments)
    own = first.name != "export" or first.flags or "$" in values or "=" not in values
    if own or second.assignments or not second.name or changes_shell(second):
        return None
    names = "|".join(re.escape(word.partition("=")[0]) for word in first.arguments)
    if re.search(rf"\$\{{?(?:{names})\b", repr(second)):  # which the shell reads before
        return None
    return ("command", replace(second, assignments=first.arguments))


def _is(form: Form, kind: str) -> bool:
    """Whether all commands of a form are in that list of `shell_rewrites.toml`."""
    if form[0] in ("literal", "pipe"):
        return all(_is(part, kind) for part in form[1:])
    if form[0] != "command":
        return form[0] in ("directory", "background")
    command, names = form[1], named(kind)
    words = command.name.removeprefix("sudo " if kind == "sure" else "").split()
    words += command.arguments[:1]
    alone = kind == "sure" or not dict(command.redirects).keys() & {">", ">>"}
    known = any(" ".join(words[:size]) in names for size in (1, 2))
    known |= (command.flags, command.arguments) in _VERSIONS
    return alone and (known or not command.name)


def looks(form: Form, kind: str = "looks") -> bool:
    """Whether it is known only to show something, and to end; kind `piped`: what comes to it."""
    if form[0] == "command":
        return _shows(form[1], _TABLE[kind])
    if form[0] == "pipe":
        return looks(form[1]) and all(looks(part, "piped") for part in form[2:])
    return form[0] == "sequence" and all(looks(part) for _, part in form[1:])


def _shows(command: Command, flags_of: Mapping[str, str]) -> bool:
    name, words = command.name.removeprefix("sudo "), [*command.arguments]
    if words and f"{name} {words[0]}" in flags_of:
        name = f"{name} {words.pop(0)}"
    if name not in flags_of or command.redirects or command.assignments:
        return False
    flags = {flag for flag, _ in command.flags}
    text = words[:1] if name in ("grep", "echo") else []
    values = [value for _, value in command.flags if value]
    return (
        flags <= {*flags_of[name].split()}
        and all(map(_PLAIN.fullmatch, (*values, *words[len(text) :])))
        and not any(map(_SPECIAL.search, text))
        and (flags_of is _TABLE["piped"] or len(words) >= _TABLE["waits"].get(name, 0))
    )


def changes(form: Form) -> bool:
    """Whether it is known to change something."""
    return any(
        dict(command.redirects).keys() & {">", ">>"} or named("changes") & _kinds(command)
        for command in commands_of(form)
    )


def _kinds(command: Command) -> set[str]:
    """`x`, and `x y` with its first operand and with each of its flags."""
    name = _program(command)
    words = (*command.arguments[:1], *(flag for flag, _ in command.flags))
    return {name, *(f"{name} {word}" for word in words)}


def without_last_looks(form: Form) -> Form:
    """Up to the last command that does more than show what is there; all, where none does."""
    if form[0] == "literal":
        return ("literal", without_last_looks(form[1]))
    steps = list(form[1:]) if form[0] == "sequence" and not looks(form) else []
    while steps and looks(steps[-1][1]):
        steps.pop()
    if not steps:
        return form
    return steps[0][1] if len(steps) == 1 and steps[0][0] == "and" else ("sequence", *steps)


def commands_of(form: object) -> list[Command]:
    """All that a form runs, in order."""
    if isinstance(form, Command):
        return [form]
    inner = form if isinstance(form, tuple | list) else ()
    return [command for part in inner for command in commands_of(part)]


def programs(form: object) -> set[str]:
    """The names of all that a form runs, without subcommands."""
    return {_program(command).split(" ")[0] for command in commands_of(form)}


def _program(command: Command) -> str:
    """The name of what is run for somebody, or for many."""
    return re.sub(r"^(?:sudo |xargs )+", "", command.name)


def _both(one: Form, operator: str, two: Form) -> Form | None:
    """Two calls in a row as the one that does what they do: `mkdir a; mkdir b`; None if none."""
    one, negated = (one[1], True) if one[0] == "not" else (one, False)
    if one[0] != "command" or two[0] != "command" or operator == "then":
        return None
    first, second = one[1], two[1]
    if operator == "or" or negated:
        # Made where it is not there: `[ -d a ] || mkdir a`.
        there = (operator == "or") != negated
        return _rewritten(first, second, "␘") if there else None
    if _makes(second, first):
        return two
    if appended := _appended(first, second):
        return ("command", appended)
    spec = spec_of(first.name)
    alike = replace(first, arguments=()) == replace(second, arguments=())
    values = (*first.arguments, *second.arguments)
    if not (spec and spec.set and alike and first.arguments and second.arguments):
        return _rewritten(first, second, "␗")
    if first.redirects or (first.name == "export" and "$" in "".join(values)):
        return None
    return ("command", replace(first, arguments=tuple(sorted(values))))


def _makes(command: Command, mkdir: Command) -> bool:
    """Whether a command makes the folders by itself that `mkdir` makes before it."""
    name = command.name.removeprefix("sudo ")
    places = {command.directory} if name == "unzip" else set()  # its own flag moves there
    places |= {*command.arguments, *(value for _, value in command.flags)}
    if name not in named("makes_folder") or {*mkdir.flags} - {("p", "")}:
        return False
    return mkdir.name == command.name.removesuffix(name) + "mkdir" and all(
        any(f"{place}/".startswith(f"{folder}/") for place in places) for folder in mkdir.arguments
    )


def _rewritten(first: Command, second: Command, mark: str) -> Form | None:
    """By the table of what does the same in one command."""
    places = {first.directory, second.directory} - {None}
    if len(places) > 1:
        return None
    made = rewritten([first, second], kind="sequences", mark=mark)
    if made == [first, second]:
        return None
    placed = [replace(c, directory=next(iter(places), None)) for c in made]
    forms: list[Form] = [("command", plain(command)) for command in placed]
    return forms[0] if len(forms) == 1 else ("pipe", *forms)


def changes_shell(form: object) -> bool:
    """Whether a form holds a command that would change the shell that runs it."""
    if isinstance(form, Command):
        return form.name in named("own_shell") or not form.name
    return isinstance(form, tuple) and any(map(changes_shell, form))


def grouped(form: Form, redirects: Sequence[tuple[str, str]]) -> Form | None:
    """`{ a; b; } > f` as `a > f; b >> f`; None where that is not sure."""
    if not redirects:
        return form
    (operator, target), *others = redirects
    steps = form[1:] if form[0] == "sequence" else [("and", form)]
    if others or operator not in (">", ">>") or {op for op, _ in steps} - {"and", "then"}:
        return None
    parts: list[tuple[str, Form]] = []
    for _, step in steps:
        if step[0] != "command" or step[1].name not in named("prints"):
            return None
        if target in step[1].arguments or dict(step[1].redirects).keys() - {"<<"}:
            return None
        goes = tuple(sorted([*step[1].redirects, (operator, target)]))
        parts.append(("and", ("command", plain(replace(step[1], redirects=goes)))))
        operator = ">>"
    return joined(parts)


def _appended(first: Command, second: Command) -> Command | None:
    """`cat a > f; cat b >> f` is `cat a b > f`."""
    names = {first.name, second.name}
    whole = all(dict(c.flags) in ({}, {"lines": "1-$"}) for c in (first, second))
    goes, more = dict(first.redirects), dict(second.redirects)
    to = goes.get(">") or goes.get(">>")
    if not names <= {"cat", VIEW} or not whole or to is None or more.pop(">>", None) != to:
        return None
    if "<<" in goes and more.keys() == {"<<"} and not first.arguments:
        text = f"{goes['<<']}\n{more['<<']}"
        return replace(first, redirects=tuple(sorted((goes | {"<<": text}).items())))
    if "<<" in goes or more or to in second.arguments:
        return None
    return replace(first, name="cat", flags=(), arguments=(*first.arguments, *second.arguments))
