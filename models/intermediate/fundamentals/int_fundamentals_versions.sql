{#
  Which report of a company counts, by half-open validity on knowledge time: among the versions
  known, the latest period, then its latest revision. Every publication opens a range, so that a
  range also fixes what is known of older periods; a restatement of an old period opens one in which
  the newer period stays.
#}
with reports as (

    select * from {{ ref('int_fundamental_reports') }}

),

publications as (

    select
        security_id,
        available_at as valid_from,
        max(period_end) as period_end
    from reports
    group by security_id, available_at

),

ranges as (

    select
        security_id,
        valid_from,
        lead(valid_from) over in_order as valid_to,
        max(period_end) over so_far as period_end
    from publications
    window
        in_order as (partition by security_id order by valid_from),
        so_far as (
            partition by security_id
            order by valid_from
            rows between unbounded preceding and current row
        )

),

versions as (

    select distinct on (ranges.security_id, ranges.valid_from)
        ranges.security_id,
        ranges.valid_from,
        ranges.valid_to,
        reports.symbol,
        reports.period_end,
        reports.period_type,
        reports.available_at,
        reports.updated_at,
        reports.available_at_assumed,
        reports.pe_ratio,
        reports.pb_ratio,
        reports.eps,
        reports.roe,
        reports.debt_to_equity,
        reports.market_cap,
        reports.div_yield,
        reports.revenue_growth_yoy,
        reports.profit_margin,
        reports.current_ratio,
        reports.quick_ratio,
        reports.eps_growth,
        reports.free_cash_flow
    from ranges
    inner join reports
        on
            ranges.security_id = reports.security_id
            and ranges.period_end = reports.period_end
            and ranges.valid_from >= reports.available_at
    order by
        ranges.security_id asc,
        ranges.valid_from asc,
        reports.available_at desc,
        reports.updated_at desc nulls last,
        reports.period_rank asc

)

select * from versions
