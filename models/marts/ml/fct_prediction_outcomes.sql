{#
  What became of the forecasts that were made before the fact. A row is there from the moment of
  scoring; its outcome is filled in once the 21 sessions have passed.
#}
with signals as (

    select * from {{ ref('fct_signals') }}

),

labels as (

    select * from {{ ref('int_labels') }}

),

sessions as (

    select * from {{ ref('dim_sessions') }}

)

select
    signals.run_id,
    signals.symbol,
    signals.trade_date,
    signals.signal,
    signals.probability_up,
    signals.expected_return,
    signals.adv_20_median,
    sessions.trade_date as label_end_date,
    labels.label_status,
    labels.return_1m_fwd,
    labels.return_1m_fwd_sign,
    labels.return_1m_fwd - signals.expected_return as forecast_error,
    case
        when signals.signal in ('BUY', 'STRONG_BUY') then labels.return_1m_fwd_sign = 1
        when signals.signal in ('SELL', 'STRONG_SELL') then labels.return_1m_fwd_sign = 0
    end as is_hit
from signals
left join labels
    on
        signals.symbol = labels.symbol
        and signals.trade_date = labels.trade_date
left join sessions
    on labels.label_end_idx = sessions.session_idx
