"""The miniature's tokenizer, corpus, pretraining and shipped base model."""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

import pivotrl.mini
from pivotrl.chat import ChatFormat
from pivotrl.environments.retail import DOMAIN
from pivotrl.environments.retail.language import TOOLS
from pivotrl.mini.base_model import WEIGHTS_FILE, build, new_model, sha256
from pivotrl.mini.corpus import encode, make_documents, render, single_tokens, text_hash
from pivotrl.mini.pretraining import (
    PretrainingSettings,
    hidden_states,
    orthogonalised,
    pretrain,
)
from pivotrl.mini.recipes import RECIPES, VOCABULARY
from pivotrl.mini.wiring import wire_induction
from pivotrl.types import Action, ConfigError, Message, Role, ToolCall, action_of

SHIPPED = Path(pivotrl.mini.__file__).parent / "model"
MAX_WEIGHT_BYTES = 8_000_000
RETAIL = RECIPES["retail"]


@lru_cache
def shipped_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(SHIPPED, local_files_only=True)


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_tokenizer_round_trips_any_text(text: str) -> None:
    tokenizer = shipped_tokenizer()
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_identifiers_and_markup_are_single_tokens() -> None:
    tokenizer = shipped_tokenizer()
    for word in (
        *single_tokens("retail"),
        "<tool_call>",
        "</tool_call>",
        "<think>",
        "<|im_end|>",
    ):
        assert len(tokenizer(word)["input_ids"]) == 1, word
    call = "<tool_call>\n{}\n</tool_call><|im_end|>"
    ids = tokenizer(call)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == call.removesuffix("<|im_end|>")


def test_states_and_actions_of_an_episode_are_prefixes_of_what_follows() -> None:
    chat = ChatFormat.load(SHIPPED)
    rng = random.Random(3)
    for _ in range(20):
        messages = DOMAIN.noisy_episode(rng).messages
        whole = shipped_tokenizer()(render_all(messages))["input_ids"]
        for turn, message in enumerate(messages):
            if message.role is not Role.ASSISTANT:
                continue
            state = chat.render(messages[:turn], TOOLS)
            both = state + chat.completion(messages[:turn], TOOLS, message)
            assert whole[: len(both)] == both


def render_all(messages: tuple[Message, ...]) -> str:
    from pivotrl.mini.corpus import Document

    return render([Document(name="retail", messages=messages)])[0]


@pytest.mark.parametrize(
    "message",
    [
        Message(role=Role.ASSISTANT, content="Well.", reasoning="It is\n\nso."),
        Message(
            role=Role.ASSISTANT,
            content="Two at once.",
            tool_calls=(
                ToolCall(name="a", arguments={"x": [1, "ü"], "y": None}),
                ToolCall(name="b", arguments={}),
            ),
        ),
    ],
)
def test_template_writes_reasoning_and_parallel_calls_that_parse_back(message: Message) -> None:
    chat = ChatFormat.load(SHIPPED)
    ids = chat.completion([Message(role=Role.USER, content="Go.")], TOOLS, message)
    action = chat.parse(chat.decode(ids), Action().finish_reason)
    assert (action.text, action.tool_calls) == (message.content, action_of(message).tool_calls)
    assert (action.reasoning or "").strip() == (message.reasoning or "")


def test_template_keeps_earlier_reasoning_and_groups_tool_results() -> None:
    rows = [
        {"role": "user", "content": "q"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "r",
            "tool_calls": [{"function": {"name": "f", "arguments": {}}}] * 2,
        },
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
    ]
    text = shipped_tokenizer().apply_chat_template(rows, tokenize=False, add_generation_prompt=True)
    assert "<think>\nr\n</think>" in text
    assert text.endswith(
        "<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n"
        "</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


def test_targets_are_exactly_what_the_assistant_wrote() -> None:
    documents = make_documents(40, 5, RETAIL)
    tokenizer = shipped_tokenizer()
    corpus = encode([d.name for d in documents], render(documents), tokenizer)
    chat = ChatFormat.load(SHIPPED)
    for document, tokens in zip(documents, corpus.documents, strict=True):
        expected: list[int] = []
        for turn, message in enumerate(document.messages):
            if message.role is Role.ASSISTANT:
                tools = TOOLS if document.name == "retail" else ()
                expected += chat.completion(document.messages[:turn], tools, message)
        assert tokens.ids[tokens.is_target].tolist() == expected


def test_corpus_is_a_function_of_its_seed() -> None:
    first, again, other = (
        text_hash(render(make_documents(30, seed, RETAIL))) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_forward_with_a_shared_prefix_is_the_model_itself() -> None:
    torch.manual_seed(0)
    model = new_model(300, shipped_tokenizer())
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    prefix, rows = torch.randint(0, 300, (7,)), torch.randint(0, 300, (3, 11))
    whole = torch.cat((prefix.expand(3, -1), rows), 1)
    with torch.no_grad():
        torch.testing.assert_close(
            hidden_states(model, rows, prefix), model.model(whole).last_hidden_state[:, 7:]
        )
        torch.testing.assert_close(hidden_states(model, rows), model.model(rows).last_hidden_state)
    ours = torch.autograd.grad(hidden_states(model, rows).square().sum(), model.parameters())
    theirs = torch.autograd.grad(
        model.model(rows).last_hidden_state.square().sum(), model.parameters()
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_wired_model_looks_back_and_finds_the_place_to_copy_from() -> None:
    torch.manual_seed(0)
    model = new_model(300, shipped_tokenizer())
    wire_induction(model)
    model.set_attn_implementation("eager")
    ids = torch.randperm(300)[:40].repeat(2)[None]
    with torch.no_grad():
        back, copying, *_ = model.eval()(ids, output_attentions=True).attentions
    at = torch.arange(40, 79)
    for head in range(4):
        assert (back[0, head, at].argmax(-1) == at - head - 1).all()
    # The place to copy from is the one behind the earlier same token; by chance 1 in 60 hits it.
    assert (copying[0, 0, at].argmax(-1) == at - 39).float().mean() > 0.3


def test_muon_makes_updates_nearly_orthogonal() -> None:
    torch.manual_seed(0)
    for shape in ((2, 16, 48), (2, 48, 16)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
        assert values.min() > 0.5 and values.max() < 1.5


@pytest.mark.long
def test_pretraining_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (build(tmp_path / name, documents=192, seed=0, workers=2) for name in ("one", "two"))
    assert one["files"] == two["files"] and one["data_sha256"] == two["data_sha256"]
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "one").config.vocab_size <= VOCABULARY
    with pytest.raises(ConfigError, match="new folder"):
        build(tmp_path / "one", documents=192, seed=0, workers=1)


@pytest.mark.long
def test_two_workers_take_the_steps_of_one() -> None:
    documents = make_documents(48, 2, RETAIL)
    corpus = encode([d.name for d in documents], render(documents), shipped_tokenizer())

    def losses(workers: int) -> list[float]:
        found: list[float] = []
        torch.manual_seed(0)
        model = new_model(len(shipped_tokenizer()), shipped_tokenizer())
        settings = PretrainingSettings(prompt_share=1.0)  # else each worker draws its own tokens
        pretrain(model, corpus, settings, 0, workers, lambda *step: found.append(step[2]))
        return found

    one, two = losses(1), losses(2)
    assert len(one) == 3 and one == pytest.approx(two, rel=1e-4)


@pytest.mark.parametrize(
    ("recipe", "folder"),
    [("retail", "model"), ("shell", "model_shell"), ("repo", "model_repo")],
)
def test_shipped_model_is_what_its_hashes_say(recipe: str, folder: str) -> None:
    shipped = SHIPPED.with_name(folder)
    made = orjson.loads((shipped / "hashes.json").read_bytes())
    rows = make_documents(made["documents"], made["seed"], RECIPES[recipe])
    assert made["data_sha256"] == text_hash(render(rows))
    assert made["files"] == {name: sha256(shipped / name) for name in made["files"]}
    assert (shipped / WEIGHTS_FILE).stat().st_size <= MAX_WEIGHT_BYTES
    model = AutoModelForCausalLM.from_pretrained(shipped, local_files_only=True)
    assert model.dtype == torch.float32
    tokenizer = AutoTokenizer.from_pretrained(shipped, local_files_only=True)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Solve $x + 2 = 5$ for $x$."}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    text = tokenizer.decode(model.generate(**ids, max_new_tokens=40)[0])
    assert text.endswith("<|im_end|>")
