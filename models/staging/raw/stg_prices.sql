{#
  A table, unlike the other staging models: several models read it, and finding the latest version of
  every bar is the one thing here that costs.
#}
{{ config(materialized='table') }}

with prices as (

    select * from {{ source('raw', 'prices') }}

),

known as (

    select
        {{ normalise_symbol('symbol') }} as symbol,
        trade_date,
        available_at,
        loaded_at,
        {{ finite('open') }} as open,
        {{ finite('high') }} as high,
        {{ finite('low') }} as low,
        {{ finite('close') }} as close,
        {{ finite('volume') }} as volume,
        {{ finite('adj_close') }} as adj_close
    from prices
    where {{ known_by('available_at', 'trade_date') }}

),

-- A later correction is a newer version of the same bar. Numbered, as DuckDB makes of `distinct on` an
-- aggregate of every column, which takes twice as long.
versions as (

    select
        *,
        row_number() over (
            partition by symbol, trade_date
            order by available_at desc nulls last, loaded_at desc nulls last
        ) as recency
    from known

)

select
    symbol,
    trade_date,
    available_at,
    open,
    high,
    low,
    close,
    volume,
    adj_close
from versions
where recency = 1
order by symbol, trade_date
