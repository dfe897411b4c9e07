with runs as (

    select * from {{ ref('stg_model_runs') }}

),

metrics as (

    select * from {{ ref('stg_model_metrics') }}

),

promotions as (

    select * from {{ ref('model_promotions') }}

),

champions as (

    select
        run_id,
        row_number() over (partition by model_name order by promoted_at desc, run_id) as recency
    from promotions

),

holdout_openings as (

    select * from {{ ref('stg_holdout_openings') }}

),

alarms as (

    select
        run_id,
        count(*) as alarms_raised
    from {{ ref('stg_model_gates') }}
    where level = 'alarm' and not passed
    group by run_id

),

newest as (

    select
        run_id,
        row_number() over (order by created_at desc, run_id) as recency
    from runs

),

headline as (

    select
        run_id,
        max(case when metric = 'roc_auc_pooled' then value end) as roc_auc_pooled,
        max(case when metric = 'roc_auc_session' then value end) as roc_auc_session,
        max(case when metric = 'roc_auc_session' then ci_low end) as roc_auc_session_ci_low,
        max(case when metric = 'roc_auc_session' then ci_high end) as roc_auc_session_ci_high,
        max(case when metric = 'rank_ic' then value end) as rank_ic,
        max(case when metric = 'rmse' then value end) as rmse,
        max(case when metric = 'rmse_winsorised' then value end) as rmse_winsorised
    from metrics
    where predictor = 'lightgbm' and fold = 0 and segment = 'all'
    group by run_id

)

select
    runs.run_id,
    runs.model_name,
    runs.created_at,
    runs.trained_through,
    runs.first_session,
    runs.last_session,
    runs.holdout_first_session,
    runs.n_rows,
    runs.n_sessions,
    runs.n_symbols,
    runs.n_features,
    runs.n_folds,
    runs.base_rate,
    runs.label,
    headline.roc_auc_pooled,
    headline.roc_auc_session,
    headline.roc_auc_session_ci_low,
    headline.roc_auc_session_ci_high,
    headline.rank_ic,
    headline.rmse,
    headline.rmse_winsorised,
    runs.panel_checksum,
    runs.git_commit,
    newest.recency = 1 as is_newest,
    coalesce(champions.recency = 1, false) as is_champion,
    holdout_openings.opened_at as holdout_opened_at,
    coalesce(alarms.alarms_raised, 0) as alarms_raised
from runs
inner join newest
    on runs.run_id = newest.run_id
left join headline
    on runs.run_id = headline.run_id
left join champions
    on runs.run_id = champions.run_id
left join holdout_openings
    on runs.run_id = holdout_openings.run_id
left join alarms
    on runs.run_id = alarms.run_id
