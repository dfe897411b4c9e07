-- Sessions of the calendar for which the source has no prices at all are reported, one row each: a
-- vendor's hole, not an error of the build, so it warns. dim_sessions lists them with the thin ones.
{{ config(severity='warn') }}

select
    trade_date,
    session_status
from {{ ref('dim_sessions') }}
where session_status = 'missing'
