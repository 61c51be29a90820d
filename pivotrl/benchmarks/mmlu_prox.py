"""MMLU-ProX: MMLU-Pro's questions in other languages, each with its own words for the answer.

Prompt and extraction follow NeMo-Gym (the strings are lm-evaluation-harness's `lang_libs`, MIT;
NeMo-Gym's six languages). A score over several languages is the mean over items. This module must
never know where rows come from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from pivotrl.benchmarks.base import Benchmark, Row, Score, Source, user_prompt
from pivotrl.benchmarks.mmlu_pro import LETTERS
from pivotrl.types import Message, PivotRLError


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    question: str
    options: str
    description: str
    answer: str
    """The closing sentence; `({})` is where the letter goes."""
    subjects: str
    """`category=word` pairs, apart by spaces."""


LANGUAGES = {
    "en": Language(
        question="Question:",
        options="Options:",
        description=(
            "The following are multiple choice questions (with answers) about {subject}. "
            'Think step by step and then finish your answer with "{ans_suffix}" where X is '
            "the correct letter choice."
        ),
        answer="the answer is ({})",
        subjects=(
            "biology=biology business=business chemistry=chemistry "
            "computer_science=computer_science economics=economics "
            "engineering=engineering health=health history=history law=law math=math "
            "other=other philosophy=philosophy physics=physics psychology=psychology"
        ),
    ),
    "de": Language(
        question="Frage:",
        options="Optionen:",
        description=(
            "Im Folgenden sind Multiple-Choice-Fragen (mit Antworten) zu {subject}. Denken "
            'Sie Schritt für Schritt nach und beenden Sie Ihre Antwort mit "{ans_suffix}", '
            "wobei X der richtige Buchstabe ist."
        ),
        answer="Die Antwort ist ({})",
        subjects=(
            "biology=Biologie business=Wirtschaft chemistry=Chemie "
            "computer_science=Informatik economics=Ökonomie engineering=Ingenieurwesen "
            "health=Gesundheit history=Geschichte law=Recht math=Mathematik "
            "other=Sonstiges philosophy=Philosophie physics=Physik psychology=Psychologie"
        ),
    ),
    "es": Language(
        question="Pregunta:",
        options="Opciones:",
        description=(
            "Las siguientes son preguntas de opción múltiple (con respuestas) sobre "
            '{subject}. Piense paso a paso y luego termine su respuesta con "{ans_suffix}" '
            "donde X es la letra de la opción correcta."
        ),
        answer="La respuesta es ({})",
        subjects=(
            "biology=biología business=negocios chemistry=química "
            "computer_science=informática economics=economía engineering=ingeniería "
            "health=salud history=historia law=derecho math=matemáticas other=otro "
            "philosophy=filosofía physics=física psychology=psicología"
        ),
    ),
    "fr": Language(
        question="Question :",
        options="Options :",
        description=(
            "Voici des questions à choix multiples (avec réponses) sur {subject}. "
            'Réfléchissez étape par étape, puis terminez votre réponse par "{ans_suffix}" '
            "où X est la lettre correspondant au bon choix."
        ),
        answer="La réponse est ({})",
        subjects=(
            "biology=biologie business=commerce chemistry=chimie "
            "computer_science=informatique economics=économie engineering=ingénierie "
            "health=santé history=histoire law=droit math=mathématiques other=autre "
            "philosophy=philosophie physics=physique psychology=psychologie"
        ),
    ),
    "it": Language(
        question="Domanda:",
        options="Opzioni:",
        description=(
            "Ecco una domanda a scelta multipla su {subject} (con risposta). Si prega di "
            'ragionare passo dopo passo e terminare la risposta con "{ans_suffix}", dove X '
            "è la lettera dell'opzione corretta."
        ),
        answer="La risposta è ({})",
        subjects=(
            "biology=biologia business=affari chemistry=chimica "
            "computer_science=informatica economics=economia engineering=ingegneria "
            "health=salute history=storia law=diritto math=matematica other=altro "
            "philosophy=filosofia physics=fisica psychology=psicologia"
        ),
    ),
    "ja": Language(
        question="質問：",
        options="選択肢：",
        description=(
            "以下は{subject}に関する選択問題（解答付き）です。段階的に考え、最後に"
            "「{ans_suffix}」と回答を締めくくってください。Xは正解の選択肢を示す文字です。"
        ),
        answer="答えは ({}) です",
        subjects=(
            "biology=生物学 business=ビジネス chemistry=化学 "
            "computer_science=コンピュータサイエンス economics=経済学 engineering=工学 "
            "health=健康科学 history=歴史 law=法律 math=数学 other=その他 "
            "philosophy=哲学 physics=物理学 psychology=心理学"
        ),
    ),
}


def read(row: Row) -> Row:
    """The publishers' columns `option_0` to `option_9` as one list, where they are not null."""
    if "options" in row:
        return row
    language = row.get("language") or row["config"]
    options = [row["option_0"], *(row.get(f"option_{i}") for i in range(1, 10))]
    return {
        "id": f"{language}-{row['question_id']}",
        "language": language,
        "question": row["question"],
        "options": [option for option in options if option is not None],
        "answer": row["answer"],
        "category": row["category"],
    }


def language_of(row: Row) -> Language:
    try:
        return LANGUAGES[row["language"]]
    except KeyError:
        raise PivotRLError(
            f"mmlu_prox item {row.get('id')}: language {row['language']!r} is not one of "
            f"{', '.join(LANGUAGES)}; drop the row"
        ) from None


def prompt(row: Row) -> tuple[Message, ...]:
    language = language_of(row)
    subjects = dict(pair.split("=") for pair in language.subjects.split())
    category = row["category"].replace(" ", "_")
    description = language.description.format(
        subject=subjects.get(category, category),
        ans_suffix=language.answer.format("X"),
    )
    options = "\n".join(
        f"{letter}. {text}" for letter, text in zip(LETTERS, row["options"], strict=False)
    )
    return user_prompt(
        f"{description}\n{language.question}\n{row['question']}\n{language.options}\n{options}\n"
    )


@cache
def answer_pattern(code: str) -> re.Pattern[str]:
    """NeMo-Gym's regular expression for a language's closing sentence, in either case as there.

    Stricter in one thing: the first letter of a word ("the answer is clear") is no choice.
    """
    before, _, after = LANGUAGES[code].answer.partition("({})")
    before = before.strip().removeprefix("the ") if code == "en" else before.strip()
    stars = r"\**" if code == "en" else ""
    letter = r"(?:\(?([A-J])(?![A-Za-zÀ-ÿ])|\(([a-j])(?=\)))"
    return re.compile(
        rf"(?i:{re.escape(before)})\s*{stars}{letter}\)?{stars}\s*{re.escape(after.strip())}"
    )


def score(row: Row, output: str) -> Score:
    language_of(row)
    right = row["answer"]
    letters = ["".join(found).upper() for found in answer_pattern(row["language"]).findall(output)]
    if not letters:
        return Score(value=0.0, extracted=None)
    return Score(value=float(letters[-1] == right), extracted=letters[-1])


BENCHMARK = Benchmark(
    name="mmlu_prox",
    prompt=prompt,
    score=score,
    source=Source(
        path="li-lab/MMLU-ProX", split="test", configs=("en", "de", "es", "fr", "it", "ja")
    ),
    repeats=1,
    read=read,
    cluster=lambda item_id: item_id.partition("-")[2] or item_id,  # a question, in six languages
)
