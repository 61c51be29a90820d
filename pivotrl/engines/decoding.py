"""One sampling call: prefill prompts, decode all rows in step, refill finished rows.

Made for one call and thrown away with its keys and values, so that new weights can never meet old
states. It must never know candidates, verifiers or chat templates.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from pivotrl.engines.drawing import draw, uniforms_of
from pivotrl.engines.prefill import Prefill
from pivotrl.engines.shared_prompt import ATTENTION, Layers, SharedPromptStore
from pivotrl.prefixes import by_prefix, shared_prefix
from pivotrl.types import FinishReason, RolloutStatus, Sample, SamplingParams, seed_of

COMPACT_BELOW = 0.75
"""Share of living rows below which the batch is shrunk, once no prompt waits any more."""

MAX_PROMPTS = 2
"""Prompts in flight, as a multiple of those that fill the batch: bounds the work and memory that
prompts with few rows left take up."""

CPU_BYTES_FOR_KEYS = 2 * 2**30
"""Long prompts or completions make the batch smaller than asked once their keys would take more."""

MIN_SHARES = 8
"""A prompt's samples start together, in shares of at most 1/8 of the batch: rows wait less."""


@dataclass(slots=True, kw_only=True)
class _Row:
    """One sample in the making."""

    prompt: int
    sample: int
    seed: int
    slot: int
    since: float
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class Decoding:
    """The rows in flight of one call of `HFEngine.sample`."""

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        n: int,
        params: SamplingParams,
        seeds: Sequence[int],
        *,
        first: int,
        stop_ids: frozenset[int],
        pad_id: int,
        decode: Callable[[Sequence[int]], str],
        max_rows: int,
        device: torch.device,
        timeout: float,
        on_sample: Callable[[int, int, Sample], None],
    ) -> None:
        """`on_sample` (index of the prompt, of the sample, the sample) hears of each at its end.

        That is after `timeout` seconds at the latest, looked at between steps.
        """
        self._model, self._prompts, self._params, self._seeds = model, prompts, params, seeds
        self._first = first
        self._stop_ids, self._pad_id, self._decode = stop_ids, pad_id, decode
        self._device, self._timeout, self._on_sample = device, timeout, on_sample
        order = by_prefix(prompts)
        share = min(n, max(max_rows // MIN_SHARES, 1))
        self._jobs = deque(
            (prompt, range(first, min(first + share, n)))
            for prompt in order
            for first in range(0, n, share)
        )
        self._many = n > 1
        self._prefill = Prefill(model, device)
        lengths = [len(prompt) for prompt in prompts]
        common = min(shared_prefix(prompts[order[0]], prompts[order[-1]]), min(lengths) - 1)
        layers, _ = self._prefill(prompts[order[0]])
        width = max(lengths) - common
        affordable = _memory_for_keys(device) // (
            _bytes_a_token(layers) * (width + share * params.max_tokens)
        )
        batch = max(min(max_rows // share, len(self._jobs), affordable), 1)
        rows = batch * share
        self._slots = max(min(MAX_PROMPTS * batch, rows, len(self._jobs), affordable), 1)
        self._store = SharedPromptStore(
            [
                (keys[:, :, :common].clone(), values[:, :, :common].clone())
                for keys, values in layers
            ],
            rows=rows,
            slots=self._slots,
            width=width,
        )
        self._rows: list[_Row | None] = [None] * rows
        self._last = torch.full((rows,), pad_id, device=device)
        self._prompt_tokens = torch.zeros(rows, dtype=torch.long, device=device)
        drawn = 0 if params.temperature == 0 else params.max_tokens
        self._uniforms = torch.zeros(rows, max(drawn, 1), dtype=torch.float64, device=device)

    def run(self) -> None:
        while self._jobs or any(self._rows):
            self._admit()
            self._expire()
            if any(self._rows):
                self._compact()
                self._step()

    def _admit(self) -> None:
        """Starts waiting prompts while all of their samples find a free row."""
        while jobs := self._fitting():
            if self._many:  # then prompts are a small part of the work
                jobs = jobs[:1]
            together = self._prefill.plan([self._prompts[prompt] for prompt, _ in jobs])
            jobs = [self._jobs.popleft() for _ in range(together.prompts)]
            since = time.monotonic()
            prompts = [self._prompts[prompt] for prompt, _ in jobs]
            if len(jobs) == 1:
                self._start(since, jobs, *self._prefill(prompts[0]))
                continue
            for group in self._prefill.alike(prompts):
                some = [prompts[index] for index in group]
                found = self._prefill.together(some, together.shared)
                self._start(since, [jobs[index] for index in group], *found)

    def _fitting(self) -> list[tuple[int, range]]:
        """The next jobs that find rows and a slot."""
        free = self._rows.count(None)
        slots = self._slots - len({row.slot for row in self._rows if row is not None})
        fitting: list[tuple[int, range]] = []
        for prompt, samples in islice(self._jobs, slots):
            free -= len(samples)
            if free < 0:
                break
            fitting.append((prompt, samples))
        return fitting

    def _start(
        self, since: float, jobs: Sequence[tuple[int, range]], layers: Layers, logits: Tensor
    ) -> None:
        """Gives each job its rows, and each row its first token. `logits` [jobs, vocabulary]."""
        free = iter([index for index, row in enumerate(self._rows) if row is None])
        used = {row.slot for row in self._rows if row is not None}
        slots = iter([slot for slot in range(self._slots) if slot not in used])
        started: list[int] = []
        for number, (prompt, samples) in enumerate(jobs):
            slot, length = next(slots), len(self._prompts[prompt])
            taken = [next(free) for _ in samples]
            rows = torch.tensor(taken, device=self._device)
            of_prompt = slice(number, number + 1)
            self._store.add_prompt(
                slot, [(k[of_prompt, :, :length], v[of_prompt, :, :length]) for k, v in layers]
            )
            self._store.add_rows(rows, slot)
            self._prompt_tokens[rows] = length
            for index, sample in zip(taken, samples, strict=True):
                seed = seed_of(self._seeds[prompt], self._first + sample)
                self._rows[index] = _Row(
                    prompt=prompt, sample=sample, seed=seed, slot=slot, since=since
                )
                if self._params.temperature > 0:
                    uniforms = torch.from_numpy(uniforms_of(seed, self._params.max_tokens))
                    self._uniforms[index] = uniforms
            started += taken
        counts = torch.tensor([len(samples) for _, samples in jobs], device=self._device)
        self._draw(
            torch.tensor(started, device=self._device), logits.repeat_interleave(counts, dim=0)
        )

    def _expire(self) -> None:
        now = time.monotonic()
        for index, row in enumerate(self._rows):
            if row is not None and now - row.since > self._timeout:
                self._retire(index, row, Sample.lost(RolloutStatus.TIMEOUT, row.seed))

    def _compact(self) -> None:
        living = [index for index, row in enumerate(self._rows) if row is not None]
        if self._jobs or len(living) > COMPACT_BELOW * len(self._rows):
            return
        rows = torch.tensor(living, device=self._device)
        self._store.keep_rows(rows)
        self._rows = [self._rows[index] for index in living]
        self._last, self._prompt_tokens = self._last[rows], self._prompt_tokens[rows]
        self._uniforms = self._uniforms[rows]

    def _step(self) -> None:
        living = [index for index, row in enumerate(self._rows) if row is not None]
        rows = torch.tensor(living, device=self._device)
        self._store.begin_step(rows)
        with _attending(self._model):
            output = self._model(
                input_ids=self._last[:, None],
                position_ids=(self._prompt_tokens + self._store.lengths)[:, None],
                past_key_values=self._store,
                use_cache=True,
                shared_prompt_store=self._store,
            )
        self._store.end_step(rows)
        self._draw(rows, output.logits[rows, -1])

    def _draw(self, rows: Tensor, logits: Tensor) -> None:
        """Draws the next token of `rows` and retires those that end with it."""
        greedy = self._params.temperature == 0
        column = torch.zeros_like(rows) if greedy else self._store.lengths[rows]
        ids, logprobs = draw(logits, self._uniforms[rows, column], self._params)
        self._last[rows] = ids
        for index, token_id, logprob in zip(
            rows.tolist(), ids.tolist(), logprobs.tolist(), strict=True
        ):
            row = self._rows[index]
            assert row is not None
            if logprob != logprob:  # NaN: the weights are broken, not the policy wrong
                self._retire(index, row, Sample.lost(RolloutStatus.ENGINE_ERROR, row.seed))
                continue
            row.token_ids.append(token_id)
            row.logprobs.append(logprob)
            if token_id in self._stop_ids:
                self._retire(index, row, self._whole(row, FinishReason.STOP))
            elif len(row.token_ids) == self._params.max_tokens:
                self._retire(index, row, self._whole(row, FinishReason.LENGTH))

    def _whole(self, row: _Row, finish_reason: FinishReason) -> Sample:
        text_ids = row.token_ids[:-1] if finish_reason == FinishReason.STOP else row.token_ids
        return Sample(
            token_ids=tuple(row.token_ids),
            logprobs=tuple(row.logprobs),
            text=self._decode(text_ids),
            finish_reason=finish_reason,
            seed=row.seed,
        )

    def _retire(self, index: int, row: _Row, sample: Sample) -> None:
        self._rows[index] = None
        self._last[index] = self._pad_id
        self._on_sample(row.prompt, self._first + row.sample, sample)


def _bytes_a_token(layers: Layers) -> int:
    return sum(
        item.element_size() * item.shape[1] * item.shape[3] for pair in layers for item in pair
    )


def _memory_for_keys(device: torch.device) -> int:
    """Bytes, from what the device has and not from what is free: calls must be reproducible."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory // 3)
    return CPU_BYTES_FOR_KEYS


@contextmanager
def _attending(model: Any) -> Iterator[None]:
    """The model with the shared-prompt attention; its own is back afterwards."""
    before = model.config._attn_implementation
    model.config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        model.config._attn_implementation = before
