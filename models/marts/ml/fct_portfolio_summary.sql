{#
  A year has 252 sessions. Intervals hold for returns that follow each other, as those of shares that
  seldom trade do (macros/evaluation/interval_half_widths.sql); a session's part in the error of the Sharpe
  ratio is its influence, z - sharpe / 2 * (z^2 - 1) with z the return in deviations from the mean.
#}
{%- set keys = ['run_id', 'segment', 'strategy'] %}
with daily as (

    select * from {{ ref('fct_portfolio_daily') }}

),

predictions as (

    select * from {{ ref('int_evaluated_predictions') }}

),

totals as (

    select
        run_id,
        segment,
        strategy,
        min(trade_date) as first_session,
        max(trade_date) as last_session,
        count(*) as n_sessions,
        252 * avg(gross_return) as gross_return_year,
        252 * avg(net_return) as net_return_year,
        252 * avg(cost) as cost_year,
        252 * avg(turnover) as turnover_year,
        sqrt(252) * stddev_samp(net_return) as volatility_year,
        avg(gross_return) as gross_return_mean,
        avg(net_return) as net_return_mean,
        avg(turnover) as turnover_mean,
        nullif(stddev_samp(net_return), 0) as net_return_deviation,
        avg(net_return) / nullif(stddev_samp(net_return), 0) as sharpe_daily,
        avg(gross_return) / nullif(avg(turnover), 0) as break_even_cost,
        min(drawdown_net) as max_drawdown_net
    from daily
    group by run_id, segment, strategy

),

standardised as (

    select
        daily.run_id,
        daily.segment,
        daily.strategy,
        totals.n_sessions,
        totals.sharpe_daily,
        row_number() over in_time - 1 as place,
        daily.gross_return - totals.gross_return_mean as gross_return,
        daily.net_return - totals.net_return_mean as net_return,
        daily.turnover - totals.turnover_mean as turnover,
        (daily.net_return - totals.net_return_mean) / totals.net_return_deviation as z
    from daily
    inner join totals
        on
            daily.run_id = totals.run_id
            and daily.segment = totals.segment
            and daily.strategy = totals.strategy
    window in_time as (
        partition by daily.run_id, daily.segment, daily.strategy order by daily.session_idx
    )

),

deviations as (

    select
        run_id,
        segment,
        strategy,
        place,
        n_sessions,
        gross_return,
        net_return,
        turnover,
        z - sharpe_daily / 2 * (z * z - 1) as sharpe
    from standardised

),

half_widths as (

    {{ interval_half_widths('deviations', keys, ['gross_return', 'net_return', 'turnover', 'sharpe']) }}

),

-- a day's turnover of the least liquid shares of the segment, whether a strategy buys them or not
capacity as (

    select
        run_id,
        'all' as segment,
        percentile_cont(0.05) within group (order by adv_20_median) as low_adv
    from predictions
    group by run_id
    {% for tier, least in var('liquidity_tiers').items() %}
        union all
        select
            run_id,
            '{{ tier }}' as segment,
            percentile_cont(0.05) within group (order by adv_20_median) as low_adv
        from predictions
        where adv_20_median >= {{ least }}
        group by run_id
    {% endfor %}

),

breadth as (

    select
        run_id,
        segment,
        avg(n_rows) / 10 as shares_of_a_tenth
    from {{ ref('fct_session_metrics') }}
    group by run_id, segment

)

select
    totals.run_id,
    totals.segment,
    totals.strategy,
    totals.first_session,
    totals.last_session,
    totals.n_sessions,
    totals.gross_return_year,
    totals.gross_return_year - 252 * half_widths.gross_return as gross_return_year_ci_low,
    totals.gross_return_year + 252 * half_widths.gross_return as gross_return_year_ci_high,
    totals.net_return_year,
    totals.net_return_year - 252 * half_widths.net_return as net_return_year_ci_low,
    totals.net_return_year + 252 * half_widths.net_return as net_return_year_ci_high,
    totals.cost_year,
    totals.turnover_year,
    totals.turnover_year - 252 * half_widths.turnover as turnover_year_ci_low,
    totals.turnover_year + 252 * half_widths.turnover as turnover_year_ci_high,
    totals.volatility_year,
    sqrt(252) * totals.sharpe_daily as sharpe_net,
    sqrt(252) * (totals.sharpe_daily - half_widths.sharpe) as sharpe_net_ci_low,
    sqrt(252) * (totals.sharpe_daily + half_widths.sharpe) as sharpe_net_ci_high,
    totals.max_drawdown_net,
    10000 * totals.break_even_cost as break_even_cost_bp,
    case
        when totals.strategy != 'universe'
            then
                {{ var('capacity_participation') }}
                * capacity.low_adv * 21 * breadth.shares_of_a_tenth
    end as capacity_floor
from totals
left join half_widths
    on
        totals.run_id = half_widths.run_id
        and totals.segment = half_widths.segment
        and totals.strategy = half_widths.strategy
left join capacity
    on totals.run_id = capacity.run_id and totals.segment = capacity.segment
left join breadth
    on totals.run_id = breadth.run_id and totals.segment = breadth.segment
