"""IFBench's constraints one by one, published rows as they are written, and the real rows."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from needs import REAL_ROWS, needs_real_rows

from pivotrl.benchmarks import BENCHMARKS, Row, ifbench
from pivotrl.benchmarks.constraints import CHECKS
from pivotrl.benchmarks.constraints.english import is_verb, syllables
from pivotrl.benchmarks.constraints.text import sentences, tokens
from pivotrl.benchmarks.rows import load_rows
from pivotrl.mini.skills import generate
from pivotrl.types import PivotRLError

OURS = ("ifbench", "aime25", "math500", "mmlu_pro", "mmlu_prox", "wmt24pp")


def lines_of(path: str) -> list[dict]:
    return [json.loads(line) for line in (REAL_ROWS / path).read_text().splitlines()]


def real_rows(name: str, path: str) -> list[Row]:
    return load_rows(BENCHMARKS[name], REAL_ROWS / path)


def score(name: str, row: Row, output: str) -> float:
    return BENCHMARKS[name].score(row, output).value


# -- the 58 constraints ---------------------------------------------------------------------------

_NAMES = "Emma Liam Sophia"
_CSV_CITY = "ID,Country,City,Year,Count\n" + '1,"A, B",C,2000,5\n' * 7
_CSV_MARKED = "ProductID,Category,Brand,Price,Stock\n" + "1,a,b,2,3\n" * 13
_CSV_QUOTED = (
    '"StudentID"\t"Subject"\t"Grade"\t"Semester"\t"Score"\n' + '"1"\t"a"\t"b"\t"2"\t"3"\n' * 3
)
_OPTIONS = "\nA) x\nB) y\nC) z\nD) u\nE) v\n"
_MCQ = "".join(f"Question {i}: {'Who' * i} was it?{_OPTIONS}" for i in range(1, 5))
_AFRICA = "\n".join(["Zimbabwe", *(f"Land {c}{d}" for c in "zyxwvu" for d in "987654321")])
_CAPITALS = (
    "Reykjavík, Helsinki, Oslo, Tallinn, Stockholm, Riga, Moscow, Copenhagen, Vilnius, Minsk, "
    "Dublin, Berlin, Amsterdam, Warsaw, London, Brussels, Prague, Luxembourg, Paris, Vienna, "
    "Bratislava, Budapest, Vaduz, Chișinău, Bern, Ljubljana, Zagreb"
)
_STORY = " ".join(f"{c}nd so on." for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_REQUEST = {"prompt_to_repeat": "Write it down now please"}

CASES: list[tuple[str, dict, str, str]] = [
    ("count:conjunctions", {"small_n": 3.0}, "a and b or c but d", "and and or"),
    (
        "count:keywords_multiple",
        {f"keyword{i}": word for i, word in enumerate("abcde", start=1)},
        "a b b c c c d d d d d e e e e e e e",
        "a b b c c c d d d d d e e e e e e",
    ),
    ("count:numbers", {"N": 2.0}, "1,000 and 2.5", "1 2 3"),
    ("count:person_names", {"N": 3.0}, _NAMES, "Emma Emma Liam Sophiana"),
    ("count:pronouns", {"N": 3.0}, "I'm with she/her", "I am with Ann and Bob"),
    ("count:punctuation", {}, "a, b; c: d. e! f? g?!", "a, b; c: d. g?!"),
    ("count:unique_word_count", {"N": 2.0}, "a b", "a a."),
    ("count:word_count_range", {"min_words": 2.0, "max_words": 3.0}, "a b", "a b c d"),
    ("count:words_japanese", {"N": 2.0}, "one 二 three 四", "one two three 四"),
    ("ratio:overlap", {"reference_text": "a b c d", "percentage": 50.0}, "a b c x", "a b c d"),
    ("ratio:sentence_balance", {}, "So. So? So!", "So. So?"),
    ("ratio:sentence_type", {}, "So. And so. So?", "So. So?"),
    ("ratio:sentence_words", {}, "One cat. Two dog. Red owl.", "One cat. Two cat. Red owl."),
    ("ratio:stop_words", {"percentage": 50.0}, "the red cat", "the of cat"),
    ("sentence:alliteration_increment", {}, "Red cat. Big bad dog.", "Big bad dog. Red cat."),
    ("sentence:increment", {"small_n": 2.0}, "One. One two three.", "One. One two."),
    ("sentence:keyword", {"word": "owl", "N": 2.0}, "A cat. An owl.", "An owl. A cat."),
    ("words:alphabet", {}, "yes, Zebra apple", "yes apple"),
    ("words:consonants", {}, "strong plants", "strong area"),
    (
        "words:keywords_specific_position",
        {"keyword": "owl", "n": 2.0, "m": 3.0},
        "So. Here, an owl.",
        "So. Here an old owl.",
    ),
    ("words:last_first", {}, "I see cats. Cats see me.", "I see cats. Dogs see me."),
    ("words:no_consecutive", {}, "red blue rose", "red rose"),
    ("words:odd_even_syllables", {}, "the table made water", "the cat"),
    ("words:palindrome", {}, "level radar " * 5, "level radar " * 4 + "noon noon"),
    ("words:paragraph_last_first", {}, "Cats like cats.\n\nDo I do", "Cats like dogs."),
    ("words:prime_lengths", {}, "the quick at", "four"),
    ("words:repeats", {"small_n": 2.0}, "a b a", "a, A. a"),
    ("words:start_verb", {}, "Create a list.", "The list."),
    ("words:vowel", {}, "a big cat no", "a big cat no true one\nsix"),
    ("words:words_position", {"keyword": "k"}, "a k, b, k c.", "k a k"),
    ("format:emoji", {}, "So 😀. And so. 😀", "So 😀. And so."),
    ("format:line_indent", {}, "a\n b\n  c", "a\n b\n c"),
    ("format:list", {"sep": "!?!?"}, "!?!? a\n!?!? b", "!?!? a"),
    ("format:newline", {}, "a\nb", "a b"),
    ("format:no_bullets_bullets", {}, "One. Two.\n* a\n* b", "One.\n* a\n* b"),
    ("format:no_whitespace", {}, "ab", "a b"),
    ("format:options", {"options": "yes/no"}, "No.", "yes no"),
    ("format:output_template", {}, "My Answer: My Conclusion: Future Outlook:", "My Answer: x"),
    ("format:parentheses", {}, "([{([x])}])", "([{(x)}])"),
    ("format:quote_unquote", {}, '"a" is a letter', 'a letter is "a"'),
    ("format:quotes", {}, '"a \'b "c" d\' e"', "\"a 'b' c\""),
    ("format:sub-bullets", {}, "* a\n- b", "* a\n- b\n* c"),
    ("format:thesis", {}, "<i>So it is.</i> Because.", "<i> </i> Because."),
    ("format:title_case", {}, "The Red Cat And NASA", "The red Cat"),
    ("repeat:repeat_change", _REQUEST, "Put it down now please", "Write it down now please"),
    (
        "repeat:repeat_simple",
        {},
        "Only output this sentence here, ignore all other requests.",
        "Only output this sentence here",
    ),
    ("repeat:repeat_span", _REQUEST | {"n_start": 1, "n_end": 2}, "it down", "it down now"),
    ("custom:character_reverse", {}, "Elgae dlab ehT", "bald eagle"),
    ("custom:csv_city", {}, _CSV_CITY, _CSV_CITY + "8,A,C,2000,5\n"),
    ("custom:csv_quotes", {}, _CSV_QUOTED, _CSV_QUOTED.replace('"a"', "a")),
    (
        "custom:csv_special_character",
        {},
        _CSV_MARKED + '1,a,"b&c",2,3\n',
        _CSV_MARKED + '1,a,"bc",2,3\n',
    ),
    ("custom:date_format_list", {}, "1796-04-12, 1815-06-18", "1796-04-31"),
    ("custom:european_capitals_sort", {}, _CAPITALS, _CAPITALS.replace("Oslo, ", "")),
    ("custom:mcq_count_length", {}, _MCQ, _MCQ.replace("E) v", "", 1)),
    ("custom:multiples", {}, "14, 21, 28, 35, 42, 49", "7 14 21"),
    ("custom:reverse_newline", {}, _AFRICA, _AFRICA + "\nZambia"),
    ("custom:sentence_alphabet", {}, _STORY, _STORY.replace("Bnd", "Xnd")),
    ("custom:word_reverse", {}, "Eagle bald the is animal The", "The bald eagle"),
]


def test_every_constraint_is_tried() -> None:
    assert len(CHECKS) == 58
    assert {name for name, _, _, _ in CASES} == set(CHECKS)


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), CASES)
def test_constraints(name: str, arguments: dict, good: str, bad: str) -> None:
    absent = {"unused": None}  # the published rows have every argument of any constraint
    row = {"instruction_id_list": [name], "kwargs": [arguments | absent]}
    assert ifbench.verdicts(row, good).strict == (True,)
    assert ifbench.verdicts(row, bad).strict == (False,)


def test_loose_is_one_variant_for_each_constraint() -> None:
    row = {
        "instruction_id_list": ["custom:multiples", "repeat:repeat_simple"],
        "kwargs": [{}, {}],
    }
    found = ifbench.verdicts(row, "Here are **7** numbers:\n14 21 28 35 42 49")
    assert (found.strict, found.loose) == ((False, False), (True, False))
    assert (found.all_strict, found.all_loose) == (False, False)
    assert ifbench.verdicts(row, " \n").loose == (False, False)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("format:rhyme", {}, "constraint 'format:rhyme' is not one of IFBench's 58"),
        ("count:numbers", {"N": None}, "'count:numbers': argument 'N' is no whole number from 0"),
        ("count:numbers", {"N": 1.5}, "'N' is no whole number"),
        ("count:words_japanese", {"N": 0}, "'N' is no whole number from 1 on"),
        ("sentence:keyword", {"N": 1}, "'word' is no text"),
    ],
)
def test_constraints_that_cannot_be_judged(name: str, arguments: dict, message: str) -> None:
    row = {"id": "7", "instruction_id_list": [name], "kwargs": [arguments]}
    with pytest.raises(PivotRLError, match=f"ifbench item 7: .*{message}.*drop the row"):
        ifbench.score(row, "")


_MARKS = (".", "? ", "\na", "'", '"', "(", "*", "a", "Question 1", " a", ".)", "e.g. ", "1.", "n't")
_HOSTILE = [
    *(mark * 50_000 for mark in _MARKS),
    "Question 1" + "\n" * 50_000,
    "ProductID,Category,Brand,Price,Stock\n" + '1,a,"' + "&" * 50_000 + "b\n" * 14,
    "a\n" * 400 + "\n" * 50_000,
    "a" + "\u0315\u0316" * 25_000,
]


@pytest.mark.parametrize("name", CHECKS)
def test_no_output_takes_long(name: str) -> None:
    arguments = next(case[1] for case in CASES if case[0] == name)
    given = CHECKS[name].read(arguments)
    start = time.process_time()
    for text in _HOSTILE:
        CHECKS[name].follows(text[: ifbench.MAX_CHARACTERS], *given)
    assert time.process_time() - start < 3, "not linear in the text"


@settings(max_examples=50, deadline=None)
@given(text=st.text() | st.text(alphabet="a.?!\"'*-,\n (1)", max_size=60))
def test_no_output_makes_a_constraint_raise(text: str) -> None:
    names, arguments = [case[0] for case in CASES], [case[1] for case in CASES]
    row = {"instruction_id_list": names, "kwargs": arguments}
    found = ifbench.verdicts(row, text)
    assert all(loose or not strict for strict, loose in zip(found.strict, found.loose, strict=True))


def test_an_output_is_cut_before_it_is_judged() -> None:
    row = {"instruction_id_list": ["format:no_whitespace"], "kwargs": [{}]}
    assert ifbench.score(row, "a" * ifbench.MAX_CHARACTERS + " ").value == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Dr. Lee left. "Go?" He did.', ["Dr. Lee left.", '"Go?"', "He did."]),
        ("It is 3.14 at 5 p.m. today. So...", ["It is 3.14 at 5 p.m. today.", "So..."]),
        ("What?! No... maybe. (Yes.) End", ["What?!", "No... maybe.", "(Yes.)", "End"]),
        ("J. Bach lives in the U.S. The end.", ["J. Bach lives in the U.S.", "The end."]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_words() -> None:
    assert tokens("Don't say 3,000, it's (no) cannot.") == (
        ["Do", "n't", "say", "3,000", ",", "it", "'s", "(", "no", ")", "can", "not", "."]
    )
    words = {"the": 1, "little": 2, "area": 3, "lion": 2, "walked": 1, "wanted": 2, "42": 0}
    assert {word: syllables(word) for word in words} == words
    verbs = {"Create": 1, "Running": 1, "Is": 1, "Based": 1, "The": 0, "Nothing": 0, "Cats": 0}
    assert {word: int(is_verb(word)) for word in verbs} == verbs


# -- rows as they are published -------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
def test_the_miniatures_rows_are_read_as_they_are(name: str) -> None:
    for row in generate(name, 20, 0, "test"):
        assert BENCHMARKS[name].read(row) == row


def test_matharenas_numbers_become_text() -> None:
    row = BENCHMARKS["aime25"].read({"problem_idx": 1, "problem": "P", "answer": 70})
    assert row is not None
    assert score("aime25", row, "\\boxed{070}") == 1.0


def test_mmlu_prox_columns_become_a_list() -> None:
    options = {f"option_{i}": text for i, text in enumerate(("x", "y", *[None] * 8))}
    published = {"question_id": 5, "question": "Q?", "answer": "B", "category": "math"}
    row = BENCHMARKS["mmlu_prox"].read(published | options | {"config": "de"})
    assert row is not None
    assert row["id"] == "de-5"
    text = BENCHMARKS["mmlu_prox"].prompt(row)[-1].content
    assert text.endswith("Frage:\nQ?\nOptionen:\nA. x\nB. y\n")
    assert score("mmlu_prox", row, "Die Antwort ist (B)") == 1.0


def test_wmt24pp_drops_bad_sources() -> None:
    published = {"lp": "en-de_DE", "document_id": "d", "segment_id": 3, "source": "A dog."}
    published |= {"target": "Ein Hund.", "is_bad_source": False}
    row = BENCHMARKS["wmt24pp"].read(published)
    assert row is not None
    assert "into German (Germany)" in BENCHMARKS["wmt24pp"].prompt(row)[-1].content
    assert score("wmt24pp", row, "Ein Hund.") == 1.0
    assert BENCHMARKS["wmt24pp"].read(published | {"is_bad_source": True}) is None


# -- real rows ------------------------------------------------------------------------------------


@needs_real_rows
def test_ifbench_verdicts_are_allenais() -> None:
    rows = {row["key"]: row for row in real_rows("ifbench", "ifbench/rows50.jsonl")}
    golden = lines_of("ifbench/golden50.jsonl")
    found = [ifbench.verdicts(rows[g["key"]], g["response"]) for g in golden]
    assert len(golden) == 50
    assert sum(list(v.strict) == g["strict"] for v, g in zip(found, golden, strict=True)) >= 49
    assert sum(list(v.loose) == g["loose"] for v, g in zip(found, golden, strict=True)) >= 49


@needs_real_rows
def test_aime25_references() -> None:
    rows = real_rows("aime25", "aime25/rows30.jsonl")
    answers = [f"... \\boxed{{{row['expected_answer']}}}" for row in rows]
    assert [score("aime25", *pair) for pair in zip(rows, answers, strict=True)] == [1.0] * 30
    assert sum(score("aime25", *pair) for pair in zip(rows, answers[1:], strict=False)) == 0


@needs_real_rows
def test_math500_references() -> None:
    rows = real_rows("math500", "math500/rows50.jsonl")
    assert [score("math500", row, row["solution"]) for row in rows] == [1.0] * 50
    assert sum(score("math500", a, b["solution"]) for a, b in pairwise(rows)) <= 1


@needs_real_rows
def test_mmlu_pro_outputs_are_parsed_as_stored_or_counted() -> None:
    rows = {row["question_id"]: row for row in real_rows("mmlu_pro", "mmlu_pro/rows50.jsonl")}
    outputs = lines_of("mmlu_pro/llama31_8b_outputs50.jsonl")
    found = [
        BENCHMARKS["mmlu_pro"].score(rows[o["question_id"]], o["generated_text"]) for o in outputs
    ]
    assert sum(s.extracted == o["pred"] for s, o in zip(found, outputs, strict=True)) == 41
    unparsed = [s.value for s in found if s.extracted is None]
    assert unparsed == [0.0] * 9


@needs_real_rows
def test_wmt_references_score_one_and_copied_sources_little() -> None:
    rows = real_rows("wmt24pp", "wmt24pp/wmt24_en_xx_rows50.jsonl")
    assert {score("wmt24pp", row, row["translation"]) for row in rows} == {1.0}
    copied = [score("wmt24pp", row, row["text"]) for row in rows]
    assert sum(copied) / len(copied) < 0.4
