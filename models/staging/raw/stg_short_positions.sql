with short_positions as (

    select * from {{ source('raw', 'short_positions') }}

)

select
    {{ normalise_symbol('symbol') }} as symbol,
    trade_date,
    available_at,
    {{ finite('short_pct') }} as short_pct
from short_positions
where {{ known_by('available_at') }}
