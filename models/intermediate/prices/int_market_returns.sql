{#
  One row per market session: the benchmark's return since the session before and over the last 21
  and 63 sessions. For a session the index lacks (or the one after it, whose return would span two)
  the equal-weighted mean of its members' returns, clipped at one half, stands in.
#}
{{ config(pre_hook="{{ join_in_key_order() }}") }}

with sessions as (

    select
        trade_date,
        session_idx
    from {{ ref('int_sessions') }}
    where session_status = 'market'

),

index_levels as (

    select
        trade_date,
        close
    from {{ ref('stg_index_levels') }}
    where index_code = '{{ market_var("benchmark_index") }}'

),

momentum_features as (

    select * from {{ ref('int_momentum_features') }}

),

universe as (

    select * from {{ ref('int_universe') }}

),

equal_weighted as (

    select
        universe.session_idx,
        {{ exact_mean('greatest(least(momentum_features.ret_1d, 0.5), -0.5)', 12) }}
            as equal_weighted_return
    from universe
    inner join momentum_features
        on
            universe.spell_key = momentum_features.spell_key
            and universe.session_idx = momentum_features.session_idx
    where
        universe.is_member
        and momentum_features.ret_1d is not null
    group by universe.session_idx

),

indexed as (

    select
        sessions.session_idx,
        sessions.trade_date,
        equal_weighted.equal_weighted_return,
        index_levels.close / lag(index_levels.close) over by_session - 1 as index_return_1d,
        index_levels.close / lag(index_levels.close, 21) over by_session - 1 as index_return_21d,
        index_levels.close / lag(index_levels.close, 63) over by_session - 1 as index_return_63d
    from sessions
    left join index_levels
        on sessions.trade_date = index_levels.trade_date
    left join equal_weighted
        on sessions.session_idx = equal_weighted.session_idx
    window by_session as (order by sessions.session_idx)

),

completed as (

    select
        session_idx,
        trade_date,
        index_return_21d,
        index_return_63d,
        coalesce(index_return_1d, equal_weighted_return) as market_return_1d,
        index_return_1d is null as is_equal_weighted
    from indexed

),

chained as (

    select
        session_idx,
        trade_date,
        index_return_21d,
        index_return_63d,
        market_return_1d,
        is_equal_weighted,
        count(market_return_1d) over last_21 as returns_21,
        count(market_return_1d) over last_63 as returns_63,
        {{ exact_sum('ln(1 + market_return_1d)', 10, window='last_21') }} as log_return_21d,
        {{ exact_sum('ln(1 + market_return_1d)', 10, window='last_63') }} as log_return_63d
    from completed
    window
        last_21 as (order by session_idx rows between 20 preceding and current row),
        last_63 as (order by session_idx rows between 62 preceding and current row)

)

select
    session_idx,
    trade_date,
    market_return_1d,
    coalesce(index_return_21d, case when returns_21 = 21 then exp(log_return_21d) - 1 end)
        as market_return_21d,
    coalesce(index_return_63d, case when returns_63 = 63 then exp(log_return_63d) - 1 end)
        as market_return_63d,
    is_equal_weighted
from chained
