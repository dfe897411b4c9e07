{#
  Which sessions the announcements' source covers, judged market-wide and with what was known then:
  the latest session with an announcement lies at most announcement_gap_sessions back, for this
  session and for the one before (the source's first session may lack its evening before).
  The same for the flag price_sensitive, which a vendor may add years later.
#}
{% set gap = var('announcement_gap_sessions') %}

with sessions as (

    select session_idx
    from {{ ref('int_sessions') }}
    where session_status = 'market'

),

announcements as (

    select * from {{ ref('int_announcements') }}

),

announced as (

    select
        session_idx,
        count(price_sensitive) as flagged
    from announcements
    where session_idx is not null
    group by session_idx

),

reached as (

    select
        sessions.session_idx,
        max(announced.session_idx) over so_far as announced_session_idx,
        max(case when announced.flagged > 0 then announced.session_idx end) over so_far
            as flagged_session_idx
    from sessions
    left join announced
        on sessions.session_idx = announced.session_idx
    window so_far as (order by sessions.session_idx rows between unbounded preceding and current row)

),

judged as (

    select
        session_idx,
        coalesce(
            session_idx - announced_session_idx <= {{ gap }}
            and session_idx - 1 - lag(announced_session_idx) over in_order <= {{ gap }},
            false
        ) as is_covered,
        coalesce(
            session_idx - flagged_session_idx <= {{ gap }}
            and session_idx - 1 - lag(flagged_session_idx) over in_order <= {{ gap }},
            false
        ) as is_flag_covered
    from reached
    window in_order as (order by session_idx)

),

last_uncovered as (

    select
        session_idx,
        max(case when not is_covered then session_idx end) over so_far as uncovered_session_idx,
        max(case when not is_flag_covered then session_idx end) over so_far
            as flag_uncovered_session_idx
    from judged
    window so_far as (order by session_idx rows between unbounded preceding and current row)

)

-- session 0 has none before it and is never covered, so there is always a last uncovered session
select
    session_idx,
    cast(session_idx - uncovered_session_idx as bigint) as covered_sessions,
    cast(session_idx - flag_uncovered_session_idx as bigint) as flag_covered_sessions
from last_uncovered
