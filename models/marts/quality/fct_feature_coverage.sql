with coverage_by_session as (

    select * from {{ ref('fct_feature_coverage_by_session') }}

),

totals as (

    select
        feature,
        family,
        sum(universe_rows) as universe_rows,
        sum(non_null_rows) as non_null_rows,
        sum(due_rows) as due_rows,
        sum(non_null_due_rows) as non_null_due_rows
    from coverage_by_session
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
    cast(due_rows as bigint) as due_rows,
    cast(non_null_due_rows as bigint) as non_null_due_rows,
    due_coverage,
    min_coverage
from shares
