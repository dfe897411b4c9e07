with signals as (

    select * from {{ ref('fct_signals') }}

),

model_runs as (

    select * from {{ ref('dim_model_runs') }}

),

securities as (

    select * from {{ ref('dim_securities') }}

),

-- the champion, or the newest run that has scored anything
scored_runs as (

    select
        model_runs.run_id,
        row_number() over (
            order by model_runs.is_champion desc, model_runs.created_at desc, model_runs.run_id
        ) as recency
    from model_runs
    where model_runs.run_id in (select signals.run_id from signals)

),

latest_session as (

    select
        scored_runs.run_id,
        max(signals.trade_date) as trade_date
    from scored_runs
    inner join signals
        on scored_runs.run_id = signals.run_id
    where scored_runs.recency = 1
    group by scored_runs.run_id

)

select
    signals.symbol,
    signals.trade_date,
    signals.run_id,
    securities.name,
    signals.sector,
    signals.close,
    signals.adv_20_median,
    signals.signal,
    signals.probability_up,
    signals.expected_return,
    signals.signal_rank,
    signals.confidence,
    signals.trained_through
from signals
inner join latest_session
    on
        signals.run_id = latest_session.run_id
        and signals.trade_date = latest_session.trade_date
left join securities
    on signals.symbol = securities.symbol
