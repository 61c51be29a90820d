-- Why was this turn kept, or not?
with latest as (
    select s.* from selections s join merged_shards m on m.table_name = 'selections' and m.sha256 = s.shard
    qualify row_number() over (partition by s.name, s.policy order by m.merged_at desc) = 1),
kept as (
    select k.candidate_id, k.policy, 'kept by ' || string_agg(s.name, ', ' order by s.name) kept
    from pivots k join latest s using (selection_id) group by all)
select candidate_id, left(policy, 8) policy, turn, n, round(mean, 2) mean, round(variance, 3) variance,
       case when kept is not null then kept when split <> 'train' then 'held out'
            when n < greatest(1, (parameters ->> 'minimum_valid')::double * samples) then 'unprofiled'
            when zero_signal then 'all rewards equal'
            when mean >= (parameters ->> 'lambda_diff')::double then 'too easy'
            else 'not selected' end why
from pivot_stats left join current_selections using (policy) left join kept using (candidate_id, policy)
order by candidate_id, policy limit 5;

-- What did the policy do at one turn, and what did the verifier say?
select r.sample_index, v.reward, v.category, r.text
from rollouts r join judged_verdicts v using (rollout_id)
join (from pivot_stats where selected order by candidate_id, policy limit 1) p
     on (p.candidate_id, p.policy) = (r.candidate_id, r.policy)
order by r.sample_index limit 6;

-- How much of the pool teaches something?
select left(policy, 8) policy, domain, candidates, all_right, all_wrong,
       round(zero_signal_share, 3) zero_signal_share, selected
from domain_stats;

-- Which tools fail most?
select left(policy, 8) policy, tool, count(*) rollouts, round(avg(v.reward), 3) mean_reward
from (select candidate_id, unnest(tool_names) tool from candidates) c
join judged_verdicts v using (candidate_id)
group by all order by mean_reward limit 10;

-- Why are actions rejected?
select left(policy, 8) policy, status, category, sum(verdicts) verdicts
from verdict_counts group by all order by policy, verdicts desc;

-- Are later turns harder than early ones?
select left(policy, 8) policy, turn, count(*) candidates, round(avg(mean), 3) mean_reward,
       count(*) filter (selected) pivots
from pivot_stats group by all order by policy, turn;

-- Is it harder to talk or to act?
select left(policy, 8) policy, action_type, count(*) candidates, round(avg(mean), 3) mean_reward,
       count(*) filter (selected) pivots
from pivot_stats group by all order by policy, action_type;

-- Which trajectories teach most?
select left(policy, 8) policy, trajectory_id, count(*) filter (selected) pivots, count(*) turns,
       round(sum(variance), 2) variance
from pivot_stats group by all order by pivots desc, trajectory_id limit 5;

-- Which pivots went stale in the last run?
select round, candidate_id, step, round(selected_std, 3) selected_std, round(latest_std, 3) latest_std
from stale_pivots where training_id in (
    select unnest(report ->> '$.stages[*].key')
    from (from runs where state = 'trained' order by started_at desc limit 1))
order by round desc, step desc, candidate_id limit 5;

-- How did the signal fall over steps and rounds of the last run?
select round, concat(min(step), ' to ', max(step)) steps, sum(groups) "groups",
       round(sum(zero_signal_groups) / sum(groups), 3) zero_signal_share,
       round(avg(mean_reward), 3) mean_reward, round(avg(mean_reward_std), 3) reward_std
from (select *, ntile(4) over (partition by training_id order by step) part from signal_by_step)
where training_id in (
    select stage ->> 'key'
    from (select unnest(report -> '$.stages[*]') stage
          from (from runs where state = 'trained' order by started_at desc limit 1))
    where stage ->> 'stage' = 'train')
group by training_id, round, part order by round, part;

-- Which categories of error did training remove in the last run?
select category, count(*) filter (not late) early, count(*) filter (late) late
from (select *, step > max(step) over (partition by training_id) / 2 late from train_rollouts)
where reward = 0 and training_id in (
    select stage ->> 'key'
    from (select unnest(report -> '$.stages[*]') stage
          from (from runs where state = 'trained' order by started_at desc limit 1))
    where stage ->> 'stage' = 'train')
group by category order by early desc limit 8;

-- What did a pivot cost in rollouts and sampled tokens?
select left(policy, 8) policy, round(rollouts / pivots, 1) rollouts_a_pivot, round(tokens / pivots, 1) tokens_a_pivot
from (select policy, count(*) rollouts, sum(len(token_ids)) tokens from rollouts group by policy)
join (select policy, count(distinct candidate_id) pivots from pivots group by policy) using (policy)
order by policy;

-- Which samples have no reward, and why?
select left(r.policy, 8) policy, r.status, v.status verdict, v.category, count(*) samples
from rollouts r join judged_verdicts v using (rollout_id) where v.reward is null group by all order by all;

-- Which rows were bad, and what mends them?
select source_file, source_row, reason, remedy from quarantine order by source_file, source_row limit 5;

-- How sure is the profile at the bar?
select left(policy, 8) policy, bar, count(*) near_the_bar
from pivot_stats join (select policy, (parameters ->> 'lambda_diff')::double bar from current_selections)
     using (policy)
where interval_low < bar and interval_high > bar group by all order by policy;

-- Did any task get into both splits?
select domain, task, count(distinct split) splits from candidates where task is not null
group by all having splits > 1;

-- What does each model score?
select suite, json_extract_string(decoding, 'temperature')::double temperature, l.model,
       coalesce(version, left(policy_weights, 8)) version, n, round(100 * score, 1) score,
       round(100 * standard_error, 1) error
from leaderboard l left join (
    select policy_weights, string_agg(distinct model || ' ' || version, ', ') version
    from promotions group by policy_weights) using (policy_weights)
order by suite, temperature desc, l.model, version;

-- On which items did training lose what the base had, in the last run?
with last as (
    select e.* from evaluations e where evaluation_id in (
        select unnest(report ->> '$.stages[*].key')
        from (from runs where state = 'trained' order by started_at desc limit 1)))
select b.suite, i.item_id, i.score base, j.score trained
from last b join evaluation_items i using (evaluation_id)
join last t on t.suite = b.suite and t.decoding = b.decoding
join evaluation_items j on j.evaluation_id = t.evaluation_id and j.item_id = i.item_id and j.repeat = i.repeat
where b.model = 'base' and t.model = 'trained' and i.score > j.score order by 1, 2 limit 5;

-- Who was champion or challenger, and why?
select promoted_at, model, version, alias, reason from promotions order by promoted_at;

-- What ran, how long, and how did it end?
select name, flow, state, round(r.seconds) took from runs r order by started_at desc limit 5;
