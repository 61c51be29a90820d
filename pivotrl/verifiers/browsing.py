"""The verifier of browsing: does the step look for, open or point at the same?

A search binds by numbers, years, names, quoted phrases and operators, and asks for the same in its
other words, of which only the question's own may replace another; an opened page is its canonical
address, however the results name it; a find or an evidence step is its text; an answer is what it
names. What else a step is given, as a page's number, binds through its tool's schema, but for how
many results; what a page is read for is alike as a search. Other tools and texts are judged as in
conversational tool use. Source: PivotRL's browsing domain; for addresses RFC 3986, section 6.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import permutations
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from pivotrl.types import (
    JSON,
    Action,
    Candidate,
    Message,
    Role,
    ToolCall,
    ToolSpec,
    Verdict,
    VerdictStatus,
)
from pivotrl.verifiers import english, outcome
from pivotrl.verifiers.answers import same_answer, says_answer
from pivotrl.verifiers.arguments import compare_call
from pivotrl.verifiers.comparison import Undecidable, excerpt
from pivotrl.verifiers.english import STOP, respell, stem
from pivotrl.verifiers.facts import plain_letters, read
from pivotrl.verifiers.text import exchanged_words
from pivotrl.verifiers.tool_use import ToolUseVerifier

MIN_QUERY = 0.65
"""F1 of the words of two queries that bind alike."""
MIN_ASKED = 0.5
"""Of those that are no names, where the question's words replace others."""
MAX_APART = 8
"""Words that two queries do not share and that are tried together."""
MIN_EVIDENCE = 0.6
"""F1 of the words of two quotations."""
MIN_QUOTED = 0.4
"""Of a quotation that holds another."""
MAX_TOGETHER = 8
"""Calls at once that are tried in every order."""
MAX_CHARACTERS = 2_000
"""Of what a step asks for; a longer one is no step, and compared as any other call."""
MAX_ANSWER = 600
"""A longer text is a report, and compared as any other."""
MAX_HOST, MAX_LIST = 253, 50_000
_KINDS = {one["kind"]: (re.compile(one["tool"]), one["keys"]) for one in outcome.AGENTS["steps"]}
_ASIDE = re.compile(
    r"(?i).*(?:reason|explanation|thought|confidence|source|citation|note).*"
    r"|\w*results?|(?:\w+_)?(?:limit|count|size)|top_?[kn]|k|n"
)
"""Why, and how many results: the same step."""
_GOAL = re.compile(r"(?i).*(goal|intent|purpose|question|task|prompt|objective|instruct|query).*")
_ACRONYM = re.compile("[A-Z]{2,6}")
_EPISODE = re.compile(r"\bS0?(\d{1,2})E0?(\d{1,2})\b")
_SEASON = re.compile(r"(?i)\bseason (\d+),? episode (\d+)")
_NTH = re.compile(r"(?<!\d)(\d++)(?:st|nd|rd|th)")
_QUOTED = re.compile(r"[\"“]([^\"”]+)[\"”]")
_OPERATOR = re.compile(r"(?i)(?<!\S)(-?(?:site|filetype|intitle|inurl|before|after):\S+|-\w+)")
_MONTHS = re.compile("january|february|april|june|july|august|(?:sept|nov|dec)ember|october")
"""Without those that are other words too."""
_WAY = re.compile(r"\b(\w+) to (\w+)")
_TERM = re.compile(r"\w+(?:[.'’-]\w+)*")
_HYPHEN = re.compile(r"(?i)(?<=[^\W\d])(?<!\bsemi)(?<!\bnon)(?<!\banti)(?<!\bvice)-(?=[^\W\d])")
"""Not of a prefix that makes another word."""
_SITE = re.compile(r"^www\.|(?:(?<=\.)|^)m\.(?=.*\.)")
"""Labels of a host that lead to the same page, the mobile one's too."""
_TRACKING = re.compile(r"(?i)(utm_\w+|gclid|fbclid|ref|ref_src|source|igshid|mc_\w+)")
_RESULT = re.compile(r"(?m)^\W{0,3}(\d{1,3})\W{1,3}(?=\S)")
"""How a result begins in a list of them."""
_PART = r"(?:[^\s<>()\[\]]|\([^\s<>()\[\]]*\))+(?<![.,;:])"
_ADDRESS = re.compile(rf"https?://{_PART}|(?<=\()[\w-]+(?:\.[\w-]+)+/{_PART}")
_NO_CALL = ToolCall(name="", arguments={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    kind: str
    """`search`, `open`, `evidence` or `answer`."""
    binding: frozenset[str] = frozenset()
    """What must be the same."""
    words: frozenset[str] = frozenset()
    text: str = ""
    """Of a search, an answer or a quotation."""
    page: str = ""
    """That is quoted or searched; empty where it is not said."""
    beside: ToolCall = _NO_CALL
    """The call with what else it is given."""
    goal: str = ""
    """What a page is read for."""


@dataclass(frozen=True, slots=True)
class Query:
    """A search by what it is compared by; words are stems."""

    binding: frozenset[str]
    """What must be the same."""
    words: frozenset[str]
    names: frozenset[str]
    """Those of them with a capital."""
    asked: frozenset[str]
    """Kinds of what is asked: `date`."""
    ways: frozenset[tuple[str, str]]
    """`a to b`."""


class BrowsingVerifier:
    name = "browsing"

    def __init__(self, *, ask: bool = False) -> None:
        """With `ask` a search that may be worded otherwise is undecided, for a judge."""
        self._others, self._ask = ToolUseVerifier(ask=ask), ask
        self._pages = outcome.Prepare(_pages)

    @outcome.never_raises
    def verify(self, candidate: Candidate, action: Action) -> Verdict:
        """Judge an action (see the module). Never raises."""
        if verdict := outcome.unfinished(action):
            return verdict
        references = (candidate.demonstration, *candidate.accepted_actions)
        question = " ".join(m.content for m in candidate.messages if m.role == Role.USER)
        tools = {tool.name: tool for tool in candidate.tools}
        pages = self._pages(candidate)

        def difference(wanted: Step, given: Step, unsure: bool = False) -> str | None:
            return _difference(_found(wanted, pages), _found(given, pages), question, tools, unsure)

        def judged(*may_be: Message, unsure: bool = False) -> Verdict | None:
            differs = partial(difference, unsure=unsure)
            return outcome.judge_steps(may_be, action.tool_calls, _step, differs, MAX_TOGETHER)

        try:
            verdict = judged(*references)
            if self._ask and verdict and not verdict.reward:  # a judge sees the demonstration alone
                perhaps = judged(candidate.demonstration, unsure=True)
                if perhaps and perhaps.reward:
                    return outcome.undecided("paraphrase", verdict.details)
        except Undecidable:  # of which the verifier of tool use says why
            verdict = None
        verdict = verdict or self._others.verify(candidate, action)
        texts = [(i, r.content) for i, r in enumerate(references) if not r.tool_calls]
        texts = [(i, text) for i, text in texts if len(text) <= MAX_ANSWER]
        texts = [] if action.tool_calls else texts
        same = [i for i, text in texts if same_answer(text, action.text, question)]
        if same and not verdict.reward and verdict.status != VerdictStatus.ERROR:
            return outcome.acceptance({"reference": same[0]})
        if texts and not same and verdict.reward and says_answer(action.text):
            return outcome.rejection("wrong_answer", {"given": excerpt(action.text)})
        return verdict


def _step(call: ToolCall) -> Step | None:
    arguments = call.arguments
    if not isinstance(arguments, Mapping):
        return None
    made = {"evidence": _evidence, "search": _search, "open": _page, "answer": _answer}
    for kind, (tool, keys) in _KINDS.items():
        value = outcome.first_of(arguments, keys) if tool.fullmatch(call.name) else None
        where = outcome.first_of(arguments, _KINDS["open"][1])
        if any(isinstance(text, str) and len(text) > MAX_CHARACTERS for text in (value, where)):
            return None
        if value is None or (step := made[kind](value)) is None:
            continue
        own = [next(key for key in keys if key in arguments)] if kind == "open" else keys
        if kind == "evidence" and (page := _page(where)):
            step, own = replace(step, page=min(page.binding)), [*own, *_KINDS["open"][1]]
        rest = {k: v for k, v in arguments.items() if k not in own and not _ASIDE.fullmatch(k)}
        goals = [k for k, v in rest.items() if isinstance(v, str) and _GOAL.fullmatch(k)]
        goal = " ".join(rest.pop(k) for k in goals)
        if len(goal) > MAX_CHARACTERS:
            return None
        return replace(step, goal=goal, beside=replace(call, arguments=rest))
    return None


def _difference(
    wanted: Step, given: Step, question: str, tools: Mapping[str, ToolSpec], unsure: bool
) -> str | None:
    """Why two steps are not the same; with `unsure` where they certainly are not."""
    if wanted.kind != given.kind:
        return "different_step"
    named = replace(given.beside, name=wanted.beside.name)
    if compare_call(wanted.beside, named, tools):
        return "wrong_argument"
    if wanted.goal and given.goal:
        same = _same_query(wanted.goal, given.goal, question, True)
        if not (same or (unsure and same is None)):
            return "wrong_goal"
    if wanted.page and given.page and wanted.page != given.page:
        return "wrong_page"
    if wanted.kind == "evidence" and _quotes_more(wanted, given):
        return None
    if wanted.binding != given.binding:
        return "wrong_" + {"search": "query", "open": "page"}.get(wanted.kind, wanted.kind)
    if wanted.kind == "open":
        return None
    if wanted.kind == "answer":
        told = _spelled_out(given.text, wanted.text)
        alike = same_answer(_spelled_out(wanted.text, given.text), told, question)
        return None if alike else "wrong_answer"
    if wanted.kind == "search":
        same = _same_query(wanted.text, given.text, question)
        return None if same or (unsure and same is None) else "wrong_query"
    swapped = exchanged_words(wanted.words, given.words)
    alike = not swapped and _alike(wanted.words, given.words) >= MIN_EVIDENCE
    return None if alike else "wrong_evidence"


def _quotes_more(one: Step, other: Step) -> bool:
    """Whether a quotation is a good part of the other, which says no more than is beside it."""
    short, long = sorted((one, other), key=lambda step: len(step.text))
    alike = ("denies" in short.binding) == ("denies" in long.binding)
    return alike and short.text in long.text and len(short.text) >= MIN_QUOTED * len(long.text)


def _same_query(one: str, other: str, question: str, is_goal: bool = False) -> bool | None:
    """Whether `other` asks for the same as `one`; the user's question tells which words are free.

    None where nothing tells them apart but their words. Of a goal, which has its page beside it,
    the question's names are free too.
    """
    one, other = _spelled_out(one, other), _spelled_out(other, one)
    wanted, given = _query(one), _query(_unquoted(other, one))
    asked = _query(question[:MAX_CHARACTERS]).words
    mentioned, asked = wanted.words & asked, asked - wanted.words
    told = given.words - (asked if is_goal else asked - given.names)
    lost, came = set(wanted.words - told), set(told - wanted.words)
    for left, right in ((lost, came), (came, lost)):
        for pair in permutations(left, 2) if len(left) <= MAX_APART else ():
            if "".join(pair) in right:  # a book store is a bookstore
                left.difference_update(pair)
                right.remove("".join(pair))
    both = wanted.asked & given.asked
    if (
        wanted.binding != given.binding
        or (lost | came) & english.NEGATORS
        or (wanted.asked and given.asked and not both)
        or exchanged_words(lost, given.words - wanted.words)
        or any(
            (there, here) in given.ways - wanted.ways for here, there in wanted.ways - given.ways
        )
    ):
        return False
    unsure = None if wanted.words & given.words else False
    # A name more or less is another question.
    if lost & wanted.names or came & given.names:
        return unsure
    # A word in place of another, if only one of the question's.
    if lost and (came - english.WEAK or (came and lost - english.WEAK)):
        return unsure
    others = wanted.words - wanted.names, given.words - given.names
    swapped = lost and not is_goal and given.words - told
    # One of the question's for another of them is another part of it.
    if swapped and (lost & mentioned - english.WEAK or _alike(*others) <= MIN_ASKED):
        return unsure
    alike = _alike(wanted.words - english.WEAK | both, told - english.WEAK | both)
    return alike >= MIN_QUERY or unsure


def _spelled_out(text: str, other: str) -> str:
    """With acronyms as the other text spells them: `BOJ` where that says `Bank of Japan`."""
    terms = _TERM.findall(other)
    for acronym in {term for term in _TERM.findall(text) if _ACRONYM.fullmatch(term)} - {*terms}:
        for start in range(len(terms)):
            run = terms[start : start + len(acronym)]
            said = "".join(term[0] for term in run)
            if said.upper() == acronym and (said.isupper() or len(said) > 2):
                text = re.sub(rf"\b{acronym}\b", " ".join(run), text)
                break
    return text


def _unquoted(text: str, other: str) -> str:
    """Without quotes around what the other text has without them."""
    plain = " ".join(other.lower().split())
    return _QUOTED.sub(
        lambda m: (
            m[1]
            if f'"{m[1].lower()}"' not in plain and " ".join(m[1].lower().split()) in plain
            else m[0]
        ),
        text,
    )


def _alike(one: frozenset[str], other: frozenset[str]) -> float:
    if not one and not other:
        return 1.0
    return 2 * len(one & other) / (len(one) + len(other))


def _search(value: JSON) -> Step | None:
    queries = value if isinstance(value, list) else [value]
    if not queries or not all(isinstance(q, str) for q in queries):
        return None
    asked = plain_letters(" ".join(queries))
    return None if len(asked) > MAX_CHARACTERS else Step(kind="search", text=asked)


@lru_cache(maxsize=16)
def _query(text: str) -> Query:
    binding = {f'"{" ".join(phrase.lower().split())}"' for phrase in _QUOTED.findall(text)}
    binding |= {operator.lower() for operator in _OPERATOR.findall(text)}
    plain = _EPISODE.sub(r"season \1 episode \2", _QUOTED.sub(" ", _OPERATOR.sub(" ", text)))
    said = english.query_senses(respell(plain.replace("_", " ")))
    binding |= {f"{season} of {episode}" for season, episode in _SEASON.findall(said)}
    spelled = _TERM.findall(_HYPHEN.sub(" ", said))
    words = [english.NUMBER_WORDS.get(term.lower(), term.lower()) for term in spelled]
    binding |= {
        _NTH.sub(r"\1", t) for t in words if _MONTHS.fullmatch(t) or any(c.isdigit() for c in t)
    }
    kept = {
        t
        for t in words
        if t not in english.FILLERS
        and _says(t)
        and not any(map(str.isdigit, t))
        and not _MONTHS.fullmatch(t)
    }
    stems = frozenset(map(stem, kept))
    return Query(
        binding=frozenset(binding),
        words=stems - english.ASKED,
        names=frozenset(
            stem(t.lower()) for t in spelled if t[0].isupper() and t.lower() in kept and len(t) > 1
        )
        - english.WEAK,
        asked=stems & english.ASKED,
        ways=frozenset(_WAY.findall(text.lower())),
    )


def _says(term: str) -> bool:
    return term not in STOP or any(stem(term) in kind for kind in english.CLASSES)


def _pages(candidate: Candidate) -> dict[str, str]:
    """Number or title of a result, as the last list of them shows it -> its address, else title."""
    for message in reversed(candidate.messages):
        # A number, a title, and an address beside or below it.
        _, *found = _RESULT.split(message.content[:MAX_LIST]) if message.role == Role.TOOL else [""]
        if len({*found[::2]}) == len(found[::2]) > 1:
            break
    else:
        return {}
    pages: dict[str, str] = {}
    titles: list[tuple[str, str]] = []
    for number, shown in zip(found[::2], found[1::2], strict=True):
        line, _, below = shown[:MAX_CHARACTERS].partition("\n")
        address = _ADDRESS.search(line) or _ADDRESS.match(below.lstrip())
        title = " ".join(_ADDRESS.sub(" ", line).strip(" -:|()[]<>—").lower().split())
        pages[number] = canonical_url(address[0]) if address else title
        titles.append((title, number))
    often = Counter(pages.values())
    pages = {number: page for number, page in pages.items() if page and often[page] == 1}
    named = Counter(title for title, _ in titles)
    return pages | {t: pages[n] for t, n in titles if t and named[t] == 1 and n in pages}


def _found(step: Step, pages: Mapping[str, str]) -> Step:
    """A step whose page has the address that the results have for it."""
    if step.kind != "open" or not pages:
        return step
    folded = {page: " ".join(page.lower().split()) for page in step.binding}
    found = (pages.get(page) or pages.get(folded[page]) or page for page in folded)
    return replace(step, binding=frozenset(found))


def _answer(value: JSON) -> Step | None:
    said = isinstance(value, str) and value.strip()
    return Step(kind="answer", binding=frozenset(), text=str(value)) if said else None


def _page(value: JSON) -> Step | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = excerpt(int(value) if abs(value) < 1e15 and value == int(value) else value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # an address alone
    if not isinstance(value, str) or not value.strip():
        return None
    return Step(kind="open", binding=frozenset({canonical_url(value)}))


def _evidence(value: JSON) -> Step | None:
    if not isinstance(value, str) or not value.strip():
        return None
    reading = read(value)
    facts = {f"{kind} {fact}" for kind, fact in reading.facts if kind in ("number", "date", "id")}
    if reading.polarity.denies:
        facts.add("denies")
    text = reading.folded.strip(" .")
    return Step(kind="evidence", binding=frozenset(facts), words=reading.mentions, text=text)


def canonical_url(url: str) -> str:
    """One form for one page: no scheme, `www.`, default port, fragment, tracking or last slash.

    What is no address is itself, without spaces around it.
    """
    text = url.strip()
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host, port = parts.hostname or "", parts.port
        if len(host) > MAX_HOST:
            return text
        host = _SITE.sub("", host.encode("idna").decode() if not host.isascii() else host)
    except ValueError:
        return text
    if "." not in host or parts.scheme not in ("http", "https"):
        return text
    query = sorted(
        pair
        for pair in parse_qsl(parts.query, keep_blank_values=True)
        if not _TRACKING.fullmatch(pair[0])
    )
    where = f":{port}" if port not in (None, 80, 443) else ""
    path = posixpath.normpath(unquote(parts.path)) if parts.path else ""
    path = path.rstrip("/").removesuffix("/index.html")
    asked = f"?{urlencode(query, errors='surrogatepass')}" if query else ""
    return f"{host}{where}{path}{asked}"
