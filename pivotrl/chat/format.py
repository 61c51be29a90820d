"""A model's chat format: its own tokenizer and chat template, token-exact in both directions.

Renders states and demonstrations, decodes and parses completions, and names the pieces that a
policy fingerprint needs. It must never know a verifier, an engine, or where candidates come from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from pivotrl.chat.encoding import Encoder, alternation
from pivotrl.chat.forms import FORMS, HERMES, CallForm
from pivotrl.chat.mistral import BACKEND, MistralTokenizer
from pivotrl.chat.parsing import parse_completion
from pivotrl.chat.wording import WORDINGS
from pivotrl.types import (
    JSON,
    Action,
    ConfigError,
    FinishReason,
    Message,
    PivotRLError,
    Role,
    ToolCall,
    ToolSpec,
    tool_to_json,
)

FIXED_DATE = "26 Jul 2024"
"""For templates that print today's date (Llama 3): prompts must not change from day to day."""

CONTROL_SHAPE = re.compile(r"<[|｜].*[|｜]>")
"""Of tokens that no turn may contain although a tokenizer does not call them special (DeepSeek)."""

_PROBE_USER = Message(role=Role.USER, content="probe  it,\n now")
_PROBE_ANSWER = Message(role=Role.ASSISTANT, content="answer")
_PROBE_CALL = Message(
    role=Role.ASSISTANT,
    tool_calls=(ToolCall(name="probe", arguments={"text": "a"}, id="call_probe"),),
)
_PROBE_TOOL = ToolSpec(name="probe", parameters={"type": "object", "properties": {}})


class TemplateError(PivotRLError):
    """The chat template cannot express a state or a demonstration as it is; callers count these."""


class ChatFormat:
    """One model's chat format; `ChatFormat.load` makes it. It holds no model.

    `stop_ids` end a turn, `pad_id` fills batches, `fingerprint` has one hash under `tokenizer` and
    one under `template`.
    """

    def __init__(self, tokenizer: Any, *, extra_stop_ids: frozenset[int], place: str) -> None:
        self._tokenizer = tokenizer
        self._place = place
        self._wording = WORDINGS[0]
        self._last_tools: tuple[Sequence[ToolSpec], list[JSON]] = ((), [])
        try:
            opening = self._template([_PROBE_USER], None, open_turn=True)
            closed = self._template([_PROBE_USER, _PROBE_ANSWER], None, open_turn=False)
        except TemplateError as error:
            raise ConfigError(
                f"{place}: {error}; use a model whose template renders a user and an assistant turn"
            ) from None
        self._encoder = Encoder(tokenizer, probe=closed)
        special = self._encoder.special_ids
        self._opens_reasoning = opening.rstrip().endswith("<think>")
        after_answer = self._encoder.encode(closed.rpartition("answer")[2].lstrip())
        end_of_turn = frozenset(after_answer[:1]) & frozenset(special.values())
        eos = frozenset() if tokenizer.eos_token_id is None else {tokenizer.eos_token_id}
        self.stop_ids: frozenset[int] = extra_stop_ids | end_of_turn | eos
        if not self.stop_ids:
            raise ConfigError(f"{place}: no end-of-turn token; set eos_token in the tokenizer")
        pad = tokenizer.pad_token_id
        self.pad_id: int = min(self.stop_ids) if pad is None else pad
        self._form = self._probe_calls()
        markup = (self._form or HERMES).markup
        added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
        control = set(special) | {token for token in added if CONTROL_SHAPE.fullmatch(token)}
        self._control_tokens = alternation(t for t in control if not markup.fullmatch(t))

    @classmethod
    def load(cls, path: Path | str) -> ChatFormat:
        """The chat format of the model folder `path`; raises ConfigError with the remedy."""
        path = Path(path)
        if not path.is_dir():
            raise ConfigError(f"{path}: no such model folder; give a folder in Hugging Face layout")
        from transformers import AutoTokenizer

        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(
                str(path),
                local_files_only=True,
                trust_remote_code=False,
                model_max_length=2**31,  # a prompt over the context is counted, not warned of
            )
        except Exception as error:  # the library raises whatever the broken file provokes
            raise ConfigError(
                f"{path}: no tokenizer that loads ({_first_line(error)}); "
                "copy the model's tokenizer.json and tokenizer_config.json there"
            ) from None
        if type(tokenizer).__name__ == BACKEND:
            tokenizer = MistralTokenizer(tokenizer)
        if not tokenizer.chat_template:
            raise ConfigError(
                f"{path}: the tokenizer has no chat template; use an instruction-tuned model "
                "or put its chat_template.jinja there"
            )
        return cls(tokenizer, extra_stop_ids=_generation_stop_ids(path), place=str(path))

    def render(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]:
        """Token ids of the state with the generation prompt: what the policy continues.

        Tools go in OpenAI form without any `x-pivotrl`. Raises TemplateError where the template
        refuses, and ConfigError where it writes tool calls in no form, or several, that `parse`
        reads.
        """
        return self._encoder.encode(self._template(messages, self._tools(tools), open_turn=True))

    def completion(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], demonstration: Message
    ) -> list[int]:
        """Token ids of the demonstration, end of turn included.

        `render(messages, tools) + completion(...)` is, token for token, what the template makes of
        `messages + [demonstration]` up to there, and it parses back to the demonstration. Raises
        TemplateError where the template drops, injects or changes something instead.
        """
        listed = self._tools(tools)
        whole = self._template([*messages, demonstration], listed, open_turn=False)
        state, ids = self.render(messages, tools), self._encoder.encode(whole)
        if ids[: len(state)] != state:
            raise TemplateError("the chat template does not continue its own generation prompt")
        ids = ids[len(state) :]
        stops = [place for place, id in enumerate(ids) if id in self.stop_ids]
        if len(stops) != 1:
            raise TemplateError(f"the turn has {len(stops)} end-of-turn tokens, not one")
        if self.decode(ids[stops[0] + 1 :]).strip():
            raise TemplateError("the chat template adds text after the end of the turn")
        ids = ids[: stops[0] + 1]
        action = self.parse(self.decode(ids), FinishReason.STOP, tools)
        if action.malformed:
            raise TemplateError(f"the demonstration reads as malformed: {action.malformed[0]}")
        if _calls(action.tool_calls) != _calls(demonstration.tool_calls):
            raise TemplateError("the chat template changes the demonstration's tool calls")
        if action.text != demonstration.content.strip():
            raise TemplateError("the chat template changes the demonstration's text")
        return ids

    def parse(
        self, text: str, finish_reason: FinishReason, tools: Sequence[ToolSpec] = ()
    ) -> Action:
        """The action that a completion's text is; strict, bounded, never raises.

        `tools` are those of the prompt: Qwen3-Coder's values have their types from them.
        """
        return parse_completion(
            text,
            finish_reason,
            tools,
            form=self._form or HERMES,
            opened_reasoning=self._opens_reasoning,
            control_tokens=self._control_tokens,
        )

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a completion: tool markup kept, an end-of-turn token at the end dropped."""
        if ids and ids[-1] in self.stop_ids:
            ids = ids[:-1]
        text: str = self._tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    def prompt_text(self, ids: Sequence[int]) -> str:
        """Text that the tokenizer reads back to `ids`. Raises TemplateError where there is none."""
        text: str = self._tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        if self._tokenizer(text, add_special_tokens=False)["input_ids"] != list(ids):
            raise TemplateError("the prompt's text is read back as other tokens")
        return text

    def _tools(self, tools: Sequence[ToolSpec]) -> list[JSON] | None:
        if not tools:
            return None
        if self._form is None:
            raise ConfigError(
                f"{self._place}: its chat template writes tool calls in no form that is read; use "
                f"a model that writes one of: {', '.join(form.name for form in FORMS)}"
            )
        if self._last_tools[0] is not tools:  # candidates of one trajectory share the object
            self._last_tools = (tools, [without_equivalences(tool_to_json(tool)) for tool in tools])
        return self._last_tools[1]

    def _template(
        self, messages: Sequence[Message], tools: list[JSON] | None, *, open_turn: bool
    ) -> str:
        try:
            text: str = self._tokenizer.apply_chat_template(
                self._wording.rows(messages),
                tools=tools,
                tokenize=False,
                add_generation_prompt=open_turn,
                date_string=FIXED_DATE,
            )
        except Exception as error:  # a template raises through Jinja whatever it likes
            raise TemplateError(f"the chat template refuses: {_first_line(error)}") from None
        return text

    def _probe_calls(self) -> CallForm | None:
        """The one form that reads a call as the template writes it; settles the wording too.

        None where no form reads it, or several do: then a completion has no certain meaning.
        """
        tools = [tool_to_json(_PROBE_TOOL)]
        for wording in WORDINGS:
            self._wording = wording
            try:
                written = self._template([_PROBE_USER, _PROBE_CALL], tools, open_turn=False)
            except TemplateError:
                continue
            turn = written.rpartition(_PROBE_USER.content)[2]
            reading = [form for form in FORMS if self._reads_probe(form, turn)]
            if reading:
                return reading[0] if len(reading) == 1 else None
        self._wording = WORDINGS[0]
        return None

    def _reads_probe(self, form: CallForm, turn: str) -> bool:
        found = form.opening.search(turn)
        ids = self._encoder.encode(turn[found.start() :]) if found is not None else []
        end = next((place for place, id in enumerate(ids) if id in self.stop_ids), len(ids))
        text = self.decode(ids[:end])
        action = parse_completion(
            text, FinishReason.STOP, (_PROBE_TOOL,), form=form, control_tokens=None
        )
        unread = action.malformed or action.text
        return not unread and _calls(action.tool_calls) == _calls(_PROBE_CALL.tool_calls)


def _calls(calls: Sequence[ToolCall]) -> list[tuple[str, JSON]]:
    return [(call.name, call.arguments) for call in calls]


def without_equivalences(value: JSON) -> JSON:
    """`value` without any `x-pivotrl`, at any depth: declared equivalences would give hints."""
    if isinstance(value, dict):
        return {
            key: without_equivalences(item) for key, item in value.items() if key != "x-pivotrl"
        }
    return (
        [without_equivalences(item) for item in value] if isinstance(value, list | tuple) else value
    )


def _generation_stop_ids(path: Path) -> frozenset[int]:
    """`eos_token_id` of generation_config.json: one id, several, or none."""
    file = path / "generation_config.json"
    try:
        ids = orjson.loads(file.read_bytes()).get("eos_token_id") if file.exists() else None
    except (orjson.JSONDecodeError, AttributeError) as error:
        raise ConfigError(f"{file}: not a JSON object ({error}); restore the file") from None
    return frozenset(id for id in (ids if isinstance(ids, list) else [ids]) if id is not None)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
