{#
  Fundamentals and market capitalisation of each row of the grid, the part that needs no other
  company: the version known at the session's decision time, with the session's close. A report is
  joined by the sessions it holds for; older than fundamental_max_age_days it says nothing.
#}
{% set is_split_adjusted = market_var('price_basis') == 'split_adjusted' %}
{% set ratios = [
    'roe', 'eps', 'profit_margin', 'revenue_growth_yoy', 'eps_growth', 'roe_trend_4', 'eps_trend_4',
    'margin_trend_4'
] %}
{% set derives = market_var('fundamental_ratios') == 'statements' %}

with daily_grid as (

    select * from {{ ref('int_daily_grid') }}

),

versions as (

    select * from {{ ref('int_fundamentals_versions') }}

),

figures as (

    select * from {{ ref('int_fundamental_figures') }}

),

session_days as (

    select * from {{ ref('int_session_days') }}

),

directory_daily as (

    select * from {{ ref('int_directory_daily') }}

),

first_day as (

    select min(calendar_day) as calendar_day
    from session_days

),

-- several versions may become usable at one session (a weekend's): the latest counts
by_session as (

    select distinct on (versions.security_id, session_days.session_idx)
        versions.security_id,
        versions.valid_from,
        session_days.session_idx
    from versions
    cross join first_day
    inner join session_days
        on
            greatest({{ usable_on('versions.valid_from') }}, first_day.calendar_day)
            = session_days.calendar_day
    order by versions.security_id asc, session_days.session_idx asc, versions.valid_from desc

),

version_ranges as (

    select
        security_id,
        valid_from,
        session_idx as from_session_idx,
        lead(session_idx) over (partition by security_id order by session_idx) as before_session_idx
    from by_session

),

-- the last session decided when the report came out: per-share values are in its shares
report_sessions as (

    select
        versions.security_id,
        versions.valid_from,
        session_days.session_idx - 1 as report_session_idx
    from versions
    cross join first_day
    inner join session_days
        on
            greatest({{ usable_on('versions.available_at') }}, first_day.calendar_day)
            = session_days.calendar_day

),

reported as (

    select
        version_ranges.security_id,
        version_ranges.from_session_idx,
        version_ranges.before_session_idx,
        version_ranges.valid_from as available_at,
        report_sessions.report_session_idx,
        versions.available_at as report_available_at,
        versions.period_end,
        case when {{ 'figures.has_statements' if derives else 'false' }} then 'statements' else 'vendor' end
            as basis,
        versions.pe_ratio as vendor_pe_ratio,
        versions.pb_ratio as vendor_pb_ratio,
        versions.eps as vendor_eps,
        versions.roe as vendor_roe,
        versions.debt_to_equity,
        versions.market_cap as vendor_market_cap,
        versions.div_yield,
        versions.revenue_growth_yoy as vendor_revenue_growth_yoy,
        versions.profit_margin as vendor_profit_margin,
        versions.current_ratio,
        versions.quick_ratio,
        versions.eps_growth as vendor_eps_growth,
        versions.free_cash_flow as vendor_free_cash_flow,
        figures.net_income_12m,
        figures.free_cash_flow_12m,
        figures.equity,
        {{ 'figures.shares_aligned' if is_split_adjusted else 'figures.shares' }} as shares,
        figures.roe,
        figures.eps,
        figures.profit_margin,
        figures.revenue_growth_yoy,
        figures.eps_growth,
        figures.roe_trend_4,
        figures.eps_trend_4,
        figures.margin_trend_4,
        figures.vendor_roe_trend_4,
        figures.vendor_eps_trend_4,
        figures.vendor_margin_trend_4
    from version_ranges
    inner join versions
        on
            version_ranges.security_id = versions.security_id
            and version_ranges.valid_from = versions.valid_from
    inner join report_sessions
        on
            version_ranges.security_id = report_sessions.security_id
            and version_ranges.valid_from = report_sessions.valid_from
    inner join figures
        on
            version_ranges.security_id = figures.security_id
            and version_ranges.valid_from = figures.valid_from

),

-- one way for all ratios of a report; figures of one vendor and ratios of another do not mix
chosen as (

    select
        security_id,
        from_session_idx,
        before_session_idx,
        report_session_idx,
        available_at,
        report_available_at,
        period_end,
        basis,
        {% for ratio in ratios -%}
            case basis when 'statements' then {{ ratio }} else vendor_{{ ratio }} end as {{ ratio }},
        {% endfor -%}
        {% if derives -%}
            -- a statement's own figure is one quarter's or half's
            free_cash_flow_12m as free_cash_flow,
        {% else -%}
            vendor_free_cash_flow as free_cash_flow,
        {% endif -%}
        debt_to_equity,
        div_yield,
        current_ratio,
        quick_ratio,
        case basis when 'statements' then net_income_12m end as net_income_12m,
        case basis when 'statements' then equity end as equity,
        -- a size needs a count alone
        {{ 'shares' if derives else 'cast(null as double precision)' }} as shares,
        case basis when 'vendor' then vendor_pe_ratio end as vendor_pe_ratio,
        case basis when 'vendor' then vendor_pb_ratio end as vendor_pb_ratio,
        case basis when 'vendor' then vendor_eps end as vendor_eps,
        vendor_market_cap
    from reported

),

-- the capital factor of those sessions
report_factors as (

    select distinct
        daily_grid.spell_key,
        daily_grid.session_idx as report_session_idx,
        daily_grid.capital_factor
    from daily_grid
    inner join report_sessions
        on
            daily_grid.security_id = report_sessions.security_id
            and daily_grid.session_idx = report_sessions.report_session_idx

),

joined as (

    select
        daily_grid.spell_key,
        daily_grid.session_idx,
        daily_grid.close,
        directory_daily.market_cap as directory_market_cap,
        directory_daily.available_at as directory_available_at,
        cast(daily_grid.trade_date - cast(chosen.report_available_at as date) as bigint)
            as fund_age_days,
        -- shares today over shares at the report
        coalesce(report_factors.capital_factor, 1) / daily_grid.capital_factor as price_factor,
        coalesce(
            daily_grid.sessions_since_break >= daily_grid.session_idx - chosen.report_session_idx, true
        ) as is_unbroken,
        chosen.available_at,
        chosen.report_available_at,
        chosen.period_end,
        chosen.basis,
        {% for ratio in ratios -%}
            chosen.{{ ratio }},
        {% endfor -%}
        chosen.free_cash_flow,
        chosen.debt_to_equity,
        chosen.div_yield,
        chosen.current_ratio,
        chosen.quick_ratio,
        chosen.net_income_12m,
        chosen.equity,
        chosen.shares,
        chosen.vendor_pe_ratio,
        chosen.vendor_pb_ratio,
        chosen.vendor_eps,
        chosen.vendor_market_cap
    from daily_grid
    left join chosen
        on
            daily_grid.security_id = chosen.security_id
            and daily_grid.session_idx >= chosen.from_session_idx
            and (daily_grid.session_idx < chosen.before_session_idx or chosen.before_session_idx is null)
            and daily_grid.trade_date - cast(chosen.report_available_at as date)
            <= {{ var('fundamental_max_age_days') }}
    left join report_factors
        on
            daily_grid.spell_key = report_factors.spell_key
            and chosen.report_session_idx = report_factors.report_session_idx
    left join directory_daily
        on
            daily_grid.security_id = directory_daily.security_id
            and daily_grid.session_idx = directory_daily.session_idx

),

priced as (

    select
        *,
        -- a break nobody has explained yet leaves shares and price in different bases
        case when is_unbroken then shares / price_factor * close end as statement_market_cap,
        case when is_unbroken then vendor_eps * price_factor / close end as vendor_earnings_yield
    from joined

),

sized as (

    select
        *,
        coalesce(directory_market_cap, statement_market_cap, vendor_market_cap) as market_cap,
        case
            when directory_market_cap is not null then 'directory'
            when statement_market_cap is not null then 'statements'
            when vendor_market_cap is not null then 'vendor'
        end as market_cap_source,
        -- the day's close where there is a count, else the company's size from elsewhere
        coalesce(statement_market_cap, directory_market_cap, vendor_market_cap) as equity_value
    from priced

)

select
    spell_key,
    session_idx,
    -- of whatever the row rests on: a snapshot without a size gives it nothing
    greatest(
        available_at,
        case when directory_market_cap is not null then directory_available_at end
    ) as available_at,
    report_available_at as fund_available_at,
    period_end as fund_period_end,
    case when period_end is not null then basis end as fundamentals_basis,
    market_cap,
    market_cap_source,
    case basis
        when 'statements' then case when net_income_12m > 0 then equity_value / net_income_12m end
        else vendor_pe_ratio
    end as pe_ratio,
    case basis
        when 'statements' then case when equity > 0 then equity_value / equity end
        else vendor_pb_ratio
    end as pb_ratio,
    eps,
    roe,
    debt_to_equity,
    div_yield,
    revenue_growth_yoy,
    profit_margin,
    current_ratio,
    quick_ratio,
    eps_growth,
    free_cash_flow,
    case when market_cap > 0 then ln(market_cap) end as market_cap_log,
    case basis
        when 'statements' then {{ safe_divide('net_income_12m', 'equity_value') }}
        when 'vendor'
            then
                case
                    when vendor_eps is not null then vendor_earnings_yield
                    else {{ safe_divide('1', 'vendor_pe_ratio') }}
                end
    end as pe_inverse,
    case basis
        when 'statements' then {{ safe_divide('equity', 'equity_value') }}
        when 'vendor' then {{ safe_divide('1', 'vendor_pb_ratio') }}
    end as book_to_price,
    {{ safe_divide('free_cash_flow', 'equity_value') }} as fcf_yield,
    roe_trend_4,
    eps_trend_4,
    margin_trend_4,
    fund_age_days
from sized
