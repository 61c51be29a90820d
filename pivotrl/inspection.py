"""What is in the files: the counts that `pivotrl inspect` prints before anything is started.

This module must never know a verifier, a store or a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pivotrl.candidates import extract
from pivotrl.chat import ChatFormat, TemplateError
from pivotrl.trajectories import BadRow, from_row, read_stored
from pivotrl.types import Role, ToolSpec, Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    rows: int
    """Trajectories and bad rows together."""
    formats: Mapping[str, int]
    """Rows by format."""
    trajectories: int
    bad_rows: Mapping[str, int]
    """Rows by reason."""
    rewarded: int
    """Trajectories whose reward is known."""
    solved: int
    """Trajectories with a reward of at least 1."""
    undeclared: int
    """Trajectories that call tools though none is declared anywhere."""
    turns: int
    """Assistant turns: text turns and tool-call turns."""
    text_turns: int
    tool_call_turns: int
    tools: Mapping[str, int]
    """Calls by tool."""
    candidates: Mapping[str, int]
    """By domain and kind of action, each once; a turn that the domain's rule leaves out is none."""
    duplicates: int
    """Candidates that are met again."""
    prompts: Mapping[str, int]
    """What a model's template makes of the candidates, see `Prompts`; empty without a model."""


def summarise(
    paths: Sequence[Path],
    *,
    tools: tuple[ToolSpec, ...] | None = None,
    model: tuple[ChatFormat, int] | None = None,
) -> Summary:
    """Reads the files whole, keeping only counts and ids. Raises as `read` does.

    `model`: a chat format and the model's context in tokens, to measure the candidates' prompts.
    """
    lengths: list[int] = []
    refused = breaks = duplicates = 0
    formats: Counter[str] = Counter()
    bad_rows: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    candidates: Counter[str] = Counter()
    seen: set[str] = set()
    trajectories = rewarded = solved = undeclared = text_turns = tool_call_turns = 0
    for label, result in read_stored(paths, tools=tools):
        formats[label] += 1
        if isinstance(result, BadRow):
            bad_rows[result.reason] += 1
            continue
        trajectory = from_row(result)
        trajectories += 1
        rewarded += trajectory.reward is not None
        solved += trajectory.reward is not None and trajectory.reward >= 1
        undeclared += not trajectory.tools_declared
        found = extract(trajectory)
        turns = [c for c in {c.id: c for c in found}.values() if c.id not in seen]
        duplicates += len(found) - len(turns)
        seen.update(c.id for c in turns)
        candidates.update(
            f"{c.domain}, {'tool call' if c.demonstration.tool_calls else 'text'}" for c in turns
        )
        if model is not None:
            prompts = prompts_of(model[0], trajectory, [c.turn for c in turns])
            lengths += prompts.tokens.values()
            refused += len(prompts.refused)
            breaks += len(prompts.breaks)
        for message in trajectory.messages:
            if message.role == Role.ASSISTANT:
                text_turns += not message.tool_calls
                tool_call_turns += bool(message.tool_calls)
                calls.update(call.name for call in message.tool_calls)
    return Summary(
        rows=formats.total(),
        formats=dict(formats.most_common()),
        trajectories=trajectories,
        bad_rows=dict(bad_rows.most_common()),
        rewarded=rewarded,
        solved=solved,
        undeclared=undeclared,
        turns=text_turns + tool_call_turns,
        text_turns=text_turns,
        tool_call_turns=tool_call_turns,
        tools=dict(calls.most_common()),
        candidates=dict(candidates.most_common()),
        duplicates=duplicates,
        prompts={}
        if model is None
        else {
            "median tokens": sorted(lengths)[len(lengths) // 2] if lengths else 0,
            "longest tokens": max(lengths, default=0),
            "over the context": sum(n >= model[1] for n in lengths),
            "refused by the template": refused,
            "prefix breaks": breaks,
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    tokens: Mapping[int, int]
    """Turn -> tokens of its prompt."""
    refused: Mapping[int, str]
    """Turn -> why the template refuses its prompt."""
    breaks: tuple[int, ...]
    """Turns of which the prompt does not begin with the one before it, token for token."""


def prompts_of(chat: ChatFormat, trajectory: Trajectory, turns: Sequence[int]) -> Prompts:
    """The prompts at `turns` (indices of messages, in order), each rendered whole.

    A template that drops earlier reasoning or moves the tools makes a turn's prompt no prefix of
    the next turn's: nothing is shared between them, and the later prompt shows the model another
    past than the earlier.
    """
    tokens: dict[int, int] = {}
    refused: dict[int, str] = {}
    breaks: list[int] = []
    before: list[int] = []
    for turn in turns:
        try:
            ids = chat.render(trajectory.messages[:turn], trajectory.tools)
        except TemplateError as error:
            refused[turn] = str(error)
            continue
        if ids[: len(before)] != before:
            breaks.append(turn)
        tokens[turn], before = len(ids), ids
    return Prompts(tokens=tokens, refused=refused, breaks=tuple(breaks))
