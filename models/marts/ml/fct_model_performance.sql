{#
  Every number beside its interval and the same number of every baseline. Those of Python come as they
  were written; the Rank IC of who buys a session later is computed in SQL alone, and its interval as
  Python's are (macros/evaluation/mean_interval.sql).
#}
{%- set keys = ['run_id', 'segment', 'fold'] %}
with metrics as (

    select * from {{ ref('stg_model_metrics') }}

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

means as (

    select
        run_id,
        segment,
        fold,
        avg(rank_ic_lag1) as rank_ic_lag1,
        count(*) as n_sessions
    from bought_later
    group by run_id, segment, fold

),

deviations as (

    select
        bought_later.run_id,
        bought_later.segment,
        bought_later.fold,
        means.n_sessions,
        bought_later.rank_ic_lag1 - means.rank_ic_lag1 as rank_ic_lag1,
        row_number() over in_time - 1 as place
    from bought_later
    inner join means
        on
            bought_later.run_id = means.run_id
            and bought_later.segment = means.segment
            and bought_later.fold = means.fold
    window in_time as (
        partition by bought_later.run_id, bought_later.segment, bought_later.fold
        order by bought_later.trade_date
    )

),

coefficients as (

    {{ cosine_coefficients('deviations', keys, ['rank_ic_lag1']) }}

),

half_widths as (

    {{ interval_half_widths('coefficients', keys, ['rank_ic_lag1']) }}

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
        means.run_id,
        means.fold,
        means.segment,
        'lightgbm' as predictor,
        'rank_ic_lag1' as metric,
        means.rank_ic_lag1 as metric_value,
        means.rank_ic_lag1 - half_widths.rank_ic_lag1 as ci_low,
        means.rank_ic_lag1 + half_widths.rank_ic_lag1 as ci_high,
        means.n_sessions as n
    from means
    left join half_widths
        on
            means.run_id = half_widths.run_id
            and means.segment = half_widths.segment
            and means.fold = half_widths.fold

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
