"""Do two texts say the same? Same facts, same polarity, same kind of sentence, alike in words.

Accepted is a text that states every fact of the reference and none that neither the reference nor
the state knows, states them of the same things, denies what the reference denies, asks where it
asks and for the same, has done what it has done, puts no word in the place of another of its class,
and shares enough of what it says (F1 on facts and on stems of senses, without stop words). A near
copy may not exchange any word. Deterministic and linear. This module must never know a domain.

What is tolerated, on purpose: numbers, dates, times and names of the state that the reference does
not repeat (an id that it does not repeat is not: ids say which thing is acted on); a name of the
user's that the reference repeats and the action does not; courtesies, added or left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from itertools import combinations, pairwise, permutations, product

from pivotrl.types import JSON
from pivotrl.verifiers import comparison, english
from pivotrl.verifiers.comparison import ACCEPTED, MATCH, NO_CONTEXT, Comparison, Context
from pivotrl.verifiers.english import stem
from pivotrl.verifiers.facts import Reading, parts_of, read

MIN_SIMILARITY = 0.45
MIN_SIMILARITY_WITH_FACTS = 0.35
"""Where the texts share a fact, which itself says what they are about."""
MIN_SIMILARITY_OF_COURTESIES, MIN_SIMILARITY_OF_QUESTIONS = 0.25, 0.15
"""Where neither text has content ("You're welcome!"), and where both ask for the same by name."""
LENGTH_FACTOR, LENGTH_SLACK = 4, 400
MAX_CHARACTERS = 3_000
"""Of each text that are read; what comes later must be the same, spaces aside."""
MAX_REPORT = 1_500
"""Of a report of work, whose every turn of phrase is compared."""
MAX_OWNED = 60
"""Facts of a text whose owners are compared: every one with every other."""
MIN_LISTED, MAX_LISTED = 2, 9
"""Small counts, which a list need not repeat."""
COPIED = 0.5
"""Of the pairs of neighbours: a text that shares as many is an altered copy."""
FEW_WORDS, MAX_STEPS = 12, 300
"""As many words, if the same, are a copy in another order; more steps are not compared."""
ROOT = 5
"""Letters that words of one root begin with: `weigh` and `weight`."""
NEAR = 4
"""Tokens between a value and what it is a value of."""
MAX_PLACES = 4
"""Words beside one word that may have changed places."""
MIN_POINT, MIN_KEPT = 2, 0.3
"""Words that say why, or what is so, where nothing else of the text does; the share to be said."""
_MEASURES = ("number", "date", "time")
VALUES = (*_MEASURES, "id")
BECAUSE = re.compile(r"(?is)\b(?:because(?: of)?|(?:due|owing|thanks) to|caused by)\b(.{1,300})")
_TOKEN = re.compile(r"[\w-]+")
_TOTAL = re.compile(
    r"(?<!cost )(?<!price )(?<!fee )(?<!charge )(?<!refund )(?<!discount )(?<!size )(?<!age )"
    r"\bof (\d+)(?![\w%°$€£¥]|[.,]\d| [$€£¥%]|(?: \w+)? (?:each|apiece|per)\b)"
)


def compare_texts(reference: str, given: str, context: Context = NO_CONTEXT) -> Comparison:
    """Compare a text with the reference."""
    if not given.strip():
        return Comparison(category="empty_text")
    if len(given) > LENGTH_FACTOR * len(reference) + LENGTH_SLACK:
        return comparison.rejected("off_topic", 0.0, reason="far longer than the reference")
    if reference == given:
        return MATCH
    if reference[MAX_CHARACTERS:].split() != given[MAX_CHARACTERS:].split():
        return comparison.rejected(
            "off_topic", 0.0, reason="it differs where it is too long to be read"
        )
    wanted, got = read(reference[:MAX_CHARACTERS]), read(given[:MAX_CHARACTERS])
    if wanted.folded == got.folded:
        return MATCH
    similarity = _similarity(wanted, got)
    shared = {f for f in wanted.facts & got.facts if f[0] != "name"}
    found = contradiction(wanted, got, context)
    least = MIN_SIMILARITY_WITH_FACTS if shared else MIN_SIMILARITY
    if wanted.wants and wanted.wants == got.wants:
        least = MIN_SIMILARITY_OF_QUESTIONS
    if not wanted.words and not got.words:
        least = MIN_SIMILARITY if wanted.facts else MIN_SIMILARITY_OF_COURTESIES
        if any(kind & wanted.mentions and kind & got.mentions for kind in english.COURTESIES):
            least = 0.0
    foreign = wanted.words and got.words and not wanted.words & got.mentions
    is_unsure = found == MATCH or (found.is_unsure and similarity > 0)
    if similarity < least or foreign or (found == MATCH and _is_altered(wanted, got)):
        return Comparison(
            category="off_topic",
            closeness=0.5 * similarity,
            details={"similarity": round(similarity, 3)},
            is_unsure=is_unsure,
        )
    if found == MATCH and (left_out := _left_out(reference, wanted, got, context)):
        found = _by_words("missing_fact", {"expected": left_out})
    if found != MATCH:
        return replace(found, closeness=0.5 + 0.4 * similarity, is_unsure=is_unsure)
    return MATCH


def same_text(reference: str, given: str, context: Context = NO_CONTEXT) -> bool | None:
    """Whether `compare_texts` accepts; None where nothing tells the texts apart."""
    found = compare_texts(reference, given, context)
    return found.category == ACCEPTED or (None if found.is_unsure else False)


def contradiction(wanted: Reading, got: Reading, context: Context) -> Comparison:
    """Why two texts cannot say the same; MATCH where nothing tells them apart.

    Unsure where only words do, and nothing that is invented.
    """
    missing = [f for f in sorted(wanted.facts) if not states(got, f, wanted)]
    extra = [f for f in sorted(got.facts) if not states(wanted, f, got)]
    if missing or extra:
        missing = [f for f in missing if not _counts(f, got) and not _counts(f, wanted)]
        extra = [f for f in extra if not _counts(f, got) and not _counts(f, wanted)]
        totals = _totals(wanted, got)
        extra = [f for f in extra if f not in totals]
        known = [read(text) for text in context.state]
        told = [read(text) for text in context.told]
        ids = {f for text in (*told, wanted) for f in text.facts if f[0] == "id"}
        if len(ids) == 1:  # the only id that is spoken of can be of no other thing
            extra = [f for f in extra if f not in ids]
        invented = [f for f in extra if f[0] == "id" or not any(states(k, f, got) for k in known)]
        if all(f[0] != "name" for f in extra):
            missing = [
                f for f in missing if f[0] != "name" or not any(states(k, f, wanted) for k in told)
            ]
        kinds = {kind for kind, _ in missing}
        if wrong := invented or [f for f in extra if f[0] in kinds]:
            return Comparison(
                category="wrong_fact",
                details={"given": _shown(wrong), "expected": _shown(missing)},
            )
        if missing:
            return _by_words("missing_fact", {"expected": _shown(missing)})
    if english.measured_otherwise(wanted.folded, got.folded):
        return _by_words("wrong_fact", {"given": "another unit"})
    lost, came = wanted.starters - got.mentions, got.starters - wanted.mentions
    if lost and came:
        return _by_words("wrong_fact", {"given": min(came), "expected": min(lost)})
    for before, after in wanted.choices:
        if before and after and not (before & got.mentions and after & got.mentions):
            return _by_words("missing_fact", {"expected": f"{min(before)} or {min(after)}"})
    if thing := exchanged(wanted, got):
        return _by_words("wrong_fact", {"given": comparison.excerpt(thing)})
    wanted_verbs, got_verbs = wanted.words & english.ACTS, got.words & english.ACTS
    if wanted_verbs - got_verbs and got_verbs - wanted_verbs:
        return _by_words(
            "wrong_fact", {"expected": sorted(wanted_verbs)[:5], "given": sorted(got_verbs)[:5]}
        )
    if of := denied(wanted, got):
        return _by_words("negation", {"of": of})
    if swapped := exchanged_words(wanted.mentions, got.mentions) or _opposed(wanted, got):
        return _by_words("negation", {"expected": swapped[0], "given": swapped[1]})
    if wanted.asks != got.asks and not _bid(wanted, got):
        return _by_words("question_mismatch", {"expected": wanted.asks, "given": got.asks})
    return MATCH


def _by_words(category: str, details: Mapping[str, JSON]) -> Comparison:
    return Comparison(category=category, details=details, is_unsure=True)


def _left_out(reference: str, wanted: Reading, got: Reading, context: Context) -> str:
    """What an answer is about and the other has no word of: why it refuses, what "Yes, …" says,
    one of two things that it asks for.
    """
    parts = english.QUESTIONS.split(wanted.folded) if wanted.asks else []
    for part in parts[1:] if len(parts) > 2 else ():
        own = read(part).words - wanted.polarity.scope
        fewer = len(english.QUESTIONS.findall(got.folded)) < len(parts) - 1
        if own and fewer and not own & got.mentions:
            return ", ".join(sorted(own)[:5])
    why = BECAUSE.search(reference) if wanted.polarity.denies else None
    if not why and (not wanted.folded.startswith("yes") or english.AFFIRMS.match(got.folded)):
        return ""
    point = re.split(r"[.!?\n]", why[1] if why else reference)[0]
    asked = read(next(filter(None, reversed(context.told)), ""))
    said, rest = read(point), read(reference.replace(point, " ", 1))
    own = said.words | {value for _, value in said.facts}
    own -= asked.mentions | rest.mentions | {"yes"}
    kept = len(own & got.mentions) >= MIN_KEPT * len(own)
    return "" if kept or len(own) < MIN_POINT else ", ".join(sorted(own)[:5])


def _opposed(wanted: Reading, got: Reading) -> tuple[str, str] | None:
    """A word and its opposite by a prefix, each in one text alone: unpaid and paid."""
    for one, other in ((wanted, got), (got, wanted)):
        ours, theirs = ({*_TOKEN.findall(text.folded)} for text in (one, other))
        for word in sorted(ours - theirs):
            bare = found[1] if (found := english.OPPOSITE.fullmatch(word)) else ""
            said = bare in theirs - ours and stem(bare) in other.mentions
            if said and stem(bare) not in other.polarity.scope:
                return word, bare
    return None


def _bid(one: Reading, other: Reading) -> bool:
    """Whether one says "could you open …" and the other "please open …"."""
    asks, bids = (one, other) if one.asks else (other, one)
    both = english.COULD_YOU.search(asks.folded) and english.PLEASE.search(bids.folded)
    return bool(both) and {*map(stem, asks.wants)} <= bids.mentions


def exchanged_words(wanted: Set[str], given: Set[str]) -> tuple[str, str] | None:
    """A stem of the wanted ones and the one of its class (english.toml) that is in its place."""
    for kind in english.CLASSES:
        lost, came = kind & wanted - given, kind & given - wanted
        if lost and came:
            return min(lost), min(came)
    return None


def denied(wanted: Reading, got: Reading) -> str:
    """What one text denies and the other affirms; empty if nothing is."""
    for one, other in ((wanted, got), (got, wanted)):
        said, told = one.polarity, other.polarity
        # "Without its antennas" is an aside where the other text does not speak of antennas.
        is_aside = said.only_without and not said.denied.keys() & other.mentions
        # "The boots don't fit" beside a question that both ask.
        bound = english.ACTS | english.BINDING | other.mentions
        is_aside |= one.asks and other.asks and not said.scope & bound
        is_aside |= not said.denied and stem("only") in other.mentions  # "so I can't do that"
        if said.denies and not told.denies and not is_aside:
            return ", ".join(sorted(said.denied)[:3]) or "all"
        for word, clause in said.denied.items():
            # "Checks are not accepted" is "cards are accepted, but not checks".
            affirmed = word in told.affirmed and word not in told.scope | said.affirmed
            if affirmed and not clause & (told.denied.keys() | told.scope):
                return word
    return ""


def turned_round(wanted: Reading, got: Reading) -> str:
    """What became of what in one text and the other way round in the other; empty if nothing."""
    for (old, new), (here, there) in product(wanted.ways, got.ways):
        was, becomes = (old - new) & there, (new - old) & here
        if was and becomes and not was & here and not becomes & there:
            return f"{min(was)} for {min(becomes)}"
    return ""


def differs_in_report(wanted: str, given: str) -> bool:
    """Whether two free reports of one work tell it the other way round, or count differently."""
    one, other = read(wanted[:MAX_REPORT]), read(given[:MAX_REPORT])
    gave_up = [english.GAVE_UP.search(text.folded) is None for text in (one, other)]
    if turned_round(one, other) or gave_up[0] != gave_up[1]:
        return True
    counted = {unit for _, unit in one.units} & {unit for _, unit in other.units}
    return bool(counted - {unit for _, unit in one.units & other.units})


def exchanged(wanted: Reading, got: Reading) -> str:
    """What is said of the wrong one, though both texts name both; empty if nothing is."""
    if turned := turned_round(wanted, got):
        return turned
    agents = map(english.agents_of, (wanted.folded, got.folded))
    for (by, did), (now_by, now_did) in permutations(agents):
        if acts := (by - did) & (now_did - now_by):
            return f"who did {min(acts)}"
    ends, others = english.ends_of(wanted.folded), english.ends_of(got.folded)
    for way, end in sorted(ends - others):
        if ("to" if way == "from" else "from", end) in others - ends:
            return f"{way} {end}"
    ours, theirs = english.patients_of(wanted.folded), english.patients_of(got.folded)
    for one, two in permutations(sorted(ours.keys() & theirs.keys())[:MAX_OWNED], 2):
        here, there = ours[one] - ours[two], ours[two] - ours[one]
        now, then = theirs[one] - theirs[two], theirs[two] - theirs[one]
        if here & then and there & now and not here & now:
            return f"{min(here & then)} for {min(there & now)}"
    if wanted.wants and got.wants:
        for asker, asked in ((wanted, got), (got, wanted)):
            for thing in asker.wants - asked.wants:
                whose = {*thing.split()} - {"id", "date"}
                kind = thing.split()[-1]
                alike = {other for other in asked.wants if other.split()[-1] == kind}
                if kind in alike or (thing == kind and alike):  # "the date" and the "travel date"
                    continue
                # "When does it expire" asks for the "expiry date".
                if not whose or not whose <= asked.words:
                    return f"asks for {thing}"
    for value, end in wanted.bounds - got.bounds:
        if (value, "from" if end == "until" else "until") in got.bounds - wanted.bounds:
            return f"{end} {value}"
    for (one, unit), (other, of) in permutations(sorted(wanted.units)[:MAX_OWNED], 2):
        if unit != of and {(one, of), (other, unit)} <= got.units - wanted.units:
            return f"{one} {unit}"
    for act, done in wanted.acts:
        if (act, not done) in got.acts and not {(act, done)} & got.acts:
            return f"{act}: {'not yet' if done else 'done'}"
    return _moved(wanted, got) or _swapped(wanted, got) or _crossed(wanted, got)


def _crossed(wanted: Reading, got: Reading) -> str:
    """Two values, each of which now stands behind what the other stood behind."""
    shared = [fact for fact in wanted.facts & got.facts if fact[1] in wanted.places]
    shared = sorted(fact for fact in shared if fact[1] in got.places)[:MAX_OWNED]
    before: list[dict[tuple[str, str], tuple[str, str]]] = []
    for places in (wanted.places, got.places):
        order = sorted(shared, key=lambda fact: places[fact[1]])
        near = [(a, b) for a, b in pairwise(order) if places[b[1]] - places[a[1]] <= NEAR]
        before.append({b: a for a, b in near if a[0] != b[0]})
    were, are = before
    for one, other in combinations(sorted(were.keys() & are.keys()), 2):
        if were[one] != were[other] and (were[one], were[other]) == (are[other], are[one]):
            return f"{one[1]} for {other[1]}"
    return ""


def _is_altered(wanted: Reading, got: Reading) -> bool:
    """Whether a text is nearly a copy but for a word: a paraphrase changes more than that."""
    if _copied(wanted, got) < COPIED:
        return False
    lost, came = unlike(wanted, got)
    lost -= {"yes"}  # said by what follows
    return bool((lost and came) or lost & english.BINDING or came & english.ACTS)


def unlike(wanted: Reading, got: Reading) -> tuple[Set[str], Set[str]]:
    """The content words of each that the other has not, in no form."""
    lost, came = wanted.words - got.mentions, got.words - wanted.mentions
    kin = {(a, b) for a, b in product(lost, came) if a[:ROOT] == b[:ROOT] and len(a) >= ROOT}
    return lost - {a for a, _ in kin}, came - {b for _, b in kin}


def _copied(wanted: Reading, got: Reading) -> float:
    """F1 of the pairs of neighbours."""
    both = len(wanted.neighbours & got.neighbours)
    return 2 * both / (len(wanted.neighbours) + len(got.neighbours))


def _swapped(wanted: Reading, got: Reading) -> str:
    """Two words that changed places: each now stands where the other stood."""
    one_is_passive = ("by" in wanted.mentions) != ("by" in got.mentions)
    ours, theirs = map(english.passives_of, (wanted.folded, got.folded))
    one_is_passive |= bool((ours - theirs) & got.mentions | (theirs - ours) & wanted.mentions)
    if one_is_passive or max(len(wanted.steps), len(got.steps)) > MAX_STEPS:
        return ""
    same_words = wanted.mentions == got.mentions and len(wanted.mentions) <= FEW_WORDS
    copied = same_words or _copied(wanted, got) >= COPIED
    lost, came = wanted.steps - got.steps, got.steps - wanted.steps
    moves: dict[tuple[str, str], set[str]] = {}
    """What stood beside a word, what does now -> the words."""
    for side in (0, 1):
        beside: dict[str, list[str]] = {}
        for pair in sorted(came):
            beside.setdefault(pair[1 - side], []).append(pair[side])
        for pair in sorted(lost):
            for now in beside.get(pair[1 - side], ())[:MAX_PLACES]:
                moves.setdefault((pair[side], now), set()).add(pair[1 - side])
    together = wanted.steps | got.steps
    values = {value for kind, value in wanted.facts if kind in _MEASURES}
    for (one, other), there in moves.items():
        back = moves.get((other, one))
        if not back or not one or not other:
            continue
        if not same_words and {one, other} & english.ASKING:  # who asks stands anywhere
            continue
        # "A $40 refund" is "a refund of $40".
        if {(one, other), (other, one)} & together and not {one, other} <= values:
            continue
        # "The refund was issued" is "we issued the refund", if more is worded otherwise.
        moved = there - back - {""} and back - there - {""} and not {one, other} & values
        if (there | back) - {""} if copied else moved:
            return f"{one} and {other}"
    return ""


def _moved(wanted: Reading, got: Reading) -> str:
    """A fact that is said with the names or words of another."""
    shared = [fact for fact in wanted.owners if fact in got.owners][:MAX_OWNED]
    for fact in shared:
        were, are = wanted.owners[fact][0] - {fact[1]}, got.owners[fact][0] - {fact[1]}
        both_known = were <= got.mentions and are <= wanted.mentions
        apart = not were & (are | got.owners[fact][1]) and not are & wanted.owners[fact][1]
        if were and are and apart and both_known:
            return f"{fact[1]} of {min(are)}"
    for one, other in combinations(shared, 2):
        (ours, theirs), (now, then) = (
            [r.owners[f][1] for f in (one, other)] for r in (wanted, got)
        )
        crossed = ours & then and theirs & now and not (ours & now or theirs & then)
        if one[0] == other[0] and crossed:
            return f"{one[1]} for {other[1]}"
    return ""


def _counts(fact: tuple[str, str], listing: Reading) -> bool:
    """Whether a number is no more than how many things the text lists, or names by ids."""
    ids = sum(kind == "id" for kind, _ in listing.facts)
    counts = {str(n) for n in (listing.listed, ids) if MIN_LISTED <= n <= MAX_LISTED}
    return fact[0] == "number" and fact[1] in counts


def _totals(wanted: Reading, got: Reading) -> set[tuple[str, str]]:
    """The sums of two counts of the reference that the other text says to be all of them.

    In units it is one only where both counts are in its unit.
    """
    counts = {int(v) for k, v in wanted.facts if k == "number" and v.isdecimal() and len(v) < 5}
    said, totals = set(_TOTAL.findall(got.folded)), set()
    known = (wanted.mentions | english.COUNTED) - frozenset().union(*english.MEASURES)
    for one, other in combinations(sorted(counts)[:MAX_OWNED], 2):
        total = str(one + other)
        if total not in said:
            continue
        units = {unit for number, unit in got.units if number == total} - known
        if all({(str(one), unit), (str(other), unit)} <= wanted.units for unit in units):
            totals.add(("number", total))
    return totals


def states(reading: Reading, fact: tuple[str, str], of: Reading) -> bool:
    """Whether a text states a fact of another, in whatever form."""
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
        if value == "1" and reading.mentions & {"one", "a", "an", "single"}:
            return True
        ordinal = english.ORDINALS.get(value)
        counted = (unit for number, unit in of.units if number == value)
        if any((ordinal, unit) in reading.neighbours for unit in counted):
            ordinal = None  # the third order are not 3 orders
        return bool({value, ordinal} & reading.mentions) or value in days
    if kind == "quote":
        return value in reading.folded
    if kind == "id" and (parts := parts_of(value)) and reading.mentions.issuperset(parts):
        return True
    if kind in ("name", "id", "path"):
        return value in reading.mentions
    return False


def _similarity(wanted: Reading, got: Reading) -> float:
    left = wanted.words | {value for kind, value in wanted.facts if kind in VALUES}
    right = got.words | {value for kind, value in got.facts if kind in VALUES}
    if not left and not right:
        left, right = wanted.mentions, got.mentions
    return 2 * len(left & right) / max(1, len(left) + len(right))


def _shown(facts: Sequence[tuple[str, str]]) -> list[JSON]:
    return [f"{kind} {comparison.excerpt(value)}" for kind, value in facts[:5]]
