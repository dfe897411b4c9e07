-- Prices after the calendar's last day would all be taken for days without a session.
-- `asxw calendar` extends seeds/market_sessions.csv.
select
    prices.trade_date,
    count(*) as price_rows
from {{ ref('stg_prices') }} as prices
where
    prices.trade_date > (
        select max(market_sessions.session_date)
        from {{ ref('market_sessions') }} as market_sessions
        where market_sessions.calendar = '{{ market_var("calendar") }}'
    )
    or prices.trade_date < (
        select min(market_sessions.session_date)
        from {{ ref('market_sessions') }} as market_sessions
        where market_sessions.calendar = '{{ market_var("calendar") }}'
    )
group by prices.trade_date
