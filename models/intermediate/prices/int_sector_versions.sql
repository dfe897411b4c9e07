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

compared as (

    select
        security_id,
        snapshot_date,
        available_at,
        sector,
        lag(sector) over by_day as previous_sector
    from snapshots
    window by_day as (partition by security_id order by snapshot_date)

),

changes as (

    select
        compared.security_id,
        compared.snapshot_date,
        compared.available_at,
        compared.sector,
        greatest(
            compared.snapshot_date + 1,
            {{ usable_on('compared.available_at') }},
            first_day.calendar_day
        ) as usable_day
    from compared
    cross join first_day
    where compared.previous_sector is null or compared.sector != compared.previous_sector

),

versions as (

    select distinct on (changes.security_id, session_days.session_idx)
        changes.security_id,
        session_days.session_idx,
        changes.available_at,
        changes.sector
    from changes
    inner join session_days
        on changes.usable_day = session_days.calendar_day
    order by changes.security_id, session_days.session_idx, changes.snapshot_date desc

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
