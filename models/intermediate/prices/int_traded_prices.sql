{#
  The bars that count: price rows with volume on market sessions, under the security they belong
  to. A spell ends after spell_gap_sessions sessions without a trade, or once a delisting is known.
#}
with prices as (

    select * from {{ ref('stg_prices') }}

),

sessions as (

    select * from {{ ref('int_sessions') }}

),

symbol_history as (

    select * from {{ ref('int_symbol_history') }}

),

delistings as (

    select * from {{ ref('int_delistings') }}

),

traded as (

    select
        coalesce(symbol_history.security_id, prices.symbol) as security_id,
        prices.symbol,
        prices.trade_date,
        sessions.session_idx,
        prices.open,
        prices.high,
        prices.low,
        prices.close,
        prices.volume,
        prices.adj_close
    from prices
    inner join sessions
        on
            prices.trade_date = sessions.trade_date
            and sessions.session_status = 'market'
    left join symbol_history
        on
            prices.symbol = symbol_history.symbol
            and prices.trade_date >= symbol_history.valid_from
            and prices.trade_date < symbol_history.valid_to
    where prices.volume > 0

),

followed as (

    select
        security_id,
        symbol,
        trade_date,
        session_idx,
        open,
        high,
        low,
        close,
        volume,
        adj_close,
        lag(session_idx) over by_session as previous_session_idx,
        lag(trade_date) over by_session as previous_trade_date,
        lag(close) over by_session as previous_close
    from traded
    window by_session as (partition by security_id order by session_idx)

),

opened as (

    select
        followed.*,
        case
            when followed.previous_session_idx is null then 0
            when
                followed.session_idx - followed.previous_session_idx
                > {{ var('spell_gap_sessions') }}
                then 1
            when
                followed.previous_session_idx < delistings.gone_from_session_idx
                and followed.session_idx >= delistings.gone_from_session_idx
                then 1
            else 0
        end as opens_spell
    from followed
    left join delistings
        on followed.security_id = delistings.security_id

),

numbered as (

    select
        *,
        1 + sum(opens_spell) over (
            partition by security_id
            order by session_idx
            rows between unbounded preceding and current row
        ) as spell
    from opened

)

select
    security_id,
    cast(spell as integer) as spell,
    session_idx,
    symbol,
    trade_date,
    open,
    high,
    low,
    close,
    volume,
    adj_close,
    -- the latest trade before this one in the same spell
    case when opens_spell = 0 then previous_session_idx end as previous_session_idx,
    case when opens_spell = 0 then previous_trade_date end as previous_trade_date,
    case when opens_spell = 0 then previous_close end as previous_close
from numbered
