{#
  The spine of every feature: one row per security and market session from its first trade until
  spell_gap_sessions sessions after its latest one. On a session without a trade the quotes carry
  the last traded close. Rows of a spell are contiguous sessions, so n rows are n sessions.

  spell_key numbers the spells of one build: windows and joins on an integer take half the time of
  those on (security_id, spell). It is not stable between builds and leaves no trace in the marts.
#}
with traded_prices as (

    select * from {{ ref('int_traded_prices') }}

),

sessions as (

    select
        trade_date,
        session_idx
    from {{ ref('int_sessions') }}
    where session_status = 'market'

),

delistings as (

    select * from {{ ref('int_delistings') }}

),

symbol_history as (

    select * from {{ ref('int_symbol_history') }}

),

capital_factors as (

    select * from {{ ref('int_capital_factors') }}

),

unresolved_breaks as (

    select * from {{ ref('int_unresolved_breaks') }}

),

-- untraded sessions between two trades of a spell
gaps as (

    select
        security_id,
        spell,
        previous_session_idx as last_traded_session_idx,
        previous_session_idx + 1 as from_session_idx,
        session_idx - 1 as to_session_idx
    from traded_prices
    where session_idx > previous_session_idx + 1

),

spells as (

    select
        security_id,
        spell,
        max(session_idx) as last_traded_session_idx,
        row_number() over (order by security_id, spell) as spell_key
    from traded_prices
    group by security_id, spell

),

-- and after the latest trade, for as long as nobody can know that it was the last
tails as (

    select
        spells.security_id,
        spells.spell,
        spells.last_traded_session_idx,
        spells.last_traded_session_idx + 1 as from_session_idx,
        least(
            spells.last_traded_session_idx + {{ var('spell_gap_sessions') }},
            case
                when delistings.gone_from_session_idx > spells.last_traded_session_idx
                    then delistings.gone_from_session_idx - 1
            end
        ) as to_session_idx
    from spells
    left join delistings
        on spells.security_id = delistings.security_id

),

untraded_ranges as (

    select * from gaps

    union all

    select * from tails

),

untraded as (

    select
        untraded_ranges.security_id,
        untraded_ranges.spell,
        sessions.session_idx,
        sessions.trade_date,
        untraded_ranges.last_traded_session_idx
    from untraded_ranges
    inner join sessions
        on
            sessions.session_idx >= untraded_ranges.from_session_idx
            and sessions.session_idx <= untraded_ranges.to_session_idx

),

carried as (

    select
        untraded.security_id,
        untraded.spell,
        untraded.session_idx,
        coalesce(symbol_history.symbol, traded_prices.symbol) as symbol,
        untraded.trade_date,
        false as is_traded,
        traded_prices.close as open,
        traded_prices.close as high,
        traded_prices.close as low,
        traded_prices.close,
        cast(0 as double precision) as volume,
        traded_prices.adj_close
    from untraded
    inner join traded_prices
        on
            untraded.security_id = traded_prices.security_id
            and untraded.last_traded_session_idx = traded_prices.session_idx
    left join symbol_history
        on
            untraded.security_id = symbol_history.security_id
            and untraded.trade_date >= symbol_history.valid_from
            and untraded.trade_date < symbol_history.valid_to

),

spine as (

    select
        security_id,
        spell,
        session_idx,
        symbol,
        trade_date,
        true as is_traded,
        open,
        high,
        low,
        close,
        volume,
        adj_close
    from traded_prices

    union all

    select
        security_id,
        spell,
        session_idx,
        symbol,
        trade_date,
        is_traded,
        open,
        high,
        low,
        close,
        volume,
        adj_close
    from carried

),

adjusted as (

    select
        spells.spell_key,
        spine.security_id,
        spine.spell,
        spine.session_idx,
        spine.symbol,
        spine.trade_date,
        spine.is_traded,
        spine.open,
        spine.high,
        spine.low,
        spine.close,
        spine.volume,
        spine.adj_close,
        coalesce(capital_factors.capital_factor, 1) as capital_factor,
        spine.session_idx - unresolved_breaks.break_session_idx as sessions_since_break
    from spine
    inner join spells
        on
            spine.security_id = spells.security_id
            and spine.spell = spells.spell
    left join capital_factors
        on
            spine.security_id = capital_factors.security_id
            and spine.spell = capital_factors.spell
            and spine.session_idx >= capital_factors.from_session_idx
            and (
                spine.session_idx < capital_factors.before_session_idx
                or capital_factors.before_session_idx is null
            )
    left join unresolved_breaks
        on
            spine.security_id = unresolved_breaks.security_id
            and spine.spell = unresolved_breaks.spell
            and spine.session_idx = unresolved_breaks.session_idx

)

select
    spell_key,
    security_id,
    spell,
    session_idx,
    symbol,
    trade_date,
    is_traded,
    open,
    high,
    low,
    close,
    volume,
    adj_close,
    capital_factor,
    row_number() over in_spell as spell_session,
    cast(sum(case when is_traded then 1 else 0 end) over so_far as bigint) as traded_sessions,
    sessions_since_break,
    -- across a capital change the factor moves with the price; elsewhere this is exactly the
    -- ratio of the two quotes
    (close / lag(close) over in_spell)
    * (capital_factor / lag(capital_factor) over in_spell) - 1 as return_1d,
    coalesce(sessions_since_break = 0, false) as is_suspect_break
from adjusted
window
    in_spell as (partition by spell_key order by session_idx),
    so_far as (
        partition by spell_key
        order by session_idx
        rows between unbounded preceding and current row
    )
order by spell_key, session_idx
