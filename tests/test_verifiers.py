"""The verifiers: every known defect of public ones, outside oracles, hostile actions, speed."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import bfcl
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.environments.retail import DOMAIN
from pivotrl.environments.retail.expert import expert_actions
from pivotrl.environments.retail.noisy import noisy_action
from pivotrl.environments.retail.world import Retail
from pivotrl.types import (
    JSON,
    Action,
    Candidate,
    ConfigError,
    EnvironmentState,
    FinishReason,
    Message,
    Role,
    ToolCall,
    ToolSpec,
    Trajectory,
    Verdict,
    VerdictStatus,
    action_of,
    canonical,
    tool_from_json,
)
from pivotrl.verifiers import verifier_for

DATA = Path(__file__).parents[2] / "shared" / "data"
FUNCTIONAL, STRICT = verifier_for("tool_use"), verifier_for("tool_use", "strict")

BOOK = ToolSpec(
    name="book",
    parameters={
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "seats": {"type": "integer"},
            "price": {"type": "number"},
            "insured": {"type": "boolean", "default": False},
            "cabin": {"type": "string", "enum": ["economy", "business"], "default": "economy"},
            "day": {"type": "string", "format": "date"},
            "when": {"type": "string", "format": "date-time"},
            "note": {"type": "string", "x-pivotrl": {"compare": "text"}},
            "thought": {"type": "string", "x-pivotrl": {"compare": "ignore"}},
            "weight": {"type": "number", "x-pivotrl": {"tolerance": 0.5}},
            "tags": {"type": "array", "x-pivotrl": {"compare": "set"}},
            "route": {"type": "array", "items": {"type": "string"}},
            "city": {"type": "string", "x-pivotrl": {"casefold": True}},
            "meal": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            "people": {"type": "array", "items": {"$ref": "#/$defs/Person"}},
            "code": {"type": "string"},
        },
        "required": ["id"],
        "$defs": {
            "Person": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
                "required": ["name"],
            }
        },
    },
)
CANCEL = ToolSpec(name="cancel", parameters={"type": "object", "properties": {"id": {}}})
TOOLS = (BOOK, CANCEL)


def calls(*made: tuple[str, JSON], text: str = "") -> Message:
    return Message(
        role=Role.ASSISTANT,
        content=text,
        tool_calls=tuple(ToolCall(name=name, arguments=arguments) for name, arguments in made),
    )


def says(text: str) -> Message:
    return Message(role=Role.ASSISTANT, content=text)


def candidate_of(
    demonstration: Message,
    *accepted: Message,
    state: tuple[str, ...] = ("Hello.",),
    tools: tuple[ToolSpec, ...] = TOOLS,
    declared: bool = True,
) -> Candidate:
    before = tuple(Message(role=Role.USER, content=text) for text in state)
    trajectory = Trajectory(
        id="t",
        messages=(*before, demonstration),
        tools=tools,
        tools_declared=declared,
        accepted_actions={len(before): accepted},
    )
    return Candidate(id="c", trajectory=trajectory, turn=len(before))


def verdict_on(demonstration: Message, action: Message | Action, **more: JSON) -> Verdict:
    action = action_of(action) if isinstance(action, Message) else action
    return FUNCTIONAL.verify(candidate_of(demonstration, **more), action)


# --- tool calls ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "made"),
    [
        ({"seats": 5}, {"seats": "5"}),
        ({"seats": "5"}, {"seats": 5.0}),
        ({"price": 5}, {"price": "5.00"}),
        ({"price": 0.3}, {"price": 0.1 + 0.2}),
        ({"insured": True}, {"insured": "True"}),
        ({"insured": False}, {}),
        ({}, {"insured": False}),
        ({}, {"insured": None, "cabin": "economy"}),
        ({"cabin": "economy"}, {"cabin": None}),
        ({"meal": None}, {}),
        ({"meal": "soup"}, {"meal": "soup "}),
        ({"day": "2024-05-01"}, {"day": "May 1, 2024"}),
        ({"day": "2024-05-01"}, {"day": "2024-5-1"}),
        ({"code": "2024-05-01"}, {"code": "2024/5/1"}),
        ({"when": "2024-05-01T10:00:00Z"}, {"when": "2024-05-01T12:00:00+02:00"}),
        ({"note": "The order 7 is late."}, {"note": "Order 7 is late"}),
        ({"thought": "x"}, {"thought": "something else"}),
        ({"thought": "x"}, {}),
        ({}, {"thought": "x"}),
        ({"weight": 10}, {"weight": 10.4}),
        ({"tags": ["a", 2, "2"]}, {"tags": ["2", "a", 2]}),
        ({"city": "Paris"}, {"city": "PARIS"}),
        ({"code": "it’s  ok"}, {"code": "it's ok"}),
        ({"code": "5"}, {"code": 5}),
        ({"people": [{"name": "A", "age": 3}]}, {"people": [{"age": "3", "name": "A"}]}),
        ({"people": [{"name": "A"}]}, {"people": [{"name": "A", "age": None}]}),
    ],
)
def test_equivalent_arguments_are_accepted(reference: JSON, made: JSON) -> None:
    verdict = verdict_on(
        calls(("book", {"id": "a1", **reference})), calls(("book", {"id": "a1", **made}))
    )
    assert (verdict.reward, verdict.category) == (1.0, "accepted"), verdict


@pytest.mark.parametrize(
    ("reference", "made", "category"),
    [
        ({"id": "W999"}, {"id": "W123"}, "wrong_argument"),
        ({"id": "007"}, {"id": "7"}, "wrong_argument"),
        ({"id": "007"}, {"id": 7}, "wrong_argument"),
        ({"id": "a"}, {}, "missing_argument"),
        ({"id": "a"}, {"id": None}, "wrong_argument"),
        ({"seats": 5}, {"seats": 6}, "wrong_argument"),
        ({"seats": 1}, {"seats": True}, "wrong_argument"),
        ({"seats": 4111111111111111}, {"seats": 4111111111999999.0}, "wrong_argument"),
        ({"seats": 5}, {}, "missing_argument"),
        ({}, {"seats": 5}, "unexpected_argument"),
        ({}, {"seat_count": 5}, "unexpected_argument"),
        ({}, {"cabin": "business"}, "wrong_argument"),
        ({"cabin": "business"}, {}, "wrong_argument"),
        ({"cabin": "business"}, {"cabin": "Business"}, "wrong_argument"),
        ({"insured": True}, {"insured": 1}, "wrong_argument"),
        ({"price": 5}, {"price": float("nan")}, "wrong_argument"),
        ({"price": 5}, {"price": 10**5000}, "wrong_argument"),
        ({"weight": 10}, {"weight": 10.6}, "wrong_argument"),
        ({"route": ["a", "b"]}, {"route": ["b", "a"]}, "wrong_argument"),
        ({"tags": ["a", "a", "b"]}, {"tags": ["a", "b", "b"]}, "wrong_argument"),
        ({"tags": ["a"]}, {"tags": ["a", "b"]}, "wrong_argument"),
        ({"day": "2024-05-01"}, {"day": "2024-05-02"}, "wrong_argument"),
        ({"day": "2024-05-01"}, {"day": "01/05/2024"}, "wrong_argument"),
        ({"note": "Do cancel it."}, {"note": "Do not cancel it."}, "wrong_argument"),
        ({"code": "if x:\n    y()"}, {"code": "if x:\ny()"}, "wrong_argument"),
        ({"people": [{"name": "A", "age": 3}]}, {"people": [{"name": "A"}]}, "missing_argument"),
    ],
)
def test_different_arguments_are_rejected(reference: JSON, made: JSON, category: str) -> None:
    given_id = {} if "id" in reference else {"id": "a1"}
    verdict = verdict_on(calls(("book", given_id | reference)), calls(("book", given_id | made)))
    assert (verdict.reward, verdict.category) == (0.0, category), verdict


def test_several_calls_match_in_any_order_and_none_is_surplus() -> None:
    one, two = ("book", {"id": "a"}), ("cancel", {"id": 2})
    reference = calls(one, two)
    assert verdict_on(reference, calls(two, one)).reward == 1.0
    for made, category in [
        (calls(one), "missing_call"),
        (calls(one, two, two), "surplus_call"),
        (calls(one, two, *[two] * 9999), "surplus_call"),
        (calls(one, one), "wrong_tool"),
        (calls(one, ("cancel", {"id": 3})), "wrong_argument"),
        (calls(one, two, ("rm", {})), "unknown_tool"),
        (calls(("book", "id=a"), two), "malformed"),
        (says("I booked it."), "text_instead_of_call"),
        (says(" "), "missing_call"),
    ]:
        verdict = verdict_on(reference, made)
        assert (verdict.reward, verdict.category) == (0.0, category)


def test_spraying_calls_never_pays() -> None:
    spray = calls(*[("book", {"id": f"a{n}"}) for n in range(12)])
    assert verdict_on(calls(("book", {"id": "a7"})), spray).category == "surplus_call"


def test_undeclared_tools_are_compared_structurally() -> None:
    reference = calls(("f", {"a": 5, "b": [1, {"c": True}], "s": "5"}))
    same = calls(("f", {"b": [1.0, {"c": "true"}], "a": "5", "s": 5, "d": None}))
    assert verdict_on(reference, same, tools=(), declared=False).category == "unexpected_argument"
    del same.tool_calls[0].arguments["d"]
    assert verdict_on(reference, same, tools=(), declared=False).reward == 1.0
    other = calls(("f", {"a": 5, "b": [1, {"c": 1}], "s": "5"}))
    assert verdict_on(reference, other, tools=(), declared=False).category == "wrong_argument"


def test_a_declaration_of_the_tool_holds_for_all_its_arguments() -> None:
    tool = replace(CANCEL, x_pivotrl={"casefold": True})
    reference, made = calls(("cancel", {"id": "ABC"})), calls(("cancel", {"id": "abc"}))
    assert verdict_on(reference, made, tools=(tool,)).reward == 1.0
    assert verdict_on(reference, made).reward == 0.0


def test_the_closest_reference_explains_a_rejection() -> None:
    candidate = candidate_of(says("Hello there"), calls(("book", {"id": "a", "seats": 2})))
    verdict = FUNCTIONAL.verify(candidate, action_of(calls(("book", {"id": "a", "seats": 3}))))
    assert verdict.category == "wrong_argument"
    assert verdict.details == {
        "tool": "book",
        "argument": "seats",
        "expected": "2",
        "given": "3",
        "reference": 1,
    }


# --- text ---------------------------------------------------------------------------------------

CANCELLED = (
    "I have cancelled order #W999. The refund of $1,050.00 takes 5-7 days, until May 20, 2024."
)


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        (
            CANCELLED,
            "Order #W999 is cancelled: 1050 dollars are refunded in 5 to 7 days (2024-05-20).",
        ),
        ("What is your user ID?", "Could you please provide your user ID?"),
        (
            "Could you please provide your user ID and reservation ID?",
            "To assist you, I'll need your user ID and the reservation ID. Can you share them?",
        ),
        ("Shall I cancel order 999? (yes/no)", "Please confirm that I should cancel order 999."),
        ("It was delivered, so it cannot be cancelled.", "I can't cancel it: it was delivered."),
        ("It departs at 6:00 PM.", "The departure is at 18:00; it departs then."),
        ("Your order has two items.", "Your order has 2 items. Anything else I can help with?"),
        ("Thank you, Mia. The order is late.", "The order is late."),
        (
            "You're welcome! If you have any other questions, feel free to ask.",
            "You're welcome! Let me know if you need anything else.",
        ),
    ],
)
def test_paraphrases_with_the_same_facts_are_accepted(reference: str, text: str) -> None:
    assert verdict_on(says(reference), says(text)).category == "accepted"


@pytest.mark.parametrize(
    ("reference", "text", "category"),
    [
        ("Hello, how can I help?", "", "empty_text"),
        ("Hello, how can I help?", " \n\u200a", "empty_text"),
        (CANCELLED, "The weather is nice.", "off_topic"),
        (CANCELLED, "I will check.", "off_topic"),
        (CANCELLED, CANCELLED * 50, "off_topic"),
        (CANCELLED, CANCELLED.replace("W999", "W123"), "wrong_fact"),
        (CANCELLED, CANCELLED.replace("1,050", "1,060"), "wrong_fact"),
        (CANCELLED, CANCELLED.replace("May 20", "May 21"), "wrong_fact"),
        (CANCELLED, CANCELLED.replace("2024", "2025") + " Until May 20.", "wrong_fact"),
        (CANCELLED, CANCELLED.replace(" #W999", ""), "missing_fact"),
        (CANCELLED, CANCELLED.replace("have", "have not"), "negation"),
        ("order id 999", "order id 123", "wrong_fact"),
        ("Please cancel it.", "Please do not cancel it.", "negation"),
        ("I can refund it but not cancel it.", "I can cancel it but not refund it.", "negation"),
        ("Yes, the order is eligible.", "No, the order is eligible.", "negation"),
        ("Should I cancel the order?", "I cancelled the order.", "question_mismatch"),
        ("The passenger is now Omar Davis.", "The passenger is now Noah Davis.", "wrong_fact"),
        ('The file "a.txt" is gone.', 'The file "b.txt" is gone.', "wrong_fact"),
        ("See /etc/passwd for details.", "See /etc/shadow for details.", "wrong_fact"),
        ("I have to cancel the order.", "I have to book the order.", "wrong_fact"),
    ],
)
def test_other_statements_are_rejected(reference: str, text: str, category: str) -> None:
    verdict = verdict_on(says(reference), says(text))
    assert (verdict.reward, verdict.category) == (0.0, category), verdict


@pytest.mark.parametrize(
    ("reference", "text", "category"),
    [
        ("Could you tell me what is wrong?", "Which problem do you have?", "paraphrase"),
        ("Could you tell me what is wrong?", "It is your own fault.", "off_topic"),
        (CANCELLED, "The weather is nice.", "off_topic"),
        (CANCELLED, CANCELLED.replace("W999", "W123"), "wrong_fact"),
        (CANCELLED, CANCELLED, "accepted"),
    ],
)
def test_with_a_judge_a_text_that_nothing_contradicts_is_undecided(
    reference: str, text: str, category: str
) -> None:
    """Only words are missing: without a judge such a text is rejected."""
    asking = verifier_for("tool_use", ask=True)
    told = asking.verify(candidate_of(says(reference)), action_of(says(text)))
    assert told.category == category
    assert (told.status == VerdictStatus.UNDECIDED) == (category == "paraphrase")
    if category == "paraphrase":
        assert verdict_on(says(reference), says(text)).category == "off_topic"


TICKET = ToolSpec(
    name="create_ticket",
    parameters={"properties": {"asset": {"type": "string"}, "description": {"type": "string"}}},
)
NOISE = {
    "asset": "BW-2207",
    "description": "The fan rattles loudly since the move, users complain.",
}
WORDED = "Staff say that after relocation it makes a disturbing sound."


@pytest.mark.parametrize(
    ("made", "category"),
    [
        ([NOISE], "accepted"),
        ([NOISE | {"description": WORDED}], "paraphrase"),
        ([NOISE | {"description": WORDED, "asset": "BW-2208"}], "wrong_argument"),
        ([NOISE | {"description": f"{WORDED} That was 9 days ago."}], "wrong_argument"),
        ([NOISE | {"description": WORDED}, NOISE], "surplus_call"),
    ],
)
def test_with_a_judge_a_call_whose_texts_alone_may_differ_is_undecided(
    made: list[JSON], category: str
) -> None:
    candidate = candidate_of(calls(("create_ticket", NOISE)), tools=(TICKET,))
    action = action_of(calls(*(("create_ticket", one) for one in made)))
    told = verifier_for("tool_use", ask=True).verify(candidate, action)
    assert told.category == category
    assert (told.status == VerdictStatus.UNDECIDED) == (category == "paraphrase")
    alone = FUNCTIONAL.verify(candidate, action)
    assert alone.category == category.replace("paraphrase", "wrong_argument")


@pytest.mark.parametrize(
    ("query", "category"),
    [
        ("okapi gestation period", "accepted"),
        ("how long is an okapi pregnant", "paraphrase"),
        ("okapi gestation period 2019", "wrong_query"),
        ("giraffe weight", "wrong_query"),
    ],
)
def test_with_a_judge_a_search_in_other_words_is_undecided(query: str, category: str) -> None:
    search = ToolSpec(name="search", parameters={"properties": {"query": {"type": "string"}}})
    demonstration = calls(("search", {"query": "okapi gestation period"}))
    asked = ("What is the gestation period of the okapi?",)
    candidate = candidate_of(demonstration, state=asked, tools=(search,))
    action = action_of(calls(("search", {"query": query})))
    assert verifier_for("browsing", ask=True).verify(candidate, action).category == category
    alone = verifier_for("browsing").verify(candidate, action)
    assert alone.category == category.replace("paraphrase", "wrong_query")


@pytest.mark.parametrize(
    ("domain", "wanted", "given", "category"),
    [
        ("terminal", "sha256sum a.iso", "sha256sum ./a.iso", "accepted"),
        ("terminal", "sha256sum a.iso", "openssl dgst -sha256 a.iso", "another_way"),
        ("terminal", "sha256sum a.iso", "sha256sum b.iso", "different_command"),
        ("terminal", "rm a.iso", "ls a.iso", "different_command"),
        ("terminal", "cat a.iso", "cp a.iso b.iso", "different_command"),
        ("software", "sha256sum a.iso", "openssl dgst -sha256 a.iso", "another_way"),
        ("software", "sha256sum a.iso", "sha256sum b.iso", "different_command"),
    ],
)
def test_with_a_judge_a_command_by_other_programs_is_undecided(
    domain: str, wanted: str, given: str, category: str
) -> None:
    shell = ToolSpec(name="bash", parameters={"properties": {"command": {"type": "string"}}})
    candidate = candidate_of(calls(("bash", {"command": wanted})), tools=(shell,))
    action = action_of(calls(("bash", {"command": given})))
    told = verifier_for(domain, ask=True).verify(candidate, action)
    assert told.category == category
    assert (told.status == VerdictStatus.UNDECIDED) == (category == "another_way")
    alone = verifier_for(domain).verify(candidate, action)
    assert alone.category == category.replace("another_way", "different_command")


def test_facts_of_the_state_may_be_added_but_no_ids_and_no_inventions() -> None:
    state = ("My order W1 and W2 cost $80.",)
    reference = says("Order W1 has been cancelled, as you wanted.")
    for text, category in [
        ("Order W1 (80 dollars) has been cancelled, as you wanted.", "accepted"),
        ("Order W1 (90 dollars) has been cancelled, as you wanted.", "wrong_fact"),
        ("Order W1 and W2 has been cancelled, as you wanted.", "wrong_fact"),
    ]:
        assert verdict_on(reference, says(text), state=state).category == category


def test_talking_and_calling_are_not_the_same() -> None:
    verdict = verdict_on(says("Shall I?"), calls(("cancel", {"id": 1}), text="Shall I?"))
    assert (verdict.reward, verdict.category) == (0.0, "call_instead_of_text")
    beside = calls(("cancel", {"id": 1}), text="One moment.")
    assert verdict_on(calls(("cancel", {"id": 1})), beside).reward == 1.0


def test_similarity_does_not_depend_on_length_thresholds_or_order() -> None:
    words = [f"word{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(400)]
    text, shuffled = " ".join(words), " ".join(reversed(words))
    assert verdict_on(says(text), says(shuffled)).category == "accepted"
    assert verdict_on(says(shuffled), says(text)).category == "accepted"


# --- status, registry, strict -------------------------------------------------------------------


@pytest.mark.parametrize(
    "demonstration",
    [
        says("  "),
        calls(("no_such_tool", {})),
        calls(("book", '{"id": ')),
        calls(("broken", {"x": 1})),
        calls(("mistyped", {"x": 1})),
        Message(role=Role.USER, content="I am a user."),
    ],
)
def test_what_cannot_be_judged_has_no_reward(demonstration: Message) -> None:
    broken = ToolSpec(name="broken", parameters={"properties": {"x": {"$ref": "#/nowhere"}}})
    mistyped = ToolSpec(
        name="mistyped", parameters={"properties": {"x": {"x-pivotrl": {"compare": "fuzzy"}}}}
    )
    for action in (Action(text="Hi"), Action(finish_reason=FinishReason.LENGTH)):
        verdict = verdict_on(demonstration, action, tools=(*TOOLS, broken, mistyped))
        assert verdict.status is VerdictStatus.UNDECIDED
        assert verdict.reward is None
        assert verdict.details["reason"]


def test_cut_and_unreadable_actions_are_the_policys_fault() -> None:
    text = "Hello there"
    for verifier in (FUNCTIONAL, STRICT):
        cut = verifier.verify(
            candidate_of(says(text)), Action(text=text, finish_reason=FinishReason.LENGTH)
        )
        odd = verifier.verify(candidate_of(says(text)), Action(text=text, malformed=("at 3",)))
        assert (cut.reward, cut.category) == (0.0, "truncated")
        assert (odd.reward, odd.category) == (0.0, "malformed")


def test_strict_wants_the_very_same_action() -> None:
    reference = calls(("book", {"id": "a", "seats": 5}))
    candidate = candidate_of(reference, calls(("cancel", {"id": 1})))
    for made, category in [
        (calls(("book", {"seats": 5, "id": "a"})), "accepted"),
        (calls(("book", {"id": "a", "seats": "5"})), "different_call"),
        (calls(("cancel", {"id": 1})), "different_call"),
        (calls(("book", {"id": "a", "seats": 10**5000})), "malformed"),
        (calls(("book", {"id": "a", "seats": 5}), text="Hm."), "different_text"),
        (says("a"), "text_instead_of_call"),
    ]:
        verdict = STRICT.verify(candidate, action_of(made))
        assert (verdict.reward, verdict.category) == (float(category == "accepted"), category)
    assert STRICT.verify(candidate_of(says("Hi.")), Action(text="Hi.")).reward == 1.0
    assert STRICT.verify(candidate_of(says("Hi.")), Action(text="hi.")).reward == 0.0


def test_verifiers_are_found_by_domain() -> None:
    assert verifier_for("retail").name == verifier_for("airline").name == "tool_use"
    assert verifier_for("anything", "strict").name == "strict"
    with pytest.raises(ConfigError, match=r"did you mean 'retail'.*tool_use"):
        verifier_for("retial")


def test_a_package_can_add_a_domain(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Mine:\n    name = 'mine'\n")
    info = tmp_path / "mine-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: mine\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[pivotrl.verifiers]\nbank = mine:Mine\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from pivotrl.verifiers import verifier_for\n"
        "print(verifier_for('bank').name, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["mine", "False"]


# --- hostile actions ----------------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(st.characters(), max_size=40)
    | st.sampled_from(["W999", "5", "1e999", "\ud800", "{{{{", "(" * 50, "a.a.a.a@", "9" * 50])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "seats", "tags", "people"]) | st.text(), inner)
    ),
    max_leaves=12,
)
actions = st.builds(
    Action,
    text=st.text(max_size=300) | st.sampled_from([CANCELLED, "May 99, 2024 25:99 pm", "'" * 99]),
    tool_calls=st.lists(
        st.builds(ToolCall, name=st.sampled_from(["book", "cancel", "x"]), arguments=values),
        max_size=4,
    ).map(tuple),
)
REFERENCES = [
    candidate_of(says(CANCELLED), calls(("cancel", {"id": 1})), state=("W999 and 7.",)),
    candidate_of(calls(("book", {"id": "a", "tags": ["x", 1], "people": [{"name": "A"}]}))),
    candidate_of(calls(("book", {"id": "a"}), ("cancel", {"id": {"deep": [1, 2]}}))),
]


@settings(max_examples=150, deadline=None)
@given(action=actions)
def test_no_action_raises_or_escapes_a_verdict(action: Action) -> None:
    for candidate, verifier in itertools.product(REFERENCES, (FUNCTIONAL, STRICT)):
        verdict = verifier.verify(candidate, action)
        assert verdict.status is VerdictStatus.OK, verdict
        assert verdict.reward in (0.0, 1.0)
        assert (verdict.category == "accepted") == (verdict.reward == 1.0)
        assert len(canonical(dict(verdict.details))) < 10_000
        assert verifier.verify(candidate, action) == verdict


@settings(max_examples=100, deadline=None)
@given(text=st.text(min_size=1, max_size=400).filter(str.strip))
def test_every_text_accepts_itself(text: str) -> None:
    assert verdict_on(says(text), says(text)).category == "accepted"


finite = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(arguments=st.dictionaries(st.text(), finite, max_size=5))
def test_every_call_accepts_itself_whatever_the_key_order(arguments: dict[str, JSON]) -> None:
    turned = dict(reversed(arguments.items()))
    made = calls(("f", turned))
    reference = calls(("f", arguments))
    assert verdict_on(reference, made, tools=(), declared=False).category == "accepted"


def hostile() -> Iterator[Action]:
    deep: JSON = 1
    for _ in range(100_000):
        deep = [deep]
    big = "a.b-c_d@ " * 120_000
    yield action_of(calls(("book", {"id": deep})))
    yield action_of(calls(("book", {"id": big})))
    yield action_of(calls(("book", {"id": "a", "tags": [1] * 200_000})))
    yield action_of(calls(("book", {str(n): n for n in range(200_000)})))
    yield action_of(calls(*[("book", {"id": "a"})] * 10_000))
    for text in (big, "9" * 1_000_000, "(" * 1_000_000, "May 1 " * 200_000, "\u0301" * 900_000):
        yield Action(text=text)
        yield Action(text=text[:700])


@pytest.mark.usefixtures("uncollected")
def test_hostile_actions_are_bounded_in_time() -> None:
    for action in hostile():
        for candidate in REFERENCES:
            start = time.process_time()
            verdict = FUNCTIONAL.verify(candidate, action)
            assert time.process_time() - start < 0.25
            assert verdict.reward == 0.0


@pytest.mark.usefixtures("uncollected")
def test_long_texts_of_odd_shape_are_read_in_linear_time() -> None:
    for unit in ("a.", "1,", "'a ", "a@", "/x", "Jan ", "not no ", "1-", "A. "):
        for size in (2_000, 20_000):
            text = (unit * size)[:size]
            start = time.process_time()
            verdict_on(says(text), says(text[:-1] + "z"))
            assert time.process_time() - start < 0.5, unit


def test_twenty_thousand_verdicts_take_seconds() -> None:
    rng = random.Random(0)
    made = [
        action_of(calls(("book", {"id": rng.choice("ab"), "seats": rng.randrange(9)})))
        if rng.random() < 0.5
        else Action(
            text=f"Order #W999 is cancelled, refund ${rng.randrange(2000)}, by May 20, 2024."
        )
        for _ in range(2000)
    ]
    start = time.process_time()
    for action in made:
        for candidate in REFERENCES[:2]:
            FUNCTIONAL.verify(candidate, action)
    assert time.process_time() - start < 2.0  # 4,000 of them


# --- outside oracles ----------------------------------------------------------------------------


@pytest.mark.skipif(not (DATA / "bfcl").exists(), reason="shared/data/bfcl is not here")
def test_bfcl_acceptable_calls_are_accepted_and_mutations_rejected() -> None:
    tally = bfcl.tally(DATA / "bfcl")
    print(*bfcl.report(tally), sep="\n")
    assert tally["right", 1.0] > 500 and tally["wrong", 0.0] > 800
    assert tally["right", 0.0] == tally["wrong", 1.0] == 0


@pytest.mark.skipif(not (DATA / "tau-bench").exists(), reason="shared/data/tau-bench is not here")
def test_tau_bench_demonstrations_accept_themselves_and_no_mutation() -> None:
    folder = DATA / "tau-bench"
    tools = tuple(
        tool_from_json(tool) for tool in orjson.loads((folder / "tools_airline.json").read_bytes())
    )
    verifier, rng, tally = verifier_for("airline"), random.Random(0), Counter()
    for row in orjson.loads((folder / "gpt-4o-airline.json").read_bytes()):
        messages = tuple(
            Message(
                role=Role(m["role"]),
                content=m.get("content") or "",
                tool_calls=tuple(
                    ToolCall(
                        name=c["function"]["name"],
                        arguments=orjson.loads(c["function"]["arguments"]),
                    )
                    for c in m.get("tool_calls") or ()
                ),
            )
            for m in row["traj"]
        )
        trajectory = Trajectory(id="t", messages=messages, tools=tools, domain="airline")
        for turn, message in enumerate(messages):
            if message.role is not Role.ASSISTANT:
                continue
            candidate = Candidate(id="c", trajectory=trajectory, turn=turn)
            tally["itself", verifier.verify(candidate, action_of(message)).reward] += 1
            kind, mutated = mutated_turn(message, rng)
            if mutated:
                tally[kind, verifier.verify(candidate, action_of(mutated)).reward] += 1
    print(tally)
    assert tally["itself", 1.0] == 2454
    assert tally["call", 1.0] == 0 < tally["call", 0.0]
    assert tally["text", 0.0] / (tally["text", 0.0] + tally["text", 1.0]) > 0.98, tally


def mutated_turn(message: Message, rng: random.Random) -> tuple[str, Message | None]:
    """The turn with one argument, or one number or id in the text, replaced."""
    if message.tool_calls:
        call = message.tool_calls[0]
        if not call.arguments:
            return "call", None
        key = rng.choice(sorted(call.arguments))
        return "call", calls((call.name, {**call.arguments, key: "something else"}))
    words = message.content.split(" ")
    places = [i for i, w in enumerate(words) if sum(c.isdigit() for c in w) > 1 and "\n" not in w]
    if not places:
        return "text", None
    place = rng.choice(places)
    words[place] = "".join(str((int(c) + 3) % 10) if c.isdecimal() else c for c in words[place])
    return "text", says(" ".join(words))


# --- agreement with the miniature's own oracle --------------------------------------------------


def test_the_reward_agrees_with_the_retail_oracle() -> None:
    environment, verifier, rng = Retail(), verifier_for("retail"), random.Random(0)
    agreed: dict[str, Counter[bool]] = {
        "expert": Counter(),
        "noisy": Counter(),
        "mutated": Counter(),
    }
    for task in DOMAIN.make_tasks("train", 60, 0):
        state = environment.reset(task)
        while not state.done:
            right = expert_actions(state, rng)
            candidate = candidate_at(state, right)
            for kind, action in (
                ("expert", rng.choice(right)),
                ("noisy", noisy_action(state, rng)),
                ("noisy", noisy_action(state, rng)),
                ("mutated", disturbed(rng.choice(right), rng)),
            ):
                reward = verifier.verify(candidate, action).reward
                agreed[kind][DOMAIN.oracle(state, action) == (reward == 1.0)] += 1
            state = environment.step(state, right[0])
    print(agreed)
    assert agreed["expert"][False] == 0
    assert agreed["noisy"].total() > 400
    for kind, least in (("noisy", 0.98), ("mutated", 0.93)):
        assert agreed[kind][True] / agreed[kind].total() >= least, agreed


def candidate_at(state: EnvironmentState, right: list[Action]) -> Candidate:
    messages = [
        Message(role=Role.ASSISTANT, content=a.text, tool_calls=a.tool_calls) for a in right
    ]
    trajectory = Trajectory(
        id="t",
        messages=(*state.messages, messages[0]),
        tools=Retail().tools,
        domain="retail",
        accepted_actions={len(state.messages): tuple(messages[1:])},
    )
    return Candidate(id="c", trajectory=trajectory, turn=len(state.messages))


def disturbed(action: Action, rng: random.Random) -> Action:
    """An action with one plausible mistake."""
    if action.tool_calls:
        call = action.tool_calls[0]
        arguments = dict(call.arguments)
        key = rng.choice(sorted(arguments))
        match rng.randrange(4):
            case 0:
                arguments[key] = rng.choice(["W123", "gift_card", "too_late", "I145", "3"])
            case 1:
                del arguments[key]
            case 2:
                return Action(text=rng.choice(["Done.", "I will look it up.", ""]))
            case _:
                return replace(action, tool_calls=(call, call))
        return Action(tool_calls=(ToolCall(name=call.name, arguments=arguments),))
    words = action.text.split()
    places = [i for i, w in enumerate(words) if any(c.isdigit() for c in w)]
    if places and rng.random() < 0.6:
        words[rng.choice(places)] = rng.choice(["W123.", "USD99.", "Oak-Street-10.", "9."])
        return Action(text=" ".join(words))
    return Action(text=" ".join(words[: len(words) // 2]))


@pytest.mark.parametrize(
    ("given", "reward"),
    [("Answer: Zora", 1.0), ("Answer: Yuri", 0.0), ("Final answer: Zora.", 1.0)],
)
def test_an_answer_that_is_said_to_be_one_is_that_answer(given: str, reward: float) -> None:
    found = "Acme: founder Zora. Yuri, baker, works there."
    search = ToolCall(name="search", arguments={"query": "Acme"}, id="1")
    messages = (
        Message(role=Role.USER, content="Who founded Acme?"),
        Message(role=Role.ASSISTANT, content="", tool_calls=(search,)),
        Message(role=Role.TOOL, content=found, tool_call_id="1"),
        Message(role=Role.ASSISTANT, content="The answer is Zora."),
    )
    candidate = Candidate(id="c", trajectory=Trajectory(id="t", messages=messages), turn=3)
    assert verifier_for("browsing").verify(candidate, Action(text=given)).reward == reward
