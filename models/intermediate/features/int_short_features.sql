{#
  The reported short position known at each session: the latest report known, at most
  short_max_age_sessions after its own date, outside 0 to 100 NULL (a report that cannot be true
  is no reason to show an older one).
#}
{% set max_age = var('short_max_age_sessions') %}

with daily_grid as (

    select * from {{ ref('int_daily_grid') }}

),

short_positions as (

    select * from {{ ref('stg_short_positions') }}

),

session_days as (

    select * from {{ ref('int_session_days') }}

),

symbol_history as (

    select * from {{ ref('int_symbol_history') }}

),

reports as (

    select
        coalesce(symbol_history.security_id, short_positions.symbol) as security_id,
        short_positions.trade_date,
        short_positions.available_at,
        case when short_positions.short_pct between 0 and 100 then short_positions.short_pct end
            as short_pct
    from short_positions
    left join symbol_history
        on
            short_positions.symbol = symbol_history.symbol
            and short_positions.trade_date >= symbol_history.valid_from
            and short_positions.trade_date < symbol_history.valid_to

),

-- several reports may become known at one session (a holiday's): the latest date counts
by_session as (

    select distinct on (reports.security_id, known.session_idx)
        reports.security_id,
        known.session_idx,
        reported.session_idx as reported_session_idx,
        reports.trade_date,
        reports.available_at,
        reports.short_pct
    from reports
    inner join session_days as known
        on {{ usable_on('reports.available_at') }} = known.calendar_day
    inner join session_days as reported
        on reports.trade_date = reported.calendar_day
    order by
        reports.security_id,
        known.session_idx,
        reports.trade_date desc,
        reports.available_at desc

),

-- a late delivery of an old report does not replace a newer one
dated as (

    select
        *,
        max(trade_date) over (
            partition by security_id
            order by session_idx
            rows between unbounded preceding and current row
        ) as latest_trade_date
    from by_session

),

versions as (

    select
        security_id,
        session_idx as from_session_idx,
        least(
            lead(session_idx) over (partition by security_id order by session_idx) - 1,
            reported_session_idx + {{ max_age }}
        ) as to_session_idx,
        available_at,
        short_pct
    from dated
    where trade_date = latest_trade_date

),

steps as (

    select step
    from generate_series(1, {{ max_age }}) as numbers (step)

),

known_positions as (

    select
        security_id,
        from_session_idx as session_idx,
        available_at,
        short_pct
    from versions
    where to_session_idx >= from_session_idx

    union all

    select
        versions.security_id,
        versions.from_session_idx + steps.step as session_idx,
        versions.available_at,
        versions.short_pct
    from versions
    inner join steps
        on
            versions.to_session_idx > versions.from_session_idx
            and versions.to_session_idx - versions.from_session_idx >= steps.step

),

gridded as (

    select
        daily_grid.spell_key,
        daily_grid.session_idx,
        daily_grid.trade_date,
        daily_grid.traded_sessions,
        known_positions.available_at,
        known_positions.short_pct
    from daily_grid
    left join known_positions
        on
            daily_grid.security_id = known_positions.security_id
            and daily_grid.session_idx = known_positions.session_idx

),

lagged as (

    select
        spell_key,
        session_idx,
        trade_date,
        traded_sessions,
        available_at,
        short_pct,
        lag(traded_sessions, 21) over in_spell as traded_lag_21,
        lag(short_pct, 21) over in_spell as short_pct_lag_21
    from gridded
    window in_spell as (partition by spell_key order by session_idx)

)

select
    spell_key,
    session_idx,
    trade_date,
    available_at,
    short_pct,
    case when {{ half_traded(21, 'traded_lag_21') }} then short_pct - short_pct_lag_21 end
        as short_pct_chg_21d
from lagged
