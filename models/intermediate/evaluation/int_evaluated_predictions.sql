{#
  The out-of-fold predictions that marts are made of: those of the newest run and of every promoted
  one, with what the evaluation needs to know of the row. Other runs keep their rows in ml.
#}
with predictions as (

    select * from {{ ref('stg_predictions_oof') }}

),

runs as (

    select * from {{ ref('stg_model_runs') }}

),

promotions as (

    select * from {{ ref('model_promotions') }}

),

features_daily as (

    select * from {{ ref('fct_features_daily') }}

),

labels as (

    select * from {{ ref('int_labels') }}

),

newest as (

    select
        run_id,
        row_number() over (order by created_at desc nulls last, run_id) as recency
    from runs

)

select
    predictions.run_id,
    predictions.symbol,
    predictions.trade_date,
    features_daily.session_idx,
    predictions.fold,
    predictions.probability_up,
    predictions.expected_return,
    predictions.return_1m_fwd,
    predictions.return_1m_fwd_sign,
    labels.return_1m_fwd_lag1,
    features_daily.adv_20_median,
    {{ side_cost('features_daily.adv_20_median') }} as side_cost,
    {{ signal_class('predictions.probability_up', 'predictions.expected_return') }} as signal
from predictions
inner join newest
    on predictions.run_id = newest.run_id
left join features_daily
    on
        predictions.symbol = features_daily.symbol
        and predictions.trade_date = features_daily.trade_date
left join labels
    on
        features_daily.security_id = labels.security_id
        and features_daily.session_idx = labels.session_idx
where
    newest.recency = 1
    or predictions.run_id in (select promotions.run_id from promotions)
