"""What an engine does about exceptions: one broken prompt costs no other prompt its samples.

It must never know candidates, verifiers or how an engine works.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import groupby

from pivotrl.prefixes import by_prefix
from pivotrl.types import PivotRLError, RolloutStatus, Sample, seed_of

Job = tuple[int, int]
"""A sample to make: index of its prompt and index of its own."""
Finish = Callable[[Job, Sample], None]
Run = Callable[[Sequence[Job], Finish], None]
_log = logging.getLogger("pivotrl.engines")


class EngineFailure(PivotRLError):
    """An engine that could sample nothing at all, for reasons of its own."""


def sampled(
    run: Run,
    prompts: Sequence[Sequence[int]],
    n: int,
    seeds: Sequence[int],
    first: int,
    on_progress: Callable[[int, int], None] | None,
    *,
    name: str,
) -> list[list[Sample]]:
    """What `run` hands over of all jobs, in the caller's order; `on_progress` hears of each.

    What was not done in time is tried once more, together; after an exception of `run` what is left
    is, prompt by prompt. What meets an exception again has the status `engine_error`. Raises
    PivotRLError where `run` does, EngineFailure where nothing succeeded.
    """
    found: dict[Job, Sample] = {}
    late: set[Job] = set()

    def finish(job: Job, sample: Sample) -> None:
        if job not in found:  # a second try may make its prompt's other samples again
            found[job] = sample
            if on_progress is not None:
                on_progress(1, len(sample.token_ids))

    def finish_or_hold(job: Job, sample: Sample) -> None:
        if sample.status == RolloutStatus.TIMEOUT:  # one pause of the machine is no answer
            late.add(job)
            if on_progress is not None:
                on_progress(0, 0)  # nothing hangs
        else:
            finish(job, sample)

    jobs = [(index, j) for index in by_prefix(prompts) for j in range(first, first + n)]
    error = _exception_of(run, jobs, finish_or_hold)
    left = [job for job in jobs if job not in found]
    together = [job for job in left if job in late]
    alone = groupby((job for job in left if job not in late), key=lambda job: job[0])
    again = [together] * bool(together) + [list(group) for _, group in alone]
    errors = [_exception_of(run, group, finish) for group in again]
    error = error or next(filter(None, errors), None)
    if error:
        if not found and all(errors):
            raise EngineFailure(
                f"{name} failed on all {len(jobs)} samples: {reason(error)}"
            ) from error
        lost = [job for job in left if job not in found]
        told = "%s failed (%s); tried again, %d of %d samples have no reward"
        _log.warning(told, name, reason(error), len(lost), len(jobs))
        for index, j in lost:
            finish((index, j), Sample.lost(RolloutStatus.ENGINE_ERROR, seed_of(seeds[index], j)))
    return [[found[index, first + j] for j in range(n)] for index in range(len(prompts))]


def reason(error: BaseException) -> str:
    """What an exception of a library says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _exception_of(run: Run, jobs: Sequence[Job], finish: Finish) -> Exception | None:
    try:
        run(jobs, finish)
    except PivotRLError:
        raise
    except Exception as error:  # whatever library and device provoke
        return error
    return None
