{#
  Since when a spell's rows rest on outside evidence of its price breaks: by half-open range of
  sessions, the latest knowledge time among the verdicts in use.
#}
with price_breaks as (

    select * from {{ ref('int_price_breaks') }}

),

used_verdicts as (

    select
        security_id,
        spell,
        resolved_from_session_idx,
        verdict_available_at
    from price_breaks
    where resolved_from_session_idx is not null

),

latest_knowledge as (

    select
        used_verdicts.security_id,
        used_verdicts.spell,
        used_verdicts.resolved_from_session_idx as from_session_idx,
        max(earlier.verdict_available_at) as available_at
    from used_verdicts
    inner join used_verdicts as earlier
        on
            used_verdicts.security_id = earlier.security_id
            and used_verdicts.spell = earlier.spell
            and used_verdicts.resolved_from_session_idx >= earlier.resolved_from_session_idx
    group by
        used_verdicts.security_id,
        used_verdicts.spell,
        used_verdicts.resolved_from_session_idx

)

select
    latest_knowledge.security_id,
    latest_knowledge.spell,
    latest_knowledge.from_session_idx,
    min(later.from_session_idx) as before_session_idx,
    latest_knowledge.available_at
from latest_knowledge
left join latest_knowledge as later
    on
        latest_knowledge.security_id = later.security_id
        and latest_knowledge.spell = later.spell
        and latest_knowledge.from_session_idx < later.from_session_idx
group by
    latest_knowledge.security_id,
    latest_knowledge.spell,
    latest_knowledge.from_session_idx,
    latest_knowledge.available_at
