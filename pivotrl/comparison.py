"""Ways to train, side by side over seeds: what their reports say, with intervals.

The shape of `compare.json` and the paper's comparisons (arXiv 2603.21383, tables 1, 2, 4). This
module must never know a flow, a model or a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.stats import t

from pivotrl.types import JSON

PIVOTS, END_TO_END, SFT = "pivots", "end to end", "sft"
ARMS: Mapping[str, tuple[str, ...]] = {
    PIVOTS: ("sft.enabled=true", "end_to_end.enabled=true"),
    "mixed outcome": ("select.rule=mixed",),
    "no filter": ("select.rule=all",),
    "no filter, strict": ("select.rule=all", "verify.mode=strict"),
}
"""What each arm changes in the experiment; the first one's run trains the controls too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one arm with one seed, in points, turns and seconds."""

    arm: str
    in_domain: float
    """Success at temperature 1."""
    gain: float
    ood: Mapping[str, float]
    """Benchmark -> change."""
    turns: int
    """Sampled to get there, profile included."""
    seconds: float
    curve: Sequence[Sequence[float]] = ()
    """[step, turns, seconds, validation reward]"""


def outcomes(arm: str, report: Mapping[str, JSON]) -> list[Outcome]:
    """Of a run's report: the arm's own, and those of its controls; of SFT every setting."""
    cost = report["cost"]
    profile = cost.get("profile", {})
    train = cost["train"]
    found = [
        _outcome(
            arm,
            report["scores"]["trained"],
            turns=profile.get("sampled", 0) + train.get("sampled", 0),
            seconds=profile.get("seconds", 0) + train["seconds"],
            curve=report["training"]["curve"],
        )
    ]
    for label, counts in report["controls"].items():
        found.append(
            _outcome(
                label,
                report["scores"][label],
                turns=counts["sampled"],
                seconds=counts["seconds"],
                curve=counts["curve"],
            )
        )
    return found


def _outcome(
    arm: str, scores: Sequence[Mapping[str, JSON]], *, turns: int, seconds: float, curve: JSON
) -> Outcome:
    sampled = next(row for row in scores if row["kind"] == "domain")
    return Outcome(
        arm=arm,
        in_domain=sampled["trained"],
        gain=sampled["difference"],
        ood={r["suite"]: r["difference"] for r in scores if r["kind"] == "benchmark"},
        turns=turns,
        seconds=seconds,
        curve=curve,
    )


def best_sft(found: Sequence[Outcome]) -> list[Outcome]:
    """The same with one SFT arm: the setting that is best in the domain, by the mean of seeds."""
    settings: dict[str, list[Outcome]] = {}
    for outcome in found:
        if outcome.arm.startswith(f"{SFT} "):
            settings.setdefault(outcome.arm, []).append(outcome)
    best = max(settings, key=lambda arm: fmean(o.in_domain for o in settings[arm]), default=None)
    return [o for o in found if o.arm == best or not o.arm.startswith(f"{SFT} ")]


def interval(values: Sequence[float]) -> list[float | None]:
    """[mean, low, high] of 95 % by Student's t; without bounds for one value."""
    mean = fmean(values)
    if len(values) < 2:
        return [mean, None, None]
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return [mean, mean - half, mean + half]


def summary(found: Sequence[Outcome]) -> dict[str, JSON]:
    """Arm -> means and intervals over seeds."""
    out: dict[str, JSON] = {}
    for arm in dict.fromkeys(outcome.arm for outcome in found):
        seeds = [outcome for outcome in found if outcome.arm == arm]
        out[arm] = {
            "in_domain": interval([o.in_domain for o in seeds]),
            "gain": interval([o.gain for o in seeds]),
            "ood": {name: interval([o.ood[name] for o in seeds]) for name in seeds[0].ood},
            "ood_mean": interval([fmean(o.ood.values()) for o in seeds]) if seeds[0].ood else None,
            "rollout_turns": round(fmean(o.turns for o in seeds)),
            "seconds": round(fmean(o.seconds for o in seeds), 1),
        }
    return out


def equal_accuracy(pivots: Outcome, other: Outcome) -> dict[str, JSON]:
    """What `other` takes to the success of `pivots`, in ratios, the profile counted.

    `reached` is false where its validation never comes so far: then the ratios are lower bounds.
    `time_ratio` is low: the seconds of `other` leave its validations out, those of `pivots` do not.
    """
    there = [point for point in other.curve if 100 * point[3] >= pivots.in_domain]
    _, turns, seconds, _ = there[0] if there else other.curve[-1]
    return {
        "reached": bool(there),
        "turn_ratio": turns / max(pivots.turns, 1),
        "time_ratio": seconds / max(pivots.seconds, 1e-9),
    }
