{#
  Every version of every report, by security. A version of a period holds from when it was known
  until the next version of the same period and length. Of versions known at the same moment the
  latest revised one counts.
#}
with fundamentals as (

    select * from {{ fundamentals_source() }}

),

symbol_history as (

    select * from {{ ref('int_symbol_history') }}

),

reports as (

    select distinct on (
        coalesce(symbol_history.security_id, fundamentals.symbol),
        fundamentals.period_end,
        fundamentals.period_type,
        fundamentals.available_at
    )
        coalesce(symbol_history.security_id, fundamentals.symbol) as security_id,
        fundamentals.symbol,
        fundamentals.period_end,
        fundamentals.period_type,
        fundamentals.available_at,
        fundamentals.updated_at,
        fundamentals.available_at_assumed,
        fundamentals.pe_ratio,
        fundamentals.pb_ratio,
        fundamentals.eps,
        fundamentals.roe,
        fundamentals.debt_to_equity,
        fundamentals.market_cap,
        fundamentals.div_yield,
        fundamentals.revenue_growth_yoy,
        fundamentals.profit_margin,
        fundamentals.current_ratio,
        fundamentals.quick_ratio,
        fundamentals.eps_growth,
        fundamentals.free_cash_flow,
        fundamentals.net_income,
        fundamentals.revenue,
        fundamentals.equity
    from fundamentals
    left join symbol_history
        on
            fundamentals.symbol = symbol_history.symbol
            and cast(fundamentals.available_at as date) >= symbol_history.valid_from
            and cast(fundamentals.available_at as date) < symbol_history.valid_to
    order by
        coalesce(symbol_history.security_id, fundamentals.symbol) asc,
        fundamentals.period_end asc,
        fundamentals.period_type asc,
        fundamentals.available_at asc,
        fundamentals.updated_at desc nulls last,
        fundamentals.symbol asc

)

select
    security_id,
    symbol,
    period_end,
    period_type,
    case period_type when 'ttm' then 1 when 'year' then 2 when 'half' then 3 else 4 end as period_rank,
    available_at,
    lead(available_at) over (
        partition by security_id, period_end, period_type
        order by available_at
    ) as superseded_at,
    updated_at,
    available_at_assumed,
    pe_ratio,
    pb_ratio,
    eps,
    roe,
    debt_to_equity,
    market_cap,
    div_yield,
    revenue_growth_yoy,
    profit_margin,
    current_ratio,
    quick_ratio,
    eps_growth,
    free_cash_flow,
    net_income,
    revenue,
    equity
from reports
