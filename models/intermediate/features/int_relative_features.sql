with daily_grid as (

    select * from {{ ref('int_daily_grid') }}

),

market_returns as (

    select * from {{ ref('int_market_returns') }}

),

paired as (

    select
        daily_grid.spell_key,
        daily_grid.session_idx,
        daily_grid.traded_sessions,
        daily_grid.sessions_since_break,
        daily_grid.return_1d,
        market_returns.market_return_1d,
        market_returns.market_return_21d,
        market_returns.market_return_63d
    from daily_grid
    inner join market_returns
        on daily_grid.session_idx = market_returns.session_idx

),

rolled as (

    select
        spell_key,
        session_idx,
        traded_sessions,
        sessions_since_break,
        market_return_1d,
        market_return_21d,
        market_return_63d,
        {{ traded_lags([60, 252]) }},
        regr_count(return_1d, market_return_1d) over last_252 as pairs_252,
        regr_slope(return_1d, market_return_1d) over last_252 as slope_252,
        regr_count(return_1d, market_return_1d) over last_60 as pairs_60,
        var_samp(return_1d) over last_60 as return_variance_60,
        var_samp(market_return_1d) over last_60 as market_variance_60,
        covar_samp(return_1d, market_return_1d) over last_60 as covariance_60
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
        *,
        case
            when
                {{ unbroken(252) }}
                and pairs_252 = 252
                and {{ half_traded(252, 'traded_lag_252') }}
                then {{ finite('slope_252') }}
        end as beta_252
    from rolled

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
        when
            beta_252 is not null
            and pairs_60 = 60
            and {{ half_traded(60, 'traded_lag_60') }}
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
