{% set window_sessions = var('thin_session_window') %}

with market_sessions as (

    select * from {{ ref('market_sessions') }}

),

prices as (

    select * from {{ ref('stg_prices') }}

),

priced_dates as (

    select
        trade_date,
        count(*) as priced_symbols
    from prices
    group by trade_date

),

price_span as (

    select
        min(trade_date) as first_date,
        max(trade_date) as last_date
    from priced_dates

),

calendar_sessions as (

    select
        market_sessions.session_date as trade_date,
        coalesce(priced_dates.priced_symbols, 0) as priced_symbols
    from market_sessions
    inner join price_span
        on market_sessions.session_date between price_span.first_date and price_span.last_date
    left join priced_dates
        on market_sessions.session_date = priced_dates.trade_date
    where market_sessions.calendar = '{{ market_var("calendar") }}'

),

covered as (

    select
        trade_date,
        priced_symbols,
        row_number() over (order by trade_date) as covered_number
    from calendar_sessions
    where priced_symbols > 0

),

-- some 1,500 sessions: a join with the trailing window is as fast as a window function, and an
-- ordinary median exists on every engine
trailing_medians as (

    select
        covered.trade_date,
        percentile_cont(0.5) within group (
            order by cast(earlier.priced_symbols as double precision)
        ) as trailing_median_symbols
    from covered
    inner join covered as earlier
        on
            earlier.covered_number > covered.covered_number - {{ window_sessions }}
            and earlier.covered_number <= covered.covered_number
    group by covered.trade_date

),

judged as (

    select
        calendar_sessions.trade_date,
        calendar_sessions.priced_symbols,
        trailing_medians.trailing_median_symbols,
        case
            when calendar_sessions.priced_symbols = 0 then 'missing'
            when
                calendar_sessions.priced_symbols
                < {{ var('thin_session_share') }} * trailing_medians.trailing_median_symbols
                then 'thin'
            else 'market'
        end as session_status
    from calendar_sessions
    left join trailing_medians
        on calendar_sessions.trade_date = trailing_medians.trade_date

),

numbered as (

    select
        trade_date,
        session_status,
        priced_symbols,
        trailing_median_symbols,
        case
            when session_status = 'market'
                then
                    row_number() over (partition by session_status order by trade_date) - 1
        end as session_idx
    from judged

)

select
    trade_date,
    cast(session_idx as bigint) as session_idx,
    {{ decision_at('trade_date') }} as decision_at,
    session_status,
    cast(priced_symbols as bigint) as priced_symbols,
    cast(trailing_median_symbols as double precision) as trailing_median_symbols
from numbered
