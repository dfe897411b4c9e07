{#
  Sector by half-open range of sessions, from the directory's snapshots: a reclassified company
  keeps its old sector in old rows. Before the first snapshot there is none.
#}
with directory as (

    select * from {{ ref('stg_directory') }}

),

session_days as (

    select * from {{ ref('int_session_days') }}

),

symbol_history as (

    select * from {{ ref('int_symbol_history') }}

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
        directory.sector
    from directory
    left join symbol_history
        on
            directory.symbol = symbol_history.symbol
            and directory.snapshot_date >= symbol_history.valid_from
            and directory.snapshot_date < symbol_history.valid_to
    where directory.sector is not null

),

usable as (

    select
        snapshots.security_id,
        snapshots.snapshot_date,
        snapshots.available_at,
        snapshots.sector,
        greatest(
            snapshots.snapshot_date + 1,
            {{ usable_on('snapshots.available_at') }},
            first_day.calendar_day
        ) as usable_day
    from snapshots
    cross join first_day

),

by_session as (

    select distinct on (usable.security_id, session_days.session_idx)
        usable.security_id,
        session_days.session_idx,
        usable.snapshot_date,
        usable.available_at,
        usable.sector
    from usable
    inner join session_days
        on usable.usable_day = session_days.calendar_day
    order by
        usable.security_id,
        session_days.session_idx,
        usable.snapshot_date desc,
        usable.available_at desc

),

-- a late delivery of an old snapshot does not replace a newer one
dated as (

    select
        security_id,
        session_idx,
        snapshot_date,
        available_at,
        sector,
        max(snapshot_date) over (
            partition by security_id
            order by session_idx
            rows between unbounded preceding and current row
        ) as latest_snapshot_date
    from by_session

),

compared as (

    select
        security_id,
        session_idx,
        available_at,
        sector,
        lag(sector) over (partition by security_id order by session_idx) as previous_sector
    from dated
    where snapshot_date = latest_snapshot_date

),

versions as (

    select
        security_id,
        session_idx,
        available_at,
        sector
    from compared
    where previous_sector is null or sector != previous_sector

)

select
    versions.security_id,
    versions.session_idx as from_session_idx,
    min(later.session_idx) as before_session_idx,
    versions.sector,
    versions.available_at
from versions
left join versions as later
    on
        versions.security_id = later.security_id
        and versions.session_idx < later.session_idx
group by
    versions.security_id,
    versions.session_idx,
    versions.sector,
    versions.available_at
