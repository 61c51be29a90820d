"""A run as a page: what went in, what was kept and why, how actions were judged, what came out.

People judge rewards by reading them, so the examples come with all that the policy did there and
what the verifier said. Read from the report and the store. This module must never know a flow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pivotrl.ledger import ADDED_UP, comparison
from pivotrl.page import COLOURS, Example, Said, Section, figure_of, number, svg
from pivotrl.profile_tables import OWN, own_shards
from pivotrl.store import Store
from pivotrl.types import JSON

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES = 8
LAST = 2
"""Messages right before a turn that are shown at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKeys:
    """Of the stages that the page is of."""

    trajectories: str
    candidates: str
    selection: str
    trainings: Sequence[str] = ()
    """One a round."""


def run_sections(report: Mapping[str, JSON], store: Store, keys: RunKeys) -> Iterator[Section]:
    """Of a report that `retrain` wrote, right after its run was merged."""
    candidates = own_shards(keys.candidates)
    yield _outcome(report)
    yield _went_in(report, store, keys.trajectories)
    yield _kept(report, store, keys.selection, candidates)
    yield _examples(store, keys.selection)
    yield _rejections(store, keys.selection, candidates)
    if keys.trainings:
        yield _training(store, keys.trainings)
        yield from (_scores(label, rows) for label, rows in report["scores"].items())
    yield _cost(report)


def _outcome(report: Mapping[str, JSON]) -> Section:
    rows = [["outcome", report["outcome"]]]
    if report["outcome"] == "trained":
        if model := report["model"]:
            gate = report["gate"]
            rows += [["model", str(model["model_uri"])]]
            rows += [["gate", "passed" if gate["passed"] else "failed"]]
            rows += [["", reason] for reason in gate["reasons"]]
        else:
            rows += [["model", "not registered: MLflow did not answer"]]
        rows += [["training", warning] for warning in report["training"]["warnings"]]
    return Section(title="Outcome", note=report["name"], columns=("", ""), rows=rows)


def _went_in(report: Mapping[str, JSON], store: Store, trajectories: str) -> Section:
    rows = [[name.replace("_", " "), f"{n:,}"] for name, n in report["ingest"].items()]
    rows += [
        [name.replace("_", " "), f"{n:,}"]
        for name, n in report["extract"].items()
        if isinstance(n, int)
    ]
    _, bad = store.query(
        "select q.source_file, q.source_row, q.reason, q.remedy from quarantine q "
        "join merged_shards m on m.sha256 = q.shard and m.table_name = 'quarantine' "
        "where contains(m.file, ?) order by q.source_file, q.source_row limit 10",
        [f"/ingest/{trajectories}/"],
    )
    rows += [[f"{file}, row {row}", f"{reason}; {remedy}"] for file, row, reason, remedy in bad]
    return Section(
        title="What went in",
        note="Rows, trajectories, candidates; then rows that could not be used, with the remedy "
        "(the first ten).",
        columns=("", ""),
        rows=rows,
    )


def _kept(report: Mapping[str, JSON], store: Store, selection: str, candidates: str) -> Section:
    domains = report["selection"]["domains"]
    names = [name for name in domains[0] if name != "domain"] if domains else []
    rows = [
        [name.replace("_", " "), *(f"{d[name]:,} ({_share(d, name)})" for d in domains)]
        for name in names
        if name == "kept" or any(d[name] for d in domains)
    ]
    _, found = store.query(
        "select p.mean, k.candidate_id is not null from profiles p "
        "left join pivots k on k.candidate_id = p.candidate_id and k.selection_id = ? "
        "where p.policy = (select policy from selections where selection_id = ?) and p.n > 0 "
        f"and p.candidate_id in ({OWN})",
        [selection, selection, candidates],
    )
    return Section(
        title="What was kept",
        note="A pivot has mixed rewards and a mean below "
        f"{report['config']['select.lambda_diff']:g} (rule: {report['config']['select.rule']}). "
        "Below: mean reward of all profiled turns.",
        columns=("", *(d["domain"] for d in domains)),
        rows=rows,
        figure=svg(_histogram(found)),
    )


def _share(domain: Mapping[str, JSON], name: str) -> str:
    return f"{domain[name] / max(1, domain['candidates']):.1%}"


def _histogram(found: Sequence[tuple[float, bool]]) -> Figure:
    figure = figure_of(4.2 + 1, 3)
    parts = [[mean for mean, kept in found if kept is wanted] for wanted in (True, False)]
    edges = [step / 16 for step in range(18)]
    figure.axes[0].hist(
        parts, bins=edges, stacked=True, label=["pivots", "others"], color=["#3a7d44", "#bbbbbb"]
    )
    figure.axes[0].set(xlabel="mean reward of a turn", ylabel="turns")
    figure.axes[0].legend()
    return figure


def _examples(store: Store, selection: str) -> Section:
    _, found = store.query(
        "select k.candidate_id, k.policy, k.n, k.mean, c.domain, c.turn, c.demonstration, "
        "t.messages from (select *, ntile(4) over (order by mean, candidate_id) part from pivots "
        "      where selection_id = ?) k "
        "join candidates c using (candidate_id) join trajectories t using (trajectory_id) "
        "qualify row_number() over (partition by part order by hash(candidate_id)) <= ? "
        "order by k.mean, k.candidate_id",
        [selection, EXAMPLES // 4],
    )
    return Section(
        title="Pivots, read",
        note="Two of each quarter by difficulty, by chance: the state, the demonstration (blue), "
        "what the policy did (green: accepted, red: rejected, with the category). What rules left "
        "open is coloured as a judge decided it.",
        examples=[_example(store, row) for row in found],
    )


def _example(store: Store, row: Sequence[Any]) -> Example:
    candidate_id, policy, n, mean, domain, turn, demonstration, messages = row
    _, samples = store.query(
        "select r.text, v.category, v.reward, count(*) times from rollouts r "
        "join judged_verdicts v using (rollout_id) where r.candidate_id = ? and r.policy = ? "
        "group by all order by v.reward desc nulls last, times desc, r.text",
        [candidate_id, policy],
    )
    state = [_said(message) for message in json.loads(messages)[:turn]]
    return Example(
        title=f"{domain}, turn {turn}: mean {mean:.2f} of {n} ({candidate_id})",
        before=state[:-LAST],
        last=state[-LAST:],
        demonstration=_said(json.loads(demonstration), "demonstration"),
        actions=[
            Said(
                who="policy",
                text=text,
                verdict=category,
                accepted=None if reward is None else reward > 0,
                times=times,
            )
            for text, category, reward, times in samples
        ],
    )


def _said(message: Mapping[str, JSON], who: str | None = None) -> Said:
    parts = [str(message.get("content") or "")]
    for call in message.get("tool_calls") or ():
        asked = call.get("function", call)
        parts.append(f"{asked['name']}({_plain(asked['arguments'])})")
    return Said(who=who or message["role"], text="\n".join(part for part in parts if part))


def _plain(arguments: JSON) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _rejections(store: Store, selection: str, candidates: str) -> Section:
    _, found = store.query(
        "select v.category, count(*) n, arg_min(r.text, hash(r.rollout_id)) one, "
        "arg_min(c.demonstration, hash(r.rollout_id)) demonstration "
        "from judged_verdicts v join rollouts r using (rollout_id) "
        "join candidates c on c.candidate_id = v.candidate_id "
        "where v.reward = 0 and v.policy = (select policy from selections where selection_id = ?) "
        f"and v.candidate_id in ({OWN}) group by v.category order by n desc",
        [selection, candidates],
    )
    return Section(
        title="Rejections, read",
        note="One of each category, by chance: is the verifier right? `pivotrl sql` has the rest.",
        examples=[
            Example(
                title=f"{category}: {n:,}",
                before=(),
                last=(),
                demonstration=_said(json.loads(demonstration), "demonstration"),
                actions=[Said(who="policy", text=text, verdict=category, accepted=False)],
            )
            for category, n, text, demonstration in found
        ],
    )


def _training(store: Store, trainings: Sequence[str]) -> Section:
    curves: dict[str, list[tuple[int, float]]] = {}
    ends = [0]
    for training in trainings:
        _, found = store.query(
            "select metric, step, value from train_steps where training_id = ? and step > 0 and "
            "metric in ('reward', 'reward_std', 'frac_reward_zero_std', 'kl', 'validation/reward') "
            "order by metric, step",
            [training],
        )
        for metric, step, value in found:
            curves.setdefault(metric, []).append((ends[-1] + step, value))
        ends.append(ends[-1] + max((step for _, step, _ in found), default=0))
    figure = figure_of(4.2 * 3 + 1, 3, columns=3)
    panels = (("reward", "validation/reward"), ("reward_std", "frac_reward_zero_std"), ("kl",))
    for axes, names in zip(figure.axes, panels, strict=True):
        for name, colour in zip(names, COLOURS, strict=False):
            if name in curves:
                axes.plot(*zip(*curves[name], strict=True), label=name, color=colour)
        axes.set(xlabel="step", ylim=(0, None))
        if axes.lines:
            axes.legend(fontsize="small")
        for end in ends[1:-1]:
            axes.axvline(end + 0.5, color="#bbbbbb", linestyle="--")
    note = "By step" + ("." if len(trainings) == 1 else f", of {len(trainings)} rounds in a row.")
    return Section(title="Training", note=note, figure=svg(figure))


def _scores(label: str, scores: Sequence[Mapping[str, JSON]]) -> Section:
    return Section(
        title="Scores" if label == "trained" else f"Scores of {label}",
        note="Points; change with its 95 % bootstrap interval, p paired and Holm-corrected; shares "
        "of both, without an answer to judge and cut at the limit."
        + (" Miniature benchmarks." if any(row["miniature"] for row in scores) else ""),
        columns=("suite", "n", "base", label, "change", "p", "unparsed", "cut"),
        rows=[
            [
                row["suite"],
                f"{row['n']:,}",
                f"{row['base']:.1f} ± {row['base_error']:.1f}",
                f"{row['trained']:.1f} ± {row['trained_error']:.1f}",
                f"{row['difference']:+.1f} [{row['difference_low']:.1f}, "
                f"{row['difference_high']:.1f}]",
                number(row["p"], 3),
                *(
                    f"{row[f'base_{share}']:.1%}, {row[f'trained_{share}']:.1%}"
                    for share in ("unparsed", "truncated")
                ),
            ]
            for row in scores
        ],
    )


def _cost(report: Mapping[str, JSON]) -> Section:
    names = (*ADDED_UP, "seconds")
    return Section(
        title="Cost",
        note="Of every stage when it ran; unique prompt tokens are those of the trie. "
        f"{comparison(report['cost'])}.",
        columns=("stage", *(name.replace("_", " ") for name in names), "FLOPs"),
        rows=[
            [
                stage,
                *(f"{row[name]:,.0f}" if name in row else "" for name in names),
                f"{row['flops']:.1e}" if row["flops"] else "",
            ]
            for stage, row in report["cost"].items()
            if stage != "compared"
        ],
    )
