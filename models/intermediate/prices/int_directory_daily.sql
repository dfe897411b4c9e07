{#
  One row per security and session for which a directory snapshot is known: the latest snapshot
  taken on a day before the session, at most market_cap_max_age_days old.
#}
{% set max_age_days = var('market_cap_max_age_days') %}

with directory as (

    select * from {{ ref('stg_directory') }}

),

sessions as (

    select
        trade_date,
        session_idx
    from {{ ref('int_sessions') }}
    where session_status = 'market'

),

session_days as (

    select * from {{ ref('int_session_days') }}

),

symbol_history as (

    select * from {{ ref('int_symbol_history') }}

),

traded_securities as (

    select distinct security_id
    from {{ ref('int_traded_prices') }}

),

first_day as (

    select min(calendar_day) as calendar_day
    from session_days

),

snapshots as (

    select
        coalesce(symbol_history.security_id, directory.symbol) as security_id,
        directory.snapshot_date,
        directory.available_at,
        directory.market_cap,
        -- a snapshot counts from the session after its day, even where it was taken early
        greatest(
            directory.snapshot_date + 1,
            {{ usable_on('directory.available_at') }},
            first_day.calendar_day
        ) as usable_day
    from directory
    cross join first_day
    left join symbol_history
        on
            directory.symbol = symbol_history.symbol
            and directory.snapshot_date >= symbol_history.valid_from
            and directory.snapshot_date < symbol_history.valid_to

),

-- several snapshots may become usable at one session (a weekend's): the latest counts
by_session as (

    select distinct on (snapshots.security_id, session_days.session_idx)
        snapshots.security_id,
        session_days.session_idx,
        snapshots.snapshot_date,
        snapshots.available_at,
        snapshots.market_cap
    from snapshots
    inner join session_days
        on snapshots.usable_day = session_days.calendar_day
    inner join traded_securities
        on snapshots.security_id = traded_securities.security_id
    order by
        snapshots.security_id,
        session_days.session_idx,
        snapshots.snapshot_date desc,
        snapshots.available_at desc

),

-- a late delivery of an old snapshot does not replace a newer one
dated as (

    select
        security_id,
        session_idx,
        snapshot_date,
        available_at,
        market_cap,
        max(snapshot_date) over (
            partition by security_id
            order by session_idx
            rows between unbounded preceding and current row
        ) as latest_snapshot_date
    from by_session

),

latest as (

    select
        security_id,
        session_idx,
        snapshot_date,
        available_at,
        market_cap
    from dated
    where snapshot_date = latest_snapshot_date

),

followed as (

    select
        security_id,
        session_idx,
        lag(session_idx) over in_order as previous_session_idx,
        row_number() over newest_first as recency
    from latest
    window
        in_order as (partition by security_id order by session_idx),
        newest_first as (partition by security_id order by session_idx desc)

),

-- sessions without a snapshot of their own, between two and after the last
uncovered as (

    select
        security_id,
        previous_session_idx as snapshot_session_idx,
        previous_session_idx + 1 as from_session_idx,
        session_idx - 1 as to_session_idx
    from followed
    where session_idx > previous_session_idx + 1

    union all

    select
        security_id,
        session_idx as snapshot_session_idx,
        session_idx + 1 as from_session_idx,
        session_idx + {{ max_age_days }} as to_session_idx
    from followed
    where recency = 1

),

carried as (

    select
        latest.security_id,
        sessions.session_idx,
        sessions.trade_date,
        latest.snapshot_date,
        latest.available_at,
        latest.market_cap
    from uncovered
    inner join latest
        on
            uncovered.security_id = latest.security_id
            and uncovered.snapshot_session_idx = latest.session_idx
    inner join sessions
        on
            sessions.session_idx >= uncovered.from_session_idx
            and sessions.session_idx <= uncovered.to_session_idx

),

all_sessions as (

    select
        latest.security_id,
        latest.session_idx,
        sessions.trade_date,
        latest.snapshot_date,
        latest.available_at,
        latest.market_cap
    from latest
    inner join sessions
        on latest.session_idx = sessions.session_idx

    union all

    select
        security_id,
        session_idx,
        trade_date,
        snapshot_date,
        available_at,
        market_cap
    from carried

)

select
    security_id,
    session_idx,
    trade_date,
    snapshot_date,
    available_at,
    market_cap
from all_sessions
where trade_date - snapshot_date <= {{ max_age_days }}
