{#
  Vars coverage_from and coverage_to bound the sessions that count (dates, both included).

  A missing value has one reason: its source does not cover the session (absent, before, after,
  gap), the lookback is not full yet (warm-up), the feature does not apply to the row (a loss has no
  price over earnings), or the value was due and is not there (a company the source says nothing
  about, an untraded or broken window).
#}
{% set reasons = {
    'absent': 'source absent', 'before': 'source starts later', 'after': 'source ended',
    'gap': 'vendor gap', 'warming_up': 'warm-up', 'inapplicable': 'does not apply',
    'unreported': 'not reported'
} %}

with coverage_by_session as (

    select * from {{ ref('fct_feature_coverage_by_session') }}

),

missing as (

    select
        feature,
        family,
        source_status,
        universe_rows,
        non_null_rows,
        due_rows,
        non_null_due_rows,
        inapplicable_rows,
        universe_rows - non_null_rows as null_rows,
        due_rows - non_null_due_rows as null_due_rows
    from coverage_by_session
    where
        true
        {% if var('coverage_from') %} and trade_date >= date '{{ var("coverage_from") }}' {% endif %}
        {% if var('coverage_to') %} and trade_date <= date '{{ var("coverage_to") }}' {% endif %}

),

totals as (

    select
        feature,
        family,
        sum(universe_rows) as universe_rows,
        sum(non_null_rows) as non_null_rows,
        sum(due_rows) as due_rows,
        sum(non_null_due_rows) as non_null_due_rows,
        {% for status in ['absent', 'before', 'after', 'gap'] -%}
            sum(case when source_status = '{{ status }}' then null_rows else 0 end)
                as {{ status }}_rows,
        {% endfor -%}
        sum(case when source_status = 'covered' then null_rows - null_due_rows - inapplicable_rows else 0 end)
            as warming_up_rows,
        sum(case when source_status = 'covered' then inapplicable_rows else 0 end) as inapplicable_rows,
        sum(case when source_status = 'covered' then null_due_rows else 0 end) as unreported_rows
    from missing
    group by feature, family

),

dictionary as (

    {% for column in feature_columns(['feature', 'context']) -%}
        {% set meta = column_meta(column) -%}
        select
            '{{ column.name }}' as feature,
            '{{ meta["family"] }}' as family,
            '{{ meta["role"] }}' as role,
            {{ meta['lookback'] }} as lookback_sessions,
            '{{ meta["unit"] }}' as unit,
            cast({{ meta['min_coverage'] }} as double precision) as min_coverage
        {{ 'union all' if not loop.last }}
    {% else -%}
        select
            cast(null as text) as feature,
            cast(null as text) as family,
            cast(null as text) as role,
            0 as lookback_sessions,
            cast(null as text) as unit,
            cast(0 as double precision) as min_coverage
    {% endfor %}

),

shares as (

    select
        dictionary.feature,
        dictionary.family,
        dictionary.role,
        dictionary.lookback_sessions,
        dictionary.unit,
        dictionary.min_coverage,
        coalesce(totals.universe_rows, 0) as universe_rows,
        coalesce(totals.non_null_rows, 0) as non_null_rows,
        coalesce(totals.due_rows, 0) as due_rows,
        coalesce(totals.non_null_due_rows, 0) as non_null_due_rows,
        {% for reason in reasons -%}
            coalesce(totals.{{ reason }}_rows, 0) as {{ reason }}_rows,
        {% endfor -%}
        coalesce(
            totals.non_null_rows / nullif(cast(totals.universe_rows as double precision), 0), 0
        ) as coverage,
        totals.non_null_due_rows / nullif(cast(totals.due_rows as double precision), 0)
            as due_coverage
    from dictionary
    left join totals
        on dictionary.feature = totals.feature

)

select
    feature,
    family,
    role,
    cast(lookback_sessions as integer) as lookback_sessions,
    unit,
    cast(universe_rows as bigint) as universe_rows,
    cast(non_null_rows as bigint) as non_null_rows,
    coverage,
    case
        when coverage >= 0.9 then 'Excellent'
        when coverage >= 0.7 then 'Good'
        when coverage >= 0.4 then 'Moderate'
        else 'Poor'
    end as coverage_tier,
    case
        when coverage >= 0.4 or universe_rows = 0 then null
        {% for reason, text in reasons.items() -%}
            when
                {{ reason }}_rows = greatest(
                    {% for counted in reasons -%}
                        {{ counted }}_rows{{ ', ' if not loop.last }}
                    {%- endfor %}
                )
                then '{{ text }}'
        {% endfor -%}
    end as low_coverage_reason,
    {% for reason in reasons -%}
        cast({{ reason }}_rows as bigint) as {{ reason }}_rows,
    {% endfor -%}
    cast(due_rows as bigint) as due_rows,
    cast(non_null_due_rows as bigint) as non_null_due_rows,
    due_coverage,
    min_coverage
from shares
