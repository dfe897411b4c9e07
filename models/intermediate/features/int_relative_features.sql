{% set sums = {
    'return_1d': {'frames': [60, 252], 'magnitude': 14},
    'return_square': {'frames': [60], 'magnitude': 28},
    'market_product': {'frames': [60, 252], 'magnitude': 28},
} %}

with daily_grid as (

    select * from {{ ref('int_daily_grid') }}

),

market_returns as (

    select * from {{ ref('int_market_returns') }}

),

-- Sessions of a spell follow each other, so the market's own variance over a window is the same for
-- every security: it is taken once per session, from 1,500 rows instead of millions.
market_windows as (

    select
        session_idx,
        market_return_1d,
        market_return_21d,
        market_return_63d,
        count(market_return_1d) over last_60 as returns_60,
        count(market_return_1d) over last_252 as returns_252,
        {{ exact_sum('market_return_1d', 14, window='last_60') }} as sum_60,
        {{ exact_sum('market_return_1d', 14, window='last_252') }} as sum_252,
        {{ exact_sum('market_return_1d * market_return_1d', 14, window='last_60') }} as squares_60,
        {{ exact_sum('market_return_1d * market_return_1d', 14, window='last_252') }}
            as squares_252
    from market_returns
    window
        last_60 as (order by session_idx rows between 59 preceding and current row),
        last_252 as (order by session_idx rows between 251 preceding and current row)

),

market_variances as (

    select
        session_idx,
        market_return_1d,
        market_return_21d,
        market_return_63d,
        returns_60,
        returns_252,
        sum_60,
        sum_252,
        {{ variance_of_sums('sum_60', 'squares_60', 60) }} as variance_60,
        {{ variance_of_sums('sum_252', 'squares_252', 252) }} as variance_252
    from market_windows

),

paired as (

    select
        daily_grid.spell_key,
        daily_grid.session_idx,
        daily_grid.spell_session,
        daily_grid.traded_sessions,
        daily_grid.sessions_since_break,
        daily_grid.return_1d,
        daily_grid.return_1d * daily_grid.return_1d as return_square,
        daily_grid.return_1d * market_returns.market_return_1d as market_product
    from daily_grid
    inner join market_returns
        on daily_grid.session_idx = market_returns.session_idx

),

rolled as (

    select
        spell_key,
        session_idx,
        spell_session,
        traded_sessions,
        sessions_since_break,
        {{ traded_lags([60, 252]) }},
        {{ rolling_sum(sums, 'return_1d', 60) }} as returns_60,
        {{ rolling_sum(sums, 'return_1d', 252) }} as returns_252,
        {{ rolling_sum(sums, 'return_square', 60) }} as squares_60,
        {{ rolling_sum(sums, 'market_product', 60) }} as products_60,
        {{ rolling_sum(sums, 'market_product', 252) }} as products_252
    from
        {{ with_rolling('paired', ['spell_session', 'traded_sessions'], ['sessions_since_break'], sums) }}
    {{ rolling_windows() }}

),

regressed as (

    select
        rolled.spell_key,
        rolled.session_idx,
        market_variances.market_return_1d,
        market_variances.market_return_21d,
        market_variances.market_return_63d,
        {{ variance_of_sums('rolled.returns_60', 'rolled.squares_60', 60) }} as return_variance_60,
        (rolled.products_60 - rolled.returns_60 * market_variances.sum_60 / 60) / 59
            as covariance_60,
        market_variances.variance_60 as market_variance_60,
        -- a security's own returns are all there from the second session of its spell on
        rolled.spell_session > 60
        and market_variances.returns_60 = 60
        and {{ half_traded(60, 'traded_lag_60') }} as is_full_60,
        case
            when
                {{ unbroken(252) }}
                and rolled.spell_session > 252
                and market_variances.returns_252 = 252
                and {{ half_traded(252, 'traded_lag_252') }}
                then
                    (rolled.products_252 - rolled.returns_252 * market_variances.sum_252 / 252)
                    / 251
                    / nullif(market_variances.variance_252, 0)
        end as beta_252
    from rolled
    inner join market_variances
        on rolled.session_idx = market_variances.session_idx

)

select
    spell_key,
    session_idx,
    market_return_1d as mkt_ret_1d,
    market_return_21d,
    market_return_63d,
    beta_252,
    -- var(r - b m) = var(r) - 2 b cov(r, m) + b^2 var(m), with the current row's beta for all 60;
    -- greatest() skips NULLs, so an unknown beta is asked for by name
    case
        when beta_252 is not null and is_full_60
            then
                sqrt(
                    greatest(
                        return_variance_60
                        - 2 * beta_252 * covariance_60
                        + beta_252 * beta_252 * market_variance_60,
                        0
                    )
                )
    end as idio_vol_60
from regressed
