"""What counts of verdicts and judgements that were merged at different times, as SQL.

A view says it of whole tables, a merge of the candidates that it touches. This module must never
know what a profile is.
"""

from __future__ import annotations


def verdicts_sql(verdicts: str) -> str:
    """Of each candidate and policy in the relation `verdicts` those whose shard was merged last."""
    return f"""
SELECT * FROM {verdicts}
ANTI JOIN (
    SELECT DISTINCT v.candidate_id, v.policy, v.shard
    FROM {verdicts} v
    SEMI JOIN (
        SELECT candidate_id, policy FROM {verdicts} GROUP BY ALL HAVING min(shard) < max(shard)
    ) USING (candidate_id, policy)
    JOIN merged_shards m ON m.table_name = 'verdicts' AND m.sha256 = v.shard
    QUALIFY m.merged_at < max(m.merged_at) OVER (PARTITION BY v.candidate_id, v.policy)
) USING (candidate_id, policy, shard)"""


def judgements_sql(judgements: str, current_verdicts: str) -> str:
    """Of each undecided verdict the judgement that was merged last, if that was after it."""
    return f"""
SELECT j.*
FROM {judgements} j
JOIN merged_shards m ON m.table_name = 'judgements' AND m.sha256 = j.shard
JOIN {current_verdicts} v ON v.rollout_id = j.rollout_id AND v.status = 'undecided'
JOIN merged_shards n ON n.table_name = 'verdicts' AND n.sha256 = v.shard
WHERE m.merged_at > n.merged_at
QUALIFY row_number() OVER (
    PARTITION BY j.rollout_id ORDER BY m.merged_at DESC, j.judgement_id
) = 1"""
