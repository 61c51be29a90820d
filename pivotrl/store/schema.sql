-- The tables of the store. Rows come from Parquet shards alone; the store can always be built anew
-- from them. What values must hold to stands in tables.py. JSON columns are text made canonical.

CREATE TABLE trajectories (
    trajectory_id    VARCHAR,
    domain           VARCHAR,
    task             VARCHAR,
    reward           DOUBLE,
    turns            BIGINT,
    messages         VARCHAR,
    tools            VARCHAR,
    tools_declared   BOOLEAN,
    accepted_actions VARCHAR,
    files            VARCHAR,
    not_actions      VARCHAR,
    source_file      VARCHAR,
    source_row       BIGINT,
    shard            VARCHAR
);
COMMENT ON TABLE trajectories IS 'One successful or failed run of an agent, as it was read.';
COMMENT ON COLUMN trajectories.trajectory_id IS 'Hash of messages and tools.';
COMMENT ON COLUMN trajectories.domain IS 'Chooses the verifier.';
COMMENT ON COLUMN trajectories.task IS 'Name of the task in its source; null where unknown.';
COMMENT ON COLUMN trajectories.reward IS 'Outcome that the source reports; null where unknown.';
COMMENT ON COLUMN trajectories.turns IS 'Assistant turns.';
COMMENT ON COLUMN trajectories.messages IS 'JSON: OpenAI chat with decoded arguments; call ids by position.';
COMMENT ON COLUMN trajectories.tools IS 'JSON: OpenAI tools.';
COMMENT ON COLUMN trajectories.tools_declared IS 'False where tools are called but declared nowhere.';
COMMENT ON COLUMN trajectories.accepted_actions IS 'JSON: message index to assistant messages that are also right there.';
COMMENT ON COLUMN trajectories.files IS 'JSON: message index to the files before that turn, path to text.';
COMMENT ON COLUMN trajectories.not_actions IS 'JSON: indices of assistant messages that are context alone.';
COMMENT ON COLUMN trajectories.source_file IS 'File that it was read from.';
COMMENT ON COLUMN trajectories.source_row IS '1-based line or index in that file.';
COMMENT ON COLUMN trajectories.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE candidates (
    candidate_id  VARCHAR,
    trajectory_id VARCHAR,
    turn          BIGINT,
    domain        VARCHAR,
    task          VARCHAR,
    split         VARCHAR,
    split_group   VARCHAR,
    action_type   VARCHAR,
    tool_names    VARCHAR[],
    demonstration VARCHAR,
    accepted_actions VARCHAR,
    files         VARCHAR,
    shard         VARCHAR
);
COMMENT ON TABLE candidates IS 'One assistant turn: a decision (s, a*), held by reference to its trajectory.';
COMMENT ON COLUMN candidates.candidate_id IS 'Hash of the messages before the turn, the tools and the demonstration.';
COMMENT ON COLUMN candidates.trajectory_id IS 'Trajectory that represents it; see occurrences for all.';
COMMENT ON COLUMN candidates.turn IS 'Index of the demonstration in the trajectory''s messages.';
COMMENT ON COLUMN candidates.domain IS 'Chooses the verifier.';
COMMENT ON COLUMN candidates.task IS 'Name of the task; null where unknown.';
COMMENT ON COLUMN candidates.split IS 'train or validation.';
COMMENT ON COLUMN candidates.split_group IS 'Hash of the task, else of system prompt and first user message.';
COMMENT ON COLUMN candidates.action_type IS 'text or tool_call.';
COMMENT ON COLUMN candidates.tool_names IS 'Tools that the demonstration calls, in order.';
COMMENT ON COLUMN candidates.demonstration IS 'JSON: the assistant message a*.';
COMMENT ON COLUMN candidates.accepted_actions IS 'JSON: messages that the row says are right there too.';
COMMENT ON COLUMN candidates.files IS 'Hash of the files that the turn starts from; null where the row has none.';
COMMENT ON COLUMN candidates.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE occurrences (
    candidate_id  VARCHAR,
    trajectory_id VARCHAR,
    turn          BIGINT,
    split_group   VARCHAR,
    shard         VARCHAR
);
COMMENT ON TABLE occurrences IS 'Every place where a candidate was found; duplicates are folded into one candidate.';
COMMENT ON COLUMN occurrences.candidate_id IS 'The candidate.';
COMMENT ON COLUMN occurrences.trajectory_id IS 'A trajectory that holds it.';
COMMENT ON COLUMN occurrences.turn IS 'Index of the message there.';
COMMENT ON COLUMN occurrences.split_group IS 'Group of that trajectory.';
COMMENT ON COLUMN occurrences.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE quarantine (
    source_file VARCHAR,
    source_row  BIGINT,
    reason      VARCHAR,
    remedy      VARCHAR,
    excerpt     VARCHAR,
    shard       VARCHAR
);
COMMENT ON TABLE quarantine IS 'Rows of input files that could not be used.';
COMMENT ON COLUMN quarantine.source_file IS 'File.';
COMMENT ON COLUMN quarantine.source_row IS '1-based line or index.';
COMMENT ON COLUMN quarantine.reason IS 'A few stable words to count by.';
COMMENT ON COLUMN quarantine.remedy IS 'What is wrong where, and what to do.';
COMMENT ON COLUMN quarantine.excerpt IS 'Start of the row.';
COMMENT ON COLUMN quarantine.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE policies (
    policy    VARCHAR,
    weights   VARCHAR,
    tokenizer VARCHAR,
    template  VARCHAR,
    sampling  VARCHAR,
    engine    VARCHAR,
    path      VARCHAR,
    shard     VARCHAR
);
COMMENT ON TABLE policies IS 'Policies that were sampled; a profile belongs to one.';
COMMENT ON COLUMN policies.policy IS 'Fingerprint: weights, tokenizer, template, sampling and engine.';
COMMENT ON COLUMN policies.weights IS 'Hash of the weights.';
COMMENT ON COLUMN policies.tokenizer IS 'Hash of the tokenizer.';
COMMENT ON COLUMN policies.template IS 'Hash of the chat template.';
COMMENT ON COLUMN policies.sampling IS 'JSON: temperature, top_p, max_tokens.';
COMMENT ON COLUMN policies.engine IS 'Who sampled: hf, vllm or server.';
COMMENT ON COLUMN policies.path IS 'Folder of the model.';
COMMENT ON COLUMN policies.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE rollouts (
    rollout_id    VARCHAR,
    candidate_id  VARCHAR,
    policy        VARCHAR,
    sample_index  BIGINT,
    prompt_hash   VARCHAR,
    prompt_tokens BIGINT,
    token_ids     BIGINT[],
    logprobs      FLOAT[],
    text          VARCHAR,
    seed          BIGINT,
    finish_reason VARCHAR,
    status        VARCHAR,
    shard         VARCHAR
);
COMMENT ON TABLE rollouts IS 'One sampled action of a policy at a candidate; immutable.';
COMMENT ON COLUMN rollouts.rollout_id IS 'Hash of candidate, policy, sample and seed.';
COMMENT ON COLUMN rollouts.candidate_id IS 'Where it was sampled.';
COMMENT ON COLUMN rollouts.policy IS 'Who sampled it.';
COMMENT ON COLUMN rollouts.sample_index IS '0 to K-1.';
COMMENT ON COLUMN rollouts.prompt_hash IS 'Hash of the prompt''s token ids.';
COMMENT ON COLUMN rollouts.prompt_tokens IS 'Length of the prompt in tokens.';
COMMENT ON COLUMN rollouts.token_ids IS 'Sampled token ids, end of turn included.';
COMMENT ON COLUMN rollouts.logprobs IS 'Natural log-probability of each under the sampling distribution.';
COMMENT ON COLUMN rollouts.text IS 'Decoded action without the end-of-turn token.';
COMMENT ON COLUMN rollouts.seed IS 'Seed of this sample.';
COMMENT ON COLUMN rollouts.finish_reason IS 'stop or length.';
COMMENT ON COLUMN rollouts.status IS 'ok, timeout or engine_error.';
COMMENT ON COLUMN rollouts.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE verdicts (
    status           VARCHAR,
    reward           DOUBLE,
    rollout_id       VARCHAR,
    candidate_id     VARCHAR,
    policy           VARCHAR,
    sample_index     BIGINT,
    estimator        VARCHAR,
    verifier         VARCHAR,
    verifier_version VARCHAR,
    category         VARCHAR,
    details          VARCHAR,
    shard            VARCHAR
);
COMMENT ON TABLE verdicts IS 'What a verifier says of a rollout; a new verifier version adds rows.';
COMMENT ON COLUMN verdicts.status IS 'ok, undecided, masked or error.';
COMMENT ON COLUMN verdicts.reward IS 'In [0, 1]; null unless the status is ok: an error is never a reward.';
COMMENT ON COLUMN verdicts.rollout_id IS 'The rollout.';
COMMENT ON COLUMN verdicts.candidate_id IS 'Its candidate.';
COMMENT ON COLUMN verdicts.policy IS 'Its policy.';
COMMENT ON COLUMN verdicts.sample_index IS 'Its number at the candidate: 0 to K-1.';
COMMENT ON COLUMN verdicts.estimator IS 'What was asked of its profile: fixed (K samples) or stopped (until decided).';
COMMENT ON COLUMN verdicts.verifier IS 'Name of the verifier.';
COMMENT ON COLUMN verdicts.verifier_version IS 'Digest of the verifier''s code.';
COMMENT ON COLUMN verdicts.category IS 'Why, in a stable word: accepted, wrong_tool, wrong_argument and so on.';
COMMENT ON COLUMN verdicts.details IS 'JSON: what exactly.';
COMMENT ON COLUMN verdicts.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE judgements (
    status        VARCHAR,
    reward        DOUBLE,
    judgement_id  VARCHAR,
    rollout_id    VARCHAR,
    candidate_id  VARCHAR,
    judge         VARCHAR,
    judge_version VARCHAR,
    category      VARCHAR,
    details       VARCHAR,
    shard         VARCHAR
);
COMMENT ON TABLE judgements IS 'What a language-model judge says of a rollout whose verdict is undecided.';
COMMENT ON COLUMN judgements.status IS 'ok, undecided or error.';
COMMENT ON COLUMN judgements.reward IS 'In [0, 1]; null unless the status is ok.';
COMMENT ON COLUMN judgements.judgement_id IS 'Hash of rollout, judge and version.';
COMMENT ON COLUMN judgements.rollout_id IS 'The rollout.';
COMMENT ON COLUMN judgements.candidate_id IS 'Its candidate.';
COMMENT ON COLUMN judgements.judge IS 'Name of the judge.';
COMMENT ON COLUMN judgements.judge_version IS 'Digest of its model and prompt.';
COMMENT ON COLUMN judgements.category IS 'Why, in a stable word.';
COMMENT ON COLUMN judgements.details IS 'JSON: what the judge answered.';
COMMENT ON COLUMN judgements.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE marks (
    mark_id      VARCHAR,
    candidate_id VARCHAR,
    rollout_id   VARCHAR,
    author       VARCHAR,
    mark         VARCHAR,
    note         VARCHAR,
    made_at      TIMESTAMP,
    shard        VARCHAR
);
COMMENT ON TABLE marks IS 'What a person says of a candidate or of one rollout.';
COMMENT ON COLUMN marks.mark_id IS 'Hash of the mark.';
COMMENT ON COLUMN marks.candidate_id IS 'The candidate.';
COMMENT ON COLUMN marks.rollout_id IS 'The rollout; null where the mark is of the candidate.';
COMMENT ON COLUMN marks.author IS 'Who marked it.';
COMMENT ON COLUMN marks.mark IS 'right, wrong or unclear.';
COMMENT ON COLUMN marks.note IS 'In the person''s words.';
COMMENT ON COLUMN marks.made_at IS 'UTC.';
COMMENT ON COLUMN marks.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE selections (
    selection_id VARCHAR,
    name         VARCHAR,
    policy       VARCHAR,
    rule         VARCHAR,
    parameters   VARCHAR,
    candidates   BIGINT,
    pivots       BIGINT,
    shard        VARCHAR
);
COMMENT ON TABLE selections IS 'A named choice of pivots from the profiles of one policy.';
COMMENT ON COLUMN selections.selection_id IS 'Hash of policy, rule, parameters and pivots.';
COMMENT ON COLUMN selections.name IS 'Name of the run that made it.';
COMMENT ON COLUMN selections.policy IS 'Policy whose profiles were used.';
COMMENT ON COLUMN selections.rule IS 'SQL condition that a pivot meets.';
COMMENT ON COLUMN selections.parameters IS 'JSON: lambda_diff, samples, minimum_valid, split.';
COMMENT ON COLUMN selections.candidates IS 'Candidates that were looked at.';
COMMENT ON COLUMN selections.pivots IS 'Candidates that were kept.';
COMMENT ON COLUMN selections.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE pivots (
    selection_id VARCHAR,
    candidate_id VARCHAR,
    policy       VARCHAR,
    n            BIGINT,
    mean         DOUBLE,
    variance     DOUBLE,
    shard        VARCHAR
);
COMMENT ON TABLE pivots IS 'A candidate that a selection kept, with the numbers that kept it.';
COMMENT ON COLUMN pivots.selection_id IS 'The selection.';
COMMENT ON COLUMN pivots.candidate_id IS 'The candidate.';
COMMENT ON COLUMN pivots.policy IS 'Policy whose profile it is.';
COMMENT ON COLUMN pivots.n IS 'Valid rewards.';
COMMENT ON COLUMN pivots.mean IS 'Mean reward.';
COMMENT ON COLUMN pivots.variance IS 'Population variance of the reward.';
COMMENT ON COLUMN pivots.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE train_steps (
    training_id VARCHAR,
    round       BIGINT,
    step        BIGINT,
    metric      VARCHAR,
    value       DOUBLE,
    shard       VARCHAR
);
COMMENT ON TABLE train_steps IS 'Metrics of training by step.';
COMMENT ON COLUMN train_steps.training_id IS 'The training.';
COMMENT ON COLUMN train_steps.round IS 'Round; each starts from a fresh profile.';
COMMENT ON COLUMN train_steps.step IS 'Optimiser batch within the training.';
COMMENT ON COLUMN train_steps.metric IS 'Name, as in MLflow.';
COMMENT ON COLUMN train_steps.value IS 'Value; null where it is not a number.';
COMMENT ON COLUMN train_steps.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE train_rollouts (
    training_id   VARCHAR,
    selection_id  VARCHAR,
    round         BIGINT,
    step          BIGINT,
    candidate_id  VARCHAR,
    sample_index  BIGINT,
    reward        DOUBLE,
    category      VARCHAR,
    advantage     DOUBLE,
    tokens        BIGINT,
    finish_reason VARCHAR,
    text          VARCHAR,
    shard         VARCHAR
);
COMMENT ON TABLE train_rollouts IS 'Actions sampled in training: the groups, one row an action.';
COMMENT ON COLUMN train_rollouts.training_id IS 'The training.';
COMMENT ON COLUMN train_rollouts.selection_id IS 'The selection that it trains on; NULL end to end, where candidate_id is a task and a row an episode.';
COMMENT ON COLUMN train_rollouts.round IS 'Round.';
COMMENT ON COLUMN train_rollouts.step IS 'Optimiser batch.';
COMMENT ON COLUMN train_rollouts.candidate_id IS 'The pivot.';
COMMENT ON COLUMN train_rollouts.sample_index IS '0 to G-1.';
COMMENT ON COLUMN train_rollouts.reward IS 'Reward; null where the verifier could not decide.';
COMMENT ON COLUMN train_rollouts.category IS 'Why, as in verdicts.';
COMMENT ON COLUMN train_rollouts.advantage IS 'Normalised within the group; null where the action was dropped.';
COMMENT ON COLUMN train_rollouts.tokens IS 'Sampled tokens.';
COMMENT ON COLUMN train_rollouts.finish_reason IS 'stop or length.';
COMMENT ON COLUMN train_rollouts.text IS 'The action.';
COMMENT ON COLUMN train_rollouts.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE evaluations (
    evaluation_id  VARCHAR,
    policy_weights VARCHAR,
    model          VARCHAR,
    suite          VARCHAR,
    kind           VARCHAR,
    decoding       VARCHAR,
    miniature      BOOLEAN,
    n              BIGINT,
    score          DOUBLE,
    standard_error DOUBLE,
    unparsed       BIGINT,
    truncated      BIGINT,
    shard          VARCHAR
);
COMMENT ON TABLE evaluations IS 'One model scored on one suite under one decoding.';
COMMENT ON COLUMN evaluations.evaluation_id IS 'Hash of weights, suite, decoding and items.';
COMMENT ON COLUMN evaluations.policy_weights IS 'Hash of the weights.';
COMMENT ON COLUMN evaluations.model IS 'What the report calls it: base, trained, sft.';
COMMENT ON COLUMN evaluations.suite IS 'Live domain or benchmark.';
COMMENT ON COLUMN evaluations.kind IS 'domain or benchmark.';
COMMENT ON COLUMN evaluations.decoding IS 'JSON: temperature, top_p, max_tokens, repeats.';
COMMENT ON COLUMN evaluations.miniature IS 'True for the embedded miniatures, which are not the real benchmarks.';
COMMENT ON COLUMN evaluations.n IS 'Items.';
COMMENT ON COLUMN evaluations.score IS 'Mean score; the report shows percent.';
COMMENT ON COLUMN evaluations.standard_error IS 'Standard error of the mean.';
COMMENT ON COLUMN evaluations.unparsed IS 'Outputs without a readable answer.';
COMMENT ON COLUMN evaluations.truncated IS 'Outputs cut at the length limit.';
COMMENT ON COLUMN evaluations.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE evaluation_items (
    evaluation_id VARCHAR,
    item_id       VARCHAR,
    repeat        BIGINT,
    prompt        VARCHAR,
    output        VARCHAR,
    extracted     VARCHAR,
    score         DOUBLE,
    finish_reason VARCHAR,
    shard         VARCHAR
);
COMMENT ON TABLE evaluation_items IS 'Every item of an evaluation.';
COMMENT ON COLUMN evaluation_items.evaluation_id IS 'The evaluation.';
COMMENT ON COLUMN evaluation_items.item_id IS 'The item.';
COMMENT ON COLUMN evaluation_items.repeat IS 'Which of its responses, from 0.';
COMMENT ON COLUMN evaluation_items.prompt IS 'What was asked.';
COMMENT ON COLUMN evaluation_items.output IS 'What the model answered.';
COMMENT ON COLUMN evaluation_items.extracted IS 'Answer read from the output; null where none was.';
COMMENT ON COLUMN evaluation_items.score IS 'Score of the item.';
COMMENT ON COLUMN evaluation_items.finish_reason IS 'Why the answer ended.';
COMMENT ON COLUMN evaluation_items.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE promotions (
    promotion_id   VARCHAR,
    model          VARCHAR,
    version        VARCHAR,
    alias          VARCHAR,
    policy_weights VARCHAR,
    training_id    VARCHAR,
    evaluation_id  VARCHAR,
    reason         VARCHAR,
    promoted_at    TIMESTAMP,
    shard          VARCHAR
);
COMMENT ON TABLE promotions IS 'Aliases given to registered model versions.';
COMMENT ON COLUMN promotions.promotion_id IS 'Hash of the promotion.';
COMMENT ON COLUMN promotions.model IS 'Registered model.';
COMMENT ON COLUMN promotions.version IS 'Its version.';
COMMENT ON COLUMN promotions.alias IS 'challenger or champion.';
COMMENT ON COLUMN promotions.policy_weights IS 'Hash of the weights.';
COMMENT ON COLUMN promotions.training_id IS 'Training that made it.';
COMMENT ON COLUMN promotions.evaluation_id IS 'Evaluation that justified it.';
COMMENT ON COLUMN promotions.reason IS 'Why.';
COMMENT ON COLUMN promotions.promoted_at IS 'UTC.';
COMMENT ON COLUMN promotions.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE runs (
    run_id     VARCHAR,
    name       VARCHAR,
    flow       VARCHAR,
    config     VARCHAR,
    state      VARCHAR,
    started_at TIMESTAMP,
    ended_at   TIMESTAMP,
    seconds    DOUBLE,
    report     VARCHAR,
    shard      VARCHAR
);
COMMENT ON TABLE runs IS 'Runs of flows.';
COMMENT ON COLUMN runs.run_id IS 'Id of the flow run.';
COMMENT ON COLUMN runs.name IS 'Name by configuration and date.';
COMMENT ON COLUMN runs.flow IS 'retrain and so on.';
COMMENT ON COLUMN runs.config IS 'JSON: the whole configuration.';
COMMENT ON COLUMN runs.state IS 'How it ended: trained, or no pivots; a run that failed leaves no row.';
COMMENT ON COLUMN runs.started_at IS 'UTC.';
COMMENT ON COLUMN runs.ended_at IS 'UTC; null while it runs.';
COMMENT ON COLUMN runs.seconds IS 'Wall-clock time.';
COMMENT ON COLUMN runs.report IS 'JSON: report.json.';
COMMENT ON COLUMN runs.shard IS 'SHA-256 of the shard that the row came from.';

CREATE TABLE merged_shards (
    table_name VARCHAR,
    sha256     VARCHAR,
    file       VARCHAR,
    rows       BIGINT,
    merged_at  TIMESTAMP
);
COMMENT ON TABLE merged_shards IS 'Shards that were merged; merging one again only renews merged_at.';
COMMENT ON COLUMN merged_shards.table_name IS 'Table of its rows.';
COMMENT ON COLUMN merged_shards.sha256 IS 'Hash of the file.';
COMMENT ON COLUMN merged_shards.file IS 'Where it lay.';
COMMENT ON COLUMN merged_shards.rows IS 'Rows that it brought.';
COMMENT ON COLUMN merged_shards.merged_at IS 'UTC; later merges have later times.';

CREATE TABLE store_version (
    version INTEGER
);
COMMENT ON TABLE store_version IS 'Version of this schema.';
COMMENT ON COLUMN store_version.version IS 'A store of a newer version is refused.';
