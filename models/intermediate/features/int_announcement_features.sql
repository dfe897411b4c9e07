{#
  Counts and tone of the announcements known at each session. They are summed by security and
  session first; a count is 0 only where the source covers the whole window, else NULL, so windows
  run over the sessions from the source's first one on, and earlier rows follow as they are.
#}
{#- what each packed sum counts (packed_counts.sql) -#}
{% set counted = ['announcements', 'sensitive', 'unflagged'] %}
{% set events = ['guidance', 'dividend', 'acquisition', 'earnings', 'capital_raising', 'trading_halt'] %}
{% set stances = ['bullish', 'bearish', 'neutral'] %}
{% set packed_events = {'news': events[:3], 'actions': events[3:]} %}
{% set sums = {
    'flow': {'frames': [21], 'magnitude': 53, 'resolution': 0},
    'weighted_sentiment': {'frames': [21], 'magnitude': 20, 'resolution': -44},
    'confidence': {'frames': [21], 'magnitude': 20, 'resolution': -44},
    'scored': {'frames': [21], 'magnitude': 20, 'resolution': 0},
    'news': {'frames': [63], 'magnitude': 53, 'resolution': 0},
    'actions': {'frames': [63], 'magnitude': 53, 'resolution': 0},
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
        count(*) as announcements,
        sum(case when price_sensitive then 1 else 0 end) as sensitive,
        sum(case when price_sensitive is null then 1 else 0 end) as unflagged,
        sum(
            {{ packed_unit(0) }}
            + case when price_sensitive then {{ packed_unit(1) }} else 0 end
            + case when price_sensitive is null then {{ packed_unit(2) }} else 0 end
        ) as flow,
        -- on a grid of 2^-44, so that sums are exact in any order
        sum({{ on_grid('confidence * sentiment', -44) }}) as weighted_sentiment,
        sum(case when sentiment is not null then {{ on_grid('confidence', -44) }} end)
            as confidence,
        count(confidence + sentiment) as scored,
        {% for column, packed in packed_events.items() -%}
            sum(
                case event
                    {% for event in packed -%}
                        when '{{ event }}' then {{ packed_unit(loop.index0) }}
                    {% endfor -%}
                    else 0
                end
            ) as {{ column }},
        {% endfor -%}
        sum(
            case stance
                {% for stance in stances -%}
                    when '{{ stance }}' then {{ packed_unit(loop.index0) }}
                {% endfor -%}
                else 0
            end
        ) as stances,
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
        {% for column in counted + sums | list -%}
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
        {% for latest, count in [
            ('announced_session_idx', 'announcements'),
            ('sensitive_session_idx', 'sensitive'),
            ('unflagged_session_idx', 'unflagged'),
        ] -%}
            cast(max(case when {{ count }} > 0 then session_idx end) over so_far as double precision)
                as {{ latest }},
        {% endfor -%}
        coalesce(max(announced_at) over so_far, cast(trade_date as timestamp)) as announced_at,
        coalesce(max(sensitive_at) over so_far, cast(trade_date as timestamp)) as sensitive_at
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

judged as (

    select
        rolled.*,
        {% for stance in stances -%}
            {{ unpacked_count('rolled.stances_63', loop.index0) }} as stance_{{ stance }}_63,
        {% endfor -%}
        announcement_sessions.covered_sessions > 0 as is_known_1,
        rolled.spell_session >= 21
        and announcement_sessions.covered_sessions >= 21
        and {{ half_traded(21, 'traded_lag_21') }} as is_known_21,
        rolled.spell_session >= 63
        and announcement_sessions.covered_sessions >= 63
        and {{ half_traded(63, 'traded_lag_63') }} as is_known_63,
        announcement_sessions.flag_covered_sessions >= 21
        and {{ unpacked_count('rolled.flow_21', 2) }} = 0 as is_flagged_21,
        -- no session since then that the source does not cover, and no announcement without a flag
        announcement_sessions.flag_covered_sessions > 0
        and rolled.sensitive_session_idx
        >= rolled.session_idx - announcement_sessions.flag_covered_sessions
        and coalesce(rolled.unflagged_session_idx <= rolled.sensitive_session_idx, true)
            as is_flagged_since
    from rolled
    inner join announcement_sessions
        on rolled.session_idx = announcement_sessions.session_idx

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
        cast(case when is_known_21 then {{ unpacked_count('flow_21', 0) }} end as bigint) as ann_count_21d,
        cast(
            case when is_known_21 and is_flagged_21 then {{ unpacked_count('flow_21', 1) }} end as bigint
        ) as price_sensitive_21d,
        cast(case when is_flagged_since then trade_date - cast(sensitive_at as date) end as bigint)
            as days_since_price_sensitive,
        case when is_known_21 then {{ safe_divide('weighted_sentiment_21', 'confidence_21') }} end
            as ann_sentiment_21d,
        case when is_known_21 then {{ safe_divide('confidence_21', 'scored_21') }} end
            as ann_confidence_21d,
        {% for column, packed in packed_events.items() -%}
            {% for event in packed -%}
                cast(
                    case when is_known_63 then {{ unpacked_count(column ~ '_63', loop.index0) }} end as bigint
                ) as event_{{ event }}_63d,
            {% endfor -%}
        {% endfor -%}
        {% for stance in stances -%}
            cast(case when is_known_63 then stance_{{ stance }}_63 end as bigint)
                as stance_{{ stance }}_63d,
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
    {% for event in events -%}
        event_{{ event }}_63d,
    {% endfor -%}
    {% for stance in stances -%}
        stance_{{ stance }}_63d,
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
    {% for event in events -%}
        cast(null as bigint) as event_{{ event }}_63d,
    {% endfor -%}
    {% for stance in stances -%}
        cast(null as bigint) as stance_{{ stance }}_63d,
    {% endfor -%}
    cast(null as double precision) as sentiment_composite
from daily_grid
cross join first_session
where coalesce(daily_grid.session_idx < first_session.session_idx, true)
