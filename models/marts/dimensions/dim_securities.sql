with daily_grid as (

    select * from {{ ref('int_daily_grid') }}

),

securities as (

    select * from {{ ref('stg_securities') }}

),

sector_versions as (

    select * from {{ ref('int_sector_versions') }}

),

last_session as (

    select max(session_idx) as session_idx
    from daily_grid

),

histories as (

    select
        symbol,
        security_id,
        min(trade_date) as first_trade_date,
        max(case when is_traded then trade_date end) as last_trade_date,
        max(session_idx) as last_session_idx,
        sum(case when is_traded then 1 else 0 end) as traded_sessions,
        count(distinct spell) as spells
    from daily_grid
    group by symbol, security_id

),

-- a code that two companies used in turn: the later one is described
latest_holders as (

    select distinct on (symbol)
        symbol,
        security_id,
        first_trade_date,
        last_trade_date,
        last_session_idx,
        traded_sessions,
        spells
    from histories
    order by symbol, last_trade_date desc nulls last, security_id

),

latest_sectors as (

    select
        security_id,
        sector
    from sector_versions
    where before_session_idx is null

),

symbols as (

    select symbol
    from latest_holders

    union

    select symbol
    from securities

)

select
    symbols.symbol,
    coalesce(latest_holders.security_id, symbols.symbol) as security_id,
    securities.name,
    coalesce(securities.kind, 'unknown') as kind,
    coalesce(latest_sectors.sector, securities.sector) as sector,
    securities.industry,
    securities.listed_on,
    securities.delisted_on,
    latest_holders.first_trade_date,
    latest_holders.last_trade_date,
    cast(coalesce(latest_holders.traded_sessions, 0) as bigint) as traded_sessions,
    cast(coalesce(latest_holders.spells, 0) as integer) as spells,
    coalesce(latest_holders.last_session_idx = last_session.session_idx, false) as is_listed
from symbols
cross join last_session
left join latest_holders
    on symbols.symbol = latest_holders.symbol
left join securities
    on symbols.symbol = securities.symbol
left join latest_sectors
    on coalesce(latest_holders.security_id, symbols.symbol) = latest_sectors.security_id
