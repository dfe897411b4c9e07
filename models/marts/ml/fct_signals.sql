{#
  Signals from the live predictions. Both heads must agree for a buy or a sell: the
  probability picks the class, the expected return confirms its direction. Thresholds are vars.
#}
with predictions as (

    select * from {{ ref('stg_predictions') }}

),

features_daily as (

    select * from {{ ref('fct_features_daily') }}

),

classified as (

    select
        run_id,
        symbol,
        trade_date,
        probability_up,
        expected_return,
        trained_through,
        {{ signal_class('probability_up', 'expected_return') }} as signal
    from predictions

)

select
    classified.run_id,
    classified.symbol,
    classified.trade_date,
    features_daily.sector,
    features_daily.close,
    features_daily.adv_20_median,
    classified.signal,
    classified.probability_up,
    classified.expected_return,
    cast(
        row_number() over (
            partition by classified.run_id, classified.trade_date
            order by
                classified.probability_up desc nulls last,
                classified.expected_return desc nulls last,
                classified.symbol
        ) as bigint
    ) as signal_rank,
    -- 0: a coin toss, 1: certain
    abs(2 * classified.probability_up - 1) as confidence,
    classified.trained_through
from classified
left join features_daily
    on
        classified.symbol = features_daily.symbol
        and classified.trade_date = features_daily.trade_date
