with reasons as (

    select * from {{ ref('stg_reasons') }}

),

signals as (

    select * from {{ ref('fct_signals') }}

),

signals_latest as (

    select * from {{ ref('fct_signals_latest') }}

),

coverage as (

    select * from {{ ref('fct_feature_coverage') }}

)

select
    reasons.run_id,
    reasons.symbol,
    reasons.trade_date,
    reasons.head,
    reasons.place,
    reasons.part,
    reasons.feature,
    coverage.family,
    reasons.feature_value,
    reasons.value_place,
    reasons.contribution,
    reasons.reason,
    signals.signal,
    signals.probability_up,
    signals.expected_return,
    signals_latest.symbol is not null as is_latest
from reasons
inner join signals
    on
        reasons.run_id = signals.run_id
        and reasons.symbol = signals.symbol
        and reasons.trade_date = signals.trade_date
left join signals_latest
    on
        reasons.run_id = signals_latest.run_id
        and reasons.symbol = signals_latest.symbol
        and reasons.trade_date = signals_latest.trade_date
left join coverage
    on reasons.feature = coverage.feature
