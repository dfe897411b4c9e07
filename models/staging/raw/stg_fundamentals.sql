with fundamentals as (

    select * from {{ source('raw', 'fundamentals') }}

)

select
    {{ normalise_symbol('symbol') }} as symbol,
    period_end,
    period_type,
    available_at,
    updated_at,
    coalesce(available_at_assumed, false) as available_at_assumed,
    shares_basis,
    {{ finite('pe_ratio') }} as pe_ratio,
    {{ finite('pb_ratio') }} as pb_ratio,
    {{ finite('eps') }} as eps,
    {{ finite('roe') }} as roe,
    {{ finite('debt_to_equity') }} as debt_to_equity,
    -- 0 is a vendor's blank, not a size
    case when market_cap > 0 then {{ finite('market_cap') }} end as market_cap,
    {{ finite('div_yield') }} as div_yield,
    {{ finite('revenue_growth_yoy') }} as revenue_growth_yoy,
    {{ finite('profit_margin') }} as profit_margin,
    {{ finite('current_ratio') }} as current_ratio,
    {{ finite('quick_ratio') }} as quick_ratio,
    {{ finite('eps_growth') }} as eps_growth,
    {{ finite('free_cash_flow') }} as free_cash_flow,
    {{ finite('net_income') }} as net_income,
    {{ finite('revenue') }} as revenue,
    {{ finite('equity') }} as equity,
    {{ finite('total_assets') }} as total_assets,
    {{ finite('shares_outstanding') }} as shares_outstanding,
    nullif(trim(sector), '') as sector,
    nullif(trim(industry), '') as industry
from fundamentals
where {{ known_by('available_at') }}
