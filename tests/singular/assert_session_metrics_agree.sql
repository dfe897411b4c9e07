-- SQL and Python compute the same statistics per session from the same predictions: to 1e-9, and a
-- session that one of them leaves out is a difference too.
--
-- SQL takes tier and cost of a share from today's panel, Python took them from the panel trained on;
-- the panel's checksum is Python's. So a session whose panel rows have changed since the run was made
-- (fct_panel_restatements: seen by a snapshot, as every `dbt build` makes one) is not compared.
with sql_metrics as (

    select * from {{ ref('fct_session_metrics') }}

),

python_metrics as (

    select * from {{ ref('stg_session_metrics') }}

),

runs as (

    select * from {{ ref('stg_model_runs') }}

),

panel_restatements as (

    select * from {{ ref('fct_panel_restatements') }}

),

restated as (

    select distinct
        runs.run_id,
        panel_restatements.trade_date
    from runs
    inner join panel_restatements
        on runs.created_at < panel_restatements.seen_at

),

sql_values as (

    {% for metric in [
        'roc_auc', 'rank_ic', 'pearson_ic', 'brier', 'decile_spread', 'decile_spread_net'
    ] %}
        select
            run_id,
            segment,
            trade_date,
            '{{ metric }}' as metric,
            {{ metric }} as metric_value
        from sql_metrics
        where {{ metric }} is not null
        {{ 'union all' if not loop.last }}
    {% endfor %}

),

python_values as (

    select
        run_id,
        segment,
        trade_date,
        metric,
        value as metric_value
    from python_metrics
    where
        predictor = 'lightgbm'
        and run_id in (select sql_metrics.run_id from sql_metrics)

),

compared as (

    select
        coalesce(sql_values.run_id, python_values.run_id) as run_id,
        coalesce(sql_values.segment, python_values.segment) as segment,
        coalesce(sql_values.trade_date, python_values.trade_date) as trade_date,
        coalesce(sql_values.metric, python_values.metric) as metric,
        sql_values.metric_value as sql_value,
        python_values.metric_value as python_value
    from sql_values
    full outer join python_values
        on
            sql_values.run_id = python_values.run_id
            and sql_values.segment = python_values.segment
            and sql_values.trade_date = python_values.trade_date
            and sql_values.metric = python_values.metric

)

select
    compared.run_id,
    compared.segment,
    compared.trade_date,
    compared.metric,
    compared.sql_value,
    compared.python_value
from compared
left join restated
    on
        compared.run_id = restated.run_id
        and compared.trade_date = restated.trade_date
where
    restated.run_id is null
    and (
        compared.sql_value is null
        or compared.python_value is null
        or abs(compared.sql_value - compared.python_value) > 1e-9
    )
