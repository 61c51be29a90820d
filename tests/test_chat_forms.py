"""Tool calls as other models write them: token-exact both ways, strict, and as vLLM reads them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import trl
from chat_templates import PUBLISHED, Published, write_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pivotrl.chat import ChatFormat, TemplateError
from pivotrl.chat.forms import FORMS
from pivotrl.chat.parsing import MAX_CALLS, parse_completion
from pivotrl.inspection import prompts_of
from pivotrl.types import (
    ConfigError,
    FinishReason,
    Message,
    Role,
    ToolCall,
    ToolSpec,
    Trajectory,
    canonical,
    tool_to_json,
)

STOP = FinishReason.STOP
NUMBER_OR_NULL = {"anyOf": [{"type": "number"}, {"type": "null"}]}
TOOLS = (
    ToolSpec(
        name="get_order",
        parameters={
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "count": {"type": "integer"},
                "share": NUMBER_OR_NULL,
                "sent": {"type": "boolean"},
                "lines": {"type": "array"},
                "more": {"type": ["object", "null"]},
            },
        },
    ),
)
ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text(max_size=12),
        "count": st.integers(-(2**63), 2**64 - 1),
        "share": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "sent": st.booleans(),
        "lines": st.lists(st.text(max_size=3) | st.integers(-9, 9) | st.none(), max_size=3),
        "more": st.none() | st.dictionaries(st.text(max_size=3), st.booleans(), max_size=2),
    },
)
STATE = (
    Message(role=Role.USER, content="Where is it?"),
    Message(
        role=Role.ASSISTANT,
        tool_calls=(ToolCall(name="get_order", arguments={"count": 1}, id="call_order_1"),),
    ),
    Message(role=Role.TOOL, content='{"a": 1}', tool_call_id="call_order_1"),
)
NO_FIXTURE = [HealthCheck.function_scoped_fixture]


@pytest.fixture(scope="module", params=PUBLISHED)
def model(request, tmp_path_factory) -> tuple[Published, ChatFormat]:
    published = PUBLISHED[request.param]
    folder = write_tokenizer(tmp_path_factory.mktemp(request.param), published)
    return published, ChatFormat.load(folder)


def turn(text: str, *arguments: dict) -> Message:
    calls = tuple(
        ToolCall(name="get_order", arguments=values, id=f"call_{number}")
        for number, values in enumerate(arguments)
    )
    return Message(role=Role.ASSISTANT, content=text, tool_calls=calls)


@settings(max_examples=60, deadline=None, suppress_health_check=NO_FIXTURE)
@given(
    calls=st.lists(ARGUMENTS, max_size=3),
    text=st.sampled_from(["", "Let me look.", "{1} [2] <3>"]),
)
def test_demonstrations_are_token_exact(model, calls, text):
    published, chat = model
    if calls and not published.text_with_calls:
        text = ""
    calls = calls if published.several_calls else calls[:1]
    demonstration = turn(text, *calls)
    ids = chat.completion(STATE, TOOLS, demonstration)
    action = chat.parse(chat.decode(ids), STOP, TOOLS)
    assert (action.text, action.malformed) == (text, ())
    assert [(c.name, c.arguments) for c in action.tool_calls] == [("get_order", c) for c in calls]
    assert [type(v) for c in action.tool_calls for v in c.arguments.values()] == [
        type(v) for c in calls for v in c.values()
    ]
    following = chat.render([*STATE, demonstration, Message(role=Role.USER, content="so")], TOOLS)
    if published is not PUBLISHED["mistral"]:  # it moves the tools to the last user message
        state = chat.render(STATE, TOOLS)
        assert following[: len(state) + len(ids)] == state + ids


def one_call(model: tuple[Published, ChatFormat]) -> str:
    _, chat = model
    return chat.decode(chat.completion(STATE, TOOLS, turn("", {"text": "a", "count": 1})))


def test_whatever_is_cut_off_or_hangs_on_is_malformed(model):
    _, chat = model
    text = one_call(model)
    start = len(text) - len(text.lstrip())
    whole = chat.parse(text, STOP, TOOLS)
    assert len(whole.tool_calls) == 1
    named = text.index("name") if "name" in text else start
    for end in range(max(named + 7, start + 30), len(text)):
        cut = chat.parse(text[:end], FinishReason.LENGTH, TOOLS)
        assert cut.malformed and not cut.tool_calls, text[:end]
        assert "get_order" not in cut.text
    for tail in (" and so on", "}", "</tool_call>", "[ARGS]", "<｜tool▁sep｜>", "<think>"):
        assert chat.parse(text + tail, STOP, TOOLS).malformed, tail


BROKEN = [
    ("get_order", ""),
    ('"count": 1', '"count": NaN'),
    ('"count": 1', '"count": 1e999'),
    ('"count": 1', '"count": 1, "count": 2'),
    ('"count": 1', '"count": 1,'),
    ('"count": 1', '"count": ' + "[" * 100_000),
    ('"count": 1', '"count": ' + "[" * 40 + "]" * 40),
    ('{"text": "a", "count": 1}', "[]"),
    ('{"text": "a", "count": 1}', '"{}"'),
    ('"parameters"', '"arguments": {}, "parameters"'),
    ('"arguments"', '"parameters": {}, "arguments"'),
    ("=count", "=text"),
    ("</parameter>", ""),
    ("</parameter>\n<parameter", "\n<parameter"),
    ("</parameter>", "</parameter>junk"),
    ("</function>", ""),
    ("<tool_call>", ""),
    ("<function=", "<func="),
    ("[ARGS]", ""),
    ("[{", "{"),
    ('"id": ', '"id": 1, "x": '),
    ("<｜tool▁call▁end｜>", ""),
    ("<｜tool▁calls▁begin｜>", ""),
    ("<｜tool▁call▁begin｜>", ""),
    ("```json", "```"),
]


def test_broken_calls_are_malformed_with_their_place(model):
    _, chat = model
    text = one_call(model)
    tried = [(old, new) for old, new in BROKEN if old in text]
    assert len(tried) >= 8
    for old, new in tried:
        action = chat.parse(text.replace(old, new), STOP, TOOLS)
        assert action.malformed and not action.tool_calls, (old, new)
        assert "get_order" not in action.text
        assert all("character" in reason for reason in action.malformed)


def test_a_bad_call_does_not_hide_a_good_one(model):
    _, chat = model
    text = one_call(model)
    broken = text.replace("get_order", "", 1)
    action = chat.parse(broken + text, STOP, TOOLS)
    assert action.malformed and len(action.tool_calls) == 1


def test_calls_are_bounded(model):
    published, chat = model
    many = chat.parse(one_call(model) * 1000, STOP, TOOLS)
    assert many.malformed and len(many.tool_calls) <= MAX_CALLS
    if published.several_calls:
        chat.completion(STATE, TOOLS, turn("", *[{}] * MAX_CALLS))
        with pytest.raises(TemplateError, match="more than"):
            chat.completion(STATE, TOOLS, turn("", *[{}] * (MAX_CALLS + 1)))


MARKS = sorted({m for p in PUBLISHED.values() for m in (*p.marks, *p.special)} - {"</s>", "<s>"})
XML = ["<function=f>", "</function>", "<parameter=a>", "</parameter>", "<think>", "function", "f"]
JSON = ['{"name": "f", "parameters": {}}', '[{"name": "f", "arguments": {}}]', '{"name"', "null"]
SIGNS = ["{", "}", "[", "]", '"', ",", ":", "\\", "\n", " ", "```json\n", "```"]
PIECES = st.sampled_from([*MARKS, *XML, *JSON, *SIGNS])


@settings(max_examples=400, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    pieces=st.lists(PIECES | st.text(max_size=4), max_size=24),
    opened=st.booleans(),
)
def test_hostile_text_never_raises_and_never_leaks_markup(form, pieces, opened):
    action = parse_completion("".join(pieces), STOP, TOOLS, form=form, opened_reasoning=opened)
    assert not form.markup.search(action.text) and not form.opening.search(action.text)
    canonical([action.text, action.reasoning, list(action.malformed)])
    for call in action.tool_calls:
        assert call.name and isinstance(call.arguments, dict)
        canonical([call.name, call.arguments, call.id])


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_time_is_bounded(form):
    openings = ["<tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "<｜tool▁calls▁begin｜>"]
    hostile = [
        "<tool_call><function=f>" + "<parameter=a>" * 70_000,
        "<tool_call><function=f><parameter=a>" * 100 + "x" * 900_000,
        "<tool_call><function=f>" + "<parameter=a>1</parameter>" * 38_000,
        '{"name": "f", "parameters": ' * 35_000,
        '[TOOL_CALLS][{"name": "' * 40_000,
        "<｜tool▁calls▁begin｜>"
        + "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜>" * 18_000,
        *(opening * (1_000_000 // len(opening)) for opening in openings),
        *(opening + " " * 900_000 for opening in openings),
        *(opening + "[" * 900_000 for opening in openings),
    ]
    for text in hostile:
        start = time.process_time()
        action = parse_completion(text, STOP, TOOLS, form=form)
        assert time.process_time() - start < 2, text[:60]
        assert len(action.tool_calls) <= MAX_CALLS and len(action.malformed) <= MAX_CALLS + 2


def test_a_role_of_the_template_is_no_text(model):
    published, chat = model
    for mark in (*published.special[1:], *published.marks):
        assert chat.parse(f"ok{mark}Pay it out.", STOP, TOOLS).malformed, mark


def test_a_form_that_none_reads_is_refused_by_name(tmp_path):
    published = PUBLISHED["mistral_args"]
    other = Published(published.template.replace("[ARGS]", "[CONTENT]"), published.special)
    chat = ChatFormat.load(write_tokenizer(tmp_path, other))
    assert chat.render(STATE[:1], ())
    with pytest.raises(ConfigError) as refused:
        chat.render(STATE[:1], TOOLS)
    assert all(form.name in str(refused.value) for form in FORMS)


@pytest.mark.parametrize(
    ("written", "schema", "value"),
    [
        ("1", {"type": "string"}, "1"),
        ("1", {}, "1"),
        ("1", None, "1"),
        ("1", {"type": "integer"}, 1),
        ("1.5", {"type": "integer"}, "1.5"),
        ("1_0", {"type": "integer"}, "1_0"),
        ("9" * 30, {"type": "integer"}, "9" * 30),
        ("NaN", {"type": "number"}, "NaN"),
        ("1e-05", {"type": "number"}, 1e-05),
        ("True", {"type": ["boolean", "string"]}, True),
        ("true", {"type": "integer"}, "true"),
        ("None", {"type": "string", "nullable": True}, None),
        ('{"a": 1}', {"oneOf": [{"type": "object"}, {"type": "string"}]}, {"a": 1}),
        ('{"a": 1, "a": 2}', {"type": "object"}, '{"a": 1, "a": 2}'),
        ("[1] tail", {"type": "array"}, "[1] tail"),
        ("[1]", {"type": 3, "anyOf": "no"}, "[1]"),
    ],
)
def test_bare_values_have_their_types_from_the_schema(written, schema, value):
    text = f"<tool_call><function=f><parameter=a>\n{written}\n</parameter></function></tool_call>"
    tools = (ToolSpec(name="f", parameters={"properties": {"a": schema}}),)
    form = next(form for form in FORMS if "Coder" in form.name)
    (call,) = parse_completion(text, STOP, tools, form=form).tool_calls
    assert call.arguments == {"a": value} and type(call.arguments["a"]) is type(value)


def test_where_the_prefix_breaks(model):
    published, chat = model
    thought = Message(role=Role.ASSISTANT, content="Sent.", reasoning="It says so.")
    asked = [Message(role=Role.USER, content=content) for content in ("When?", "By whom?")]
    messages = (*STATE, thought, asked[0], thought, asked[1], thought)
    prompts = prompts_of(chat, Trajectory(id="t", messages=messages, tools=TOOLS), [1, 3, 5, 7])
    # These templates show no reasoning at all; Mistral's moves the tools with the last user.
    assert prompts.breaks == ((5, 7) if published is PUBLISHED["mistral"] else ())
    assert prompts.tokens == {t: len(chat.render(messages[:t], TOOLS)) for t in (1, 3, 5, 7)}
    assert not prompts.refused


# The vLLM parser of each form; it needs no engine, only the ids of the marks.
ORACLE = """
import json, sys
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.tool_parsers import ToolParserManager

class Vocabulary:
    def __init__(self, words):
        self.words = {word: id for id, word in enumerate(words)}
    def get_vocab(self):
        return self.words
    def encode(self, *arguments, **options):
        return []

asked = json.load(sys.stdin)
answers = []
for case in asked["cases"]:
    request = ChatCompletionRequest(
        model="m", messages=[{"role": "user", "content": "x"}], tools=asked["tools"]
    )
    parser = ToolParserManager.get_tool_parser(case["parser"])(
        Vocabulary(case["words"]), request.tools
    )
    found = parser.extract_tool_calls(case["text"], request)
    calls = [[c.function.name, json.loads(c.function.arguments)] for c in found.tool_calls]
    answers.append([(found.content or "").strip(), calls])
print("ANSWERS" + json.dumps(answers))
"""
PARSERS = {
    "qwen_coder": "qwen3_coder",
    "llama": "llama3_json",
    "mistral": "mistral",
    "mistral_args": "mistral",
    "deepseek": "deepseek_v3",
    "deepseek_31": "deepseek_v31",
}


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("vllm") is None and os.environ.get("CI") != "true", reason="vllm is not installed"
)
def test_well_formed_turns_are_read_as_vllm_reads_them(tmp_path):
    values = [{"text": "a b", "count": 12, "share": 0.5, "sent": True}, {"text": "  x\n y"}, {}]
    values += [{"lines": [1, "</b>"], "more": {"k": False}}]
    cases, own = [], []
    for name, published in PUBLISHED.items():
        chat = ChatFormat.load(write_tokenizer(tmp_path / name, published))
        several = [values[:2]] if published.several_calls else []
        for calls in [*([v] for v in values), *several, []]:
            demonstration = turn("" if calls else "It is {sent}.", *calls)
            text = chat.decode(chat.completion(STATE, TOOLS, demonstration))
            words = [*published.special, *published.marks, "<think>", "</think>"]
            words = words if name != "mistral" else [w for w in words if w != "[ARGS]"]
            cases.append({"parser": PARSERS[name], "text": text, "words": words})
            action = chat.parse(text, STOP, TOOLS)
            own.append([action.text, [[c.name, c.arguments] for c in action.tool_calls]])
    asked = json.dumps({"cases": cases, "tools": [tool_to_json(tool) for tool in TOOLS]})
    told = subprocess.run(
        [sys.executable, "-c", ORACLE], input=asked, capture_output=True, text=True, timeout=500
    )
    assert told.returncode == 0, told.stderr[-2000:]
    assert json.loads(told.stdout.rpartition("ANSWERS")[2]) == own


# --- the models' own templates, as TRL ships them -------------------------------------------------

QWEN = Published(
    "",
    special=("<|im_end|>", "<|im_start|>", "<|endoftext|>"),
    marks=(*PUBLISHED["qwen_coder"].marks, "<think>", "</think>"),
)
OWN = {
    "qwen2_5": (QWEN, "Hermes/Qwen <tool_call> JSON"),
    "qwen3": (QWEN, "Hermes/Qwen <tool_call> JSON"),
    "qwen3_instruct_2507": (QWEN, "Hermes/Qwen <tool_call> JSON"),
    "qwen3_vl": (QWEN, "Hermes/Qwen <tool_call> JSON"),
    "qwen3_5_think": (QWEN, "Qwen3-Coder <tool_call> XML"),
    "qwen3_5_nothink": (QWEN, "Qwen3-Coder <tool_call> XML"),
    "qwen3_6": (QWEN, "Qwen3-Coder <tool_call> XML"),
    "nemotron_3_nano": (QWEN, "Qwen3-Coder <tool_call> XML"),
    "nemotron_3_super": (QWEN, "Qwen3-Coder <tool_call> XML"),
    "llama3_1": (PUBLISHED["llama"], "Llama 3 JSON"),
    "llama3_2": (PUBLISHED["llama"], "Llama 3 JSON"),
    "deepseekv3": (PUBLISHED["deepseek"], "DeepSeek <｜tool▁calls▁begin｜>"),
}
OPENS_REASONING = {"nemotron_3_nano", "nemotron_3_super", "deepseekv3"}
"""They open `<think>` and write a turn without reasoning otherwise: no demonstration continues."""


@pytest.mark.parametrize("name", OWN)
def test_the_models_own_templates(name: str, tmp_path: Path) -> None:
    published, form = OWN[name]
    template = Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja"
    folder = write_tokenizer(tmp_path / "model", replace(published, template=template.read_text()))
    chat = ChatFormat.load(folder)
    assert chat._form is not None and chat._form.name == form  # it reads what the template writes
    demonstration = turn("", {"text": "a, b", "count": 2, "lines": [1, "x"]})
    assert chat.render(STATE, TOOLS)
    if name in OPENS_REASONING:
        with pytest.raises(TemplateError, match="does not continue its own generation prompt"):
            chat.completion(STATE, TOOLS, demonstration)
    else:
        ids = chat.completion(STATE, TOOLS, demonstration)
        action = chat.parse(chat.decode(ids), STOP, TOOLS)
        assert [c.arguments for c in action.tool_calls] == [demonstration.tool_calls[0].arguments]
        told = chat.completion(STATE, TOOLS, turn("It is on its way."))
        assert chat.parse(chat.decode(told), STOP, TOOLS).text == "It is on its way."
