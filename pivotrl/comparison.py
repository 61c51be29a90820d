"""Ways to train, side by side over seeds: what their reports say, with intervals.

The shape of `compare.json` and the paper's comparisons (arXiv 2603.21383, tables 1, 2, 4). This
module must never know a flow, a model or a file.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from scipy.stats import t

from pivotrl.ledger import JUDGE
from pivotrl.suites import GREEDY
from pivotrl.types import JSON, ConfigError

PIVOTS, END_TO_END, SFT = "pivots", "end to end", "sft"
NO_FILTER, NO_FILTER_STRICT = "no filter", "no filter, strict"
ARMS: Mapping[str, tuple[str, ...]] = {
    PIVOTS: ("sft.enabled=true", "end_to_end.enabled=true"),
    NO_FILTER: ("select.rule=all",),
    NO_FILTER_STRICT: ("select.rule=all", "verify.mode=strict"),
}
"""What each arm changes in the experiment; the first one's run trains the controls too."""

DRIFTS = ("kl", "tau_unaccepted", "tau_unrelated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one arm with one seed, in points, turns and seconds."""

    arm: str
    in_domain: float
    """Success at temperature 1, mean over live domains."""
    gain: float
    ood: Mapping[str, float]
    """Benchmark -> change."""
    turns: int
    """Sampled in all, profile included."""
    seconds: float
    """Of its stages: sampling, verdicts, training, validation."""
    profile: tuple[int, float] = (0, 0.0)
    """Turns and seconds before the curve begins."""
    best_step: int = 0
    """Of the checkpoint that validation chose."""
    curve: Sequence[Sequence[float]] = ()
    """[step, turns, seconds without validation, validation reward], of its last round."""
    signal: Sequence[Sequence[float]] = ()
    """[step, reward std, share of groups without a signal]"""
    drift: Mapping[str, float | None] = field(default_factory=dict)
    """What `pivotrl.instruments` measured."""

    @property
    def to_best(self) -> tuple[float, float]:
        """Turns and seconds to the chosen checkpoint: the profile and the curve until there."""
        _, turns, seconds, _ = next(
            (point for point in self.curve if point[0] == self.best_step), (0, 0, 0.0, 0.0)
        )
        return self.profile[0] + turns, self.profile[1] + seconds


def arm_of_text(text: str) -> tuple[str, tuple[str, ...]]:
    """(name, changes) of `NAME: KEY=VALUE KEY=VALUE`. Raises ConfigError."""
    name, colon, changes = text.partition(":")
    parts = tuple(shlex.split(changes))
    if not (name.strip() and colon and parts and all("=" in part for part in parts)):
        raise ConfigError(
            f"--arm {text!r}: write a name, a colon and settings, as in "
            "'lambda 0.4: select.lambda_diff=0.4'"
        )
    if name.strip() in (PIVOTS, END_TO_END) or name.strip().startswith(SFT):
        raise ConfigError(
            f"--arm {text!r}: {name.strip()!r} runs in every comparison; name another"
        )
    return name.strip(), parts


def outcomes(arm: str, report: Mapping[str, JSON]) -> list[Outcome]:
    """Of a run's report: the arm's own, and those of its controls; of SFT every setting."""
    cost, training = report["cost"], report["training"]
    before = [
        sum(cost.get(stage, {}).get(key, 0) for stage in ("profile", JUDGE, "train"))
        - training[key]
        for key in ("sampled", "seconds")
    ]  # the profile, and rounds before the last
    found = [_outcome(arm, "trained", report, training, (before[0], before[1]))]
    for label, counts in report["controls"].items():
        found.append(_outcome(label, label, report, counts, (0, 0.0)))
    return found


def _outcome(
    arm: str,
    label: str,
    report: Mapping[str, JSON],
    counts: Mapping[str, JSON],
    profile: tuple[int, float],
) -> Outcome:
    scores = report["scores"][label]
    domains = [row for row in scores if row["kind"] == "domain"]
    sampled = [row for row in domains if not row["suite"].endswith(GREEDY)]
    return Outcome(
        arm=arm,
        in_domain=fmean(row["trained"] for row in sampled),
        gain=fmean(row["difference"] for row in sampled),
        ood={r["suite"]: r["difference"] for r in scores if r["kind"] == "benchmark"},
        turns=profile[0] + counts["sampled"],
        seconds=profile[1] + counts["seconds"],
        profile=profile,
        best_step=counts["best_step"],
        curve=counts["curve"],
        signal=counts["signal"],
        drift=report["instruments"].get(label, {}),
    )


def mean_of(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None without any."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


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
            "zero_signal": mean_of(share for o in seeds for *_, share in o.signal),
            "drift": {name: mean_of(o.drift.get(name) for o in seeds) for name in DRIFTS},
        }
    return out


def equal_accuracy(pivots: Outcome, other: Outcome) -> dict[str, JSON]:
    """What `other` takes to the success of `pivots`' chosen checkpoint, in ratios.

    Both successes are of the same test tasks. Of `other` only the chosen checkpoint was tested:
    where that is as good, it was there when its validation first came as near to the checkpoint's
    as the test's margin; where it is not, `reached` is false and the ratios, to the curve's end,
    are lower bounds. Sampling and training on both sides, validation on neither; with the profile
    counted, and without (`..._without_profile`).
    """
    curve = other.curve or [(0, 0, 0.0, 0.0)]
    margin = (other.in_domain - pivots.in_domain) / 100
    chosen = max(point[3] for point in curve)
    is_base_behind = other.in_domain - other.gain < pivots.in_domain
    there = [
        point
        for point in curve
        if margin >= 0 and point[3] >= chosen - margin and not (point[0] == 0 and is_base_behind)
    ]
    _, turns, seconds, _ = there[0] if there else curve[-1]
    own_turns, own_seconds = pivots.to_best
    return {
        "reached": bool(there),
        "turn_ratio": turns / max(own_turns, 1),
        "time_ratio": seconds / max(own_seconds, 1e-9),
        "turn_ratio_without_profile": turns / max(own_turns - pivots.profile[0], 1),
        "time_ratio_without_profile": seconds / max(own_seconds - pivots.profile[1], 1e-9),
    }


def headline(domains: Mapping[str, Mapping[str, JSON]]) -> dict[str, float | None]:
    """The claims in five numbers: means over the reports of the domains that were run."""

    def of(name: str, key: str) -> list[float | None]:
        found = [arm_of(report["arms"], name) for report in domains.values()]
        return [arm[key][0] if arm and arm[key] else None for arm in found]

    gains = [
        None if ours is None or theirs is None else ours - theirs
        for ours, theirs in zip(of(PIVOTS, "in_domain"), of(SFT, "in_domain"), strict=True)
    ]
    ratios = [row for report in domains.values() for row in report["equal_accuracy"]]
    return {
        "gain_over_sft": mean_of(gains),
        "ood_pivot": mean_of(of(PIVOTS, "ood_mean")),
        "ood_sft": mean_of(of(SFT, "ood_mean")),
        "turn_ratio": mean_of(row["turn_ratio"] for row in ratios),
        "time_ratio": mean_of(row["time_ratio"] for row in ratios),
    }


def arm_of(arms: Mapping[str, JSON], name: str) -> JSON:
    """SFT's goes by the setting that was best."""
    return arms.get(name) or next((a for k, a in arms.items() if k.startswith(f"{name} ")), None)


def assembled(reports: Sequence[Mapping[str, JSON]]) -> dict[str, JSON]:
    """`compare.json`: the reports of `pivotrl compare`, one a domain, and the headline."""
    domains = {report["domain"]: report for report in reports}
    return {
        "domains": {name: report["arms"] for name, report in domains.items()},
        "equal_accuracy": {name: report["equal_accuracy"] for name, report in domains.items()},
        "headline": headline(domains),
        "seeds": sorted({seed for report in reports for seed in report["seeds"]}),
    }
