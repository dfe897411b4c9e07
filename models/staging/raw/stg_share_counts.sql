{#
  Share counts as filed, with what else was in the row, and the close of the latest session by then.
  Read past the var as_of on purpose: on a market whose quotes are split-adjusted, every quote of the
  file is in the share basis of its newest session, so what puts a count into that basis is a
  property of the price file, and an as-of build reads the same file. No figure leaves this path but
  the ratio of a split; which count was known when is decided by stg_fundamentals.
#}
with fundamentals as (

    select * from {{ source('raw', 'fundamentals') }}

),

prices as (

    select * from {{ source('raw', 'prices') }}

),

counts as (

    select
        {{ normalise_symbol('symbol') }} as symbol,
        period_end,
        period_type,
        available_at,
        updated_at,
        {{ finite('shares_outstanding') }} as shares_filed,
        {{ finite('revenue') }} * case period_type when 'quarter' then 4 when 'half' then 2 else 1 end
            as revenue_a_year,
        {{ finite('total_assets') }} as total_assets,
        {{ finite('equity') }} as equity
    from fundamentals

),

filed as (

    select
        symbol,
        period_end,
        period_type,
        available_at,
        shares_filed
    from counts
    where shares_filed is not null

),

-- the other figures of the period, known by then, may stand in a row of another length
beside as (

    select
        filed.symbol,
        filed.period_end,
        filed.period_type,
        filed.available_at,
        filed.shares_filed,
        counts.period_type as beside_type,
        counts.revenue_a_year,
        counts.total_assets,
        counts.equity,
        row_number() over (
            partition by
                filed.symbol, filed.period_end, filed.period_type, filed.available_at, counts.period_type
            order by counts.available_at desc, counts.updated_at desc nulls last
        ) as recency
    from filed
    inner join counts
        on
            filed.symbol = counts.symbol
            and filed.period_end = counts.period_end
            and filed.available_at >= counts.available_at

),

joined as (

    select
        symbol,
        period_end,
        period_type,
        available_at,
        shares_filed,
        coalesce(
            max(case when beside_type = 'quarter' then revenue_a_year end),
            max(case when beside_type = 'half' then revenue_a_year end),
            max(case when beside_type = 'year' then revenue_a_year end),
            max(case when beside_type = 'ttm' then revenue_a_year end)
        ) as revenue_a_year,
        coalesce(
            max(case when beside_type = 'quarter' then total_assets end),
            max(case when beside_type = 'half' then total_assets end),
            max(case when beside_type = 'year' then total_assets end),
            max(case when beside_type = 'ttm' then total_assets end)
        ) as total_assets,
        coalesce(
            max(case when beside_type = 'quarter' then equity end),
            max(case when beside_type = 'half' then equity end),
            max(case when beside_type = 'year' then equity end),
            max(case when beside_type = 'ttm' then equity end)
        ) as equity
    from beside
    where recency = 1
    group by symbol, period_end, period_type, available_at, shares_filed

),

quoted as (

    select
        {{ normalise_symbol('symbol') }} as symbol,
        trade_date,
        close,
        available_at
    from prices
    where close > 0

),

closes as (

    select distinct on (joined.symbol, joined.available_at)
        joined.symbol,
        joined.available_at,
        quoted.close
    from joined
    inner join quoted
        on
            joined.symbol = quoted.symbol
            and quoted.trade_date > cast(joined.available_at as date) - 11
            and quoted.trade_date <= cast(joined.available_at as date)
    order by
        joined.symbol,
        joined.available_at,
        quoted.trade_date desc,
        quoted.available_at desc

),

filing_times as (

    select distinct
        symbol,
        available_at
    from joined

),

-- a quote that a later split divided is rarely a whole number of cents; some vendors keep single
-- precision, an error of 6e-8 of the price
cents as (

    select
        filing_times.symbol,
        filing_times.available_at,
        count(*) as closes,
        sum(
            case
                when abs(quoted.close * 100 - round(quoted.close * 100)) < quoted.close * 1e-5 then 1
                else 0
            end
        ) as whole_closes
    from filing_times
    inner join quoted
        on
            filing_times.symbol = quoted.symbol
            and quoted.trade_date > cast(filing_times.available_at as date) - 45
            and quoted.trade_date <= cast(filing_times.available_at as date)
    group by filing_times.symbol, filing_times.available_at

),

vintage as (

    select max(trade_date) as last_price_date
    from prices

)

select
    joined.symbol,
    joined.period_end,
    joined.period_type,
    joined.available_at,
    joined.shares_filed,
    joined.revenue_a_year,
    joined.total_assets,
    joined.equity,
    closes.close,
    case when cents.closes >= 10 then cents.whole_closes < 0.95 * cents.closes end as has_divided_quotes,
    vintage.last_price_date
from joined
cross join vintage
left join closes
    on
        joined.symbol = closes.symbol
        and joined.available_at = closes.available_at
left join cents
    on
        joined.symbol = cents.symbol
        and joined.available_at = cents.available_at
