"""The verifier of browsing: does the step look for, open or point at the same?

A search binds by numbers, years, quoted phrases and operators, and is alike in its other words; an
opened page is its canonical address or the id that the tool gave; a find or an evidence step is its
text. Other tools and final answers are judged as in conversational tool use. Source: PivotRL's
browsing domain; RFC 3986, section 6, for addresses.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from pivotrl.types import JSON, Action, Candidate, ToolCall, Verdict
from pivotrl.verifiers.comparison import excerpt
from pivotrl.verifiers.english import STOP, stem
from pivotrl.verifiers.facts import read
from pivotrl.verifiers.outcome import never_raises, unfinished
from pivotrl.verifiers.steps import judge_steps
from pivotrl.verifiers.tool_use import ToolUseVerifier

MIN_QUERY = 0.65
"""F1 of the words of two queries that bind alike."""
MIN_EXCHANGED = 0.8
"""The same where each has a word that the other lacks."""
MIN_EVIDENCE = 0.6
"""F1 of the words of two quotations."""
MAX_CHARACTERS = 6_000
"""Of what a step asks for; a longer one is no step, and compared as any other call."""
MAX_HOST = 253
_SEARCH = re.compile(r"(?i).*(search|query|google|bing|lookup).*")
_OPEN = re.compile(r"(?i).*(open|visit|browse|fetch|goto|go_to|navigate|read_page|get_page|url).*")
_EVIDENCE = re.compile(r"(?i).*(find|evidence|quote|cite|extract|highlight|note).*")
_QUERY_KEYS = ("query", "q", "search_query", "search_term", "keywords", "queries")
_PAGE_KEYS = ("url", "link", "href", "page", "id", "doc_id", "docid", "cursor")
_TEXT_KEYS = ("text", "pattern", "quote", "evidence", "snippet", "content", "passage")
_QUOTED = re.compile(r"[\"“]([^\"”]+)[\"”]")
_OPERATOR = re.compile(r"(?i)(?<!\S)(-?(?:site|filetype|intitle|inurl|before|after):\S+|-\w+)")
_MONTHS = re.compile("january|february|april|june|july|august|(?:sept|nov|dec)ember|october")
"""Without those that are other words too."""
_WAY = re.compile(r"\b(\w+) to (\w+)")
_TERM = re.compile(r"\w+(?:[.'’-]\w+)*")
_SITE = re.compile(r"^www\.|(?:(?<=\.)|^)m\.(?=.*\.)")
"""Labels of a host that lead to the same page, the mobile one's too."""
_TRACKING = re.compile(r"(?i)(utm_\w+|gclid|fbclid|ref|ref_src|source|igshid|mc_\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    kind: str
    """`search`, `open` or `evidence`."""
    binding: frozenset[str]
    """What must be the same."""
    words: frozenset[str] = frozenset()
    ways: frozenset[tuple[str, str]] = frozenset()
    """Of a search: `a to b`."""


class BrowsingVerifier:
    name = "browsing"

    def __init__(self) -> None:
        self._others = ToolUseVerifier()

    @never_raises
    def verify(self, candidate: Candidate, action: Action) -> Verdict:
        """Judge an action (see the module). Never raises."""
        if verdict := unfinished(action):
            return verdict
        references = (candidate.demonstration, *candidate.accepted_actions)
        return judge_steps(
            references, action.tool_calls, _step, _difference
        ) or self._others.verify(candidate, action)


def _step(call: ToolCall) -> Step | None:
    arguments = call.arguments
    if not isinstance(arguments, Mapping):
        return None
    for pattern, keys, make in (
        (_EVIDENCE, _TEXT_KEYS, _evidence),
        (_SEARCH, _QUERY_KEYS, _search),
        (_OPEN, _PAGE_KEYS, _page),
    ):
        if pattern.fullmatch(call.name):
            value = next((arguments[key] for key in keys if key in arguments), None)
            if isinstance(value, str) and len(value) > MAX_CHARACTERS:
                return None
            if value is not None and (step := make(value)) is not None:
                return step
    return None


def _difference(wanted: Step, given: Step) -> str | None:
    if wanted.kind != given.kind:
        return "different_step"
    if wanted.binding != given.binding:
        return {"search": "wrong_query", "open": "wrong_page"}.get(wanted.kind, "wrong_evidence")
    if wanted.kind == "open":
        return None
    if any((there, here) in given.ways - wanted.ways for here, there in wanted.ways - given.ways):
        return "wrong_query"
    # A word for another is another question, more often than a word more.
    exchanged = wanted.words - given.words and given.words - wanted.words
    least = MIN_EXCHANGED if exchanged else MIN_QUERY
    least = least if wanted.kind == "search" else MIN_EVIDENCE
    if _alike(wanted.words, given.words) < least:
        return "wrong_query" if wanted.kind == "search" else "wrong_evidence"
    return None


def _alike(one: frozenset[str], other: frozenset[str]) -> float:
    if not one and not other:
        return 1.0
    return 2 * len(one & other) / (len(one) + len(other))


def _search(value: JSON) -> Step | None:
    queries = value if isinstance(value, list) else [value]
    if not queries or not all(isinstance(q, str) for q in queries):
        return None
    asked = " ".join(queries)
    if len(asked) > MAX_CHARACTERS:
        return None
    spelled = unicodedata.normalize("NFKD", asked)
    if len(spelled) > 2 * MAX_CHARACTERS:  # one letter may become eighteen
        return None
    text = "".join(c for c in spelled if not unicodedata.combining(c))
    binding = {f'"{" ".join(phrase.lower().split())}"' for phrase in _QUOTED.findall(text)}
    binding |= {operator.lower() for operator in _OPERATOR.findall(text)}
    plain = _QUOTED.sub(" ", _OPERATOR.sub(" ", text))
    words = [term.lower() for term in _TERM.findall(plain)]
    binding |= {t for t in words if _MONTHS.fullmatch(t) or any(c.isdigit() for c in t)}
    kept = {stem(term) for term in words if term not in STOP and term not in binding}
    ways = frozenset(_WAY.findall(text.lower()))
    return Step(kind="search", binding=frozenset(binding), words=frozenset(kept), ways=ways)


def _page(value: JSON) -> Step | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = excerpt(int(value) if abs(value) < 1e15 and value == int(value) else value)
    if not isinstance(value, str) or not value.strip():
        return None
    return Step(kind="open", binding=frozenset({canonical_url(value)}))


def _evidence(value: JSON) -> Step | None:
    if not isinstance(value, str) or not value.strip():
        return None
    reading = read(value)
    facts = {f"{kind} {fact}" for kind, fact in reading.facts if kind in ("number", "date", "id")}
    if reading.denies:
        facts.add("denies")
    return Step(kind="evidence", binding=frozenset(facts), words=reading.mentions)


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
