{#
  Every number beside its interval and the same number of every baseline. Those of Python come as they
  were written; the Rank IC of who buys a session later is fct_pooled_metrics', and its interval is computed as
  Python's are (macros/evaluation/interval_half_widths.sql).
#}
with metrics as (

    select * from {{ ref('stg_model_metrics') }}

),

bought_later_pooled as (

    select
        run_id,
        segment,
        fold,
        metric,
        value as metric_value,
        n
    from {{ ref('fct_pooled_metrics') }}
    where metric = 'rank_ic_lag1'

),

session_metrics as (

    select * from {{ ref('fct_session_metrics') }}

),

folds as (

    select * from {{ ref('stg_model_folds') }}

),

holdout_openings as (

    select * from {{ ref('stg_holdout_openings') }}

),

bought_later as (

    select
        run_id,
        segment,
        trade_date,
        0 as fold,
        rank_ic_lag1
    from session_metrics
    where rank_ic_lag1 is not null
    union all
    select
        run_id,
        segment,
        trade_date,
        fold,
        rank_ic_lag1
    from session_metrics
    where rank_ic_lag1 is not null

),

deviations as (

    select
        bought_later.run_id,
        bought_later.segment,
        bought_later.fold,
        bought_later_pooled.n as n_sessions,
        bought_later.rank_ic_lag1 - bought_later_pooled.metric_value as rank_ic_lag1,
        row_number() over in_time - 1 as place
    from bought_later
    inner join bought_later_pooled
        on
            bought_later.run_id = bought_later_pooled.run_id
            and bought_later.segment = bought_later_pooled.segment
            and bought_later.fold = bought_later_pooled.fold
    window in_time as (
        partition by bought_later.run_id, bought_later.segment, bought_later.fold
        order by bought_later.trade_date
    )

),

half_widths as (

    {{ interval_half_widths('deviations', ['run_id', 'segment', 'fold'], ['rank_ic_lag1']) }}

),

numbers as (

    select
        run_id,
        fold,
        segment,
        predictor,
        metric,
        value as metric_value,
        ci_low,
        ci_high,
        n
    from metrics
    union all
    select
        bought_later_pooled.run_id,
        bought_later_pooled.fold,
        bought_later_pooled.segment,
        'lightgbm' as predictor,
        bought_later_pooled.metric,
        bought_later_pooled.metric_value,
        bought_later_pooled.metric_value - half_widths.rank_ic_lag1 as ci_low,
        bought_later_pooled.metric_value + half_widths.rank_ic_lag1 as ci_high,
        bought_later_pooled.n
    from bought_later_pooled
    left join half_widths
        on
            bought_later_pooled.run_id = half_widths.run_id
            and bought_later_pooled.segment = half_widths.segment
            and bought_later_pooled.fold = half_widths.fold

),

scopes as (

    select
        run_id,
        fold,
        first_session,
        last_session
    from folds
    where role = 'test'
    union all
    select
        run_id,
        0 as fold,
        min(first_session) as first_session,
        max(last_session) as last_session
    from folds
    where role = 'test'
    group by run_id
    union all
    select
        run_id,
        -1 as fold,
        first_session,
        last_session
    from holdout_openings

)

select
    numbers.run_id,
    cast(numbers.fold as bigint) as fold,
    case
        when numbers.fold = 0 then 'out of fold'
        when numbers.fold = -1 then 'holdout'
        else 'fold'
    end as scope,
    scopes.first_session,
    scopes.last_session,
    numbers.segment,
    numbers.predictor,
    case
        when numbers.predictor like '% - %' then 'difference'
        when numbers.predictor = 'lightgbm' then 'model'
        else 'baseline'
    end as role,
    nullif(split_part(numbers.predictor, ' - ', 2), '') as baseline,
    numbers.metric,
    numbers.metric_value as value,
    numbers.ci_low,
    numbers.ci_high,
    cast(numbers.n as bigint) as n
from numbers
left join scopes
    on numbers.run_id = scopes.run_id and numbers.fold = scopes.fold
