"""Token sequences laid out for one forward pass: a prefix read once, branches that continue it.

The branches of a pack do not see each other, so a prompt is computed once for all its
completions. Pure data, no tensors; it must never know a model or a reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NO_TARGET = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    inputs: tuple[int, ...]
    """Token ids that the model reads after the prefix."""
    targets: tuple[int, ...]
    """As long as `inputs`: the id to predict after each, or NO_TARGET."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    prefix: tuple[int, ...]
    branches: tuple[Branch, ...]
    samples: tuple[int, ...]
    """What each branch is, as an index into the caller's list."""

    @property
    def tokens(self) -> int:
        return len(self.prefix) + sum(len(branch.inputs) for branch in self.branches)


def pack_shared(
    prompt: Sequence[int],
    completions: Sequence[tuple[int, Sequence[int]]],
    max_tokens: int,
) -> list[Pack]:
    """The (index, completion) pairs of one prompt behind one prefix; more packs if too long.

    The prefix stops one token short of the prompt: each branch begins with the prompt's last
    token, which predicts the completion's first, so that every branch token has a target.
    """
    prefix, last = tuple(prompt[:-1]), prompt[-1]
    packs: list[Pack] = []
    branches: list[tuple[int, Branch]] = []
    # Branches may be as long as the prefix in any case: reading it once a branch is far slower.
    room = max(max_tokens - len(prefix), len(prefix))
    used = 0
    for index, completion in completions:
        if not completion:
            continue
        if branches and used + len(completion) > room:
            packs.append(_pack(prefix, branches))
            branches, used = [], 0
        inputs = (last, *completion[:-1])
        branches.append((index, Branch(inputs=inputs, targets=tuple(completion))))
        used += len(completion)
    return packs + ([_pack(prefix, branches)] if branches else [])


def pack_rows(
    prompt: Sequence[int], completions: Sequence[tuple[int, Sequence[int]]]
) -> list[Pack]:
    """One ordinary causal row a completion: for models that cannot share a prefix."""
    packs = []
    for index, completion in completions:
        if completion:
            targets = (NO_TARGET,) * (len(prompt) - 1) + tuple(completion)
            branch = Branch(inputs=(*prompt, *completion[:-1]), targets=targets)
            packs.append(_pack((), [(index, branch)]))
    return packs


def _pack(prefix: tuple[int, ...], branches: Sequence[tuple[int, Branch]]) -> Pack:
    return Pack(
        prefix=prefix,
        branches=tuple(branch for _, branch in branches),
        samples=tuple(index for index, _ in branches),
    )


def micro_batches(packs: Sequence[Pack], max_tokens: int) -> list[list[Pack]]:
    """Packs of like length together, each batch within `max_tokens` with its padding.

    A pack that is longer by itself gets a batch of its own. The order is a function of the
    packs alone.
    """
    ordered = sorted(packs, key=lambda pack: (len(pack.prefix), pack.tokens), reverse=True)
    out: list[list[Pack]] = []
    for pack in ordered:
        if out and padded_tokens([*out[-1], pack]) <= max_tokens:
            out[-1].append(pack)
        else:
            out.append([pack])
    return out


def padded_tokens(packs: Sequence[Pack]) -> int:
    """What a batch of these costs: rows times the longest prefix and the longest rest."""
    prefix = max(len(pack.prefix) for pack in packs)
    rest = max(pack.tokens - len(pack.prefix) for pack in packs)
    return len(packs) * (prefix + rest)
