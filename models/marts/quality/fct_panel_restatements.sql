{#
  Sessions whose panel rows are not what they were: each change of a session's checksum, when it was
  seen, and what may have caused it. Empty as long as the past stays as it was.
#}
with states as (

    select * from {{ ref('stg_session_checksums') }}

),

loads as (

    select * from {{ ref('stg_loads') }}

),

price_versions as (

    select * from {{ ref('stg_price_versions') }}

),

followed as (

    select
        trade_date,
        seen_at,
        panel_rows,
        content_checksum,
        lag(seen_at) over in_order as previous_seen_at,
        lag(panel_rows) over in_order as previous_panel_rows,
        lag(content_checksum) over in_order as previous_checksum,
        coalesce(code_checksum != lag(code_checksum) over in_order, false) as is_new_code,
        coalesce(engine_version != lag(engine_version) over in_order, false) as is_new_engine
    from states
    window in_order as (partition by trade_date order by seen_at)

),

changes as (

    select * from followed
    where
        previous_seen_at is not null
        -- new code that leaves the rows as they are is no change
        and (content_checksum != previous_checksum or panel_rows != previous_panel_rows)

),

-- bars of the session or an earlier one that were delivered anew in between
corrections as (

    select
        changes.trade_date,
        changes.seen_at,
        count(*) as corrected_bars
    from changes
    inner join price_versions
        on
            changes.trade_date >= price_versions.trade_date
            and changes.seen_at >= price_versions.loaded_at
            and changes.previous_seen_at < price_versions.loaded_at
    group by changes.trade_date, changes.seen_at

),

late_loads as (

    select
        changes.trade_date,
        changes.seen_at,
        sum(loads.rows_loaded) as late_rows,
        min(loads.first_day) as first_late_day
    from changes
    inner join loads
        on
            changes.trade_date >= loads.first_day
            and changes.seen_at >= loads.loaded_at
            and changes.previous_seen_at < loads.loaded_at
    group by changes.trade_date, changes.seen_at

)

select
    changes.trade_date,
    changes.seen_at,
    changes.previous_seen_at,
    changes.previous_checksum,
    changes.content_checksum as new_checksum,
    changes.previous_panel_rows,
    changes.panel_rows as new_panel_rows,
    changes.is_new_engine,
    changes.is_new_code,
    cast(coalesce(corrections.corrected_bars, 0) as bigint) as corrected_bars,
    late_loads.first_late_day,
    case
        when changes.is_new_engine then 'engine'
        when changes.is_new_code then 'code'
        when corrections.corrected_bars > 0 then 'correction'
        when late_loads.late_rows > 0 then 'late data'
        else 'unexplained'
    end as reason
from changes
left join corrections
    on
        changes.trade_date = corrections.trade_date
        and changes.seen_at = corrections.seen_at
left join late_loads
    on
        changes.trade_date = late_loads.trade_date
        and changes.seen_at = late_loads.seen_at
