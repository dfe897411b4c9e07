with feature_coverage as (

    select * from {{ ref('fct_feature_coverage') }}

),

families as (

    select
        family,
        count(*) as features,
        {% for tier in ['Excellent', 'Good', 'Moderate', 'Poor'] -%}
            sum(case when coverage_tier = '{{ tier }}' then 1 else 0 end) as {{ tier | lower }}_features,
        {% endfor -%}
        -- every feature has the same rows: the mean of their shares, in whole numbers, so that no
        -- order of adding changes its last digit
        {{ safe_divide(
            'cast(sum(non_null_rows) as double precision)', 'cast(sum(universe_rows) as double precision)'
        ) }} as mean_coverage,
        min(coverage) as lowest_coverage,
        max(coverage) as highest_coverage
    from feature_coverage
    where family is not null
    group by family

)

select
    family,
    cast(features as bigint) as features,
    {% for tier in ['excellent', 'good', 'moderate', 'poor'] -%}
        cast({{ tier }}_features as bigint) as {{ tier }}_features,
    {% endfor -%}
    cast(mean_coverage as double precision) as mean_coverage,
    cast(lowest_coverage as double precision) as lowest_coverage,
    cast(highest_coverage as double precision) as highest_coverage,
    case
        when mean_coverage >= 0.9 then 'Excellent'
        when mean_coverage >= 0.7 then 'Good'
        when mean_coverage >= 0.4 then 'Moderate'
        else 'Poor'
    end as coverage_tier
from families
