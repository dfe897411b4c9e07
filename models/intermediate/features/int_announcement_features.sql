{#
  Counts and tone of the announcements known at each session. They are summed by security and
  session first; a count is 0 only where the source covers the whole window, else NULL, so windows
  run over the sessions from the source's first one on, and earlier rows follow as they are.
#}
{#- counts that are added up three at a time (packed_counts.sql), and what they count -#}
{% set packed = {
    'flow': {
        'announcements': 'true',
        'sensitive': 'price_sensitive',
        'unflagged': 'price_sensitive is null',
    },
    'events_1_to_3': {
        'event_guidance': "event = 'guidance'",
        'event_dividend': "event = 'dividend'",
        'event_acquisition': "event = 'acquisition'",
    },
    'events_4_to_6': {
        'event_earnings': "event = 'earnings'",
        'event_capital_raising': "event = 'capital_raising'",
        'event_trading_halt': "event = 'trading_halt'",
    },
    'stances': {
        'stance_bullish': "stance = 'bullish'",
        'stance_bearish': "stance = 'bearish'",
        'stance_neutral': "stance = 'neutral'",
    },
} %}
{% set flow = packed.flow %}
{% set counts_63 = packed.events_1_to_3 | list + packed.events_4_to_6 | list + packed.stances | list %}
{% set sums = {
    'flow': {'frames': [21], 'magnitude': 53, 'resolution': 0},
    'weighted_sentiment': {'frames': [21], 'magnitude': 20, 'resolution': -44},
    'confidence': {'frames': [21], 'magnitude': 20, 'resolution': -44},
    'scored': {'frames': [21], 'magnitude': 20, 'resolution': 0},
    'events_1_to_3': {'frames': [63], 'magnitude': 53, 'resolution': 0},
    'events_4_to_6': {'frames': [63], 'magnitude': 53, 'resolution': 0},
    'stances': {'frames': [63], 'magnitude': 53, 'resolution': 0},
} %}

with daily_grid as not materialized (

    select * from {{ ref('int_daily_grid') }}

),

announcements as (

    select * from {{ ref('int_announcements') }}

),

announcement_sessions as (

    select * from {{ ref('int_announcement_sessions') }}

),

by_session as (

    select
        security_id,
        session_idx,
        {% for column, conditions in packed.items() -%}
            {{ packed_counts(conditions.values()) }} as {{ column }},
        {% endfor -%}
        {% for column, condition in flow.items() -%}
            sum(case when {{ condition }} then 1 else 0 end) as {{ column }},
        {% endfor -%}
        -- on a grid of 2^-44, so that sums are exact in any order
        sum({{ on_grid('confidence * sentiment', -44) }}) as weighted_sentiment,
        sum(case when sentiment is not null then {{ on_grid('confidence', -44) }} end)
            as confidence,
        count(confidence + sentiment) as scored,
        max(announced_at) as announced_at,
        max(case when price_sensitive then announced_at end) as sensitive_at
    from announcements
    where session_idx is not null
    group by security_id, session_idx

),

-- the session before the first covered one may have announcements too
first_session as (

    select min(session_idx) - 1 as session_idx
    from announcement_sessions
    where covered_sessions > 0

),

gridded as (

    select
        daily_grid.spell_key,
        daily_grid.session_idx,
        daily_grid.trade_date,
        daily_grid.spell_session,
        daily_grid.traded_sessions,
        {% for column in flow | list + sums | list -%}
            cast(coalesce(by_session.{{ column }}, 0) as double precision) as {{ column }},
        {% endfor -%}
        by_session.announced_at,
        by_session.sensitive_at
    from daily_grid
    inner join first_session
        on daily_grid.session_idx >= first_session.session_idx
    left join by_session
        on
            daily_grid.security_id = by_session.security_id
            and daily_grid.session_idx = by_session.session_idx

),

-- the latest of each kind; its time is read where there was one, else it is the row's own
latest as (

    select
        spell_key,
        session_idx,
        trade_date,
        spell_session,
        traded_sessions,
        announcements,
        {% for column in sums -%}
            {{ column }},
        {% endfor -%}
        {% for latest, counted in [
            ('announced_session_idx', 'announcements'),
            ('sensitive_session_idx', 'sensitive'),
            ('unflagged_session_idx', 'unflagged'),
        ] -%}
            cast(
                {{ latest_of_rising('case when ' ~ counted ~ ' > 0 then session_idx end', 'so_far') }}
                as double precision
            ) as {{ latest }},
        {% endfor -%}
        coalesce(
            {{ latest_of_rising('announced_at', 'so_far') }}, cast(trade_date as timestamp)
        ) as announced_at,
        coalesce(
            {{ latest_of_rising('sensitive_at', 'so_far') }}, cast(trade_date as timestamp)
        ) as sensitive_at
    from gridded
    window so_far as (
        partition by spell_key
        order by session_idx
        rows between unbounded preceding and current row
    )

),

rolled as (

    select
        spell_key,
        session_idx,
        trade_date,
        spell_session,
        traded_sessions,
        {{ traded_lags([21, 63]) }},
        announcements as count_1,
        {% for column, sum in sums.items() -%}
            {{ rolling_sum(sums, column, sum.frames[0]) }} as {{ column }}_{{ sum.frames[0] }},
        {% endfor -%}
        announced_at,
        announced_session_idx,
        sensitive_at,
        sensitive_session_idx,
        unflagged_session_idx
    from
        {{ with_rolling(
            'latest',
            [
                'trade_date', 'spell_session', 'traded_sessions', 'announcements', 'announced_at',
                'sensitive_at'
            ],
            ['announced_session_idx', 'sensitive_session_idx', 'unflagged_session_idx'],
            sums
        ) }}
    {{ rolling_windows() }}

),

unpacked as (

    select
        {% for column, conditions in packed.items() -%}
            {% set frame = sums[column].frames[0] -%}
            {% for counted in conditions -%}
                {{ unpacked_count(column ~ '_' ~ frame, loop.index0) }} as {{ counted }}_{{ frame }},
            {% endfor -%}
        {% endfor -%}
        rolled.*
    from rolled

),

judged as (

    select
        unpacked.*,
        announcement_sessions.covered_sessions > 0 as is_known_1,
        unpacked.spell_session >= 21
        and announcement_sessions.covered_sessions >= 21
        and {{ half_traded(21, 'traded_lag_21') }} as is_known_21,
        unpacked.spell_session >= 63
        and announcement_sessions.covered_sessions >= 63
        and {{ half_traded(63, 'traded_lag_63') }} as is_known_63,
        announcement_sessions.flag_covered_sessions >= 21
        and unpacked.unflagged_21 = 0 as is_flagged_21,
        -- no session since then that the source does not cover, and no announcement without a flag
        announcement_sessions.flag_covered_sessions > 0
        and unpacked.sensitive_session_idx
        >= unpacked.session_idx - announcement_sessions.flag_covered_sessions
        and coalesce(unpacked.unflagged_session_idx <= unpacked.sensitive_session_idx, true)
            as is_flagged_since
    from unpacked
    inner join announcement_sessions
        on unpacked.session_idx = announcement_sessions.session_idx

),

computed as (

    select
        spell_key,
        session_idx,
        trade_date,
        greatest(
            case when announced_session_idx > session_idx - 63 then announced_at end,
            case when is_flagged_since then sensitive_at end
        ) as available_at,
        cast(case when is_known_1 then count_1 end as bigint) as ann_count_1d,
        cast(case when is_known_21 then announcements_21 end as bigint) as ann_count_21d,
        cast(case when is_known_21 and is_flagged_21 then sensitive_21 end as bigint)
            as price_sensitive_21d,
        cast(case when is_flagged_since then trade_date - cast(sensitive_at as date) end as bigint)
            as days_since_price_sensitive,
        case when is_known_21 then {{ safe_divide('weighted_sentiment_21', 'confidence_21') }} end
            as ann_sentiment_21d,
        case when is_known_21 then {{ safe_divide('confidence_21', 'scored_21') }} end
            as ann_confidence_21d,
        {% for counted in counts_63 -%}
            cast(case when is_known_63 then {{ counted }}_63 end as bigint) as {{ counted }}_63d,
        {% endfor -%}
        case
            when is_known_63
                then
                    {{ safe_divide(
                        'stance_bullish_63 - stance_bearish_63',
                        'stance_bullish_63 + stance_bearish_63 + stance_neutral_63'
                    ) }}
        end as sentiment_composite
    from judged

)

select
    spell_key,
    session_idx,
    trade_date,
    available_at,
    ann_count_1d,
    ann_count_21d,
    price_sensitive_21d,
    days_since_price_sensitive,
    ann_sentiment_21d,
    ann_confidence_21d,
    {% for counted in counts_63 -%}
        {{ counted }}_63d,
    {% endfor -%}
    sentiment_composite
from computed

union all

select
    daily_grid.spell_key,
    daily_grid.session_idx,
    daily_grid.trade_date,
    cast(null as timestamp) as available_at,
    cast(null as bigint) as ann_count_1d,
    cast(null as bigint) as ann_count_21d,
    cast(null as bigint) as price_sensitive_21d,
    cast(null as bigint) as days_since_price_sensitive,
    cast(null as double precision) as ann_sentiment_21d,
    cast(null as double precision) as ann_confidence_21d,
    {% for counted in counts_63 -%}
        cast(null as bigint) as {{ counted }}_63d,
    {% endfor -%}
    cast(null as double precision) as sentiment_composite
from daily_grid
cross join first_session
where coalesce(daily_grid.session_idx < first_session.session_idx, true)
