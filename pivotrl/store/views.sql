-- The views of the store. Dollar words: current.py says what counts, pivotrl.profiling what a profile is.

CREATE VIEW current_verdicts AS $VERDICTS;
COMMENT ON VIEW current_verdicts IS
    'Of each candidate and policy the verdicts whose shard was merged last: one verifier version.';

CREATE VIEW current_judgements AS $JUDGEMENTS;
COMMENT ON VIEW current_judgements IS
    'Of each current undecided verdict the judgement merged after it: none, if no judge was asked since.';

CREATE VIEW judged_verdicts AS $JUDGED;
COMMENT ON VIEW judged_verdicts IS
    'current_verdicts, undecided ones as a judge decided them: status ok, its reward, the category of the rules.';

CREATE VIEW current_selections AS
SELECT s.*
FROM selections s
JOIN merged_shards m ON m.table_name = 'selections' AND m.sha256 = s.shard
QUALIFY row_number() OVER (PARTITION BY s.policy ORDER BY m.merged_at DESC, s.selection_id) = 1;
COMMENT ON VIEW current_selections IS 'Of each policy the selection that was merged last.';

CREATE TABLE profiles AS FROM ($PROFILE) LIMIT 0;
COMMENT ON TABLE profiles IS
    'One row a candidate and policy, from judged_verdicts; merges renew it.';

CREATE VIEW pivot_stats AS
SELECT
    p.candidate_id,
    p.policy,
    c.domain,
    c.task,
    c.split,
    c.trajectory_id,
    c.turn,
    c.action_type,
    p.samples,
    p.n,
    p.mean,
    p.variance,
    p.interval_low,
    p.interval_high,
    p.estimator,
    p.zero_signal,
    k.candidate_id IS NOT NULL AS selected,
    p.verifier,
    p.verifier_version
FROM profiles p
LEFT JOIN candidates c ON c.candidate_id = p.candidate_id
LEFT JOIN (
    SELECT pivots.candidate_id, pivots.policy FROM pivots SEMI JOIN current_selections USING (selection_id)
) k ON k.candidate_id = p.candidate_id AND k.policy = p.policy;
COMMENT ON VIEW pivot_stats IS
    'Profiles: one row a candidate and policy, of the verdicts that were merged last. The interval is Wilson''s, for either estimator.';
COMMENT ON COLUMN pivot_stats.samples IS 'Rollouts with a verdict of any status.';
COMMENT ON COLUMN pivot_stats.n IS 'Of them with status ok, or decided by a judge: only these carry a reward.';
COMMENT ON COLUMN pivot_stats.mean IS 'Mean reward of the n.';
COMMENT ON COLUMN pivot_stats.variance IS 'Population variance of the reward.';
COMMENT ON COLUMN pivot_stats.interval_low IS 'Lower end of the mean''s Wilson score interval at 95 %, which takes n as given; docs/profiling.md has its coverage where sampling was stopped.';
COMMENT ON COLUMN pivot_stats.interval_high IS 'Upper end of it.';
COMMENT ON COLUMN pivot_stats.estimator IS
    'What was asked of the profile. fixed: K samples. stopped: samples until it was decided, K at most, which biases the mean.';
COMMENT ON COLUMN pivot_stats.zero_signal IS 'All n rewards are equal: nothing to learn in GRPO.';
COMMENT ON COLUMN pivot_stats.selected IS 'In the selection of this policy that was merged last.';

CREATE VIEW domain_stats AS
SELECT
    domain,
    policy,
    count(*) AS candidates,
    avg(mean) AS mean_reward,
    count(*) FILTER (zero_signal) AS zero_signal,
    count(*) FILTER (zero_signal AND mean >= 1) AS all_right,
    count(*) FILTER (zero_signal AND mean <= 0) AS all_wrong,
    count(*) FILTER (zero_signal) / count(*) AS zero_signal_share,
    count(*) FILTER (selected) AS selected,
    sum(samples) - sum(n) AS samples_without_reward
FROM pivot_stats
GROUP BY domain, policy
ORDER BY domain, policy;
COMMENT ON VIEW domain_stats IS 'pivot_stats by domain and policy.';

CREATE VIEW training_groups AS
SELECT
    training_id,
    selection_id,
    round,
    step,
    candidate_id,
    count(reward) AS n,
    avg(reward) AS mean,
    CASE WHEN min(reward) = max(reward) THEN 0.0 ELSE var_pop(reward) END AS variance
FROM train_rollouts
GROUP BY training_id, selection_id, round, step, candidate_id;
COMMENT ON VIEW training_groups IS 'The groups of training, one row a group.';

CREATE VIEW signal_by_step AS
SELECT
    training_id,
    round,
    step,
    count(*) AS groups,
    count(*) FILTER (coalesce(variance, 0) = 0) AS zero_signal_groups,
    avg(mean) AS mean_reward,
    avg(sqrt(variance)) AS mean_reward_std
FROM training_groups
GROUP BY training_id, round, step
ORDER BY training_id, round, step;
COMMENT ON VIEW signal_by_step IS 'How much there was to learn from at each step of training.';

CREATE VIEW stale_pivots AS
SELECT
    g.training_id,
    g.round,
    g.step,
    g.candidate_id,
    g.selection_id,
    sqrt(p.variance) AS selected_std,
    sqrt(g.variance) AS latest_std
FROM training_groups g
JOIN pivots p USING (selection_id, candidate_id)
WHERE g.variance IS NOT NULL
QUALIFY row_number() OVER (
        PARTITION BY g.training_id, g.candidate_id ORDER BY g.round DESC, g.step DESC
    ) = 1
    AND sqrt(g.variance) < sqrt(p.variance) / 3;
COMMENT ON VIEW stale_pivots IS
    'Pivots whose reward std in their latest group fell below a third of what selected them.';

CREATE VIEW verdict_counts AS
SELECT
    c.domain,
    v.policy,
    v.verifier,
    v.verifier_version,
    v.status,
    v.category,
    count(*) AS verdicts
FROM judged_verdicts v
LEFT JOIN candidates c USING (candidate_id)
GROUP BY ALL
ORDER BY ALL;
COMMENT ON VIEW verdict_counts IS 'judged_verdicts by status and category.';

CREATE VIEW leaderboard AS
SELECT
    kind,
    suite,
    miniature,
    decoding,
    rank() OVER (PARTITION BY kind, suite, miniature, decoding ORDER BY score DESC) AS rank,
    model,
    policy_weights,
    score,
    standard_error,
    n,
    unparsed,
    truncated
FROM (
    SELECT e.*
    FROM evaluations e
    JOIN merged_shards m ON m.table_name = 'evaluations' AND m.sha256 = e.shard
    QUALIFY row_number() OVER (
        PARTITION BY policy_weights, model, suite, decoding, miniature
        ORDER BY m.merged_at DESC, evaluation_id
    ) = 1
)
ORDER BY kind, suite, miniature, decoding, rank, model;
COMMENT ON VIEW leaderboard IS 'Models by suite and decoding, best first; the latest of each.';
