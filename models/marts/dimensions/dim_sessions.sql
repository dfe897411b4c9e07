with sessions as (

    select * from {{ ref('int_sessions') }}

),

market_returns as (

    select * from {{ ref('int_market_returns') }}

),

traded_prices as (

    select * from {{ ref('int_traded_prices') }}

),

traded_counts as (

    select
        session_idx,
        count(*) as traded_symbols
    from traded_prices
    group by session_idx

)

select
    sessions.trade_date,
    sessions.session_idx,
    sessions.decision_at,
    sessions.session_status,
    sessions.priced_symbols,
    sessions.trailing_median_symbols,
    cast(coalesce(traded_counts.traded_symbols, 0) as bigint) as traded_symbols,
    market_returns.market_return_1d,
    market_returns.is_equal_weighted as is_market_return_equal_weighted
from sessions
left join market_returns
    on sessions.session_idx = market_returns.session_idx
left join traded_counts
    on sessions.session_idx = traded_counts.session_idx
