"""What a profile is: one SQL text, used by the store's views and by selection over Parquet files.

A profile belongs to a candidate, a policy and a verifier version. Only verdicts whose status is
`ok` carry a reward, or undecided ones that a judge then decided; the others are counted and are
never a zero. This module must never know where the verdicts lie.
"""

from __future__ import annotations

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


def judged_sql(verdicts: str, judgements: str) -> str:
    """The relation `verdicts` in parentheses: undecided ones as `judgements` decided them.

    Of `judgements` (rollout_id, status, reward) each rollout may have one row. An error stays one.
    """
    return f"""(
SELECT v.* REPLACE (
    coalesce(j.reward, v.reward) AS reward,
    CASE WHEN j.reward IS NULL THEN v.status ELSE 'ok' END AS status
)
FROM {verdicts} v
LEFT JOIN {judgements} j
    ON j.rollout_id = v.rollout_id AND j.status = 'ok' AND v.status = 'undecided'
)"""


def profile_sql(verdicts: str) -> str:
    """SELECT one profile per candidate, policy and verifier version from the relation `verdicts`.

    Columns: candidate_id, policy, verifier, verifier_version, samples (verdicts of any status),
    n (of them `ok`), mean, variance (population: the mean squared distance), interval_low and
    interval_high (Wilson's score interval of the mean at 95 %; for graded rewards it is wider than
    needed), zero_signal (all n rewards equal). With n = 0 the last five are null.

    Sums run over sorted rewards and equal rewards have variance exactly 0, so the numbers depend
    neither on the order of rows nor on threads, and 3 of 5 is exactly the double 0.6. Zeros and
    ones are only counted, and put back at the ends: sorting them all takes thrice as long.
    """
    return f"""
SELECT
    candidate_id,
    policy,
    verifier,
    verifier_version,
    samples,
    n,
    mean,
    variance,
    CASE WHEN n > 0 THEN
        greatest(0.0, least(mean, (mean + {Z95**2} / (2 * n) - spread) / (1 + {Z95**2} / n)))
    END AS interval_low,
    CASE WHEN n > 0 THEN
        least(1.0, greatest(mean, (mean + {Z95**2} / (2 * n) + spread) / (1 + {Z95**2} / n)))
    END AS interval_high,
    zero_signal
FROM (
    SELECT
        *,
        CASE WHEN n > 0
            THEN {Z95} * sqrt(greatest(0.0, mean * (1 - mean)) / n + {Z95**2} / (4.0 * n * n))
        END AS spread
    FROM (
        SELECT
            *,
            lowest = highest AS zero_signal,
            CASE WHEN lowest = highest THEN lowest ELSE list_sum(rewards) / n END AS mean,
            CASE WHEN lowest = highest THEN 0.0 ELSE list_var_pop(rewards) END AS variance
        FROM (
            SELECT
                *,
                CASE WHEN lowest < highest THEN
                    list_resize([]::DOUBLE[], zeros, 0.0)
                    || list_sort(coalesce(graded, []))
                    || list_resize([]::DOUBLE[], n - zeros - len(coalesce(graded, [])), 1.0)
                END AS rewards
            FROM (
                SELECT
                    candidate_id,
                    policy,
                    verifier,
                    verifier_version,
                    count(*) AS samples,
                    count(reward) AS n,
                    min(reward) AS lowest,
                    max(reward) AS highest,
                    count(*) FILTER (reward = 0) AS zeros,
                    list(reward) FILTER (reward > 0 AND reward < 1) AS graded
                FROM (
                    SELECT * REPLACE (CASE WHEN status = 'ok' THEN reward END AS reward)
                    FROM {verdicts}
                )
                GROUP BY candidate_id, policy, verifier, verifier_version
            )
        )
    )
)
"""
