{% set highest_close = {'function': 'max', 'values': 'close_adjusted', 'sessions': 252} %}
{% set sums = {
    'gain_adjusted': {'frames': [14]},
    'loss_adjusted': {'frames': [14]},
} %}
{% set close_sums = {'close_adjusted': {'frames': [50, 200], 'magnitude': 36}} %}
{#- the close before is what the return grew from, which saves a pass over the windows #}
{% set change_adjusted = 'close_adjusted - close_adjusted / (1 + return_1d)' %}

with daily_grid as (

    select * from {{ ref('int_daily_grid') }}

),

adjusted as (

    select
        spell_key,
        session_idx,
        spell_session,
        traded_sessions,
        sessions_since_break,
        return_1d,
        open,
        close,
        capital_factor,
        close * capital_factor as close_adjusted,
        -- a quote the vendor lacks makes the window's range infinite, which is recognised below
        coalesce(high * capital_factor, cast('infinity' as double precision)) as high_adjusted,
        coalesce(low * capital_factor, cast('-infinity' as double precision)) as low_adjusted
    from daily_grid

),

-- Averages first, as the slope is a statistic of one; and extremes of five sessions, of which those
-- of twenty are made.
close_windows as (

    select
        spell_key,
        session_idx,
        spell_session,
        traded_sessions,
        sessions_since_break,
        return_1d,
        open,
        close,
        capital_factor,
        close_adjusted,
        {{ rolling_extreme('greatest', 'high_adjusted', sessions=5) }} as highest_5,
        {{ rolling_extreme('least', 'low_adjusted', sessions=5) }} as lowest_5,
        {{ traded_lags([50, 200]) }},
        {{ rolling_mean(close_sums, 'close_adjusted', 50) }} as mean_50,
        {{ rolling_mean(close_sums, 'close_adjusted', 200) }} as mean_200
    from
        {{ with_rolling(
            'adjusted',
            [
                'spell_session', 'traded_sessions', 'close', 'capital_factor', 'close_adjusted',
                'high_adjusted', 'low_adjusted'
            ],
            ['sessions_since_break', 'return_1d', 'open'],
            close_sums
        ) }}
    {{ rolling_windows() }}

),

averaged as (

    select
        spell_key,
        session_idx,
        spell_session,
        traded_sessions,
        sessions_since_break,
        return_1d,
        open,
        close,
        capital_factor,
        close_adjusted,
        highest_5,
        lowest_5,
        greatest({{ change_adjusted }}, 0) as gain_adjusted,
        greatest(-({{ change_adjusted }}), 0) as loss_adjusted,
        case
            when spell_session >= 50 and {{ half_traded(50, 'traded_lag_50') }} then mean_50
        end as sma_50,
        case
            when spell_session >= 200 and {{ half_traded(200, 'traded_lag_200') }} then mean_200
        end as sma_200
    from close_windows

),

rolled as (

    select
        spell_key,
        session_idx,
        spell_session,
        traded_sessions,
        sessions_since_break,
        return_1d,
        open,
        close,
        capital_factor,
        close_adjusted,
        sma_50,
        sma_200,
        {{ quote_lags([1, 5, 21, 63, 126, 252]) }},
        {{ traded_lags([5, 14, 20, 21, 63, 126, 252]) }},
        {{ rolling_order_statistic(highest_close) }} as highest_close_252,
        {{ rolling_extreme('greatest', 'highest_5', sessions=20, step=5) }} as highest_20,
        {{ rolling_extreme('least', 'lowest_5', sessions=20, step=5) }} as lowest_20,
        {{ rolling_sum(sums, 'gain_adjusted', 14) }} as gains_14,
        {{ rolling_sum(sums, 'loss_adjusted', 14) }} as losses_14,
        {{ rolling_slope('sma_200', 20) }} as slope_20
    from
        {{ with_rolling(
            'averaged',
            [
                'spell_session', 'traded_sessions', 'close', 'capital_factor', 'close_adjusted',
                'highest_5', 'lowest_5'
            ],
            ['sessions_since_break', 'return_1d', 'open', 'sma_50', 'sma_200'],
            sums,
            [highest_close]
        ) }}
    {{ rolling_windows([252]) }}

),

computed as (

    select
        spell_key,
        session_idx,
        case when {{ unbroken(1) }} then return_1d end as ret_1d,
        {% for name, k in [('mom_5', 5), ('mom_1', 21), ('mom_3', 63), ('mom_6', 126), ('mom_12', 252)] -%}
            case
                when {{ unbroken(k) }} and {{ half_traded(k, 'traded_lag_' ~ k) }}
                    then
                        (close / close_lag_{{ k }})
                        * (capital_factor / factor_lag_{{ k }}) - 1
            end as {{ name }},
        {% endfor -%}
        case
            when {{ unbroken(252) }} and {{ half_traded(252, 'traded_lag_252') }}
                then
                    (close_lag_21 / close_lag_252)
                    * (factor_lag_21 / factor_lag_252) - 1
        end as mom_12_1,
        case when {{ unbroken(199) }} then sma_50 / sma_200 end as sma_ratio,
        case when {{ unbroken(49) }} then close_adjusted / sma_50 - 1 end as price_to_sma_50,
        case when {{ unbroken(199) }} then close_adjusted / sma_200 - 1 end as price_to_sma_200,
        case when {{ unbroken(199) }} then close_adjusted > sma_200 * (1 + 1e-12) end
            as trend_200,
        case
            when
                {{ unbroken(251) }}
                and spell_session >= 252
                and {{ half_traded(252, 'traded_lag_252') }}
                then close_adjusted / highest_close_252 - 1
        end as drawdown_252,
        case
            when
                {{ unbroken(19) }}
                and spell_session >= 20
                and highest_20 - lowest_20 < cast('infinity' as double precision)
                and {{ half_traded(20, 'traded_lag_20') }}
                then
                    {{ safe_divide('close_adjusted - lowest_20', 'highest_20 - lowest_20') }}
        end as range_pos_20,
        case
            when
                {{ unbroken(14) }}
                and spell_session >= 15
                and {{ half_traded(14, 'traded_lag_14') }}
                then 100 * {{ safe_divide('gains_14', 'gains_14 + losses_14') }}
        end as rsi_14,
        case
            when {{ unbroken(1) }}
                then (open / close_lag_1) * (capital_factor / factor_lag_1) - 1
        end as gap_1d,
        case when {{ unbroken(218) }} then slope_20 / sma_200 end as sma200_slope
    from rolled

)

select
    spell_key,
    session_idx,
    ret_1d,
    mom_5,
    mom_1,
    mom_3,
    mom_6,
    mom_12,
    mom_12_1,
    sma_ratio,
    price_to_sma_50,
    price_to_sma_200,
    trend_200,
    sma200_slope,
    -- a margin against rounding: a flat average is not rising
    sma200_slope > 1e-12 as sma200_slope_pos,
    drawdown_252,
    range_pos_20,
    rsi_14,
    gap_1d
from computed
