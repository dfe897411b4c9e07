{#
  The capital adjustment factor by half-open range of sessions: the product of the share ratios of
  a spell's capital changes up to the session. Spells without a change are not here; theirs is 1.
#}
with price_breaks as (

    select * from {{ ref('int_price_breaks') }}

),

capital_changes as (

    select
        security_id,
        spell,
        session_idx,
        share_ratio
    from price_breaks
    where verdict = 'capital_change'

),

products as (

    select
        capital_changes.security_id,
        capital_changes.spell,
        capital_changes.session_idx,
        case
            when count(*) = 1 then max(earlier.share_ratio)
            else exp({{ exact_sum('ln(earlier.share_ratio)', 10) }})
        end as capital_factor
    from capital_changes
    inner join capital_changes as earlier
        on
            capital_changes.security_id = earlier.security_id
            and capital_changes.spell = earlier.spell
            and capital_changes.session_idx >= earlier.session_idx
    group by
        capital_changes.security_id,
        capital_changes.spell,
        capital_changes.session_idx

)

select
    products.security_id,
    products.spell,
    products.session_idx as from_session_idx,
    min(later.session_idx) as before_session_idx,
    max(products.capital_factor) as capital_factor
from products
left join products as later
    on
        products.security_id = later.security_id
        and products.spell = later.spell
        and products.session_idx < later.session_idx
group by products.security_id, products.spell, products.session_idx
