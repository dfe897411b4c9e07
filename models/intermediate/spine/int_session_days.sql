{#
  From knowledge time to session without a range join: usable_on(available_at) gives a day, this
  model gives the first market session on or after it. Days before the first session are not in
  it (they count for the first one), nor are days after the last (not usable yet).
#}
with sessions as (

    select * from {{ ref('int_sessions') }}

),

market_sessions as (

    select
        trade_date,
        session_idx,
        lag(trade_date) over (order by trade_date) as previous_trade_date
    from sessions
    where session_status = 'market'

),

days as (

    select distinct trade_date as calendar_day
    from sessions

    union

    -- weekends and holidays: a session is at most two weeks after the one before it, or else the
    -- source has a hole of its own and the days inside it are the calendar's sessions above
    select sessions.trade_date - day_offset.days as calendar_day
    from sessions
    cross join (
        values (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14)
    ) as day_offset (days)

)

select
    days.calendar_day,
    market_sessions.session_idx
from days
inner join market_sessions
    on
        days.calendar_day <= market_sessions.trade_date
        and days.calendar_day > coalesce(
            market_sessions.previous_trade_date, market_sessions.trade_date - 1
        )
