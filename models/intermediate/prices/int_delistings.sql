{#
  From which session a delisted security is gone: the first one after its last listed day whose
  decision time lies after the delisting was known. Where a directory ends a code because its
  company goes on under another one, the code went and the company did not: no delisting.
#}
with securities as (

    select * from {{ ref('stg_securities') }}

),

symbol_history as (

    select * from {{ ref('int_symbol_history') }}

),

symbol_changes as (

    select * from {{ ref('stg_symbol_changes') }}

),

session_days as (

    select * from {{ ref('int_session_days') }}

),

delisted as (

    select
        coalesce(symbol_history.security_id, securities.symbol) as security_id,
        greatest(
            securities.delisted_on + 1,
            {{ usable_on('securities.delisting_available_at') }}
        ) as gone_from
    from securities
    left join symbol_history
        on
            securities.symbol = symbol_history.symbol
            and securities.delisted_on >= symbol_history.valid_from
            and securities.delisted_on < symbol_history.valid_to
    where
        securities.delisted_on is not null
        and securities.delisting_available_at is not null
        and not exists (
            select 1
            from symbol_changes
            where
                securities.symbol = symbol_changes.old_symbol
                and securities.delisted_on < symbol_changes.effective_on
        )

)

select
    delisted.security_id,
    min(session_days.session_idx) as gone_from_session_idx
from delisted
inner join session_days
    on delisted.gone_from = session_days.calendar_day
group by delisted.security_id
