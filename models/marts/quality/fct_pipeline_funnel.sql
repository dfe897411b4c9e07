{#
  Where every price row went, from the vendor's file to the training panel. Each line is counted on
  its own, none is a difference of others, so that a lost row shows: kept rows of a step = kept rows
  of the step before + added - lost (tests/singular/assert_funnel_adds_up.sql).
#}
-- prices mapped to a team's own table were not loaded, whatever an earlier load has left in the logs
{% set is_loaded = 'prices' not in (var('raw_mapping') or {}) %}

with load_log as (

    select * from {{ source('raw', 'load_log') }}
    where {{ "table_name = 'prices'" if is_loaded else 'false' }}

),

rejected_rows as (

    select * from {{ source('raw', 'rejected_rows') }}
    where {{ "table_name = 'prices'" if is_loaded else 'false' }}

),

raw_prices as (

    select
        {{ normalise_symbol('symbol') }} as symbol,
        trade_date,
        available_at
    from {{ source('raw', 'prices') }}

),

staged_prices as (

    select * from {{ ref('stg_prices') }}

),

sessions as (

    select * from {{ ref('int_sessions') }}

),

traded_prices as (

    select * from {{ ref('int_traded_prices') }}

),

features_daily as (

    select
        symbol,
        security_id,
        session_idx,
        kind,
        is_traded,
        is_in_universe
    from {{ ref('fct_features_daily') }}

),

labels as (

    select * from {{ ref('int_labels') }}

),

training_panel as (

    select * from {{ ref('int_training_panel') }}

),

log_totals as (

    select
        count(*) as loads,
        coalesce(sum(rows_read), 0) as rows_read,
        coalesce(sum(rows_unchanged), 0) as rows_unchanged,
        coalesce(sum(rows_rejected), 0) as rows_rejected
    from load_log

),

rejections as (

    select
        reason,
        count(*) as rejected_rows
    from rejected_rows
    group by reason

),

file_lines as (

    -- a warehouse whose raw tables were not loaded by asxw starts at those tables
    select
        'kept' as change,
        'rows read from files' as reason,
        case
            when log_totals.loads > 0 then log_totals.rows_read
            else (select count(*) from raw_prices)
        end as row_count,
        cast(null as bigint) as symbol_count
    from log_totals

),

load_lines as (

    select
        'lost' as change,
        'delivered again, unchanged' as reason,
        rows_unchanged as row_count,
        cast(null as bigint) as symbol_count
    from log_totals

    union all

    select
        'lost' as change,
        'rejected: ' || reason as reason,
        rejected_rows as row_count,
        cast(null as bigint) as symbol_count
    from rejections

    union all

    select
        'lost' as change,
        'rejected again, on record already' as reason,
        log_totals.rows_rejected - (select count(*) from rejected_rows) as row_count,
        cast(null as bigint) as symbol_count
    from log_totals
    where log_totals.loads > 0

    union all

    select
        'kept' as change,
        'raw.prices' as reason,
        count(*) as row_count,
        count(distinct symbol) as symbol_count
    from raw_prices

),

known_rows as (

    select
        symbol,
        trade_date,
        {{ known_by('available_at') }} as is_known
    from raw_prices

),

bars as (

    select
        symbol,
        trade_date,
        sum(case when is_known then 1 else 0 end) as known_versions,
        sum(case when is_known then 0 else 1 end) as unknown_versions
    from known_rows
    group by symbol, trade_date

),

version_lines as (

    select
        'lost' as change,
        'superseded by a later version of the bar' as reason,
        coalesce(sum(case when known_versions > 1 then known_versions - 1 else 0 end), 0)
            as row_count,
        count(distinct case when known_versions > 1 then symbol end) as symbol_count
    from bars

    union all

    select
        'lost' as change,
        'not known at the as_of time' as reason,
        coalesce(sum(unknown_versions), 0) as row_count,
        count(distinct case when unknown_versions > 0 then symbol end) as symbol_count
    from bars

    union all

    select
        'kept' as change,
        'bars, latest version' as reason,
        count(*) as row_count,
        count(distinct symbol) as symbol_count
    from staged_prices

),

placed_bars as (

    select
        staged_prices.symbol,
        case
            when sessions.trade_date is null then 'not a session of the calendar'
            when sessions.session_status = 'thin' then 'thin session: the source has a hole'
            when coalesce(staged_prices.volume, 0) = 0 then 'no volume: the session was not traded'
        end as reason
    from staged_prices
    left join sessions
        on staged_prices.trade_date = sessions.trade_date

),

session_lines as (

    select
        'lost' as change,
        reason,
        count(*) as row_count,
        count(distinct symbol) as symbol_count
    from placed_bars
    where reason is not null
    group by reason

    union all

    select
        'kept' as change,
        'traded bars on market sessions' as reason,
        count(*) as row_count,
        count(distinct symbol) as symbol_count
    from traded_prices

),

grid_lines as (

    select
        'added' as change,
        'untraded sessions, quotes carried' as reason,
        count(*) as row_count,
        count(distinct symbol) as symbol_count
    from {{ ref('int_daily_grid') }}
    where not is_traded

    union all

    select
        'kept' as change,
        'fct_features_daily' as reason,
        count(*) as row_count,
        count(distinct symbol) as symbol_count
    from features_daily

),

panel_rows as (

    select
        features_daily.symbol,
        case
            when not features_daily.is_traded then 'not traded that session'
            when not features_daily.is_in_universe
                then 'outside the training universe: ' || features_daily.kind
            when labels.return_1m_fwd is null then 'no label: ' || labels.label_status
        end as reason
    from features_daily
    left join labels
        on
            features_daily.security_id = labels.security_id
            and features_daily.session_idx = labels.session_idx

),

panel_lines as (

    select
        'lost' as change,
        reason,
        count(*) as row_count,
        count(distinct symbol) as symbol_count
    from panel_rows
    where reason is not null
    group by reason

    union all

    select
        'kept' as change,
        'training panel' as reason,
        count(*) as row_count,
        count(distinct symbol) as symbol_count
    from training_panel

),

steps as (

    {% for step, name in [
        ('file', 'read'), ('load', 'load'), ('version', 'versions'),
        ('session', 'sessions'), ('grid', 'grid'), ('panel', 'training'),
    ] -%}
        select
            {{ loop.index }} as step_number,
            '{{ name }}' as step_name,
            change,
            reason,
            row_count,
            symbol_count
        from {{ step }}_lines
        {{ 'union all' if not loop.last }}
    {% endfor %}

)

select
    cast(step_number as integer) as step_number,
    step_name,
    change,
    reason,
    cast(row_count as bigint) as row_count,
    cast(symbol_count as bigint) as symbol_count
from steps
where change = 'kept' or row_count != 0
order by step_number, change desc, reason
