with daily_grid as (

    select * from {{ ref('int_daily_grid') }}

),

fundamental_daily as (

    select * from {{ ref('int_fundamental_daily') }}

),

sized as (

    select
        daily_grid.spell_key,
        daily_grid.session_idx,
        daily_grid.spell_session,
        daily_grid.traded_sessions,
        daily_grid.sessions_since_break,
        daily_grid.return_1d,
        daily_grid.close,
        daily_grid.volume / daily_grid.capital_factor as volume_adjusted,
        daily_grid.close * daily_grid.volume as dollar_volume,
        daily_grid.close * daily_grid.volume / nullif(fundamental_daily.market_cap, 0) as turnover
    from daily_grid
    left join fundamental_daily
        on
            daily_grid.spell_key = fundamental_daily.spell_key
            and daily_grid.session_idx = fundamental_daily.session_idx

),

rolled as (

    select
        spell_key,
        session_idx,
        spell_session,
        traded_sessions,
        sessions_since_break,
        close,
        {{ traded_lags([5, 21, 60]) }},
        {{ rolling_mean('volume_adjusted', 'last_5', 48, -20) }} as mean_volume_5,
        {{ rolling_mean('volume_adjusted', 'last_60', 48, -20) }} as mean_volume_60,
        {{ rolling_skewness('volume_adjusted', 'last_60', 48, -20) }} as volume_skewness_60,
        {{ rolling_mean('abs(return_1d) / nullif(dollar_volume, 0)', 'last_21', 14, -83) }} as mean_impact_21,
        -- across a capital change an unchanged price leaves a return of rounding size
        sum(case when abs(return_1d) < 1e-12 then 1 else 0 end) over last_60 as zero_returns_60,
        {{ rolling_mean('turnover', 'last_21', 14) }} as mean_turnover_21,
        count(turnover) over last_21 as turnovers_21
    from sized
    window
        in_spell as (partition by spell_key order by session_idx),
        last_5 as (
            partition by spell_key
            order by session_idx
            rows between 4 preceding and current row
        ),
        last_21 as (
            partition by spell_key
            order by session_idx
            rows between 20 preceding and current row
        ),
        last_60 as (
            partition by spell_key
            order by session_idx
            rows between 59 preceding and current row
        )

),

-- Windows of dollar volume apart, on few columns: a window's cost is in what it carries along. They
-- are exempt from the break guard: a capital change moves price and volume against each other.
dollar_windows as (

    select
        spell_key,
        session_idx,
        spell_session,
        traded_sessions,
        lag(traded_sessions, 20) over in_spell as traded_lag_20,
        {{ rolling_median('close * volume', 'last_20') }} as median_20
    from daily_grid
    window
        in_spell as (partition by spell_key order by session_idx),
        last_20 as (
            partition by spell_key
            order by session_idx
            rows between 19 preceding and current row
        )

),

dollar_volumes as (

    select
        spell_key,
        session_idx,
        case
            when spell_session >= 20 and {{ half_traded(20, 'traded_lag_20') }} then median_20
        end as adv_20_median,
        case
            when spell_session >= 20 and {{ half_traded(20, 'traded_lag_20') }}
                then ln(1 + median_20)
        end as adv_20_log
    from dollar_windows

),

standardised as (

    select
        spell_key,
        session_idx,
        adv_20_median,
        adv_20_log,
        count(adv_20_log) over last_252 as adv_logs_252,
        {{ rolling_mean('adv_20_log', 'last_252', 14) }} as adv_log_mean_252,
        {{ rolling_deviation('adv_20_log', 'last_252') }} as adv_log_deviation_252
    from dollar_volumes
    window
        last_252 as (
            partition by spell_key
            order by session_idx
            rows between 251 preceding and current row
        )

)

select
    rolled.spell_key,
    rolled.session_idx,
    {% set is_raw = market_var('price_basis') == 'raw' -%}
    {{ 'adv_20_median' if is_raw else 'cast(null as double precision)' }} as adv_20_median,
    {{ 'adv_20_log' if is_raw else 'cast(null as double precision)' }} as adv_20_log,
    case
        when adv_logs_252 = 252
            then {{ safe_divide('adv_20_log - adv_log_mean_252', 'adv_log_deviation_252') }}
    end as adv_zscore,
    case
        when
            {{ unbroken(59) }}
            and spell_session >= 60
            and {{ half_traded(5, 'traded_lag_5') }}
            and {{ half_traded(60, 'traded_lag_60') }}
            then {{ safe_divide('mean_volume_5', 'mean_volume_60') }}
    end as volume_ratio_5_60,
    case
        when
            {{ unbroken(59) }}
            and spell_session >= 60
            and {{ half_traded(60, 'traded_lag_60') }}
            then {{ finite('volume_skewness_60') }}
    end as volume_skew_60,
    case
        when
            {{ unbroken(21) }}
            and spell_session > 21
            and {{ half_traded(21, 'traded_lag_21') }}
            then mean_impact_21 * 1e6
    end as amihud_21,
    -- exempt from the half-traded rule: these two measure it
    case
        when {{ unbroken(60) }} and spell_session > 60
            then zero_returns_60 / cast(60 as double precision)
    end as zero_ret_frac_60,
    case
        when spell_session >= 60
            then
                (traded_sessions - coalesce(traded_lag_60, 0)) / cast(60 as double precision)
    end as traded_frac_60,
    case
        when
            {{ unbroken(20) }}
            and turnovers_21 = 21
            and {{ half_traded(21, 'traded_lag_21') }}
            then mean_turnover_21
    end as turnover_21,
    {{ 'ln(close)' if is_raw else 'cast(null as double precision)' }} as price_log
from rolled
inner join standardised
    on
        rolled.spell_key = standardised.spell_key
        and rolled.session_idx = standardised.session_idx
