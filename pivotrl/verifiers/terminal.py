"""The verifier of shell actions: does the command line do the same as a known one?

A command is the argument of a shell tool, a block in the text, or Terminus's JSON of keystrokes.
Lines are compared in normal form (`shell_forms`), in the directory that the state tells; where they
differ and the candidate carries its files, they may be run in a sandbox (`execution`). All that
is no command (a final answer, another tool) is judged as in conversational tool use. Source:
PivotRL's terminal domain, with comparison in place of string similarity.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import NamedTuple

import orjson

from pivotrl.types import JSON, Action, Candidate, Message, Role, ToolCall, Verdict, action_of
from pivotrl.verifiers import outcome
from pivotrl.verifiers.comparison import excerpt
from pivotrl.verifiers.execution import equal_outcome
from pivotrl.verifiers.shell_commands import Command, Form, laid_out
from pivotrl.verifiers.shell_forms import Unreadable, normal_form
from pivotrl.verifiers.shell_keys import keys_of, line_of, normal_keys, reader_of
from pivotrl.verifiers.shell_messages import with_messages_of
from pivotrl.verifiers.shell_sequences import (
    changes,
    commands_of,
    looks,
    programs,
    without_last_looks,
)
from pivotrl.verifiers.tool_use import ToolUseVerifier, context_of

SHELL_TOOL = re.compile(outcome.AGENTS["shell"])
_BLOCK = re.compile(r"```(?:mswea_bash_command|bash|sh|shell)?[ \t]*\n(.*?)\n?```", re.DOTALL)
_DIRECTORY_SAID = re.compile(
    r"\(Current directory: (?P<a>/[^\s)]*)\)|(?P<user>[\w.-]+)@[\w.-]+:(?P<b>[/~]\S*?) ?[#$]"
    r"|(?:[Ww]orking directory|cwd)(?::| is:?|=) ?`?(?P<c>/(?:[^\s\]`,]*[^\s\]`,.])?)"
)
_PATH = r"(/[\w.+/-]*[\w+-])"
_ROOT_SAID = re.compile(
    rf"(?i)(?:<uploaded_files>\s*|\b(?:repository|repo|codebase|project|checkout|clone)\b[^/\n]{{0,40}}?[\s`'\"(])"
    rf"{_PATH}|\b(?:in|under|at) (?:the )?[`'\"]?{_PATH}[`'\"]? (?:directory|folder|repo)"
    rf"|\b(?:you|we)(?: are|'re) (?:currently |now )?(?:in|at) (?:the )?[`'\"]?{_PATH}"
)
_START_SAID = re.compile(
    r"(?i)(?:\b(?:shell|session|terminal|command|block|prompt|container|line|you)s?\b[^/\n.]{0,50}"
    r"\b(?:runs?|ran|start\w*|open\w*|begin\w*|execut\w+|work\w*|is|are)\b[^/\n.]{0,40}?"
    r" (?:in|at|from)(?: (?:the )?(?:home |root )?(?:directory|folder))?"
    r"|\b(?:(?:work(?:ing)?|current) ?dir(?:ectory)?|[cp]wd)(?::| is(?: always)?:?| =|=)?) "
    r"[`'\"]?(/(?:[\w.+/-]*[\w+-])?)"
)
"""Where a task or a tool says that its shell starts."""
_HOME_LINE = re.compile(r"(?m)^(?:/root|/home/[a-z_][\w-]*)$|^uid=0\(root\)")
_ROOTS, _OF_ROOT = map(re.compile, (outcome.AGENTS["roots"], outcome.AGENTS["written_by_root"]))
_USER_SAID = re.compile(
    r"(?i)\b(?:logged in|(?:session|shell|terminal|container|commands?|you)(?: is| are|'re)?"
    r"(?: (?:start|run|open|execut|work|act)\w*)?) as (?:the )?(?:user )?[`'\"]?(?P<a>root)\b"
    r"|\byou(?: are|'re) (?P<b>root)\b|\bas [`'\"]?(?P<c>[a-z_][\w-]*)[`'\"]? in /home/(?P=c)\b"
)
"""Where a task says whose its shell is."""
_ASKS_WHO = re.compile(r"(?:^|[;&\n])\s*(?:whoami|id -un)\s*(?:[;&\n]|\Z)")
_FORGETS, _KEEPS = re.compile(outcome.AGENTS["forgets"]), re.compile(outcome.AGENTS["keeps"])
_MOVES = re.compile(r"(?:^|[\n;&(])[ \t]*cd[ \t]+([^\s;&|)]+)")
_MOVES_ON = re.compile(r"(?<![\w./-])['\"\\]{0,3}(?:c['\"\\]{0,3}d|pushd|popd)(?![\w.-])")
_HAS_IDS = re.compile(r"\s*(?:git|docker|podman) [^|;&\n]*\s*")
_ID, _WHOLE_ID = re.compile(r"\b[0-9a-f]{7,64}\b"), re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{40})\b")
MAX_LINES, MAX_ASKED, MAX_TOLD = 64, 20_000, 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What is typed, line by line, and whether the agent says that it is done."""

    lines: tuple[tuple[str, str | None], ...]
    """(command line, the directory that the call names)."""
    done: bool = False
    keyed: bool = False
    """The lines are keystrokes, which a program may read in place of the shell."""
    others: tuple[str, ...] = ()
    """What else the calls say, as JSON: a session, or that it runs in the background."""

    @property
    def ends(self) -> tuple[object, ...]:
        return self.done, self.keyed, self.others


class Where(NamedTuple):
    """What the state tells of the shell."""

    directory: str | None
    home: str | None
    reader: str
    """What reads keystrokes where it is another program."""


class TerminalVerifier:
    name = "terminal"

    def __init__(self, *, execute: bool = False, ask: bool = False) -> None:
        """With `ask` what may do the same by other programs is undecided, for a judge."""
        self._others, self._execute, self._ask = ToolUseVerifier(ask=ask), execute, ask
        self._where, self._context = outcome.Prepare(_where), outcome.Prepare(context_of)

    @outcome.never_raises
    def verify(self, candidate: Candidate, action: Action) -> Verdict:
        """Judge an action (see the module). Never raises."""
        if verdict := outcome.unfinished(action):
            return verdict
        messages = (candidate.demonstration, *candidate.accepted_actions)
        acts = [act_of(action_of(message), alone=False) for message in messages]
        references = [act for act in acts if act]
        given = act_of(action, alone=False)
        if given is None or not references:
            verdict = self._others.verify(candidate, action)
            is_text = acts[verdict.details.get("reference", 0)] is None
            if not references or (is_text and verdict.reward != 0.0):
                return verdict
            return outcome.rejection("no_command", {"expected": _shown(references[0])})
        if given in references:
            return outcome.acceptance({"reference": references.index(given)})
        if not _declared(candidate, action):
            return outcome.rejection("unknown_tool", {})
        where = self._where(candidate)
        try:
            _forms(given, where)
        except Unreadable as reason:
            return outcome.rejection("unreadable_command", {"reason": str(reason)})
        for index, reference in enumerate(references):
            with suppress(Unreadable):
                one, other = _with_whole_ids(reference, given), _with_whole_ids(given, reference)
                wanted, got = _forms(one, where), _forms(other, where)
                got = with_messages_of(wanted, got, self._context(candidate))
                if one.ends == other.ends and _same(wanted, got, other):
                    return outcome.acceptance({"reference": index})
        details: dict[str, JSON] = {"expected": _shown(references[0]), "given": _shown(given)}
        if self._execute and candidate.files is not None:
            found = _executed(references, given, candidate.files, where.directory)
            if isinstance(found, int):
                return outcome.acceptance({"reference": found, "execution": "same outcome"})
            details["execution"] = found
            if "proves nothing" not in found:
                return outcome.rejection("different_command", details)
        if self._ask and acts[0] and _by_others(acts[0], given, where):
            return outcome.undecided("another_way", details)
        return outcome.rejection("different_command", details)


def act_of(action: Action, *, alone: bool = True) -> Act | None:
    """The commands of an action; None where it has none, or something else beside them.

    With `alone` also None where a call says more than a command, and how long it may take.
    """
    if action.tool_calls:
        if len(action.tool_calls) > MAX_LINES:
            return None
        acts = [_call(call) for call in action.tool_calls]
        read = [act for act in acts if act and not (alone and act.others)]
        if len(read) < len(acts):
            return None
        return Act(
            lines=tuple(line for act in read for line in act.lines),
            done=any(act.done for act in read),
            keyed=any(act.keyed for act in read),
            others=tuple(other for act in read for other in act.others),
        )
    if (typed := _terminus(action.text)) is not None:
        return typed
    blocks = _BLOCK.findall(action.text)
    if len(blocks) == 1 and blocks[0].strip():
        return Act(lines=((blocks[0], None),))
    return None


def _call(call: ToolCall) -> Act | None:
    arguments = call.arguments
    if not SHELL_TOOL.fullmatch(call.name) or not isinstance(arguments, Mapping):
        return None
    return _said_by(arguments)


def _said_by(arguments: Mapping[str, JSON]) -> Act | None:
    named = next((key for key in outcome.AGENTS["command"] if key in arguments), "")
    command, keyed = _typed(named, arguments.get(named))
    done = any(arguments.get(key) is True for key in outcome.AGENTS["done"])
    folders = (arguments.get(key) for key in outcome.AGENTS["directory"])
    where = next((folder for folder in folders if isinstance(folder, str)), None)
    if command is None or not (command.strip() or done):
        return None
    known = {named, *outcome.AGENTS["directory"], *outcome.AGENTS["how_long"]}
    known |= {*outcome.AGENTS["done"]}
    said = {k: v for k, v in arguments.items() if k not in known and v not in (None, False, "")}
    try:
        others = (orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode(),) if said else ()
    except TypeError:  # no text, or nested too deeply
        return None
    lines = ((command, where),) if command.strip() else ()
    return Act(lines=lines, done=done, keyed=keyed and bool(lines), others=others)


def _typed(named: str, value: JSON) -> tuple[str | None, bool]:
    """What an argument types, one after the other if it is a list of commands; whether as keys."""
    if named != outcome.AGENTS["batch"] or not isinstance(value, list):
        keyed = named in outcome.AGENTS["keys"]
        return (keys_of(value) if keyed else line_of(value)), keyed
    given = [item if isinstance(item, dict) else {"command": item} for item in value[:MAX_LINES]]
    names = [next((key for key in outcome.AGENTS["command"] if key in one), "") for one in given]
    pairs = [*zip(given, names, strict=True)]
    typed: list[JSON] = [one.get(name) for one, name in pairs]
    # An item that says more, like where it runs, is no mere command.
    more = any({*one} - {name, *outcome.AGENTS["how_long"]} for one, name in pairs)
    if more or len(value) > MAX_LINES or not all(isinstance(text, str) for text in typed):
        return None, False
    keyed = {*names} <= {*outcome.AGENTS["keys"]}
    return ("" if keyed else "\n").join(typed), keyed


def _terminus(text: str) -> Act | None:
    """Terminus 1 and 2: a JSON object with `commands` of `keystrokes`."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or "keystrokes" not in text:
        return None
    try:
        value: JSON = orjson.loads(text[start : end + 1])
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get(outcome.AGENTS["batch"]), list):
        return None
    told = (outcome.AGENTS["batch"], *outcome.AGENTS["done"])
    return _said_by({key: value[key] for key in told if key in value})


def _declared(candidate: Candidate, action: Action) -> bool:
    """Whether tools that are declared, or those of the demonstration, are called."""
    known = {tool.name for tool in candidate.tools}
    known |= {call.name for call in candidate.demonstration.tool_calls}
    return not candidate.tools or {call.name for call in action.tool_calls} <= known


def _where(candidate: Candidate) -> Where:
    messages = candidate.messages
    told = [tool.description for tool in candidate.tools if SHELL_TOOL.fullmatch(tool.name)]
    home = home_of(messages)
    acts = [act_of(action_of(m)) for m in messages if m.role is Role.ASSISTANT]
    asks = any(re.search("sudo|doas", line) for act in acts if act for line, _ in act.lines)
    if home is None and not asks and _does_as_root(act_of(action_of(candidate.demonstration))):
        home = "/root"
    return Where(directory_of(messages, told), home, reader_of(messages))


def directory_of(messages: Sequence[Message], told: Sequence[str] = ()) -> str | None:
    """Where the shell is, as far as the state tells: by the last prompt or line that says so,
    else where the task or the tool, by what is `told` of it, lets the shell start, else the root
    of the repository that the task names, and where `cd` moved it since.
    """
    asked = [m.content for m in messages if m.role in (Role.SYSTEM, Role.USER)]
    asked = [text[:MAX_ASKED] for text in (*asked, *told)]
    at, said = next(_said(messages, tuple("abc")), (0, None))
    starts = filter(None, (_START_SAID.search(text[:MAX_TOLD]) for text in (*asked[:2], *told)))
    if said is None and (found := next(starts, None)):
        said = found[1]
    home = home_of(messages) if said and said.startswith("~") else None
    start = said.replace("~", home, 1) if said and home else said
    if start is None and (found := next(filter(None, map(_ROOT_SAID.search, asked)), None)):
        start = next(filter(None, found.groups()))
    start = start and (start.rstrip("/") or "/")
    acts = (act_of(action_of(m)) for m in messages[at:] if m.role is Role.ASSISTANT)
    lines = [line for act in acts if act for line, where in act.lines if where is None]
    moves = [to.strip("'\"") for line in lines for to in _MOVES.findall(line)]
    places = [*accumulate(moves, lambda a, b: posixpath.normpath(posixpath.join(a, b)), initial="")]
    if start is None or all(place == start for place in places[1:]):
        one = len({*places[1:]}) == 1 and places[-1].startswith("/")
        return start or (places[-1] if one and not any(map(_FORGETS.search, asked)) else None)
    if any(map(_FORGETS.search, asked)):
        return said and start
    alone = any(re.fullmatch(r"\s*cd\s+[^\s;&|]+\s*", line) for line in lines)
    stays = alone or (any(map(_KEEPS.search, asked)) and not any("(" in line for line in lines))
    place = posixpath.normpath(posixpath.join(start, places[-1]))
    return place if stays and not any(re.search(r"^-|[~$(]", to) for to in moves) else None


def home_of(messages: Sequence[Message]) -> str | None:
    """The home directory of the user whom the last prompt shows, or as a tool printed it."""
    _, user = next(_said(messages, ("user",)), (0, None))
    asked = (m.content[:MAX_TOLD] for m in messages[:2] if m.role is Role.SYSTEM)
    if user is None and (said := next(filter(None, map(_USER_SAID.search, asked)), None)):
        user = next(filter(None, said.groups()))
    if user is None:
        for before, message in reversed([*pairwise(messages)]):
            told = message.content[-4000:] if message.role is Role.TOOL else ""
            if found := _HOME_LINE.search(told):
                return found[0] if found[0].startswith("/") else "/root"
            act = act_of(action_of(before)) if told.strip() == "root" else None
            if act and any(_ASKS_WHO.search(line) for line, _ in act.lines):
                return "/root"
        return None
    return "/root" if user == "root" else f"/home/{user}"


def _does_as_root(act: Act | None) -> bool:
    """Whether it does by itself what only root can."""
    with suppress(Unreadable):
        made = [c for line, _ in act.lines for c in commands_of(normal_form(line))] if act else []
        others = any(command.name.startswith("sudo ") for command in made)
        return not others and any(map(_is_of_root, made))
    return False


def _is_of_root(command: Command) -> bool:
    files = [to for how, to in command.redirects if how in (">", ">>")]
    if command.name in ("<view>", "cat", "cp", "mv", "rm", "mkdir", "touch", "chmod", "ssh-keygen"):
        values = (value for _, value in command.flags)
        files += [word for word in (*command.arguments, *values) if word.startswith("/root/")]
    said = " ".join((command.name, *(f"-{flag}" for flag, _ in command.flags), *command.arguments))
    return bool(_ROOTS.match(f"{said} ")) or any(map(_OF_ROOT.match, files))


def _said(messages: Sequence[Message], groups: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(of which message, what it says), the last first."""
    for index, message in reversed([*enumerate(messages)]):
        if message.role in (Role.TOOL, Role.USER):
            for found in reversed([*_DIRECTORY_SAID.finditer(message.content[-4000:])]):
                yield from ((index, found[group]) for group in groups if found[group])


def _forms(act: Act, at: Where) -> list[Form]:
    """Lines typed one after the other are one line: `cd x` and then `ls` is `cd x && ls`."""
    together = ("" if act.keyed else "\n").join(line for line, where in act.lines if where is None)
    forms: list[Form] = []
    if act.keyed:
        together = normal_keys(together, at.reader)
        forms.append(("keys", together if at.reader else together.endswith("\n")))
    if together and not (act.keyed and at.reader):
        forms.append(normal_form(together, at.directory, at.home))
    placed = ((line, where) for line, where in act.lines if where is not None)
    start = at.directory or ""
    forms += [normal_form(line, posixpath.join(start, to) or None, at.home) for line, to in placed]
    return [laid_out(form) for form in forms]


def _same(wanted: list[Form], given: list[Form], act: Act) -> bool:
    """Whether an act does the same, and at most looks at what it did, where it was done."""
    if wanted == given:
        return True
    typed = "\n".join(line for line, _ in act.lines)
    moves = _MOVES_ON.search(typed, typed.lstrip().startswith("cd ") and typed.index("cd ") + 3)
    if not wanted or not given or moves or act.keyed or looks(wanted[-1]):
        return False
    while len(given) > len(wanted) and looks(given[-1]):
        given = given[:-1]
    return wanted == [*given[:-1], without_last_looks(given[-1])]


def _by_others(wanted: Act, given: Act, where: Where) -> bool:
    """Whether other programs run, of which the rules know too little, and to no other end."""
    with suppress(Unreadable):
        one, other = _forms(wanted, where), _forms(given, where)
        return (
            wanted.ends == given.ends
            and programs(one) != programs(other)
            and not (all(map(looks, one)) and any(map(changes, other)))
            and not (all(map(looks, other)) and any(map(changes, one)))
        )
    return False


def _with_whole_ids(act: Act, other: Act) -> Act:
    """With the short ids of commits and images in full, where the other act has them so."""
    ids = {found for line, _ in other.lines for found in _WHOLE_ID.findall(line)[:MAX_LINES]}

    def whole(found: re.Match[str]) -> str:
        fit = [one for one in ids if one.startswith(found[0])]
        return fit[0] if len(fit) == 1 else found[0]

    if not ids or not all(_HAS_IDS.fullmatch(line) for line, _ in act.lines):
        return act
    return replace(act, lines=tuple((_ID.sub(whole, line), where) for line, where in act.lines))


def _executed(
    references: Sequence[Act], given: Act, files: Mapping[str, str], directory: str | None
) -> int | str:
    """The index of a reference that does the same when it is run, else why there is none."""
    alike = [index for index, act in enumerate(references) if act.ends == given.ends]
    folder = directory or next((where for _, where in references[0].lines if where), None)
    scripts = [_script(references[index]) for index in alike]
    found = equal_outcome(scripts, _script(given), files, folder)
    return alike[found] if isinstance(found, int) else found


def _script(act: Act) -> str:
    return "\n".join(
        line if where is None else f"(cd -- {shlex.quote(where)} || exit\n{line}\n)"
        for line, where in act.lines
    )


def _shown(act: Act) -> str:
    return excerpt("\n".join(line for line, _ in act.lines))
