"""Mistral's own format, as mistral-common renders it: token-exact in every version of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mistral_common
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from transformers import AutoTokenizer, MistralConfig

from pivotrl.chat import ChatFormat, TemplateError
from pivotrl.chat.wording import Wording
from pivotrl.types import FinishReason, Message, Role, ToolCall, ToolSpec, tool_to_json

SHIPPED = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
"""Pixtral's and Nemo's; the later versions differ in their number and their control tokens."""
LATER = ("[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]")
VERSIONS = {"v3": (), "v7": (), "v11": LATER, "v13": LATER}
TOOL = ToolSpec(
    name="get_order", parameters={"type": "object", "properties": {"id": {"type": "string"}}}
)


def write_model(folder: Path, version: str, more: Sequence[str]) -> Path:
    """A folder with a tokenizer as Mistral publishes it, without any Jinja template."""
    whole = orjson.loads(SHIPPED.read_bytes())
    whole["config"]["version"] = version
    if more:
        words = [str(token["token_str"].value) for token in Tekkenizer.DEPRECATED_SPECIAL_TOKENS]
        whole["special_tokens"] = [
            {"rank": rank, "token_str": word, "is_control": True}
            for rank, word in enumerate([*words, *more])
        ]
    (folder / "tekken.json").write_bytes(orjson.dumps(whole))
    MistralConfig().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=VERSIONS)
def model(request, tmp_path_factory) -> tuple[ChatFormat, object, str]:
    folder = write_model(
        tmp_path_factory.mktemp(request.param), request.param, VERSIONS[request.param]
    )
    return ChatFormat.load(folder), AutoTokenizer.from_pretrained(folder), request.param


def call(id: str, order: str) -> ToolCall:
    return ToolCall(name="get_order", arguments={"id": order}, id=id)


def state_of(question: str, result: str) -> list[Message]:
    return [
        Message(role=Role.SYSTEM, content="Be brief."),
        Message(role=Role.USER, content=question),
        Message(role=Role.ASSISTANT, tool_calls=(call("call_1", "#1"),)),
        Message(role=Role.TOOL, content=result, tool_call_id="call_1"),
    ]


PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="[]"), max_size=12)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(question=PLAIN, result=PLAIN, ids=st.lists(PLAIN, max_size=2), text=PLAIN)
def test_states_and_turns_are_mistrals_own_tokens(model, question, result, ids, text):
    chat, own, version = model
    state = state_of("Where is it? " + question, result)
    calls = tuple(call(f"call_{n}", id) for n, id in enumerate(ids, start=2))
    turn = Message(role=Role.ASSISTANT, content="" if calls else "So: " + text, tool_calls=calls)
    rows = Wording(nine_letters=version != "v13").rows([*state, turn])
    tools = [tool_to_json(TOOL)]

    def theirs(rows, **settings):
        return own.apply_chat_template(rows, tools=tools, return_dict=False, **settings)

    assert chat.render(state, [TOOL]) == theirs(rows[:-1])
    try:
        ids = chat.completion(state, [TOOL], turn)
    except TemplateError:
        assert turn.content != turn.content.strip()  # what mistral-common strips is no turn
        return
    whole = theirs(rows, continue_final_message=True)
    assert chat.render(state, [TOOL]) + ids == [*whole, own.eos_token_id]
    action = chat.parse(chat.decode(ids), FinishReason.STOP, [TOOL])
    assert (action.text, action.malformed) == (turn.content.strip(), ())
    assert [(c.name, c.arguments) for c in action.tool_calls] == [
        (c.name, c.arguments) for c in calls
    ]


def test_a_broken_call_is_malformed(model):
    chat, _, version = model
    broken = '[{"name": "get_order", "arguments": {"id": }}]'
    if version in ("v11", "v13"):
        broken = 'get_order[ARGS]{"id": }'
    action = chat.parse("[TOOL_CALLS]" + broken, FinishReason.STOP, [TOOL])
    assert action.malformed and not action.tool_calls and not action.text
    assert chat.prompt_text(chat.render(state_of("a", "b"), [TOOL]))
