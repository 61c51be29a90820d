"""End-to-end RL: what a round of GRPO draws are whole episodes of a live domain.

All turns of an episode share the advantage of its end (GRPO over trajectories). This module must
never know a configuration or a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pivotrl.episodes import Chat, Episode, EpisodeEnd, run_episodes
from pivotrl.training.records import Act, Draw, Seed, TrainPivot, TrainSettings
from pivotrl.training.sampling import ATTEMPTS
from pivotrl.types import (
    JSON,
    Engine,
    Environment,
    FinishReason,
    RolloutStatus,
    Sample,
    SamplingParams,
    Verdict,
    VerdictStatus,
    seed_of,
)


def whole_episodes(
    environment: Environment,
    chat: Chat,
    tasks: Mapping[str, JSON],
    settings: TrainSettings,
    max_prompt_tokens: int,
) -> Draw:
    """Acts that are episodes of the pivots' tasks, by id; their verdict is the environment's."""
    params = SamplingParams(max_tokens=settings.max_tokens, temperature=settings.temperature)

    def play(
        engine: Engine, pivots: Sequence[TrainPivot], count: int, seed: Seed
    ) -> list[list[Act]]:
        places = [(pivot, number) for pivot in pivots for number in range(count)]
        found: dict[int, Act] = {}
        for attempt in range(ATTEMPTS):
            lacking = [
                i for i in range(len(places)) if i not in found or found[i].verdict.reward is None
            ]
            if not lacking:
                break
            episodes = run_episodes(
                engine,
                chat,
                environment,
                [tasks[places[i][0].candidate_id] for i in lacking],
                params,
                [seed_of(seed(places[i][0], attempt), places[i][1]) for i in lacking],
                max_prompt_tokens,
            )
            found |= {i: _act(e) for i, e in zip(lacking, episodes, strict=True)}
        return [
            [found[start + number] for number in range(count)]
            for start in range(0, len(places), count)
        ]

    return play


def _act(episode: Episode) -> Act:
    samples = [turn.sample for turn in episode.turns]
    failed = episode.end is EpisodeEnd.ENGINE_ERROR
    if episode.end is EpisodeEnd.DONE:
        category = "solved" if episode.score == 1.0 else "unsolved"
    else:
        category = str(episode.end)
    return Act(
        sample=Sample(
            token_ids=tuple(i for sample in samples for i in sample.token_ids),
            logprobs=tuple(p for sample in samples for p in sample.logprobs),
            text="\n".join(sample.text for sample in samples),
            finish_reason=FinishReason.LENGTH if episode.is_cut else FinishReason.STOP,
            seed=samples[0].seed if samples else 0,
            status=RolloutStatus.ENGINE_ERROR if failed else RolloutStatus.OK,
        ),
        verdict=Verdict(
            status=VerdictStatus.ERROR if failed else VerdictStatus.OK,
            reward=episode.score,
            category=category,
        ),
        turns=episode.turns,
    )
