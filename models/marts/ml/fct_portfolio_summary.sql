{#
  A year has 252 sessions. The interval of the Sharpe ratio is A. Lo's (The Statistics of Sharpe Ratios,
  Financial Analysts Journal 58(4), 2002) for independent returns; shares that seldom trade make
  returns follow each other, and the interval then is too narrow.
#}
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
        avg(net_return) / nullif(stddev_samp(net_return), 0) as sharpe_daily,
        avg(gross_return) / nullif(avg(turnover), 0) as break_even_cost,
        min(drawdown_net) as max_drawdown_net
    from daily
    group by run_id, segment, strategy

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
    totals.net_return_year,
    totals.cost_year,
    totals.turnover_year,
    totals.volatility_year,
    sqrt(252) * totals.sharpe_daily as sharpe_net,
    sqrt(252) * (
        totals.sharpe_daily
        - 1.96 * sqrt((1 + totals.sharpe_daily * totals.sharpe_daily / 2) / totals.n_sessions)
    ) as sharpe_net_ci_low,
    sqrt(252) * (
        totals.sharpe_daily
        + 1.96 * sqrt((1 + totals.sharpe_daily * totals.sharpe_daily / 2) / totals.n_sessions)
    ) as sharpe_net_ci_high,
    totals.max_drawdown_net,
    10000 * totals.break_even_cost as break_even_cost_bp,
    case
        when totals.strategy != 'universe'
            then
                {{ var('capacity_participation') }}
                * capacity.low_adv * 21 * breadth.shares_of_a_tenth
    end as capacity_floor
from totals
left join capacity
    on totals.run_id = capacity.run_id and totals.segment = capacity.segment
left join breadth
    on totals.run_id = breadth.run_id and totals.segment = breadth.segment
