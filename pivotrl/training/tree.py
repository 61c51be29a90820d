"""Token sequences as a tree: what several share is read once.

Rows are laid out one behind the other in one sequence, each without the tokens that an earlier row
already has: those it sees from its own place in the tree, by position. Pure data, no tensors; it
must never know a model or a reward.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pivotrl.prefixes import shared_prefix

Span = tuple[int, int]
"""First token and the one after the last, as places in a layout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A prompt and the completion to learn from; the completion's tokens are the targets."""

    sample: int
    """What the row is, as an index into the caller's list."""
    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    is_shared: bool = False
    """Whether others may go on from the completion too, as the turns of one trajectory do."""

    @property
    def trunk(self) -> tuple[int, ...]:
        """The tokens that other rows may share."""
        return self.prompt + self.completion if self.is_shared else self.prompt

    @property
    def inputs(self) -> tuple[int, ...]:
        """What the model reads: the last token of a completion is only ever a target."""
        return self.prompt + self.completion[:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Tokens side by side that see each other causally, and before them all tokens of `seen`."""

    start: int
    stop: int
    seen: tuple[Span, ...]

    @property
    def depth(self) -> int:
        """The position of the node's first token in its sequence."""
        return sum(stop - start for start, stop in self.seen)


class Layout:
    """Rows in one sequence of T tokens, in the order of `in_order`."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = tuple(rows)
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.nodes: list[Node] = []
        self.predicting: list[int] = []
        """[N] places of the tokens that predict the completions, row by row."""
        path: tuple[Span, ...] = ()
        before: Row | None = None
        for row in rows:
            inputs = row.inputs
            seen = _cut(path, _shared(before, row) if before else 0)
            depth = sum(stop - start for start, stop in seen)
            start = len(self.ids)
            path = seen
            if depth < len(inputs):
                self.ids += inputs[depth:]
                self.positions += range(depth, len(inputs))
                self.nodes.append(Node(start=start, stop=len(self.ids), seen=seen))
                path = _joined(seen, (start, len(self.ids)))
            places = [place for span in path for place in range(*span)]
            self.predicting += places[len(row.prompt) - 1 : len(inputs)]
            before = row

    @property
    def row_tokens(self) -> int:
        """The tokens that rows of their own would take."""
        return sum(len(row.inputs) for row in self.rows)


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows such that each shares the most with the one before it: a tree, depth first.

    Longer trunks come first, so that a prompt that others continue needs no node of its own.
    """
    return sorted(rows, key=lambda row: row.trunk, reverse=True)


def bins(rows: Iterable[Row], max_tokens: int, *, is_tree: bool = True) -> Iterator[Layout]:
    """Layouts of at most `max_tokens` tokens each, or of one row.

    A group that is longer goes on in the next bin, which reads its prompt again. Where that would
    cost more than its completions the bin grows instead, to twice the prompt, but by no more than
    another `max_tokens`. Without `is_tree`, rows of like length together, each counted whole, with
    its padding.
    """
    waiting: list[Row] = []
    used = room = longest = 0
    ordered = in_order(rows) if is_tree else sorted(rows, key=lambda r: len(r.inputs), reverse=True)
    for row in ordered:
        if not row.completion:
            continue
        if is_tree:
            cost = max(0, len(row.inputs) - (_shared(waiting[-1], row) if waiting else 0))
        else:
            cost = longest = max(longest, len(row.inputs))
        if waiting and used + cost > room:
            yield Layout(waiting)
            waiting = []
        if not waiting:
            cost, used, longest = len(row.inputs), 0, len(row.inputs)
            grown = len(row.prompt) + min(len(row.prompt), max_tokens)
            room = max(max_tokens, grown) if is_tree else max_tokens
        waiting.append(row)
        used += cost
    if waiting:
        yield Layout(waiting)


def _shared(one: Row, other: Row) -> int:
    """Tokens that the trunks begin with alike, as far as the first row reads them."""
    return min(shared_prefix(one.trunk, other.trunk), len(one.inputs))


def _cut(path: Sequence[Span], length: int) -> tuple[Span, ...]:
    """The first `length` tokens of a path."""
    out: list[Span] = []
    for start, stop in path:
        if length <= 0:
            break
        out.append((start, min(stop, start + length)))
        length -= stop - start
    return tuple(out)


def _joined(path: tuple[Span, ...], span: Span) -> tuple[Span, ...]:
    if path and path[-1][1] == span[0]:
        return (*path[:-1], (path[-1][0], span[1]))
    return (*path, span)
