{#
  For each row that still sees an unresolved break in its spell: the session of the latest one.
  A break is unresolved from its session until its verdict may be used, for ever without one.
#}
with price_breaks as (

    select * from {{ ref('int_price_breaks') }}

),

sessions as (

    select * from {{ ref('int_sessions') }}

)

select
    price_breaks.security_id,
    price_breaks.spell,
    sessions.session_idx,
    max(price_breaks.session_idx) as break_session_idx
from price_breaks
inner join sessions
    on
        price_breaks.session_idx <= sessions.session_idx
        and (
            price_breaks.resolved_from_session_idx > sessions.session_idx
            or price_breaks.resolved_from_session_idx is null
        )
where sessions.session_status = 'market'
group by price_breaks.security_id, price_breaks.spell, sessions.session_idx
