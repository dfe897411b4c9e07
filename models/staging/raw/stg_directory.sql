with directory as (

    select * from {{ source('raw', 'directory') }}

)

select
    {{ normalise_symbol('symbol') }} as symbol,
    snapshot_date,
    available_at,
    -- a market cap of 0 is a listing day's blank, not a size
    case when market_cap > 0 then {{ finite('market_cap') }} end as market_cap,
    nullif(trim(sector), '') as sector
from directory
where {{ known_by('available_at') }}
