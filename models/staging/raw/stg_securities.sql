with securities as (

    select * from {{ source('raw', 'securities') }}

),

described as (

    select
        {{ normalise_symbol('symbol') }} as symbol,
        name,
        coalesce(kind, 'unknown') as kind,
        sector,
        industry,
        listed_on,
        case when {{ known_by('delisting_available_at') }} then delisted_on end as delisted_on,
        case when {{ known_by('delisting_available_at') }} then delisting_available_at end
            as delisting_available_at,
        loaded_at
    from securities

),

-- two spellings of one symbol (BHP, BHP.AX) are one security: the latest description wins
latest as (

    select distinct on (symbol)
        symbol,
        name,
        kind,
        sector,
        industry,
        listed_on,
        delisted_on,
        delisting_available_at
    from described
    order by symbol, loaded_at desc nulls last, name nulls last

)

select
    symbol,
    name,
    kind,
    sector,
    industry,
    listed_on,
    delisted_on,
    delisting_available_at
from latest
