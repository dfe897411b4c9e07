{#
  Every version of the bars that were delivered more than once: the first and its corrections.
  stg_prices has the latest of each.
#}
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

corrected as (

    select
        symbol,
        trade_date
    from known
    group by symbol, trade_date
    having count(*) > 1

)

select
    known.symbol,
    known.trade_date,
    known.available_at,
    known.loaded_at,
    known.open,
    known.high,
    known.low,
    known.close,
    known.volume,
    known.adj_close
from known
inner join corrected
    on
        known.symbol = corrected.symbol
        and known.trade_date = corrected.trade_date
