{#
  Macro series as they were known at each market session: the latest reference date known, then its
  latest release. Where a series comes daily and as monthly figures, the daily one wins.
#}
{% set series = ['rba_cash_rate', 'cpi_yoy', 'unemployment', 'yield_2y', 'yield_10y'] %}

with macro as (

    select * from {{ ref('stg_macro') }}

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

first_day as (

    select min(calendar_day) as calendar_day
    from session_days

),

-- a monthly figure says so in its unit, or is dated on a month's last day that is a weekend, where
-- a daily series has no value
dated as (

    select
        series_id,
        reference_date,
        available_at,
        value,
        cast(date_trunc('month', reference_date) as date) as reference_month,
        coalesce(lower(unit) like '%monthly%', false)
        or (
            extract(isodow from reference_date) > 5
            and extract(day from reference_date + 1) = 1
        ) as is_monthly
    from macro

),

daily_months as (

    select
        series_id,
        reference_month,
        min(available_at) as available_at
    from dated
    where not is_monthly
    group by series_id, reference_month

),

releases as (

    select
        dated.series_id,
        dated.reference_date,
        dated.available_at,
        dated.value,
        greatest({{ usable_on('dated.available_at') }}, first_day.calendar_day) as usable_day
    from dated
    cross join first_day
    left join daily_months
        on
            dated.series_id = daily_months.series_id
            and dated.reference_month = daily_months.reference_month
            and dated.is_monthly
            and daily_months.available_at <= dated.available_at
    where daily_months.series_id is null

),

arrivals as (

    select
        releases.series_id,
        session_days.session_idx,
        releases.reference_date,
        releases.available_at,
        releases.value
    from releases
    inner join session_days
        on releases.usable_day = session_days.calendar_day

),

by_session as (

    select distinct on (series_id, session_idx)
        series_id,
        session_idx,
        reference_date,
        available_at,
        value
    from arrivals
    order by series_id, session_idx, reference_date desc, available_at desc

),

-- a revision of an old reference date does not replace a newer one
followed as (

    select
        series_id,
        session_idx,
        reference_date,
        available_at,
        value,
        max(reference_date) over (
            partition by series_id
            order by session_idx
            rows between unbounded preceding and current row
        ) as latest_reference_date
    from by_session

),

levels as (

    select
        series_id,
        session_idx,
        available_at,
        value
    from followed
    where reference_date = latest_reference_date

),

-- the change of inflation: two reference dates, each with its latest release known then
cpi_changes as (

    select distinct session_idx
    from arrivals
    where series_id = 'cpi_yoy'

),

cpi_known as (

    select distinct on (cpi_changes.session_idx, arrivals.reference_date)
        cpi_changes.session_idx,
        arrivals.reference_date,
        arrivals.available_at,
        arrivals.value
    from cpi_changes
    inner join arrivals
        on cpi_changes.session_idx >= arrivals.session_idx
    where arrivals.series_id = 'cpi_yoy'
    order by
        cpi_changes.session_idx,
        arrivals.reference_date,
        arrivals.available_at desc

),

cpi_numbered as (

    select
        session_idx,
        available_at,
        value,
        row_number() over (partition by session_idx order by reference_date desc) as recency
    from cpi_known

),

cpi_pairs as (

    select
        'delta_cpi' as series_id,
        session_idx,
        max(available_at) as available_at,
        max(case when recency = 1 then value end) - max(case when recency = 2 then value end)
            as value
    from cpi_numbered
    where recency <= 2
    group by session_idx

),

events as (

    select
        series_id,
        session_idx,
        available_at,
        value
    from levels

    union all

    select
        series_id,
        session_idx,
        available_at,
        value
    from cpi_pairs

),

versions as (

    select
        series_id,
        session_idx as from_session_idx,
        lead(session_idx) over (partition by series_id order by session_idx)
            as before_session_idx,
        available_at,
        value
    from events

),

known as (

    select
        sessions.session_idx,
        sessions.trade_date,
        {% for name in series + ['delta_cpi'] -%}
            max(case when versions.series_id = '{{ name }}' then versions.value end) as {{ name }},
        {% endfor -%}
        max(versions.available_at) as available_at
    from sessions
    left join versions
        on
            sessions.session_idx >= versions.from_session_idx
            and (
                sessions.session_idx < versions.before_session_idx
                or versions.before_session_idx is null
            )
            and versions.series_id in ({{ quoted_list(series + ['delta_cpi']) }})
    group by sessions.session_idx, sessions.trade_date

)

select
    session_idx,
    trade_date,
    available_at,
    rba_cash_rate,
    cpi_yoy,
    unemployment,
    yield_2y,
    yield_10y,
    yield_10y - yield_2y as yield_curve_slope,
    delta_cpi,
    rba_cash_rate - lag(rba_cash_rate, 21) over in_order as delta_rba_rate,
    yield_10y - lag(yield_10y, 21) over in_order as delta_yield_10y,
    (yield_10y - yield_2y) - lag(yield_10y - yield_2y, 21) over in_order
        as delta_yield_curve_slope
from known
window in_order as (order by session_idx)
