with price_breaks as (

    select * from {{ ref('int_price_breaks') }}

)

select
    security_id,
    trade_date,
    symbol,
    session_idx,
    previous_trade_date,
    previous_close,
    close,
    price_ratio,
    tick_size,
    evidence,
    verdict,
    share_ratio,
    action_ratio,
    implied_ratio,
    market_cap_before,
    market_cap_after,
    market_cap_ratio,
    snapshot_date_before,
    snapshot_date_after,
    verdict_available_at,
    resolved_from_session_idx,
    is_candidate
from price_breaks
