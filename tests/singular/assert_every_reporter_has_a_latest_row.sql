-- Symbols that ever reported, straight from what was delivered, against fct_fundamentals_latest: a
-- latest table that has lost symbols, or has one too many, fails.
with reported as (

    {% if var('fundamentals_source') == 'snapshot' -%}
        select distinct {{ normalise_symbol('symbol') }} as symbol
        from {{ ref('fundamentals_snapshot') }}
    {%- else -%}
        select distinct {{ normalise_symbol('symbol') }} as symbol
        from {{ source('raw', 'fundamentals') }}
        where {{ known_by('available_at') }}
    {%- endif %}

),

latest as (

    select symbol
    from {{ ref('fct_fundamentals_latest') }}

)

select
    reported.symbol as reported_symbol,
    latest.symbol as latest_symbol
from reported
full join latest
    on reported.symbol = latest.symbol
where reported.symbol is null or latest.symbol is null
