"""WMT24++: translation of one segment out of English, scored by sentence chrF / 100.

Prompt and reward are NeMo-Gym's; its spBLEU, xCOMET and language check need downloads and are
not here. This module must never know where segments come from.
"""

from __future__ import annotations

import re
import unicodedata

from pivotrl.benchmarks.base import Benchmark, Row, Score, Source, user_prompt
from pivotrl.types import Message, PivotRLError

# NeMo-Skills' five pairs; a row of another pair names its language in `target_lang_name`.
LANGUAGE_NAMES = {
    "de_DE": "German (Germany)",
    "es_MX": "Spanish (Mexico)",
    "fr_FR": "French (France)",
    "it_IT": "Italian (Italy)",
    "ja_JP": "Japanese (Japan)",
}

_MAX_CHARACTERS = 20_000


def read(row: Row) -> Row | None:
    """None for a source that the publishers call bad; they advise against judging it."""
    if "text" in row:
        return row
    if row["is_bad_source"]:
        return None
    source, _, target = row["lp"].partition("-")
    return {
        "id": f"{row['lp']}-{row['document_id']}-{row['segment_id']}",
        "text": row["source"],
        "translation": row["target"],
        "source_language": source,
        "target_language": target,
    }


def prompt(row: Row) -> tuple[Message, ...]:
    language = row.get("target_lang_name") or LANGUAGE_NAMES.get(row["target_language"])
    if language is None:
        raise PivotRLError(
            f"wmt24pp item {row.get('id')}: no name for language {row['target_language']!r}; "
            "add a `target_lang_name` to the row"
        )
    return user_prompt(
        f"Translate the following segment into {language}, without additional explanation.\n\n"
        f"{row['text']}"
    )


def score(row: Row, output: str) -> Score:
    from sacrebleu import sentence_chrf

    reference = unicodedata.normalize("NFC", row["translation"])
    translation = unicodedata.normalize("NFC", output[:_MAX_CHARACTERS]).strip()
    if not translation:
        return Score(value=0.0, extracted=None)
    value = sentence_chrf(translation, [reference]).score / 100
    return Score(value=min(max(value, 0.0), 1.0), extracted=translation)


BENCHMARK = Benchmark(
    name="wmt24pp",
    prompt=prompt,
    score=score,
    source=Source(
        path="google/wmt24pp",
        split="train",
        configs=("en-de_DE", "en-es_MX", "en-fr_FR", "en-it_IT", "en-ja_JP"),
    ),
    repeats=1,
    read=read,
    cluster=lambda item_id: re.sub(r"^en-\w+-", "", item_id),  # a segment, in five languages
)
