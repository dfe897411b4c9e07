{{ config(pre_hook="{{ join_in_key_order(small_tables=false) }}") }}
{% set sums = {
    'volume_adjusted': {'frames': [5, 60], 'magnitude': 48, 'resolution': -20},
    'volume_square': {'frames': [60], 'magnitude': 96, 'resolution': -20},
    'volume_cube': {'frames': [60], 'magnitude': 136, 'resolution': -20},
    'impact': {'frames': [21], 'magnitude': 20, 'resolution': -83},
    'turnover': {'frames': [21], 'magnitude': 14, 'complete': true},
    'is_impact': {'frames': [21], 'magnitude': 14, 'resolution': 0},
    'is_zero_return': {'frames': [60], 'magnitude': 14, 'resolution': 0},
    'adv_20_log': {'frames': [252], 'magnitude': 20, 'resolution': -58, 'complete': true},
    'adv_log_square': {'frames': [252], 'magnitude': 28, 'resolution': -50},
} %}
{% set median_turnover = {'function': 'median', 'values': 'dollar_volume', 'sessions': 20} %}

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

-- The median first, as the z-score is a statistic of it. Windows of dollar volume are exempt from
-- the break guard: a capital change moves price and volume against each other.
dollar_windows as (

    select
        spell_key,
        session_idx,
        spell_session,
        traded_sessions,
        sessions_since_break,
        return_1d,
        close,
        volume_adjusted,
        dollar_volume,
        turnover,
        {{ traded_lags([20]) }},
        {{ rolling_order_statistic(median_turnover) }} as median_20
    from
        {{ with_rolling(
            'sized',
            ['spell_session', 'traded_sessions', 'close', 'volume_adjusted', 'dollar_volume'],
            ['sessions_since_break', 'return_1d', 'turnover'],
            order_statistics=[median_turnover]
        ) }}
    {{ rolling_windows([20]) }}

),

dollar_volumes as (

    select
        spell_key,
        session_idx,
        spell_session,
        traded_sessions,
        sessions_since_break,
        return_1d,
        close,
        volume_adjusted,
        turnover,
        abs(return_1d) / nullif(dollar_volume, 0) as impact,
        case
            when spell_session >= 20 and {{ half_traded(20, 'traded_lag_20') }} then median_20
        end as adv_20_median,
        case
            when spell_session >= 20 and {{ half_traded(20, 'traded_lag_20') }}
                then ln(1 + median_20)
        end as adv_20_log
    from dollar_windows

),

powers as (

    select
        spell_key,
        session_idx,
        spell_session,
        traded_sessions,
        sessions_since_break,
        close,
        volume_adjusted,
        volume_adjusted * volume_adjusted as volume_square,
        volume_adjusted * volume_adjusted * volume_adjusted as volume_cube,
        turnover,
        impact,
        adv_20_median,
        adv_20_log,
        adv_20_log * adv_20_log as adv_log_square,
        case when impact is not null then cast(1 as double precision) end as is_impact,
        -- across a capital change an unchanged price leaves a return of rounding size
        case when abs(return_1d) < 1e-12 then cast(1 as double precision) end as is_zero_return
    from dollar_volumes

),

rolled as (

    select
        spell_key,
        session_idx,
        spell_session,
        traded_sessions,
        sessions_since_break,
        close,
        adv_20_median,
        adv_20_log,
        {{ traded_lags([5, 21, 60]) }},
        {{ rolling_sum(sums, 'volume_adjusted', 5) }} as volumes_5,
        {{ rolling_sum(sums, 'volume_adjusted', 60) }} as volumes_60,
        {{ rolling_sum(sums, 'volume_square', 60) }} as volume_squares_60,
        {{ rolling_sum(sums, 'volume_cube', 60) }} as volume_cubes_60,
        {{ rolling_sum(sums, 'impact', 21) }} as impacts_21,
        {{ rolling_sum(sums, 'is_impact', 21) }} as traded_impacts_21,
        {{ rolling_sum(sums, 'is_zero_return', 60) }} as zero_returns_60,
        {{ rolling_mean(sums, 'turnover', 21) }} as mean_turnover_21,
        {{ rolling_sum(sums, 'adv_20_log', 252) }} as adv_log_sum_252,
        {{ rolling_sum(sums, 'adv_log_square', 252) }} as adv_log_squares_252
    from
        {{ with_rolling(
            'powers',
            ['spell_session', 'traded_sessions', 'close'],
            ['sessions_since_break', 'adv_20_median', 'adv_20_log'],
            sums
        ) }}
    {{ rolling_windows() }}

)

select
    spell_key,
    session_idx,
    {% set is_raw = market_var('price_basis') == 'raw' -%}
    {{ 'adv_20_median' if is_raw else 'cast(null as double precision)' }} as adv_20_median,
    {{ 'adv_20_log' if is_raw else 'cast(null as double precision)' }} as adv_20_log,
    case
        when adv_log_sum_252 is not null
            then
                {{ safe_divide(
                    'adv_20_log - adv_log_sum_252 / 252',
                    'sqrt(' ~ variance_of_sums('adv_log_sum_252', 'adv_log_squares_252', 252) ~ ')'
                ) }}
    end as adv_zscore,
    case
        when
            {{ unbroken(59) }}
            and spell_session >= 60
            and {{ half_traded(5, 'traded_lag_5') }}
            and {{ half_traded(60, 'traded_lag_60') }}
            then {{ safe_divide('(volumes_5 / 5)', '(volumes_60 / 60)') }}
    end as volume_ratio_5_60,
    case
        when
            {{ unbroken(59) }}
            and spell_session >= 60
            and {{ half_traded(60, 'traded_lag_60') }}
            then
                {{ skewness_of_sums('volumes_60', 'volume_squares_60', 'volume_cubes_60', 60) }}
    end as volume_skew_60,
    case
        when
            {{ unbroken(21) }}
            and spell_session > 21
            and {{ half_traded(21, 'traded_lag_21') }}
            then impacts_21 / nullif(traded_impacts_21, 0) * 1e6
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
            and {{ half_traded(21, 'traded_lag_21') }}
            then mean_turnover_21
    end as turnover_21,
    {{ 'ln(close)' if is_raw else 'cast(null as double precision)' }} as price_log
from rolled
