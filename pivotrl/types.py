"""The nouns of the project: plain typed data, importable in milliseconds, without torch.

Every stage reads and writes these and nothing else. A field that may be missing is `None`, never
an empty stand-in. This module must never know a file format, a model or a database.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

try:
    import orjson
except ImportError:  # a bare GPU image, where training runs with torch and transformers alone
    orjson = None  # type: ignore[assignment]

JSON = Any
"""A decoded JSON value: dict, list, str, int, float, bool or None."""


class PivotRLError(Exception):
    """An error that the user can act on: one line that names the place and the remedy.

    `exit_code` is 2 for a bad configuration or command and 1 for a run that could not go on.
    """

    exit_code = 1


class ConfigError(PivotRLError):
    """The configuration or the command line is wrong; nothing was started."""

    exit_code = 2


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Split(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"


class RolloutStatus(StrEnum):
    OK = "ok"
    TIMEOUT = "timeout"
    ENGINE_ERROR = "engine_error"


class VerdictStatus(StrEnum):
    OK = "ok"
    UNDECIDED = "undecided"
    MASKED = "masked"
    """Wrong, but of a category that the configuration takes no reward from."""
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    name: str
    arguments: JSON
    """Decoded JSON, an object in every well-formed call."""
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    role: Role
    content: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    """On a tool message: the call that it answers."""
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    name: str
    description: str = ""
    parameters: Mapping[str, JSON] = field(default_factory=dict)
    """JSON Schema of the arguments. A property may carry `x-pivotrl` with declared equivalences."""
    x_pivotrl: Mapping[str, JSON] = field(default_factory=dict)
    """Tool-wide declared equivalences, `x-pivotrl` beside `parameters` in the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    id: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tools_declared: bool = True
    """False when neither the row nor the configuration declares any tool, though calls occur."""
    domain: str = "tool_use"
    task: str | None = None
    reward: float | None = None
    accepted_actions: Mapping[int, tuple[Message, ...]] = field(default_factory=dict)
    """Message index of an assistant turn -> other assistant messages that are also right there."""
    files: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """Message index of an assistant turn -> the files before it: relative path -> text."""
    not_actions: frozenset[int] = frozenset()
    """Indices of assistant messages that are context alone: a shown example, a copied turn."""
    source_file: str = ""
    source_row: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An assistant turn, held by reference: `trajectory.messages[turn]` is the demonstration."""

    id: str
    trajectory: Trajectory
    turn: int
    split: Split = Split.TRAIN

    @property
    def messages(self) -> tuple[Message, ...]:
        """The state `s`: everything the model saw before this turn."""
        return self.trajectory.messages[: self.turn]

    @property
    def demonstration(self) -> Message:
        return self.trajectory.messages[self.turn]

    @property
    def accepted_actions(self) -> tuple[Message, ...]:
        return self.trajectory.accepted_actions.get(self.turn, ())

    @property
    def files(self) -> Mapping[str, str] | None:
        """The files that the turn starts from; None where the row does not carry them."""
        return self.trajectory.files.get(self.turn)

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        return self.trajectory.tools

    @property
    def domain(self) -> str:
        return self.trajectory.domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One parsed assistant turn, as a policy produced it."""

    text: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    malformed: tuple[str, ...] = ()
    """Why each piece of tool markup could not be read, with its place; empty when well formed."""
    finish_reason: FinishReason = FinishReason.STOP


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    max_tokens: int
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One completion of one prompt, straight from an engine."""

    token_ids: tuple[int, ...]
    """Sampled ids, end-of-turn token included when the finish reason is `stop`."""
    logprobs: tuple[float, ...]
    """Natural log-probability of each sampled id under the sampling distribution."""
    text: str
    """Decoded without the end-of-turn token; special tool markup kept."""
    finish_reason: FinishReason
    seed: int
    status: RolloutStatus = RolloutStatus.OK

    @classmethod
    def of(cls, row: Mapping[str, JSON]) -> Sample:
        """From a row of `rollouts` or the fields as JSON."""
        return cls(
            token_ids=tuple(row["token_ids"]),
            logprobs=tuple(row["logprobs"]),
            text=row["text"],
            finish_reason=FinishReason(row["finish_reason"]),
            seed=row["seed"],
            status=RolloutStatus(row["status"]),
        )

    @classmethod
    def lost(cls, status: RolloutStatus, seed: int) -> Sample:
        """One that the machinery failed on: no action, never a reward."""
        return cls(
            token_ids=(),
            logprobs=(),
            text="",
            finish_reason=FinishReason.LENGTH,
            seed=seed,
            status=status,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One action of an episode: what the policy was shown, and what it said."""

    prompt_ids: tuple[int, ...]
    sample: Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    status: VerdictStatus
    reward: float | None
    """In [0, 1]; None unless the status is `ok`: an error is never a reward."""
    category: str
    """Why, as one stable word or two: `accepted`, `wrong_tool`, `wrong_argument`, ..."""
    details: Mapping[str, JSON] = field(default_factory=dict)


class Verifier(Protocol):
    """Judges an action from the candidate alone; pure, and never touches an environment."""

    name: str

    def verify(self, candidate: Candidate, action: Action) -> Verdict: ...


class Engine(Protocol):
    """Where completions come from; nobody needs to know in which process."""

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        params: SamplingParams,
        seeds: Sequence[int],
        on_progress: Callable[[int, int], None] | None = None,
        first: int = 0,
    ) -> list[list[Sample]]:
        """Samples `first` to `first + n` of each prompt (token ids); `seeds` has one per prompt.

        Sample j of a prompt uses `seed_of(seed, j)`, in whichever call it is asked for.
        `on_progress(rows, tokens)` is called with what was finished since the last call. Failures
        of the machinery are samples with a status.
        """
        ...

    def load_weights(self, state: Mapping[str, Any]) -> None:
        """Replace the policy's weights; any cached prefix is dropped."""
        ...


class Environment(Protocol):
    """A live, multi-turn task; deterministic in (task, actions)."""

    domain: str
    tools: tuple[ToolSpec, ...]

    def reset(self, task: JSON) -> EnvironmentState: ...

    def step(self, state: EnvironmentState, action: Action) -> EnvironmentState:
        """A new state (the old one stays usable) with the action and the world's answer."""
        ...

    def score(self, state: EnvironmentState) -> float:
        """1.0 if the task was solved, else 0.0 (or a value between)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentState:
    task: JSON
    messages: tuple[Message, ...]
    """The conversation as the agent sees it."""
    done: bool
    world: JSON
    """The environment's own state: decoded JSON that the agent never sees."""


def canonical(value: JSON) -> bytes:
    """Bytes that are equal exactly when two JSON values are: sorted keys, no spaces."""
    if orjson is None:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)


def digest(value: JSON) -> str:
    """The first 16 hex digits of the SHA-256 of `canonical(value)`; every id is one."""
    return hashlib.sha256(canonical(value)).hexdigest()[:16]


def seed_of(*parts: JSON) -> int:
    """A 63-bit seed that is a pure function of its parts."""
    return int.from_bytes(hashlib.sha256(canonical(list(parts))).digest()[:8], "big") >> 1


def message_to_json(message: Message) -> dict[str, JSON]:
    """OpenAI chat form with decoded arguments and without empty fields; the canonical content."""
    out: dict[str, JSON] = {"role": str(message.role), "content": message.content}
    if message.reasoning is not None:
        out["reasoning_content"] = message.reasoning
    if message.tool_calls:
        out["tool_calls"] = [
            {"type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            | ({"id": c.id} if c.id is not None else {})
            for c in message.tool_calls
        ]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        out["name"] = message.name
    return out


def message_from_json(row: Mapping[str, JSON]) -> Message:
    """The inverse of `message_to_json`; trusts its input (readers check foreign data)."""
    return Message(
        role=Role(row["role"]),
        content=row.get("content") or "",
        reasoning=row.get("reasoning_content"),
        tool_calls=tuple(
            ToolCall(
                name=c["function"]["name"], arguments=c["function"]["arguments"], id=c.get("id")
            )
            for c in row.get("tool_calls", ())
        ),
        tool_call_id=row.get("tool_call_id"),
        name=row.get("name"),
    )


def tool_to_json(tool: ToolSpec) -> dict[str, JSON]:
    """OpenAI form `{"type": "function", "function": {...}}`, what chat templates expect."""
    function: dict[str, JSON] = {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }
    if tool.x_pivotrl:
        function["x-pivotrl"] = dict(tool.x_pivotrl)
    return {"type": "function", "function": function}


def tool_from_json(row: Mapping[str, JSON]) -> ToolSpec:
    """The inverse of `tool_to_json`; trusts its input (readers check foreign data)."""
    function = row["function"]
    return ToolSpec(
        name=function["name"],
        description=function.get("description") or "",
        parameters=function.get("parameters") or {},
        x_pivotrl=function.get("x-pivotrl") or {},
    )


def action_of(message: Message) -> Action:
    """The action that a demonstration is."""
    return Action(text=message.content, reasoning=message.reasoning, tool_calls=message.tool_calls)
