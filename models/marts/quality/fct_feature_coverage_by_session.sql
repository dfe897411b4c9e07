with features_daily as (

    select * from {{ ref('fct_features_daily') }}

),

source_sessions as (

    select * from {{ ref('int_source_sessions') }}

),

members as (

    select features_daily.*
    from features_daily
    where is_traded and is_in_universe

),

-- one wide pass over the panel; a feature is due on rows older than its lookback to which it applies
counted as (

    select
        members.session_idx,
        members.trade_date,
        count(*) as member_rows
        {%- for column in feature_columns(['feature', 'context']) -%}
            {%- set meta = column_meta(column) -%}
            {%- set old_enough = 'members.sessions_of_history > ' ~ meta['lookback'] -%}
            {%- set inapplicable = meta.get('inapplicable_where') -%}
            {%- set due = old_enough ~ (' and (' ~ inapplicable ~ ') is not true' if inapplicable else '') %},
        count(members.{{ column.name }}) as non_null_{{ column.name }},
        count(case when {{ due }} then 1 end) as due_{{ column.name }},
        count(case when {{ due }} then members.{{ column.name }} end) as non_null_due_{{ column.name }}
            {%- if inapplicable %},
        count(
            case when {{ old_enough }} and {{ inapplicable }} and members.{{ column.name }} is null then 1 end
        ) as inapplicable_{{ column.name }}
            {%- endif %}
        {%- endfor %}
    from members
    group by members.session_idx, members.trade_date

),

unpivoted as (

    {% for column in feature_columns(['feature', 'context']) -%}
        {% set meta = column_meta(column) -%}
        select
            '{{ column.name }}' as feature,
            '{{ meta["family"] }}' as family,
            counted.session_idx,
            counted.trade_date,
            counted.member_rows,
            counted.non_null_{{ column.name }} as non_null_rows,
            {% if meta.get('requires') -%}
                source_sessions.source_status,
                case
                    when source_sessions.covered_sessions > {{ meta['lookback'] }}
                        then counted.due_{{ column.name }}
                    else 0
                end as due_rows,
                case
                    when source_sessions.covered_sessions > {{ meta['lookback'] }}
                        then counted.non_null_due_{{ column.name }}
                    else 0
                end as non_null_due_rows,
                case
                    when source_sessions.covered_sessions > {{ meta['lookback'] }}
                        then {{ 'counted.inapplicable_' ~ column.name if meta.get('inapplicable_where') else '0' }}
                    else 0
                end as inapplicable_rows
        from counted
        left join source_sessions
            on
                counted.session_idx = source_sessions.session_idx
                and source_sessions.source_name = '{{ meta["requires"] }}'
            {%- else -%}
                'covered' as source_status,
                counted.due_{{ column.name }} as due_rows,
                counted.non_null_due_{{ column.name }} as non_null_due_rows,
                {{ 'counted.inapplicable_' ~ column.name if meta.get('inapplicable_where') else '0' }} as inapplicable_rows
        from counted
            {%- endif %}
        {{ 'union all' if not loop.last }}
    {% else -%}
        select
            cast(null as text) as feature,
            cast(null as text) as family,
            counted.session_idx,
            counted.trade_date,
            counted.member_rows,
            cast(0 as bigint) as non_null_rows,
            cast(null as text) as source_status,
            cast(0 as bigint) as due_rows,
            cast(0 as bigint) as non_null_due_rows,
            cast(0 as bigint) as inapplicable_rows
        from counted
    {% endfor %}

)

select
    feature,
    trade_date,
    family,
    session_idx,
    source_status,
    cast(member_rows as bigint) as universe_rows,
    cast(non_null_rows as bigint) as non_null_rows,
    non_null_rows / cast(member_rows as double precision) as coverage,
    cast(due_rows as bigint) as due_rows,
    cast(non_null_due_rows as bigint) as non_null_due_rows,
    cast(inapplicable_rows as bigint) as inapplicable_rows,
    {{ safe_divide('non_null_due_rows', 'cast(due_rows as double precision)') }} as due_coverage
from unpivoted
