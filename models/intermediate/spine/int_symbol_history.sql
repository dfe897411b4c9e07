{#
  Which security a symbol stood for, and when. Only symbols that take part in a change are here;
  every other symbol is its own security for ever. security_id is the first symbol of the chain;
  a code used again after its company had left it is a security of its own (CODE@first day).
#}
with recursive

changes as (

    select * from {{ ref('stg_symbol_changes') }}

),

boundaries as (

    select
        old_symbol as symbol,
        effective_on
    from changes

    union

    select
        new_symbol as symbol,
        effective_on
    from changes

    union

    select
        old_symbol as symbol,
        date '0001-01-01' as effective_on
    from changes

    union

    select
        new_symbol as symbol,
        date '0001-01-01' as effective_on
    from changes

),

arrivals as (

    select
        new_symbol,
        effective_on,
        min(old_symbol) as old_symbol
    from changes
    group by new_symbol, effective_on

),

-- half-open validity: the next boundary of the same symbol ends it
segments as (

    select
        boundaries.symbol,
        boundaries.effective_on as valid_from,
        coalesce(min(later.effective_on), date '9999-12-31') as valid_to
    from boundaries
    left join boundaries as later
        on
            boundaries.symbol = later.symbol
            and boundaries.effective_on < later.effective_on
    group by boundaries.symbol, boundaries.effective_on

),

linked as (

    select
        segments.symbol,
        segments.valid_from,
        segments.valid_to,
        arrivals.old_symbol as came_from
    from segments
    left join arrivals
        on
            segments.symbol = arrivals.new_symbol
            and segments.valid_from = arrivals.effective_on

),

chains as (

    select
        symbol,
        valid_from,
        valid_to,
        case
            when valid_from = date '0001-01-01' then symbol
            else symbol || '@' || cast(valid_from as text)
        end as security_id
    from linked
    where came_from is null

    union all

    select
        linked.symbol,
        linked.valid_from,
        linked.valid_to,
        chains.security_id
    from linked
    inner join chains
        on
            linked.came_from = chains.symbol
            and linked.valid_from = chains.valid_to

)

select
    symbol,
    valid_from,
    valid_to,
    security_id
from chains
