-- Why was this turn kept, or not?
select candidate_id, turn, n, round(mean, 2) mean, round(variance, 3) variance, selected,
       case when split <> 'train' then 'held out' when n < greatest(1, 0.5 * samples) then 'unprofiled'
            when zero_signal then 'all rewards equal' when selected then 'mixed, below the bar'
            else 'too easy' end why
from pivot_stats order by candidate_id limit 5;

-- What did the policy do at one turn, and what did the verifier say?
select r.sample_index, v.reward, v.category, r.text
from rollouts r join judged_verdicts v using (rollout_id)
where r.candidate_id = (select candidate_id from pivot_stats where selected order by candidate_id limit 1)
order by r.sample_index limit 6;

-- How much of the pool teaches something?
select domain, candidates, all_right, all_wrong, round(zero_signal_share, 3) zero_signal_share, selected
from domain_stats;

-- Which tools fail most?
select tool, count(*) rollouts, round(avg(v.reward), 3) mean_reward
from (select candidate_id, unnest(tool_names) tool from candidates) c
join judged_verdicts v using (candidate_id)
group by tool order by mean_reward limit 10;

-- Why are actions rejected?
select status, category, sum(verdicts) verdicts from verdict_counts group by all order by verdicts desc;

-- Are later turns harder than early ones?
select turn, count(*) candidates, round(avg(mean), 3) mean_reward, count(*) filter (selected) pivots
from pivot_stats group by turn order by turn limit 12;

-- Is it harder to talk or to act?
select action_type, count(*) candidates, round(avg(mean), 3) mean_reward, count(*) filter (selected) pivots
from pivot_stats group by action_type order by action_type;

-- Which trajectories teach most?
select trajectory_id, count(*) filter (selected) pivots, count(*) turns, round(sum(variance), 2) variance
from pivot_stats group by trajectory_id order by pivots desc, trajectory_id limit 5;

-- Which pivots went stale in training?
select candidate_id, step, round(selected_std, 3) selected_std, round(latest_std, 3) latest_std
from stale_pivots order by step desc, candidate_id limit 5;

-- How did the signal fall over steps and rounds?
select round, concat(min(step), ' to ', max(step)) steps, sum(groups) "groups",
       round(sum(zero_signal_groups) / sum(groups), 3) zero_signal_share,
       round(avg(mean_reward), 3) mean_reward, round(avg(mean_reward_std), 3) reward_std
from (select *, ntile(4) over (partition by training_id, round order by step) part from signal_by_step)
group by training_id, round, part order by training_id, round, part;

-- Which categories of error did training remove?
select category, count(*) filter (step <= half) early, count(*) filter (step > half) late
from train_rollouts, (select max(step) / 2 half from train_rollouts)
where reward = 0 group by category order by early desc limit 8;

-- What did a pivot cost in rollouts and tokens?
select round(sum(rollouts) / max(pivots), 1) rollouts_a_pivot, round(sum(tokens) / max(pivots), 1) tokens_a_pivot
from (select count(*) rollouts, sum(len(token_ids)) tokens from rollouts),
     (select count(*) pivots from pivot_stats where selected);

-- Which samples have no reward, and why?
select r.status, v.status verdict, v.category, count(*) samples
from rollouts r join judged_verdicts v using (rollout_id) where v.reward is null group by all;

-- Which rows were bad, and what mends them?
select source_file, source_row, reason, remedy from quarantine order by source_file, source_row limit 5;

-- How sure is the profile at the bar?
select count(*) near_the_bar from pivot_stats where interval_low < 0.6 and interval_high > 0.6;

-- Did any task get into both splits?
select task, count(distinct split) splits from candidates where task is not null
group by task having splits > 1;

-- What does each model score?
select suite, json_extract_string(decoding, 'temperature')::double temperature, model, n,
       round(100 * score, 1) score, round(100 * standard_error, 1) error
from leaderboard order by suite, temperature desc, model;

-- On which items did training lose what the base had?
select b.suite, i.item_id, i.score base, j.score trained
from evaluations b join evaluation_items i using (evaluation_id)
join evaluations t on t.suite = b.suite and t.decoding = b.decoding and t.policy_weights <> b.policy_weights
join evaluation_items j on j.evaluation_id = t.evaluation_id and j.item_id = i.item_id and j.repeat = i.repeat
where b.model = 'base' and t.model = 'trained' and i.score > j.score order by 1, 2 limit 5;

-- Who was champion or challenger, and why?
select promoted_at, model, version, alias, reason from promotions order by promoted_at;

-- What ran, how long, and how did it end?
select name, flow, state, round(r.seconds) took from runs r order by started_at desc limit 5;
