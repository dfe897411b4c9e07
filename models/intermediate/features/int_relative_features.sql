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
        var_samp(market_return_1d) over last_60 as variance_60,
        var_samp(market_return_1d) over last_252 as variance_252
    from market_returns
    window
        last_60 as (order by session_idx rows between 59 preceding and current row),
        last_252 as (order by session_idx rows between 251 preceding and current row)

),

paired as (

    select
        daily_grid.spell_key,
        daily_grid.session_idx,
        daily_grid.spell_session,
        daily_grid.traded_sessions,
        daily_grid.sessions_since_break,
        daily_grid.return_1d,
        market_returns.market_return_1d
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
        {{ rolling_covariance('return_1d', 'market_return_1d', 'last_252') }} as covariance_252,
        {{ rolling_covariance('return_1d', 'market_return_1d', 'last_60') }} as covariance_60,
        {{ rolling_variance('return_1d', 'last_60') }} as return_variance_60
    from paired
    window
        in_spell as (partition by spell_key order by session_idx),
        last_60 as (
            partition by spell_key
            order by session_idx
            rows between 59 preceding and current row
        ),
        last_252 as (
            partition by spell_key
            order by session_idx
            rows between 251 preceding and current row
        )

),

regressed as (

    select
        rolled.spell_key,
        rolled.session_idx,
        market_windows.market_return_1d,
        market_windows.market_return_21d,
        market_windows.market_return_63d,
        rolled.return_variance_60,
        rolled.covariance_60,
        market_windows.variance_60 as market_variance_60,
        -- a security's own returns are all there from the second session of its spell on
        rolled.spell_session > 60
        and market_windows.returns_60 = 60
        and {{ half_traded(60, 'traded_lag_60') }} as is_full_60,
        case
            when
                {{ unbroken(252) }}
                and rolled.spell_session > 252
                and market_windows.returns_252 = 252
                and {{ half_traded(252, 'traded_lag_252') }}
                then
                    {{ safe_divide('rolled.covariance_252', 'market_windows.variance_252') }}
        end as beta_252
    from rolled
    inner join market_windows
        on rolled.session_idx = market_windows.session_idx

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
