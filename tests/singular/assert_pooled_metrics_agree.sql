-- SQL and Python compute the same statistics over many sessions from the same predictions: to 1e-9,
-- and one that only one of them has is a difference too. Errors limited at the winsor limits are
-- Python's alone, because the limits are not written; predictions bear no later return, so what is left
-- of the model a session later is SQL's alone.
--
-- SQL takes tier and cost of a share from today's panel, Python took them from the panel trained on;
-- the panel's checksum is Python's. So a run is not compared once the panel rows of a session it
-- predicted have changed (fct_panel_restatements: seen by a snapshot, as every `dbt build` makes one).
with runs as (

    select * from {{ ref('stg_model_runs') }}

),

panel_restatements as (

    select * from {{ ref('fct_panel_restatements') }}

),

predicted_sessions as (

    select distinct
        run_id,
        trade_date
    from {{ ref('int_evaluated_predictions') }}

),

restated as (

    select distinct runs.run_id
    from runs
    inner join predicted_sessions
        on runs.run_id = predicted_sessions.run_id
    inner join panel_restatements
        on
            predicted_sessions.trade_date = panel_restatements.trade_date
            and runs.created_at < panel_restatements.seen_at

),

sql_metrics as (

    select *
    from {{ ref('fct_pooled_metrics') }}
    where
        metric != 'rank_ic_lag1'
        and run_id not in (select restated.run_id from restated)

),

python_metrics as (

    select *
    from {{ ref('stg_model_metrics') }}
    where
        predictor = 'lightgbm'
        and fold >= 0
        and metric not in ('rmse_winsorised', 'mae_winsorised')
        and run_id in (select sql_metrics.run_id from sql_metrics)

)

select
    coalesce(sql_metrics.run_id, python_metrics.run_id) as run_id,
    coalesce(sql_metrics.fold, python_metrics.fold) as fold,
    coalesce(sql_metrics.segment, python_metrics.segment) as segment,
    coalesce(sql_metrics.metric, python_metrics.metric) as metric,
    sql_metrics.value as sql_value,
    python_metrics.value as python_value,
    sql_metrics.n as sql_n,
    python_metrics.n as python_n
from sql_metrics
full outer join python_metrics
    on
        sql_metrics.run_id = python_metrics.run_id
        and sql_metrics.fold = python_metrics.fold
        and sql_metrics.segment = python_metrics.segment
        and sql_metrics.metric = python_metrics.metric
where
    sql_metrics.value is null
    or python_metrics.value is null
    or sql_metrics.n != python_metrics.n
    or abs(sql_metrics.value - python_metrics.value) > 1e-9
