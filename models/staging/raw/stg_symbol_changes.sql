with symbol_changes as (

    select * from {{ source('raw', 'symbol_changes') }}

)

select distinct
    {{ normalise_symbol('old_symbol') }} as old_symbol,
    {{ normalise_symbol('new_symbol') }} as new_symbol,
    effective_on
from symbol_changes
where {{ known_by(decision_at('effective_on')) }}
