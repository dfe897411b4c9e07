{% set highest_return = {'function': 'max', 'values': 'return_1d', 'sessions': 21} %}
{% set sums = {
    'return_1d': {'frames': [30, 60, 90], 'magnitude': 14},
    'return_square': {'frames': [30, 60, 90], 'magnitude': 28},
    'return_cube': {'frames': [60], 'magnitude': 42},
    'loss_square': {'frames': [60], 'magnitude': 28},
    'true_range': {'frames': [14], 'complete': true},
} %}

with daily_grid as (

    select * from {{ ref('int_daily_grid') }}

),

ranged as (

    select
        spell_key,
        session_idx,
        spell_session,
        traded_sessions,
        sessions_since_break,
        return_1d,
        close,
        return_1d * return_1d as return_square,
        return_1d * return_1d * return_1d as return_cube,
        least(return_1d, 0) * least(return_1d, 0) as loss_square,
        close * capital_factor as close_adjusted,
        -- greatest() skips NULLs, a missing quote must not; the close before is what the return
        -- grew from, which saves a pass over the windows
        case
            when high is not null and low is not null
                then
                    greatest(
                        (high - low) * capital_factor,
                        abs(high - close / (1 + return_1d)) * capital_factor,
                        abs(low - close / (1 + return_1d)) * capital_factor
                    )
        end as true_range
    from daily_grid

),

rolled as (

    select
        spell_key,
        session_idx,
        spell_session,
        traded_sessions,
        sessions_since_break,
        close,
        close_adjusted,
        {{ traded_lags([14, 21, 30, 60, 90]) }},
        {% for n in [30, 60, 90] -%}
            {{ rolling_sum(sums, 'return_1d', n) }} as returns_{{ n }},
            {{ rolling_sum(sums, 'return_square', n) }} as squares_{{ n }},
        {% endfor -%}
        {{ rolling_sum(sums, 'return_cube', 60) }} as cubes_60,
        {{ rolling_mean(sums, 'loss_square', 60) }} as downside_variance_60,
        {{ rolling_order_statistic(highest_return) }} as highest_return_21,
        {{ rolling_mean(sums, 'true_range', 14) }} as mean_true_range_14
    from
        {{ with_rolling(
            'ranged',
            ['spell_session', 'traded_sessions', 'close', 'close_adjusted'],
            ['sessions_since_break'],
            sums,
            [highest_return]
        ) }}
    {{ rolling_windows([21]) }}

),

computed as (

    select
        spell_key,
        session_idx,
        close,
        {% for n in [30, 60, 90] -%}
            case
                when
                    {{ unbroken(n) }}
                    and spell_session > {{ n }}
                    and {{ half_traded(n, 'traded_lag_' ~ n) }}
                    then sqrt({{ variance_of_sums('returns_' ~ n, 'squares_' ~ n, n) }})
            end as vol_{{ n }},
        {% endfor -%}
        case
            when
                {{ unbroken(60) }}
                and spell_session > 60
                and {{ half_traded(60, 'traded_lag_60') }}
                then sqrt(downside_variance_60)
        end as downside_vol_60,
        case
            when
                {{ unbroken(60) }}
                and spell_session > 60
                and {{ half_traded(60, 'traded_lag_60') }}
                then {{ skewness_of_sums('returns_60', 'squares_60', 'cubes_60', 60) }}
        end as skew_ret_60,
        case
            when
                {{ unbroken(21) }}
                and spell_session > 21
                and {{ half_traded(21, 'traded_lag_21') }}
                then highest_return_21
        end as max_ret_21,
        case
            when
                {{ unbroken(14) }}
                and spell_session > 14
                and {{ half_traded(14, 'traded_lag_14') }}
                then mean_true_range_14 / close_adjusted
        end as atr_pct
    from rolled

)

select
    spell_key,
    session_idx,
    vol_30,
    vol_60,
    vol_90,
    {{ safe_divide('vol_30', 'vol_90') }} as vol_ratio_30_90,
    downside_vol_60,
    skew_ret_60,
    max_ret_21,
    atr_pct,
    {% if market_var('price_basis') == 'raw' -%}
        atr_pct * close
    {%- else -%}
        -- adjusted quotes know later splits, so a price level of that day does not exist
        cast(null as double precision)
    {%- endif %} as atr_14
from computed
