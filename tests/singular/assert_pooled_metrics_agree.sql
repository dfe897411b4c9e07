-- SQL and Python compute the same statistics over many sessions from the same predictions: to 1e-9,
-- and one that only one of them has is a difference too. Errors limited at the winsor limits are
-- Python's alone, because the limits are not written.
with sql_metrics as (

    select * from {{ ref('fct_pooled_metrics') }}

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
