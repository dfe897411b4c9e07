with features_daily as (

    select * from {{ ref('fct_features_daily') }}

),

directory_daily as (

    select * from {{ ref('int_directory_daily') }}

),

fundamental_daily as (

    select * from {{ ref('int_fundamental_daily') }}

),

fundamental_reports as (

    select * from {{ ref('int_fundamental_reports') }}

),

fundamental_starts as (

    select
        min(case when market_cap is not null then session_idx end) as market_cap_session_idx,
        min(case when fund_period_end is not null then session_idx end) as fundamentals_session_idx
    from fundamental_daily

),

-- what statements cannot give: does the vendor deliver it?
ratio_reports as (

    select count(*) as reports
    from fundamental_reports
    where debt_to_equity is not null or current_ratio is not null or div_yield is not null

),

source_starts as (

    select
        'directory' as source_name,
        min(session_idx) as first_session_idx
    from directory_daily

    union all

    select
        'market_cap' as source_name,
        market_cap_session_idx as first_session_idx
    from fundamental_starts

    union all

    select
        'fundamentals' as source_name,
        fundamentals_session_idx as first_session_idx
    from fundamental_starts

    union all

    select
        'vendor_ratios' as source_name,
        case when ratio_reports.reports > 0 then fundamental_starts.fundamentals_session_idx end
            as first_session_idx
    from fundamental_starts
    cross join ratio_reports

    union all

    -- a level of the day's quotes does not exist where the vendor adjusted them for later splits
    select
        'quoted_prices' as source_name,
        {{ 'cast(0 as bigint)' if market_var('price_basis') == 'raw' else 'cast(null as bigint)' }}
            as first_session_idx

),

members as (

    select features_daily.*
    from features_daily
    where is_traded and is_in_universe

),

-- one wide pass over the panel; a feature is due on rows older than its lookback
counted as (

    select
        members.session_idx,
        members.trade_date,
        count(*) as member_rows
        {%- for column in feature_columns(['feature', 'context']) %},
        count(members.{{ column.name }}) as non_null_{{ column.name }},
        count(
            case
                when members.sessions_of_history > {{ column_meta(column)['lookback'] }}
                    then 1
            end
        ) as due_{{ column.name }},
        count(
            case
                when members.sessions_of_history > {{ column_meta(column)['lookback'] }}
                    then members.{{ column.name }}
            end
        ) as non_null_due_{{ column.name }}
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
                case
                    when counted.session_idx >= source_starts.first_session_idx + {{ meta['lookback'] }}
                        then counted.due_{{ column.name }}
                    else 0
                end as due_rows,
                case
                    when counted.session_idx >= source_starts.first_session_idx + {{ meta['lookback'] }}
                        then counted.non_null_due_{{ column.name }}
                    else 0
                end as non_null_due_rows
        from counted
        left join source_starts
            on source_starts.source_name = '{{ meta["requires"] }}'
            {%- else -%}
                counted.due_{{ column.name }} as due_rows,
                counted.non_null_due_{{ column.name }} as non_null_due_rows
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
            cast(0 as bigint) as due_rows,
            cast(0 as bigint) as non_null_due_rows
        from counted
    {% endfor %}

)

select
    feature,
    trade_date,
    family,
    session_idx,
    cast(member_rows as bigint) as universe_rows,
    cast(non_null_rows as bigint) as non_null_rows,
    non_null_rows / cast(member_rows as double precision) as coverage,
    cast(due_rows as bigint) as due_rows,
    cast(non_null_due_rows as bigint) as non_null_due_rows,
    {{ safe_divide('non_null_due_rows', 'cast(due_rows as double precision)') }} as due_coverage
from unpivoted
