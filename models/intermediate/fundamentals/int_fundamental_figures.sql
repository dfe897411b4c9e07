{#
  What follows from the statements known in each range of int_fundamentals_versions: flows over
  twelve months, per-share values, growth and trends, each from the latest revision of each period
  known then. docs/fundamentals.md has every formula.
#}
{% set flows = ['net_income', 'revenue', 'free_cash_flow'] %}
{% set three_quarters = [
    'abs(lag(revenue_quarter) over in_time)', 'abs(lag(revenue_quarter, 2) over in_time)',
    'abs(lag(revenue_quarter, 3) over in_time)'
] | join(', ') %}
{% set trended = ['roe', 'eps', 'margin', 'vendor_roe', 'vendor_eps', 'vendor_margin'] %}

with versions as (

    select * from {{ ref('int_fundamentals_versions') }}

),

reports as (

    select * from {{ ref('int_fundamental_reports') }}

),

share_counts as (

    select * from {{ ref('int_share_counts') }}
    where shares is not null

),

known as (

    select
        versions.security_id,
        versions.valid_from,
        reports.period_end,
        reports.period_type,
        reports.eps,
        reports.roe,
        reports.profit_margin,
        reports.net_income,
        reports.revenue,
        reports.free_cash_flow,
        reports.equity,
        row_number() over (
            partition by versions.security_id, versions.valid_from, reports.period_end
            order by reports.available_at desc, reports.updated_at desc nulls last, reports.period_rank
        ) as recency
    from versions
    inner join reports
        on
            versions.security_id = reports.security_id
            and versions.valid_from >= reports.available_at
            and (versions.valid_from < reports.superseded_at or reports.superseded_at is null)

),

-- twelve months a year ago reach back 24 months, and a derived quarter in them nine more
periods as (

    select
        security_id,
        valid_from,
        period_end,
        {% for flow in flows -%}
            max(case when period_type = 'quarter' then {{ flow }} end) as {{ flow }}_quarter,
            max(case when period_type = 'half' then {{ flow }} end) as {{ flow }}_half,
            max(case when period_type = 'year' then {{ flow }} end) as {{ flow }}_year,
            max(case when period_type = 'ttm' then {{ flow }} end) as {{ flow }}_ttm,
        {% endfor -%}
        coalesce(
            max(case when period_type = 'quarter' then equity end),
            max(case when period_type = 'half' then equity end),
            max(case when period_type = 'year' then equity end),
            max(case when period_type = 'ttm' then equity end)
        ) as equity,
        max(case when recency = 1 then roe end) as vendor_roe,
        max(case when recency = 1 then eps end) as vendor_eps,
        max(case when recency = 1 then profit_margin end) as vendor_margin,
        row_number() over (partition by security_id, valid_from order by period_end desc) as period_number
    from known
    group by security_id, valid_from, period_end

),

-- the latest accepted count filed for the period
counts as (

    select distinct on (periods.security_id, periods.valid_from, periods.period_end)
        periods.security_id,
        periods.valid_from,
        periods.period_end,
        share_counts.shares,
        share_counts.split_factor,
        share_counts.shares_aligned
    from periods
    inner join share_counts
        on
            periods.security_id = share_counts.security_id
            and periods.period_end = share_counts.period_end
            and periods.valid_from >= share_counts.available_at
    where periods.period_number <= 16
    order by
        periods.security_id asc,
        periods.valid_from asc,
        periods.period_end asc,
        share_counts.available_at desc

),

spaced as (

    select
        periods.*,
        counts.shares,
        counts.split_factor,
        counts.shares_aligned,
        periods.period_end - lag(periods.period_end) over in_time between 70 and 125 as follows_quarter,
        periods.period_end - lag(periods.period_end) over in_time between 150 and 215 as follows_half
    from periods
    left join counts
        on
            periods.security_id = counts.security_id
            and periods.valid_from = counts.valid_from
            and periods.period_end = counts.period_end
    where periods.period_number <= 16
    window in_time as (
        partition by periods.security_id, periods.valid_from order by periods.period_end
    )

),

chained as (

    select
        *,
        follows_quarter
        and lag(follows_quarter) over in_time
        and lag(follows_quarter, 2) over in_time as is_fourth_quarter
    from spaced
    window in_time as (partition by security_id, valid_from order by period_end)

),

-- a year's revenue that leaves for its last quarter or half a size the others do not have is wrong
checked as (

    select
        {% for flow in flows if flow != 'revenue' -%}
            {{ flow }}_year as {{ flow }}_year_checked,
        {% endfor -%}
        case
            when
                is_fourth_quarter
                and coalesce(
                    revenue_year
                    - lag(revenue_quarter) over in_time
                    - lag(revenue_quarter, 2) over in_time
                    - lag(revenue_quarter, 3) over in_time
                    not between 0.3 * least({{ three_quarters }}) and 2.5 * greatest({{ three_quarters }}),
                    false
                )
                then null
            when
                follows_half
                and coalesce(
                    revenue_year - lag(revenue_half) over in_time
                    not between 0.3 * abs(lag(revenue_half) over in_time)
                    and 2.5 * abs(lag(revenue_half) over in_time),
                    false
                )
                then null
            else revenue_year
        end as revenue_year_checked,
        *
    from chained
    window in_time as (partition by security_id, valid_from order by period_end)

),

-- the last quarter or half of a fiscal year is often only inside the year
completed as (

    select
        {% for flow in flows -%}
            coalesce(
                {{ flow }}_quarter,
                case
                    when is_fourth_quarter
                        then
                            {{ flow }}_year_checked
                            - lag({{ flow }}_quarter) over in_time
                            - lag({{ flow }}_quarter, 2) over in_time
                            - lag({{ flow }}_quarter, 3) over in_time
                end
            ) as {{ flow }}_of_quarter,
            coalesce(
                {{ flow }}_half,
                case when follows_half then {{ flow }}_year_checked - lag({{ flow }}_half) over in_time end
            ) as {{ flow }}_of_half,
        {% endfor -%}
        *
    from checked
    window in_time as (partition by security_id, valid_from order by period_end)

),

summed as (

    select
        *,
        {% for flow in flows -%}
            coalesce(
                {{ flow }}_ttm,
                {{ flow }}_year_checked,
                case
                    when is_fourth_quarter
                        then
                            {{ flow }}_of_quarter
                            + lag({{ flow }}_of_quarter) over in_time
                            + lag({{ flow }}_of_quarter, 2) over in_time
                            + lag({{ flow }}_of_quarter, 3) over in_time
                end,
                case
                    when follows_half
                        then {{ flow }}_of_half + lag({{ flow }}_of_half) over in_time
                end
            ) as {{ flow }}_12m,
        {% endfor -%}
        -- shares of every period in the basis of the latest one's own filing
        shares_aligned / first_value(split_factor) over newest_first as shares_comparable
    from completed
    window
        in_time as (partition by security_id, valid_from order by period_end),
        newest_first as (partition by security_id, valid_from order by period_end desc)

),

valued as (

    select
        *,
        case when equity > 0 then net_income_12m / equity end as roe,
        net_income_12m / shares_comparable as eps,
        case when revenue_12m > 0 then net_income_12m / revenue_12m end as margin
    from summed

),

compared as (

    select
        {% for value in ['revenue_12m', 'eps'] -%}
            case
                when period_end - lag(period_end, 4) over in_time between 350 and 380
                    then lag({{ value }}, 4) over in_time
                when period_end - lag(period_end, 2) over in_time between 350 and 380
                    then lag({{ value }}, 2) over in_time
                when period_end - lag(period_end) over in_time between 350 and 380
                    then lag({{ value }}) over in_time
            end as {{ value }}_year_ago,
        {% endfor -%}
        {% for value in trended -%}
            (
                3 * ({{ value }} - lag({{ value }}, 3) over in_time)
                + lag({{ value }}) over in_time
                - lag({{ value }}, 2) over in_time
            ) / 10 as {{ value }}_trend_4,
        {% endfor -%}
        *
    from valued
    window in_time as (partition by security_id, valid_from order by period_end)

)

select
    security_id,
    valid_from,
    period_end,
    (
        net_income_12m is not null or revenue_12m is not null or equity is not null
    ) as has_statements,
    net_income_12m,
    revenue_12m,
    free_cash_flow_12m,
    equity,
    shares,
    shares_aligned,
    roe,
    eps,
    margin as profit_margin,
    case when revenue_12m_year_ago > 0 then revenue_12m / revenue_12m_year_ago - 1 end as revenue_growth_yoy,
    (eps - eps_year_ago) / nullif(abs(eps_year_ago), 0) as eps_growth,
    roe_trend_4,
    eps_trend_4,
    margin_trend_4,
    vendor_roe_trend_4,
    vendor_eps_trend_4,
    vendor_margin_trend_4
from compared
where period_number = 1
