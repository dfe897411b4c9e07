{#
  The newest report of every symbol that ever reported, for BI. Not point in time: training
  never reads it.
#}
{% set derives = market_var('fundamental_ratios') == 'statements' %}

with fundamentals as (

    select * from {{ fundamentals_source() }}

),

versions as (

    select * from {{ ref('int_fundamentals_versions') }}

),

figures as (

    select * from {{ ref('int_fundamental_figures') }}

),

latest as (

    select distinct on (symbol)
        symbol,
        period_end,
        period_type,
        available_at,
        updated_at,
        available_at_assumed,
        pe_ratio,
        pb_ratio,
        eps,
        roe,
        debt_to_equity,
        market_cap,
        div_yield,
        revenue_growth_yoy,
        profit_margin,
        current_ratio,
        quick_ratio,
        eps_growth,
        free_cash_flow,
        sector,
        industry
    from fundamentals
    order by
        symbol asc,
        period_end desc nulls last,
        available_at desc nulls last,
        updated_at desc nulls last,
        case period_type when 'ttm' then 1 when 'year' then 2 when 'half' then 3 else 4 end asc

),

-- what was derived for the range that counts now
derived as (

    select
        versions.symbol,
        versions.period_end,
        versions.available_at,
        figures.has_statements,
        figures.net_income_12m,
        figures.revenue_12m,
        figures.free_cash_flow_12m,
        figures.equity,
        figures.shares,
        figures.eps,
        figures.roe,
        figures.profit_margin,
        figures.revenue_growth_yoy,
        figures.eps_growth
    from versions
    inner join figures
        on
            versions.security_id = figures.security_id
            and versions.valid_from = figures.valid_from
    where versions.valid_to is null

),

joined as (

    select
        latest.symbol,
        latest.period_end,
        latest.period_type,
        latest.available_at,
        latest.updated_at,
        latest.available_at_assumed,
        case
            when {{ 'coalesce(derived.has_statements, false)' if derives else 'false' }} then 'statements'
            else 'vendor'
        end as fundamentals_basis,
        latest.pe_ratio,
        latest.pb_ratio,
        latest.debt_to_equity,
        latest.market_cap,
        latest.div_yield,
        latest.current_ratio,
        latest.quick_ratio,
        latest.sector,
        latest.industry,
        derived.net_income_12m,
        derived.revenue_12m,
        derived.equity,
        derived.shares,
        {% for ratio in ['eps', 'roe', 'profit_margin', 'revenue_growth_yoy', 'eps_growth'] -%}
            latest.{{ ratio }} as vendor_{{ ratio }},
            derived.{{ ratio }} as derived_{{ ratio }},
        {% endfor -%}
        latest.free_cash_flow as vendor_free_cash_flow,
        derived.free_cash_flow_12m as derived_free_cash_flow
    from latest
    left join derived
        on
            latest.symbol = derived.symbol
            and latest.period_end = derived.period_end
            and latest.available_at = derived.available_at

)

select
    symbol,
    period_end,
    period_type,
    available_at,
    updated_at,
    available_at_assumed,
    fundamentals_basis,
    pe_ratio,
    pb_ratio,
    {% for ratio in ['eps', 'roe', 'profit_margin', 'revenue_growth_yoy', 'eps_growth', 'free_cash_flow'] -%}
        case fundamentals_basis when 'statements' then derived_{{ ratio }} else vendor_{{ ratio }} end
            as {{ ratio }},
    {% endfor -%}
    debt_to_equity,
    market_cap,
    div_yield,
    current_ratio,
    quick_ratio,
    net_income_12m,
    revenue_12m,
    equity,
    shares,
    sector,
    industry
from joined
