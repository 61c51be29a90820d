"""The comparison as a page: the paper's tables with its numbers beside ours, curves, costs.

The paper: arXiv 2603.21383, Qwen3-30B-A3B; ours is as large as what was run. This module must never
know a flow or a model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from pivotrl.comparison import (
    END_TO_END,
    NO_FILTER,
    NO_FILTER_STRICT,
    PIVOTS,
    SFT,
    arm_of,
    assembled,
    interval,
    mean_of,
)
from pivotrl.page import COLOURS, Section, figure_of, number, svg
from pivotrl.theory import rank_correlation
from pivotrl.types import JSON

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Reports = Sequence[Mapping[str, JSON]]
"""Of `pivotrl compare`, one a domain."""

PAPER_DOMAINS = {
    "retail": ("τ²-Bench", 44.35, 58.44, 63.81),
    "repo": ("SWE-Bench Verified", 19.07, 37.40, 32.67),
    "shell": ("Terminal-Bench", 5.42, 13.75, 20.00),
    "web": ("BrowseComp", 2.50, 1.50, 11.30),
}
"""Ours -> theirs: base, SFT, PivotRL (table 1)."""
PAPER_OOD = {
    "ifbench": (-11.46, 0.82),
    "aime25": (-19.72, -1.20),
    "math500": (-8.51, 0.35),
    "livecodebench": (-7.76, -0.17),
    "scicode": (-11.39, 1.90),
    "mmlu_pro": (-2.99, 0.31),
    "mmlu_prox": (-7.16, 0.12),
    "wmt24pp": (-9.61, -0.49),
}
"""Change by SFT and by PivotRL (table 2)."""
PAPER_ABLATION = {PIVOTS: 63.81, NO_FILTER: 59.68, NO_FILTER_STRICT: 57.34, SFT: 58.44}
"""On τ²-Bench (table 4)."""
TARGETS = {
    "gain_over_sft": ("In-domain gain, PivotRL − SFT", "+4.17", "> 0"),
    "ood_pivot": ("OOD change, PivotRL", "+0.21", "≥ −1.0"),
    "ood_sft": ("OOD change, SFT at its best in-domain setting", "−9.83", "shown"),
    "turn_ratio": ("Turns to equal accuracy, end to end ÷ PivotRL", "4×, not counted", "≥ 4"),
    "time_ratio": ("Seconds, likewise", "5.5×", "≥ 5.5"),
}
HOLDS = {
    "gain_over_sft": lambda found: found > 0,
    "ood_pivot": lambda found: found >= -1,
    "turn_ratio": lambda found: found >= 4,
    "time_ratio": lambda found: found >= 5.5,
}


def sections(reports: Reports) -> Iterator[Section]:
    yield _headline(reports)
    yield _domains(reports)
    if any(report["arms"][PIVOTS]["ood"] for report in reports):
        yield _out_of_domain(reports)
    yield _ablation(reports)
    yield _cost(reports)
    yield Section(
        title="Learning curves",
        note="Validation reward against turns sampled and seconds, profile first; every seed. That "
        "of end-to-end RL is success in whole tasks, that of the others reward on held-out turns.",
        figure=svg(_curves(reports)),
    )
    yield Section(
        title="Signal",
        note="Reward std of the batch (the paper's figure 3) and share of groups without a signal, "
        "by step; mean of seeds, moving average of 5.",
        figure=svg(_signal(reports)),
    )
    yield from _theory(reports)


def _headline(reports: Reports) -> Section:
    found = assembled(reports)
    is_bound = any(not row["reached"] for report in reports for row in report["equal_accuracy"])
    rows = []
    for name, (what, paper, target) in TARGETS.items():
        value = found["headline"][name]
        bound = "> " if is_bound and name.endswith("ratio") and value is not None else ""
        verdict = ""
        by_seed = _by_seed(reports, name)
        low, high = interval(by_seed)[1:] if by_seed else (None, None)
        if value is not None and name in HOLDS:
            missed = "NOT SHOWN" if bound else "DOES NOT HOLD"
            verdict = missed
            if HOLDS[name](value):
                sure = low is not None and HOLDS[name](low)
                verdict = "holds" if sure or name.endswith("ratio") else "in the mean alone"
        shown = "" if low is None or high is None else f" [{low:.1f}, {high:.1f}]"
        rows.append([what, paper, target, f"{bound}{number(value)}{shown}", verdict])
    domains, seeds = ", ".join(found["domains"]), ", ".join(map(str, found["seeds"]))
    return Section(
        title="What holds",
        note=f"Domains: {domains}; seeds: {seeds}. Profiling is counted. Where end-to-end RL never "
        "came to equal accuracy, its ratio is a lower bound ('>', see Cost). Intervals: 95 % over "
        "seeds, of differences within a seed; a claim of quality holds where the lower end does.",
        columns=("claim", "paper", "target", "measured", ""),
        rows=rows,
    )


def _by_seed(reports: Reports, claim: str) -> list[float]:
    """The claim's value with each seed that every domain has; none for those of costs."""
    found = defaultdict(list)
    for report in reports:
        for seed in report["seeds"]:
            runs = {run["arm"]: run for run in report["runs"] if run["seed"] == seed}
            own, sft = runs.get(PIVOTS), arm_of({a: runs.get(a) for a in report["arms"]}, SFT)
            if claim == "gain_over_sft" and own and sft:
                found[seed].append(own["in_domain"] - sft["in_domain"])
            if claim == "ood_pivot" and own and own["ood"]:
                found[seed].append(fmean(own["ood"].values()))
    return [fmean(values) for values in found.values() if len(values) == len(reports)]


def _domains(reports: Reports) -> Section:
    rows = []
    for report in reports:
        domain, arms = report["domain"], report["arms"]
        theirs, *numbers = PAPER_DOMAINS.get(domain, ("", None, None, None))
        base = arms[PIVOTS]["in_domain"][0] - arms[PIVOTS]["gain"][0]
        ours = [interval_text(_of(arms, name, "in_domain")) for name in (SFT, PIVOTS, END_TO_END)]
        rows.append([domain, f"{base:.1f}", *ours, theirs, *(number(n) for n in numbers)])
    return Section(
        title="In the domain (table 1)",
        note="Success in points at temperature 1, mean [95 % interval over seeds].",
        columns=[
            *("domain", "base", "SFT", "PivotRL", "end to end"),
            *("the paper's", "base", "SFT", "PivotRL"),
        ],
        rows=rows,
    )


def _out_of_domain(reports: Reports) -> Section:
    names = (SFT, PIVOTS, END_TO_END)

    def change(arm: str, benchmark: str) -> str:
        found = [_of(report["arms"], arm, "ood") for report in reports]
        return number(mean_of(row[benchmark][0] for row in found if row and benchmark in row))

    rows = [
        [b, *(change(a, b) for a in names), *(number(n) for n in PAPER_OOD.get(b, ()))]
        for b in reports[0]["arms"][PIVOTS]["ood"]
    ]
    means = []
    for name in names:
        every = [_of(report["arms"], name, "ood_mean") for report in reports]
        alone = len(every) == 1
        known = mean_of(row[0] for row in every if row)
        means.append(interval_text(every[0]) if alone else number(known))
    return Section(
        title="Out of the domain (table 2)",
        note="Change from the base in points, mean over domains and seeds.",
        columns=("benchmark", "SFT", "PivotRL", "end to end", "paper: SFT", "paper: PivotRL"),
        rows=[*rows, ["mean", *means, "-9.8", "0.2"]],
    )


def _ablation(reports: Reports) -> Section:
    rows = []
    for arm in dict.fromkeys(arm for report in reports for arm in report["arms"]):
        paper = next((v for k, v in PAPER_ABLATION.items() if arm_of({arm: True}, k)), None)
        cells = [interval_text(report["arms"].get(arm, {}).get("in_domain")) for report in reports]
        shares = [r["arms"][arm]["zero_signal"] for r in reports if arm in r["arms"]]
        known = mean_of(100 * share for share in shares if share is not None)
        rows.append([arm, *cells, number(known), number(paper)])
    return Section(
        title="What the filter and the reward do (table 4), and all other arms",
        note="Success in points; share of training groups without a signal in percent.",
        columns=("arm", *(report["domain"] for report in reports), "zero-signal %", "paper, τ²"),
        rows=rows,
    )


def _cost(reports: Reports) -> Section:
    rows = []
    for report in reports:
        for row in report["equal_accuracy"]:
            of = [run for run in report["runs"] if run["seed"] == row["seed"]]
            turns, seconds = zip(
                *(
                    next(((r["turns"], r["seconds"]) for r in of if r["arm"] == arm), (0, 0.0))
                    for arm in (PIVOTS, END_TO_END)
                ),
                strict=True,
            )
            bound = "" if row["reached"] else "> "
            rows.append(
                [
                    f"{report['domain']}, seed {row['seed']}",
                    *(f"{n:,}" for n in turns),
                    *(f"{s:,.0f}" for s in seconds),
                    *(
                        f"{bound}{row[f'{what}_ratio{how}']:.2f}"
                        for what in ("turn", "time")
                        for how in ("", "_without_profile")
                    ),
                ]
            )
    return Section(
        title="Cost",
        note="Whole arms, and what end-to-end RL takes to the success of PivotRL's chosen "
        "checkpoint as a multiple of PivotRL's own; '> ' where it never came so far.",
        columns=[
            *("", "PivotRL turns", "end to end", "PivotRL s", "end to end"),
            *("turns ×", "without profile", "seconds ×", "without profile"),
        ],
        rows=rows,
    )


def _theory(reports: Reports) -> Iterator[Section]:
    rows = []
    for report in reports:
        for arm, row in report["arms"].items():
            found = row["drift"]
            if found["kl"] is not None:
                taus = [found["tau_unaccepted"], found["tau_unrelated"]]
                cells = ["" if tau is None else f"{tau:.3f}" for tau in taus]
                rows.append([f"{report['domain']}, {arm}", f"{found['kl']:.3f}", *cells])
    if rows:
        yield Section(
            title="Drift (theorem 3.3)",
            note="KL(π₀‖π) in nats an action on the base's own actions, and Kendall's τ of "
            "log-probabilities before and after: actions the verifier refused, actions of other "
            "states. 1 keeps every rank.",
            columns=("arm", "KL", "τ, unaccepted", "τ, unrelated"),
            rows=rows,
        )
    if any(report["gradient"].get("groups") for report in reports):
        yield Section(
            title="Gradient and reward std (theorem 3.2)",
            note="Each point is a group of the base's profile: norm of the policy gradient of its "
            "reward (plain, not Fisher) against the std of its rewards; equal rewards give none.",
            figure=svg(_gradients(reports)),
        )


def _of(arms: Mapping[str, JSON], name: str, key: str) -> JSON:
    found = arm_of(arms, name)
    return found[key] if found else None


def _curves(reports: Reports) -> Figure:
    figure = figure_of(10, 3.4 * len(reports), len(reports), 2)
    for line, report in enumerate(reports):
        colours = _colours(report)
        for run in report["runs"]:
            turns, seconds = run["profile"]
            for column, (place, before) in enumerate(((1, turns), (2, seconds))):
                axes = figure.axes[2 * line + column]
                points = [(before + point[place], point[3]) for point in run["curve"]]
                if points and run["arm"] in colours:
                    axes.plot(*zip(*points, strict=True), color=colours[run["arm"]], alpha=0.7)
        for column, unit in enumerate(("turns", "seconds")):
            axes = figure.axes[2 * line + column]
            axes.set(title=report["domain"], xlabel=unit, ylabel="validation reward")
    return _with_legend(figure, reports)


def _signal(reports: Reports) -> Figure:
    figure = figure_of(10, 3.4 * len(reports), len(reports), 2)
    for line, report in enumerate(reports):
        for arm, colour in _colours(report).items():
            runs = [run["signal"] for run in report["runs"] if run["arm"] == arm and run["signal"]]
            length = min((len(run) for run in runs), default=0)
            for column, place in enumerate((1, 2)):
                means = [fmean(run[i][place] for run in runs) for i in range(length)]
                smooth = [fmean(means[max(0, i - 4) : i + 1]) for i in range(length)]
                figure.axes[2 * line + column].plot(range(1, length + 1), smooth, color=colour)
        for column, name in enumerate(("reward std", "zero-signal share")):
            axes = figure.axes[2 * line + column]
            axes.set(title=report["domain"], xlabel="step", ylabel=name, ylim=(0, None))
    return _with_legend(figure, reports)


def _gradients(reports: Reports) -> Figure:
    figure = figure_of(5 * len(reports), 3.4, columns=len(reports))
    for axes, report in zip(figure.axes, reports, strict=True):
        found = report["gradient"]
        if found.get("groups"):
            spreads, norms = zip(*found["groups"], strict=True)
            axes.scatter(spreads, norms, s=12, color=COLOURS[0])
        axes.set(xlabel="reward std", ylabel="gradient norm")
        mixed = [(std, norm) for std, norm in found.get("groups", ()) if std]  # others give 0, 0
        rho = rank_correlation([std for std, _ in mixed], [norm for _, norm in mixed])
        axes.set_title(f"{report['domain']}: Spearman {number(rho, 2)} where rewards differ")
    return figure


def _colours(report: Mapping[str, JSON]) -> dict[str, str]:
    """Of the arms that have rewards."""
    arms = [arm for arm in report["arms"] if not arm_of({arm: True}, SFT)]
    return {arm: COLOURS[number % len(COLOURS)] for number, arm in enumerate(arms)}


def _with_legend(figure: Figure, reports: Reports) -> Figure:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=c, label=arm) for arm, c in _colours(reports[0]).items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=3)
    return figure


def interval_text(found: Sequence[float | None] | None) -> str:
    if not found:
        return ""
    mean, low, high = found
    return f"{mean:.1f}" if low is None else f"{mean:.1f} [{low:.1f}, {high:.1f}]"
