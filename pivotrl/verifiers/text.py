"""Do two texts say the same? Same facts, same polarity, same kind of sentence, alike in words.

Accepted is a text that states every fact of the reference and none that neither the reference nor
the state knows, states them of the same things, denies where the reference denies, asks where it
asks and for the same, has done what it has done, and shares enough content words (F1 on stems
without stop words: identical words give 1). Deterministic and linear. This module must never know
a domain.

What is tolerated, on purpose: numbers, dates, times and names of the state that the reference does
not repeat (an id that it does not repeat is not: ids say which thing is acted on); a name of the
user's that the reference repeats and the action does not; courtesies, added or left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from pivotrl.types import JSON
from pivotrl.verifiers.comparison import ACCEPTED, MATCH, NO_CONTEXT, Comparison, Context, excerpt
from pivotrl.verifiers.english import ACTS, stem
from pivotrl.verifiers.facts import Reading, read

MIN_SIMILARITY = 0.5
MIN_SIMILARITY_WITH_FACTS = 0.35
"""Where the texts share a fact, which itself says what they are about."""
MIN_SIMILARITY_OF_COURTESIES = 0.25
"""Where neither text has content ("You're welcome! Anything else?")."""
LENGTH_FACTOR, LENGTH_SLACK = 4, 400
MAX_CHARACTERS = 6_000
"""Of each text that are read; what comes later must be the same, spaces aside."""
_OPPOSITES = tuple(
    (stem(one), stem(other))
    for one, other in (
        ("yes", "no"),
        ("accept", "reject"),
        ("approve", "deny"),
        ("cancel", "keep"),
        ("before", "after"),
        ("increase", "decrease"),
        ("add", "remove"),
        ("open", "close"),
        ("enable", "disable"),
        ("refund", "charge"),
        ("upgrade", "downgrade"),
        ("cheapest", "expensive"),
        ("pending", "delivered"),
        ("pending", "shipped"),
        ("shipped", "delivered"),
        ("active", "inactive"),
        ("more", "less"),
        ("higher", "lower"),
        ("begun", "finished"),
        ("started", "finished"),
        ("started", "ended"),
        ("win", "lose"),
        ("won", "lost"),
        ("arrive", "depart"),
        ("arrival", "departure"),
        ("first", "last"),
        ("maximum", "minimum"),
        ("increased", "decreased"),
        ("included", "excluded"),
        ("allowed", "forbidden"),
        ("success", "failure"),
    )
)


def compare_texts(reference: str, given: str, context: Context = NO_CONTEXT) -> Comparison:
    """Compare a text with the reference."""
    if not given.strip():
        return Comparison(category="empty_text")
    if len(given) > LENGTH_FACTOR * len(reference) + LENGTH_SLACK:
        return _rejected("off_topic", 0.0, reason="far longer than the reference")
    if reference[MAX_CHARACTERS:].split() != given[MAX_CHARACTERS:].split():
        return _rejected("off_topic", 0.0, reason="it differs where it is too long to be read")
    wanted, got = read(reference[:MAX_CHARACTERS]), read(given[:MAX_CHARACTERS])
    if wanted.folded == got.folded:
        return MATCH
    similarity = _similarity(wanted, got)
    shared = {f for f in wanted.facts & got.facts if f[0] != "name"}
    category, details = _contradiction(wanted, got, context)
    least = MIN_SIMILARITY_WITH_FACTS if shared else MIN_SIMILARITY
    if not wanted.words and not got.words:
        least = MIN_SIMILARITY if wanted.facts else MIN_SIMILARITY_OF_COURTESIES
    if similarity < least:
        return Comparison(
            category="off_topic",
            closeness=0.5 * similarity,
            details={"similarity": round(similarity, 3)},
            is_unsure=category == ACCEPTED,
        )
    if category != ACCEPTED:
        return _rejected(category, 0.5 + 0.4 * similarity, **details)
    return MATCH


def _contradiction(wanted: Reading, got: Reading, context: Context) -> tuple[str, dict[str, JSON]]:
    missing = [f for f in sorted(wanted.facts) if not _states(got, f)]
    extra = [f for f in sorted(got.facts) if not _states(wanted, f)]
    if missing or extra:
        known = [read(text) for text in context.state]
        invented = [f for f in extra if f[0] == "id" or not any(_states(k, f) for k in known)]
        if all(f[0] != "name" for f in invented):
            missing = [
                f for f in missing if f[0] != "name" or not any(_states(k, f) for k in known)
            ]
        kinds = {kind for kind, _ in missing}
        if wrong := invented or [f for f in extra if f[0] in kinds and f[0] != "name"]:
            return "wrong_fact", {"given": _shown(wrong), "expected": _shown(missing)}
        if missing:
            return "missing_fact", {"expected": _shown(missing)}
    if exchanged := _exchanged(wanted, got):
        return "wrong_fact", {"given": excerpt(exchanged)}
    wanted_verbs = wanted.words & context.verbs
    got_verbs = got.words & (context.verbs | ACTS if wanted_verbs else context.verbs)
    if wanted_verbs - got_verbs and got_verbs - wanted_verbs:
        return "wrong_fact", {"expected": sorted(wanted_verbs)[:5], "given": sorted(got_verbs)[:5]}
    if wanted.denies != got.denies:
        return "negation", {"expected": _polarity(wanted), "given": _polarity(got)}
    swapped = (
        wanted.negated & (got.words - got.negated),
        got.negated & (wanted.words - wanted.negated),
    )
    if all(swapped):
        return "negation", {"expected": sorted(swapped[0])[:3], "given": sorted(swapped[1])[:3]}
    for one, other in _OPPOSITES:
        for left, right in ((one, other), (other, one)):
            if (
                left in wanted.mentions
                and right in got.mentions
                and right not in wanted.mentions
                and left not in got.mentions
            ):
                return "negation", {"expected": left, "given": right}
    if wanted.asks != got.asks:
        kinds_of = {True: "a question", False: "a statement"}
        return "question_mismatch", {
            "expected": kinds_of[wanted.asks],
            "given": kinds_of[got.asks],
        }
    return ACCEPTED, {}


def _exchanged(wanted: Reading, got: Reading) -> str:
    """What is said of the wrong one, though both texts name both; empty if nothing is."""
    were = dict(wanted.owners - got.owners)
    # The number of one thing is now the number of another, and the other way round.
    moved = {(were[fact], to) for fact, to in got.owners - wanted.owners if fact in were}
    for before, after in moved:
        if (after, before) in moved:
            return f"{before} and {after}"
    for one, link, other in wanted.relations - got.relations:
        if (other, link, one) in got.relations - wanted.relations:
            return f"{other} {link} {one}"
    if wanted.wants - got.wants and got.wants:
        return ", ".join(sorted(got.wants))
    for act, done in wanted.acts:
        if (act, not done) in got.acts and not {(act, done)} & got.acts:
            return f"{act}: {'not yet' if done else 'done'}"
    return ""


def _states(reading: Reading, fact: tuple[str, str]) -> bool:
    """Whether a text states a fact, in whatever form."""
    kind, value = fact
    if fact in reading.facts:
        return True
    if kind == "date":
        same_day = {v for k, v in reading.facts if k == "date" and v[-5:] == value[-5:]}
        with_year = {v for v in same_day if len(v) == 10}
        # A year may be left out, but not differ.
        return value in with_year if len(value) == 10 and with_year else bool(same_day)
    if kind == "number":
        days = (v[-2:].lstrip("0") for k, v in reading.facts if k == "date")
        return value in reading.mentions or value in days
    if kind == "quote":
        return value in reading.folded
    if kind in ("name", "id", "path"):
        return value in reading.mentions
    return False


def _similarity(wanted: Reading, got: Reading) -> float:
    left, right = wanted.words, got.words
    if not left and not right:
        left, right = wanted.mentions, got.mentions
    if not left or not right:
        return 0.0
    return 2 * len(left & right) / (len(left) + len(right))


def _polarity(reading: Reading) -> str:
    return "negative" if reading.denies else "positive"


def _shown(facts: Sequence[tuple[str, str]]) -> list[JSON]:
    return [f"{kind} {excerpt(value)}" for kind, value in facts[:5]]


def _rejected(category: str, closeness: float, **details: JSON) -> Comparison:
    return Comparison(category=category, closeness=closeness, details=details)
