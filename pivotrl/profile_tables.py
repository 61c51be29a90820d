"""A profile as small tables, the same on Prefect's pages and in MLflow: read from the store.

This module must never know a flow or a server.
"""

from __future__ import annotations

from pivotrl.store import Store
from pivotrl.types import JSON

OWN = (
    "select candidate_id from candidates join merged_shards m on m.sha256 = candidates.shard "
    "where m.table_name = 'candidates' and contains(m.file, ?)"
)
"""The candidates of a run, by where their shards lie."""
BAR = 40
"""Characters of the longest bar."""
COMPLETIONS = 200

Table = list[dict[str, JSON]]


def own_shards(extraction: str) -> str:
    """The parameter of `OWN`, of the key of the stage that extracted the candidates."""
    return f"/extract/{extraction}/"


def success_rates(store: Store, extraction: str, policy: str) -> Table:
    """The histogram of mean rewards: none right, eighths, all right; turns and pivots of each."""
    return store.rows(
        "select case when mean <= 0 then 'none right' when mean >= 1 then 'all right' "
        "else format('{:.3f} to {:.3f}', floor(mean * 8) / 8, floor(mean * 8) / 8 + 0.125) end "
        "as mean_reward, count(*) as turns, count(*) filter (selected) as pivots "
        f"from pivot_stats where policy = ? and n > 0 and candidate_id in ({OWN}) "
        "group by mean_reward order by min(mean)",
        [policy, own_shards(extraction)],
    )


def verdict_table(store: Store, extraction: str, policy: str) -> Table:
    """How many actions each verdict category got, in each domain."""
    return store.rows(
        "select c.domain, v.status, v.category, count(*) as verdicts, "
        "round(avg(v.reward), 4) as mean_reward from judged_verdicts v "
        f"join candidates c using (candidate_id) where v.policy = ? and candidate_id in ({OWN}) "
        "group by all order by c.domain, verdicts desc, v.category",
        [policy, own_shards(extraction)],
    )


def completions(store: Store, extraction: str, policy: str) -> Table:
    """Actions that the policy drew at pivots, beside the demonstration, with their rewards."""
    return store.rows(
        "select r.candidate_id, p.domain, p.mean, c.demonstration, r.text as completion, "
        "v.reward, v.category from pivot_stats p join candidates c using (candidate_id) "
        "join rollouts r on r.candidate_id = p.candidate_id and r.policy = p.policy "
        "join judged_verdicts v using (rollout_id) "
        f"where p.selected and p.policy = ? and p.candidate_id in ({OWN}) "
        f"order by hash(r.candidate_id), r.candidate_id, r.rollout_id limit {COMPLETIONS}",
        [policy, own_shards(extraction)],
    )


def bars(rates: Table) -> str:
    """The histogram in Markdown."""
    most = max((row["turns"] for row in rates), default=1)
    lines = ["| mean reward | turns | pivots | |", "|---|--:|--:|:--|"]
    for row in rates:
        kept = round(BAR * row["pivots"] / most)
        bar = "█" * kept + "░" * (round(BAR * row["turns"] / most) - kept)
        lines.append(f"| {row['mean_reward']} | {row['turns']:,} | {row['pivots']:,} | {bar} |")
    return "\n".join(lines) + "\n"
