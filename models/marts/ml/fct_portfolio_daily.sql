with sleeves as (

    select * from {{ ref('int_sleeve_sessions') }}

),

paired as (

    select
        run_id,
        segment,
        session_idx,
        trade_date,
        max(case when leg = 'top' then gross_return end) as top_return,
        max(case when leg = 'top' then cost end) as top_cost,
        max(case when leg = 'top' then turnover end) as top_turnover,
        max(case when leg = 'bottom' then gross_return end) as bottom_return,
        max(case when leg = 'bottom' then cost end) as bottom_cost,
        max(case when leg = 'bottom' then turnover end) as bottom_turnover,
        max(case when leg = 'universe' then gross_return end) as universe_return,
        max(case when leg = 'universe' then cost end) as universe_cost,
        max(case when leg = 'universe' then turnover end) as universe_turnover
    from sleeves
    group by run_id, segment, session_idx, trade_date

),

strategies as (

    select
        run_id,
        segment,
        session_idx,
        trade_date,
        'long_short' as strategy,
        top_return - bottom_return as gross_return,
        top_cost + bottom_cost as cost,
        top_turnover + bottom_turnover as turnover
    from paired
    union all
    select
        run_id,
        segment,
        session_idx,
        trade_date,
        'long_only' as strategy,
        top_return as gross_return,
        top_cost as cost,
        top_turnover as turnover
    from paired
    union all
    select
        run_id,
        segment,
        session_idx,
        trade_date,
        'universe' as strategy,
        universe_return as gross_return,
        universe_cost as cost,
        universe_turnover as turnover
    from paired
    union all
    -- the benchmark is not charged: only what the choice of shares costs
    select
        run_id,
        segment,
        session_idx,
        trade_date,
        'long_less_universe' as strategy,
        top_return - universe_return as gross_return,
        top_cost as cost,
        top_turnover as turnover
    from paired

),

compounded as (

    select
        run_id,
        segment,
        strategy,
        trade_date,
        session_idx,
        gross_return,
        cost,
        gross_return - cost as net_return,
        turnover,
        exp(sum(ln(1 + greatest(gross_return, -0.99))) over so_far) as equity_gross,
        exp(sum(ln(1 + greatest(gross_return - cost, -0.99))) over so_far) as equity_net
    from strategies
    where gross_return is not null
    window so_far as (partition by run_id, segment, strategy order by session_idx)

)

select
    run_id,
    segment,
    strategy,
    trade_date,
    session_idx,
    gross_return,
    cost,
    net_return,
    turnover,
    equity_gross,
    equity_net,
    equity_net / greatest(1, max(equity_net) over so_far) - 1 as drawdown_net
from compounded
window so_far as (partition by run_id, segment, strategy order by session_idx)
