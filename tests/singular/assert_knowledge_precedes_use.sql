-- What a row of a session rests on was known before the session's decision time, family by family.
-- Families with a trade_date of their own have the generic test `before`, and max_available_at of
-- fct_features_daily is tested for all of them together; this one names the family that breaks it.
with sessions as (

    select * from {{ ref('int_sessions') }}
    where session_status = 'market'

),

fundamental_daily as (

    select * from {{ ref('int_fundamental_daily') }}

),

sector_versions as (

    select * from {{ ref('int_sector_versions') }}

),

verdict_knowledge as (

    select * from {{ ref('int_verdict_knowledge') }}

),

announcements as (

    select * from {{ ref('int_announcements') }}

),

price_breaks as (

    select * from {{ ref('int_price_breaks') }}

),

uses as (

    select
        'fundamentals and size' as family,
        session_idx,
        available_at
    from fundamental_daily

    union all

    select
        'reports' as family,
        session_idx,
        fund_available_at as available_at
    from fundamental_daily

    union all

    select
        'sectors' as family,
        from_session_idx as session_idx,
        available_at
    from sector_versions

    union all

    select
        'verdicts' as family,
        from_session_idx as session_idx,
        available_at
    from verdict_knowledge

    union all

    select
        'price breaks' as family,
        resolved_from_session_idx as session_idx,
        verdict_available_at as available_at
    from price_breaks

    union all

    select
        'announcements' as family,
        session_idx,
        announced_at as available_at
    from announcements

)

select
    uses.family,
    sessions.trade_date,
    sessions.decision_at,
    uses.available_at
from uses
inner join sessions
    on uses.session_idx = sessions.session_idx
where not (uses.available_at < sessions.decision_at)
